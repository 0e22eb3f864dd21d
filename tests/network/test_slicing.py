"""Ops cut out of a trained network: the outputs of the whole stay, and a part computes what its definition says."""

import numpy as np
import pytest

from pnas_tf import network
from pnas_tf.errors import InputError
from pnas_tf.network import slicing
from pnas_tf.space.arch import Arch
from tests.spaces import SMALL


@pytest.fixture
def full():
    arch = Arch(SMALL, dict.fromkeys(SMALL.choices, "mb_k7_e6"))
    model = network.build_network(arch)
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.2, 1.5, weight.shape) * random.choice([-1, 1], weight.shape)
                       if "variance" not in weight.path else random.uniform(0.5, 2, weight.shape)
                       for weight in model.weights])
    return arch, model


def weights_of(model):
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def test_sorting_channels_changes_no_output(full):
    arch, model = full
    images = np.random.default_rng(1).normal(size=(3, 8, 8, 3)).astype(np.float32)
    before = np.asarray(model(images))
    layers = slicing.sorted_by_importance(weights_of(model), arch)
    for name, values in layers.items():
        model.get_layer(name).set_weights(values)
    np.testing.assert_allclose(model(images), before, rtol=1e-4, atol=1e-4)


def test_the_most_important_channels_come_first(full):
    """By the definition: the deviation of relu6(gamma * z + beta) over many draws, times the norm of the projection."""
    arch, model = full
    layers = slicing.sorted_by_importance(weights_of(model), arch)
    gamma, beta = layers["b02_mb_k7_e6_depthwise_bn"][:2]
    z = np.random.default_rng(2).standard_normal((200_000, 1))
    deviation = np.clip(gamma * z + beta, 0, 6).std(axis=0)
    importance = deviation * np.linalg.norm(layers["b02_mb_k7_e6_project"][0][0, 0], axis=1)
    assert np.all(importance[1:] <= importance[:-1] * 1.02 + 1e-3)
    assert importance[0] > 1.5 * importance[-1]


def test_a_part_has_the_centre_and_the_first_channels(full):
    arch, model = full
    source = slicing.FullNetwork(arch, weights_of(model))
    part = Arch(SMALL, dict.fromkeys(SMALL.choices, "mb_k3_e3"))
    small = network.build_network(part)
    block = next(block for block in SMALL.blocks if block.name == "b03")
    shapes = {layer.name: [tuple(weight.shape) for weight in layer.weights] for layer in small.layers
              if layer.name.startswith("b03_") and layer.weights}
    layers = source.layers_of(block, "mb_k3_e3", shapes)
    assert {name: [value.shape for value in values] for name, values in layers.items()} == shapes
    whole = slicing.sorted_by_importance(weights_of(model), arch)
    np.testing.assert_array_equal(layers["b03_mb_k3_e3_depthwise"][0],
                                  whole["b03_mb_k7_e6_depthwise"][0][2:5, 2:5, :24])
    np.testing.assert_array_equal(layers["b03_mb_k3_e3_project"][0], whole["b03_mb_k7_e6_project"][0][:, :, :24])


def test_what_is_no_part_is_refused(full):
    arch, model = full
    source = slicing.FullNetwork(arch, weights_of(model))
    block = next(block for block in SMALL.blocks if block.name == "b03")
    with pytest.raises(InputError, match="cannot be cut out of b03_mb_k7_e6"):
        source.layers_of(block, "mb_k7_e6", {"b03_mb_k7_e6_expand": [(1, 1, 8, 96)]})
    classifier = SMALL.head[-1]
    assert source.layers_of(classifier, "classifier", {"classifier_classifier_dense": [(16, 7), (7,)]}) == {}
