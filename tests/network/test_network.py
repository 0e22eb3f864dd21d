"""Networks: fast layers against stock ones, portable files, dropout."""

import inspect
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnas_tf import network
from pnas_tf.network import layers as fast_layers
from pnas_tf.network.any_version import saved_for_any_version
from pnas_tf.space import arch, ops, spaces
from pnas_tf.supernet import extensions
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


def write_files(model, folder):
    """Writes a network in each way that users do; returns the names of the files."""
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    images = np.random.default_rng(3).normal(size=(4, 28, 28, 1)).astype(np.float32)
    np.save(folder / "images.npy", images)
    checkpoint = keras.callbacks.ModelCheckpoint(str(folder / "best.keras"))
    for variable in model.trainable_variables:  # with large logits, so that a wrong layer shows
        variable.assign(variable + 0.1 * np.random.default_rng(4).uniform(size=variable.shape))
    model.fit(images, np.arange(4), epochs=1, verbose=0, callbacks=[checkpoint])
    model.save(folder / "saved.keras")
    np.save(folder / "expected.npy", model.predict(images, verbose=0))
    model.compile(loss=fit_lib.smoothed_loss(0.1))  # a function that other programs do not have
    network.portable(model).save(folder / "portable.keras")
    # A model that others made from the network's layers.
    head = keras.layers.Dense(3)(model.layers[-2].output)
    network.portable(keras.Model(model.input, head)).save(folder / "tuned.keras")
    return ["portable.keras", "saved.keras", "best.keras"]


# Loads models without this package, and prints the largest difference of their logits from the expected ones.
LOAD = """
import sys, keras, numpy
keras.models.load_model('tuned.keras')
for name in sys.argv[1:]:
    logits = keras.models.load_model(name).predict(numpy.load('images.npy'), verbose=0)
    print(keras.__version__, float(abs(logits - numpy.load('expected.npy')).max()), float(logits.std()))
assert not any(name.startswith('pnas_tf') for name in sys.modules)
"""


def check_files_load(python, folder, names):
    """Returns the versions of Keras that loaded the files."""
    done = subprocess.run([python, "-c", LOAD, *names], cwd=folder, capture_output=True, text=True, check=False,
                          env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"})
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    for _, difference, deviation in lines:
        assert float(difference) < 1e-4 < 1e-2 < float(deviation)
    assert len(lines) == len(names)
    return {version for version, _, _ in lines}


def test_files_load_without_this_package(pair, tmp_path):
    assert check_files_load(sys.executable, tmp_path, write_files(pair[0], tmp_path)) == {keras.__version__}


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Keras 3.0 needs TensorFlow 2.16, which needs Python 3.12")
@pytest.mark.parametrize("version", ["3.0.5", "3.3.3", "3.8.0", "3.14.1"])
def test_files_load_in_every_version_of_keras(pair, tmp_path, version):
    names = write_files(pair[0], tmp_path)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    subprocess.run([tmp_path / "venv/bin/pip", "install", "-q", f"keras=={version}", "tensorflow-cpu==2.16.2"],
                   check=True)
    assert check_files_load(tmp_path / "venv/bin/python", tmp_path, names) == {version}


# Entries of the configs of all layers and initializers that ops use, in Keras 3.0.5.
KERAS_3_0 = {
    "activation", "activity_regularizer", "axis", "batch_shape", "beta_constraint", "beta_initializer",
    "beta_regularizer", "bias_constraint", "bias_initializer", "bias_regularizer", "center", "data_format",
    "depth_multiplier", "depthwise_constraint", "depthwise_initializer", "depthwise_regularizer",
    "dilation_rate", "distribution", "dtype", "epsilon", "filters", "gamma_constraint", "gamma_initializer",
    "gamma_regularizer", "groups", "keepdims", "kernel_constraint", "kernel_initializer", "kernel_regularizer",
    "kernel_size", "max_value", "mode", "momentum", "moving_mean_initializer", "moving_variance_initializer",
    "name", "negative_slope", "noise_shape", "padding", "pool_size", "rate", "scale", "seed", "sparse",
    "strides", "synchronized", "threshold", "trainable", "units", "use_bias", "value"}


def configs(node):
    """Every pair of class name and config in a config."""
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from configs(child)
    if isinstance(node, dict) and "config" in node and node.get("module", "").startswith("keras"):
        yield node["class_name"], node["config"]


def test_configs_hold_what_keras_3_0_knows():
    """A new entry of a newer Keras belongs into `any_version.ADDED`."""
    examples = [extensions.keys(next(iter(ops.examples(name))))[0] for name in ops.types() if name != ops.ZERO]
    written = [network.portable(network.build_op(key)).get_config() for key in examples]
    written.append(network.build_network(ARCH, dropout=0.1, drop_path=0.1).get_config())
    unknown = {(name, entry) for config in written for name, entries in configs(config["layers"])
               for entry in entries.keys() - KERAS_3_0}
    assert not unknown


@pytest.mark.skipif("renorm" not in inspect.signature(keras.layers.BatchNormalization).parameters,
                    reason="Keras before 3.14 has no batch renormalisation")
def test_clones_and_files_hold_stock_layers_but_keep_new_settings():
    layer = fast_layers.BatchNormalization(renorm=True, name="norm")
    inputs = keras.Input((4, 4, 3))
    model = saved_for_any_version(keras.Model(inputs, layer(inputs)))
    assert isinstance(layer, fast_layers.BatchNormalization) and layer.__class__ is keras.layers.BatchNormalization
    assert type(keras.models.clone_model(model).get_layer("norm")) is keras.layers.BatchNormalization
    saved = model.get_config()["layers"][1]
    assert saved["module"] == "keras.layers" and saved["config"]["renorm"] is True


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
