"""A derived network as a plain Keras model: compile, fit, callbacks, files, strategies, precision, a new head."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from pnas_tf import network

ROOT = Path(__file__).parents[2]
LOGITS = {"from_logits": True}


@pytest.fixture
def model(small_arch):
    keras.utils.set_random_seed(0)
    return network.build_network(small_arch)


def compiled(model, **more):
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(**LOGITS),
                  metrics=["accuracy"], jit_compile=False, **more)
    return model


def fit(model, data, **more):
    return model.fit(data.train.batches(32, augment=False, seed=0), steps_per_epoch=15, verbose=0, **more).history


@pytest.mark.slow
def test_fit_with_callbacks_and_a_file_to_go_on_from(model, small_data, tmp_path):
    callbacks = [keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="val_accuracy", save_best_only=True),
                 keras.callbacks.CSVLogger(tmp_path / "log.csv"),
                 keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 / (1 + epoch))]
    history = fit(compiled(model), small_data, epochs=4, validation_data=small_data.held_out.batches(64),
                  callbacks=callbacks)
    assert history["accuracy"][-1] > 0.6 and history["loss"][-1] < 0.7 * history["loss"][0]
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 5
    best = keras.models.load_model(tmp_path / "best.keras")
    _, accuracy = best.evaluate(small_data.held_out.batches(64), verbose=0)
    assert accuracy == pytest.approx(max(history["val_accuracy"]), abs=1e-6)

    model.save(tmp_path / "last.keras")
    again = keras.models.load_model(tmp_path / "last.keras")
    assert int(again.optimizer.iterations) == 60  # the optimizer goes on, too
    losses = [fit(net, small_data, epochs=1)["loss"][0] for net in (model, again)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.slow
def test_fit_under_xla_trains_the_same(small_arch, small_data):
    """Keras compiles with XLA by default if there is a GPU."""
    losses = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        model = network.build_network(small_arch)
        model.compile(keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(**LOGITS),
                      jit_compile=jit_compile)
        losses.append(fit(model, small_data, epochs=2)["loss"])
    assert losses[0][1] < losses[0][0]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(small_arch, small_data, tmp_path, policy):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        model = network.build_network(small_arch)
    finally:
        keras.mixed_precision.set_global_policy(before)
    half = policy.removeprefix("mixed_")
    assert model.get_layer("b01_mb_k5_e3_project").compute_dtype == half
    assert model.output.dtype == "float32" and {weight.dtype for weight in model.weights} == {"float32"}
    history = fit(compiled(model), small_data, epochs=3)
    assert history["accuracy"][-1] > 0.5 and history["loss"][-1] < history["loss"][0]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    images, _ = next(iter(small_data.test.batches(32)))
    np.testing.assert_array_equal(model.predict(images, verbose=0), again.predict(images, verbose=0))
    assert again.get_layer("b01_mb_k5_e3_project").compute_dtype == half


def test_fine_tuning_with_a_new_head_and_a_frozen_body(small_model, small_data, tmp_path):
    """A network trained on four quadrants learns two classes, top and bottom."""
    body = network.portable(small_model)
    for layer in body.layers:
        layer.trainable = False
    tuned = keras.Model(body.input, keras.layers.Dense(2, name="halves")(body.layers[-2].output))
    before = [weight.numpy() for weight in body.weights]
    data = small_data.train.batches(32, seed=0).map(lambda images, labels: (images, labels // 2))
    compiled(tuned).fit(data, steps_per_epoch=15, epochs=3, verbose=0)
    assert len(tuned.trainable_variables) == 2
    for old, new in zip(before, body.weights, strict=True):
        np.testing.assert_array_equal(old, new)
    tuned.save(tmp_path / "tuned.keras")
    test = small_data.test.batches(300).map(lambda images, labels: (images, labels // 2))
    _, accuracy = keras.models.load_model(tmp_path / "tuned.keras").evaluate(test, verbose=0)
    assert accuracy > 0.85


MIRRORED = """
import json, sys
import keras, numpy as np, tensorflow as tf
from pnas_tf import network
from pnas_tf.space import arch

devices = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(devices[0], [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
images, labels = rng.normal(size=(64, 16, 16, 3)).astype(np.float32), rng.integers(0, 4, 64)

def train(replicas, frozen):
    keras.utils.set_random_seed(0)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(replicas)],
                                              tf.distribute.ReductionToOneDevice())
    with strategy.scope():
        model = network.build_network(arch.load(sys.argv[1]))
        for layer in model.layers:
            if frozen and isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), metrics=["accuracy"], jit_compile=False,
                      loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(32)
    losses = model.fit(data, epochs=8, shuffle=False, verbose=0).history["loss"]
    return losses, [weight.tolist() for weight in model.get_weights()]

print(json.dumps([train(1, True), train(2, True), train(2, False)]))
"""


@pytest.mark.slow
def test_mirrored_scope(small_arch, tmp_path):
    """Two replicas on this CPU train as a single one does if batch norm is fixed, and also learn if it is not."""
    small_arch.save(str(tmp_path / "arch.json"))
    result = subprocess.run([sys.executable, "-c", MIRRORED, str(tmp_path / "arch.json")], cwd=ROOT, text=True,
                            capture_output=True, timeout=600, check=False,
                            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert result.returncode == 0, result.stderr[-2000:]
    (losses, weights), (shared, shared_weights), (learns, _) = json.loads(result.stdout.splitlines()[-1])
    np.testing.assert_allclose(shared, losses, rtol=1e-3)
    for mine, theirs in zip(shared_weights, weights, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-3)
    assert learns[-1] < 0.8 * learns[0]
