"""Filters that are searched: a path of the supernet against the plain network of the same widths."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnas_tf import network
from pnas_tf.network import evaluate, slicing
from pnas_tf.search import checkpoints, initial_weights, observers
from pnas_tf.space import blocks, widths
from pnas_tf.supernet import supernet
from tests.spaces import SMALL, WIDE
from tests.supernet.test_supernet import DECAY, LR, MOMENTUM, weight_step

pytestmark = pytest.mark.usefixtures("search_graphs")
SMALLEST, LARGEST = [0, 0, 1, 0, 0], [1, 1, 0, 2, 1]
COUNTS = blocks.op_mask(WIDE).sum(1)


def variables(net, name):
    """Kernels or momenta of all ops."""
    shared = [each for mixed_op in net.mixed_ops for each in mixed_op.shared]
    own = [each.weights_of_op for mixed_op in net.mixed_ops for each in mixed_op.candidates
           if each and each.kernel is not None]
    return [variable for each in (*shared, *own) for variable in getattr(each, name)]


def moved(space, **options):
    """A supernet whose weights are away from their start, where residual ops are zero."""
    net, random = supernet.Supernet(space, seed=1, **options), np.random.default_rng(2)
    for kernel in variables(net, "kernels"):
        kernel.assign(np.asarray(kernel) + 0.1 * random.normal(size=kernel.shape))
    return net


@pytest.fixture(scope="module")
def net():
    return moved(WIDE)


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(6)
    return tf.constant(random.normal(size=(16, 8, 8, 3)), tf.float32), tf.constant(random.integers(0, 4, 16), tf.int32)


@pytest.fixture(scope="module")
def step(net, batch):
    """A weight step and the loss of a path, traced once for all paths."""
    return (tf.function(lambda path: weight_step(net, batch, path), autograph=False),
            tf.function(lambda path: evaluate.cross_entropy(batch[1], net(batch[0], path)), autograph=False))


@pytest.mark.parametrize("path", [SMALLEST, LARGEST, [0, 2, 1, 1, 1]])
def test_a_step_equals_that_of_the_plain_network(net, batch, step, path):
    """Loss, weights, velocities and statistics; all other widths of the path's blocks keep their statistics."""
    arch = net.arch(np.array(path))
    assert list(net.path(arch)) == path
    model = network.assemble(arch, layers=keras.layers)
    net.copy_weights_to(model, arch)
    assert float(step[1](tf.constant(path))) == pytest.approx(
        float(evaluate.cross_entropy(batch[1], model(batch[0], training=True))), abs=1e-5)
    net.copy_weights_to(model, arch)  # the call has moved the model's statistics
    for slot in variables(net, "momenta"):
        slot.assign(np.zeros(slot.shape))
    stats = {each.name: np.asarray(each.stats) for mixed_op in net.mixed_ops for each in mixed_op.candidates
             if each and each.stats is not None}
    loss = step[0](tf.constant(path))
    with tf.GradientTape() as tape:
        expected = evaluate.cross_entropy(batch[1], model(batch[0], training=True))
    gradients = tape.gradient(expected, model.trainable_variables)
    assert float(loss) == pytest.approx(float(expected), abs=1e-5)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        gradient += DECAY * variable.value
        variable.assign_sub(LR * (gradient + MOMENTUM * gradient))
    copy = network.assemble(arch, layers=keras.layers)
    net.copy_weights_to(copy, arch)
    for mine, plain in zip(copy.weights, model.weights, strict=True):
        if not mine.path.endswith(("moving_variance", "moving_mean")):
            np.testing.assert_allclose(mine, plain, atol=2e-5, err_msg=mine.path)
    changed = {name for mixed_op in net.mixed_ops for each in mixed_op.candidates if each
             for name in [each.name] if name in stats and not np.array_equal(stats[name], each.stats)}
    prefixes = {block.layer_name(op) for block, op in arch.blocks()}
    assert len(changed) == sum(any("bn" in layer.name and layer.name.startswith(prefix) for layer in model.layers)
                             for prefix in prefixes)


def test_a_width_is_the_first_channels_and_has_a_batch_norm_of_its_own(net):
    for mixed_op in net.mixed_ops:
        of_op = {}
        for candidate in filter(None, mixed_op.candidates):
            of_op.setdefault(candidate.key.op, []).append(candidate.layer_weights())
        for layers in of_op.values():
            for name in layers[-1]:
                for mine in layers:
                    for value, whole in zip(mine[name], layers[-1][name], strict=True):
                        if value.ndim > 1:
                            np.testing.assert_array_equal(value, slicing.cut(whole, value.shape))
    b02 = next(each for each in net.mixed_ops if each.block.name == "b02")
    narrow, wide = (b02.candidates[number].layer_weights() for number in (0, 5))
    assert not np.allclose(narrow["b02_mb_k3_e2_project_bn"][0], wide["b02_mb_k3_e2_project_bn"][0][:16])


