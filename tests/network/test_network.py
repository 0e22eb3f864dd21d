"""Networks: fast layers against stock ones, portable files, dropout."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnas_tf import network
from pnas_tf.space import arch, spaces
from pnas_tf.train import fit as fit_lib

QUICK = spaces.SPACES["quickstart"]
ARCH = arch.Arch(QUICK, {"b01": "mb_k3_e3", "b02": "zero", "b03": "mb_k5_e3", "b04": "mb_k3_e3", "b05": "mb_k3_e6",
                         "b06": "zero"})


@pytest.fixture
def pair():
    keras.utils.set_random_seed(0)  # or what other tests drew decides how close two computations come
    fast, stock = network.build_network(ARCH), network.assemble(ARCH, layers=keras.layers)
    rng = np.random.default_rng(0)
    weights = [w + 0.1 * rng.uniform(size=w.shape) for w in fast.get_weights()]
    fast.set_weights(weights)
    stock.set_weights(weights)
    return fast, stock


def test_fast_layers_train_like_stock_ones(pair):
    rng = np.random.default_rng(1)
    images = tf.constant(rng.normal(size=(8, 28, 28, 1)), tf.float32)
    outputs, gradients = [], []
    for model in pair:
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_sum(tf.sin(logits))
        outputs.append(logits)
        gradients.append(tape.gradient(loss, model.trainable_variables))
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-4)
    for variable, fast, stock in zip(pair[0].trainable_variables, *gradients, strict=True):
        np.testing.assert_allclose(fast, stock, atol=2e-3 * max(1, float(tf.reduce_max(tf.abs(stock)))),
                                   err_msg=variable.path)
    np.testing.assert_allclose(pair[0](images), pair[1](images), atol=0.05)


def test_frozen_batch_norm_keeps_its_statistics(pair):
    model, _ = pair
    for layer in model.layers:
        layer.trainable = False
    before = model.get_weights()
    model(np.random.default_rng(2).normal(size=(4, 28, 28, 1)), training=True)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_portable_file_loads_without_this_package(pair, tmp_path):
    model, _ = pair
    model.compile(loss=fit_lib.smoothed_loss(0.1))
    network.portable(model).save(tmp_path / "model.keras")
    images = np.random.default_rng(3).normal(size=(4, 28, 28, 1)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    code = ("import sys, keras, numpy; model = keras.models.load_model('model.keras'); "
            "numpy.save('logits.npy', model.predict(numpy.load('images.npy'), verbose=0)); "
            "assert not any(name.startswith('pnas_tf') for name in sys.modules)")
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), model.predict(images, verbose=0), atol=1e-5)


def test_own_file_loads_with_this_package(pair, tmp_path):
    model, _ = pair
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for old, new in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_dropout_before_the_pool_is_dropout_of_features():
    model = network.build_network(ARCH, dropout=0.5)
    images = np.random.default_rng(4).normal(size=(16, 28, 28, 1))
    head = keras.Model(model.get_layer("dropout").input, model.get_layer("classifier_classifier_pool").output)
    maps = keras.Model(model.input, model.get_layer("mix_conv_k1_relu").output)(images)
    features, dropped = head(maps, training=False).numpy(), head(maps, training=True).numpy()
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], 2 * features[kept], rtol=1e-5)
    assert 0.35 < np.mean(dropped[features > 0] == 0) < 0.65


def test_network_for_other_classes_and_sizes():
    model = network.build_network("mobilenet_v2", num_classes=5, input_shape=(64, 64, 3))
    assert model.input_shape == (None, 64, 64, 3)
    assert model.output_shape == (None, 5)
