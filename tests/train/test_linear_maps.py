"""Linear maps in place of blocks that are left out, against least squares and a network whose block is linear."""

import keras
import numpy as np
import pytest

from pnas_tf import network
from pnas_tf.errors import InputError
from pnas_tf.network import layers
from pnas_tf.run_folder import RunFolder
from pnas_tf.space.arch import Arch
from pnas_tf.train import initial_weights, linear_maps
from tests.search.test_teaching import SHORT

WHOLE = Arch(SHORT, {"b01": "mb_k3_e6", "b02": "mb_k3_e6", "b03": "mb_k5_e6", "b04": "mb_k5_e6"})


@pytest.fixture
def whole():
    """A network whose batch norm has statistics of its own."""
    keras.utils.set_random_seed(0)
    model, rng = network.build_network(WHOLE), np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights([gamma, beta + rng.normal(size=beta.shape), mean + 0.1 * rng.normal(size=mean.shape),
                               variance * rng.uniform(0.3, 1.5, variance.shape)])
    return model


def images(count=4):
    """Batches of random images."""
    rng = np.random.default_rng(1)
    return [rng.normal(size=(4, 32, 32, 3)).astype(np.float32) for _ in range(count)]


def linear(model, block):
    """Makes a block of a model linear: its values stay between the bounds of its activations."""
    def set_norm(name, gamma, beta):
        layer = model.get_layer(f"{block}_{name}")
        units = layer.get_weights()[0].shape
        layer.set_weights([np.full(units, value, np.float32) for value in (gamma, beta, 0, 1)])

    depthwise = model.get_layer(f"{block}_depthwise")
    kernel = np.zeros_like(depthwise.get_weights()[0])
    kernel[1, 1] = 1
    depthwise.set_weights([kernel])
    set_norm("expand_bn", 0.02, 3)
    set_norm("depthwise_bn", 1, 0)
    set_norm("project_bn", 20, -3)


def part(whole, path, ops):
    """A network of blocks of another, which lies in a file."""
    whole.save(path)
    return initial_weights.build(Arch(SHORT, {**WHOLE.ops, **ops}), "teacher", RunFolder("none"), teacher=str(path))


