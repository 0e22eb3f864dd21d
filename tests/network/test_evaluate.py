"""Scores and batch norm statistics against numpy and plain Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnas_tf import network
from pnas_tf.network import evaluate
from pnas_tf.supernet import path_scorer, supernet
from tests.spaces import SMALL


@pytest.fixture
def batches():
    rng = np.random.default_rng(6)
    return [(tf.constant(rng.normal(1.0, 2.0, size=(count, 8, 8, 3)), tf.float32),
             tf.constant(rng.integers(0, 4, count), tf.int32)) for count in (16, 16, 8)]


def random_network(seed):
    net = supernet.Supernet(SMALL, seed=seed)
    path = np.array([0, 5, 3, 6])
    model = network.build_network(net.arch(path))
    net.copy_weights_to(model, net.arch(path))
    return net, path, model


def test_path_score_is_that_of_the_network_in_training_mode(batches):
    net, path, model = random_network(1)
    losses, right, images = [], 0, 0
    for x, y in batches:
        logits = model(x, training=True).numpy()
        log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        losses += [-log_probs[row, label] for row, label in enumerate(y.numpy())]
        right, images = right + np.sum(logits.argmax(1) == y.numpy()), images + len(y)
    score = path_scorer.PathScorer(net, batches).score(path)
    assert score.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert score.accuracy == pytest.approx(right / images)
    first, *others = batches
    alone = path_scorer.PathScorer(net, [first])
    assert alone.on_more(others).score(path) == score and alone.on(batches).score(path) == score
    assert alone.score(path) != score and alone.num_batches == 1


def test_network_score_goes_by_moving_statistics(batches):
    _, _, model = random_network(2)
    score = evaluate.score_network(model, batches)
    logits = np.concatenate([model(x, training=False).numpy() for x, _ in batches])
    labels = np.concatenate([y.numpy() for _, y in batches])
    assert score.accuracy == pytest.approx(np.mean(logits.argmax(1) == labels))


@pytest.mark.parametrize("layers", ["fast", "stock"])
def test_recalibrated_statistics_are_means_over_batches(batches, layers):
    _, _, model = random_network(3)
    model = network.portable(model) if layers == "stock" else model
    before = [w.copy() for w in model.get_weights()]
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    seen = [keras.Model(model.input, first.input)(x, training=True).numpy() for x, _ in batches]
    evaluate.recalibrate(model, batches)
    np.testing.assert_allclose(first.moving_mean, np.mean([x.mean((0, 1, 2)) for x in seen], 0), rtol=1e-4, atol=1e-5)
    unbiased = 1 if layers == "fast" else 0
    variances = [x.reshape(-1, x.shape[-1]).var(0, ddof=unbiased) for x in seen]
    np.testing.assert_allclose(first.moving_variance, np.mean(variances, 0), rtol=1e-4)
    moving = {id(v) for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)
              for v in (layer.moving_mean, layer.moving_variance)}
    for variable, old in zip(model.weights, before, strict=True):
        assert np.array_equal(variable.numpy(), old) != (id(variable) in moving)
    assert all(layer.momentum > 0 for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))


def test_statistics_are_those_without_dropout():
    """Of the network that is used: dropped values vary more."""
    x = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    inputs = keras.Input([8])
    dropped = keras.layers.Dropout(0.6, name="drop")(inputs)
    model = keras.Model(inputs, keras.layers.BatchNormalization(name="norm")(dropped))
    evaluate.recalibrate(model, [(tf.constant(x), tf.zeros([64], tf.int32))])
    np.testing.assert_allclose(model.get_layer("norm").moving_variance, x.var(0), rtol=1e-5)
    assert model.get_layer("drop").rate == 0.6


def test_variances_that_must_not_fall_only_rise(batches):
    _, _, model = random_network(3)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    evaluate.recalibrate(model, batches)
    own = [np.asarray(layer.moving_variance) for layer in norms]
    for layer in norms[::2]:
        layer.moving_variance.assign(100 * layer.moving_variance)
    for layer in norms[1::2]:
        layer.moving_variance.assign(0.01 * layer.moving_variance)
    evaluate.recalibrate(model, batches, may_lower=False)
    for number, (layer, variance) in enumerate(zip(norms, own, strict=True)):
        np.testing.assert_allclose(layer.moving_variance, (1 if number % 2 else 100) * variance, rtol=1e-5)