@pytest.mark.slow
def test_the_supernet_is_as_large_as_its_largest_networks_and_the_batch_norms():
    """Of each block: the arrays of its largest op, and scale and offset of the smaller widths."""
    net = supernet.Supernet(WIDE)
    mix = next(each for each in net.mixed_ops if each.block.name == "mix")
    assert sum(each.weights_count for each in mix.shared) == 24 * 24 + 2 * (16 + 24)
    b01 = next(each for each in net.mixed_ops if each.block.name == "b01")
    assert sum(each.weights_count for each in b01.shared) == (9 * 12 + 12 * 12 + 4 * (8 + 12)) + (
        12 * 24 + 25 * 24 + 24 * 12 + 4 * (16 + 24) + 2 * (8 + 12))


@pytest.mark.slow
def test_gates_of_ops_are_those_of_the_plain_widths(net, batch):
    """With the filters fixed, the supernet of the plain space has the same gate gradients of ops."""
    path = np.array([1, 0, 1, 1, 0], np.int32)
    plain = supernet.Supernet(net.arch(path).space)
    for mine, other in zip(net.mixed_ops, plain.mixed_ops, strict=True):
        by_key = {each.key: each for each in mine.candidates if each}
        for candidate in filter(None, other.candidates):
            assert candidate.set_layer_weights(by_key[candidate.key].layer_weights())
    rows, finite, loss, _ = observers.all_gate_gradients(net, *batch, tf.constant(path))
    expected, _, plain_loss, _ = observers.all_gate_gradients(plain, *batch, tf.constant(path[[1, 2]]))
    np.testing.assert_allclose(rows.numpy()[[1, 2]], expected, atol=1e-5)
    assert finite and float(loss) == pytest.approx(float(plain_loss), abs=1e-6)


def test_gates_of_filters_are_differences_of_losses(net, batch, step):
    path, loss_of = np.array([1, 0, 1, 1, 0], np.int32), step[1]
    rows, *_ = observers.all_gate_gradients(net, *batch, tf.constant(path))
    for choice in (0, 3, 4):
        for op in range(COUNTS[choice]):
            changed = path.copy()
            changed[choice] = op
            assert float(rows[choice, op]) == pytest.approx(
                float(loss_of(tf.constant(changed)) - loss_of(tf.constant(path))), abs=1e-5)
    other = np.array([0, 0, 1, 2, 1], np.int32)
    pairs = np.stack([path, other], axis=1)
    rows, *_ = observers.gate_gradients(net, *batch, tf.constant(path), [[tf.constant(pair[1])] for pair in pairs])
    for choice in (0, 3, 4):
        assert rows[choice].numpy() == pytest.approx(
            [0.0, float(loss_of(tf.constant(other)) - loss_of(tf.constant(path)))], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"share": "kernels"}, {"recompute": True}])
def test_other_supernets_run_the_same_widths(batch, options):
    net = moved(WIDE, **options)
    step = tf.function(lambda path: weight_step(net, batch, path), autograph=False)
    for path in (SMALLEST, LARGEST, [0, 2, 1, 1, 1]):
        arch = net.arch(np.array(path))
        model = network.assemble(arch, layers=keras.layers)
        net.copy_weights_to(model, arch)
        expected = float(evaluate.cross_entropy(batch[1], model(batch[0], training=True)))
        assert float(step(tf.constant(path))) == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_a_space_without_searched_filters_has_the_weights_that_it_had():
    """Names and shapes of the variables: checkpoints of earlier versions fit."""
    fixed = supernet.Supernet(SMALL)
    b03 = next(each for each in fixed.mixed_ops if each.block.name == "b03")
    assert [each.name for each in b03.candidates] == [f"b03_{op}" for op in b03.block.ops] and not b03.shared
    searched = dataclasses.replace(SMALL, head=(widths.with_filters(SMALL.head[0], [16, 24]), SMALL.head[1]))
    mix = supernet.Supernet(searched).mixed_ops[-2]
    assert [each.name for each in mix.candidates] == ["mix_conv_k1_16x16", "mix_conv_k1_16x24"]


@pytest.mark.slow
def test_another_search_gives_the_weights_that_widths_share(monkeypatch, capsys):
    before, after = moved(WIDE), supernet.Supernet(WIDE, seed=7)
    values = {variable.path: np.asarray(variable) for variable in before.weights}
    monkeypatch.setattr(checkpoints, "read_weights", lambda folder: values)
    initial_weights.into_supernet(after, ".")
    assert "Weights of 30 of 30 ops" in capsys.readouterr().out
    for mine, theirs in zip(variables(after, "kernels"), variables(before, "kernels"), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    del values["b01_mb_k5_e2_widths/kernel_0"]
    initial_weights.into_supernet(after, ".")
    assert "Weights of 28 of 30 ops" in capsys.readouterr().out
