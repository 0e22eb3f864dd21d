"""A supernet with frozen batch norm against plain Keras networks whose batch norm is frozen."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnas_tf import network
from pnas_tf.network import evaluate
from pnas_tf.supernet import path_scorer, supernet
from tests.spaces import SMALL
from tests.supernet.test_supernet import LR, MOMENTUM, weight_step


@pytest.fixture(scope="module", params=["none", "kernels"])
def net(request):
    """Weights and statistics away from their start, as those of a trained network are."""
    net, random = supernet.Supernet(SMALL, seed=3, share=request.param, frozen=True), np.random.default_rng(5)
    for candidate in [candidate for mixed_op in net.mixed_ops for candidate in mixed_op.candidates if candidate]:
        for kernel in candidate.weights_of_op.kernels:
            kernel.assign(np.asarray(kernel) + 0.1 * random.normal(size=kernel.shape))
        if candidate.stats is not None:
            candidate.stats.assign(random.uniform(0.5, 1.5, size=candidate.stats.shape))
    return net


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(6)
    return tf.constant(random.normal(size=(16, 8, 8, 3)), tf.float32), tf.constant(random.integers(0, 4, 16), tf.int32)


def plain(net, path):
    arch = net.arch(np.array(path))
    model = network.assemble(arch, layers=keras.layers)
    net.copy_weights_to(model, arch)
    for layer in model.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    return model


def norms(model):
    return {layer.name: layer.get_weights() for layer in model.layers
            if isinstance(layer, keras.layers.BatchNormalization)}


def test_weight_steps_equal_those_of_a_plain_network(net, batch):
    path = [1, 2, 0, 3]
    model = plain(net, path)
    step = tf.function(lambda: weight_step(net, batch, tf.constant(path), decay=0.0), autograph=False)
    velocity = [np.zeros(variable.shape) for variable in model.trainable_variables]
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = evaluate.cross_entropy(batch[1], model(batch[0], training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        for number, (variable, gradient) in enumerate(zip(model.trainable_variables, gradients, strict=True)):
            velocity[number] = MOMENTUM * velocity[number] + gradient.numpy()
            variable.assign(variable.numpy() - LR * (gradient.numpy() + MOMENTUM * velocity[number]))
        assert float(step()) == pytest.approx(float(loss), abs=1e-5)
    after = plain(net, path)
    for mine, theirs in zip(after.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    assert norms(after).keys() == norms(model).keys()
    for name, values in norms(after).items():  # neither learns, nor decays
        for mine, theirs in zip(values, norms(model)[name], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_scores_are_those_of_the_network_in_inference(net, batch):
    path = np.array([0, 5, 3, 6])
    score = path_scorer.PathScorer(net, [batch]).score(path)
    expected = evaluate.score_network(plain(net, path), [batch])
    assert score.loss == pytest.approx(expected.loss, rel=1e-5) and score.accuracy == expected.accuracy