def test_a_block_that_is_linear_is_replaced_exactly(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(linear_maps, "STRENGTH", 1e-9)
    linear(whole, "b02_mb_k3_e6")
    start = part(whole, tmp_path / "whole.keras", {"b02": "zero"})
    batch = images(1)[0]
    assert np.abs(start.model(batch) - whole(batch)).max() > 0.01
    found = linear_maps.fit(start.model, start.whole, images(), seed=0)
    assert [each.block for each in found] == ["b03"]  # those behind it read what they have learned to read
    assert found[0].before > 0.1 and found[0].after < 1e-6
    np.testing.assert_allclose(start.model(batch), whole(batch), rtol=1e-3, atol=1e-3)


def test_each_block_behind_reads_more_of_what_it_has_learned_to_read(whole, tmp_path):
    start = part(whole, tmp_path / "whole.keras", {"b02": "zero", "b04": "zero"})
    found = linear_maps.fit(start.model, start.whole, images(), seed=0)
    assert [each.block for each in found] == ["b03"]  # behind b04 is the classifier
    assert found[0].after < 0.9 * found[0].before
    complete = part(whole, tmp_path / "whole.keras", {})
    weights = complete.model.get_weights()
    assert linear_maps.fit(complete.model, complete.whole, images(), seed=0) == []
    assert all(map(np.array_equal, weights, complete.model.get_weights()))


def test_the_map_is_the_least_squares_towards_the_identity():
    """Against the same problem with the ridge as further rows of the data."""
    rng = np.random.default_rng(0)
    read, target = rng.normal(2, 3, (50, 4)), rng.normal(size=(50, 4))
    matrix, offset = linear_maps.regression(read, target)
    ridge = np.sqrt(len(read) * linear_maps.STRENGTH * read.var(0).mean()) * np.eye(4)
    solution = np.linalg.lstsq(np.block([[read, np.ones((50, 1))], [ridge, np.zeros((4, 1))]]),
                               np.concatenate([target, ridge]), rcond=None)[0]
    np.testing.assert_allclose(np.concatenate([matrix, offset[None]]), solution, atol=1e-9)


@pytest.mark.parametrize("size", [32, 48])
def test_the_teacher_is_compared_at_the_size_of_the_network(whole, tmp_path, size):
    whole.save(tmp_path / "whole.keras")
    arch = Arch(SHORT.for_data(size, 3, 3), {**WHOLE.ops, "b02": "zero"})
    start = initial_weights.build(arch, "teacher", RunFolder("none"), teacher=str(tmp_path / "whole.keras"))
    assert start.has_new_classifier and start.whole.input_shape == start.model.input_shape == (None, size, size, 3)
    assert all(map(np.array_equal, start.whole.get_weights(), whole.get_weights()))


def test_values_that_do_not_vary_are_passed_on():
    matrix, offset = linear_maps.regression(np.full((50, 4), 3.0), np.full((50, 4), 5.0))
    np.testing.assert_allclose(matrix, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(offset, 2.0)


def test_a_teacher_with_padding_like_pytorch_keeps_it(tmp_path):
    """A part that leaves out no block gives the teacher's logits."""
    arch = Arch(SHORT, dict.fromkeys(WHOLE.ops, "mb_k3_e6"))
    teacher = network.assemble(arch, layers=layers.PyTorchPadded(layers))
    teacher.save(tmp_path / "whole.keras")
    start = initial_weights.build(arch, "teacher", RunFolder("none"), teacher=str(tmp_path / "whole.keras"))
    batch = images(1)[0]
    np.testing.assert_allclose(start.model(batch), teacher(batch), atol=1e-5)


@pytest.mark.parametrize("kind", ["one size", "by name"])
def test_a_teacher_that_takes_other_images_is_refused(whole, tmp_path, kind):
    body = keras.layers.Dense(2)(keras.layers.Flatten()(whole.layers[1].output))
    foreign = keras.Model(whole.inputs, [whole.outputs[0], body]) if kind == "one size" else \
        keras.Model({"image": whole.inputs[0]}, whole.outputs[0])
    foreign.save(tmp_path / "whole.keras")
    arch = Arch(SHORT.for_data(48, 3, SHORT.num_classes), WHOLE.ops)
    with pytest.raises(InputError, match="not a network that takes one image of 48 x 48 pixels"):
        initial_weights.build(arch, "teacher", RunFolder("none"), teacher=str(tmp_path / "whole.keras"))


def test_values_that_are_not_finite_are_refused(whole, tmp_path):
    convolution = whole.get_layer("b01_mb_k3_e6_project")
    convolution.set_weights([1e38 * np.sign(value) for value in convolution.get_weights()])
    start = part(whole, tmp_path / "whole.keras", {"b02": "zero"})
    with pytest.raises(InputError, match="numbers that are not finite in front of b03"):
        linear_maps.fit(start.model, start.whole, images(), seed=0)


@pytest.mark.parametrize("ops, teacher, expected", [
    ({"b02": "mb_k3_e3"}, "whole.keras", "no b02_mb_k3_e3_expand like that of this arch. Use --init_weights=imagenet"),
    ({}, "none", "takes blocks of a network that --teacher names, got --teacher=none")])
def test_a_network_that_is_no_part_of_its_teacher_is_refused(whole, tmp_path, ops, teacher, expected):
    whole.save(tmp_path / "whole.keras")
    path = str(tmp_path / teacher) if teacher.endswith(".keras") else teacher
    with pytest.raises(InputError) as error:
        initial_weights.build(Arch(SHORT, {**WHOLE.ops, **ops}), "teacher", RunFolder("none"), teacher=path)
    assert expected in str(error.value) and "\n" not in str(error.value)
