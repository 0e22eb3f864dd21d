"""Keras' MobileNetV2, with random weights, against its import."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from pnas_tf import import_weights, keras_mobilenet
from pnas_tf.errors import InputError

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def original():
    """MobileNetV2 of 7 classes whose batch norms differ from their initial state; from images to logits."""
    model = keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3), classes=7,
                                           classifier_activation=None)
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    return model


def logits(model, seed=0):
    return model.predict(np.random.default_rng(seed).uniform(-1, 1, (3, 96, 96, 3)).astype(np.float32), verbose=0)


def arch_at_96(classes=7):
    return import_weights.load_arch("mobilenet_v2", classes).for_data(96, 3, classes)


def test_model_from_python(original):
    model = import_weights.run(arch_at_96(), original)
    assert np.std(logits(original)) > 0.01
    np.testing.assert_allclose(logits(model), logits(original), atol=1e-4)
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)


@pytest.mark.parametrize("name", ["net.keras", "net.h5", "net.weights.h5"])
def test_files(original, tmp_path, name):
    path = str(tmp_path / name)
    (original.save_weights if name.endswith(".weights.h5") else original.save)(path)
    model = import_weights.run(arch_at_96(), keras_mobilenet.read(path), path)
    np.testing.assert_allclose(logits(model), logits(original), atol=1e-4)


def test_command(original, tmp_path):
    original.save_weights(tmp_path / "net.weights.h5")
    done = subprocess.run([sys.executable, "-m", "pnas_tf.import_weights", f"--source={tmp_path}/net.weights.h5",
                           f"--run_dir={tmp_path}/run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    space = json.loads((tmp_path / "run/arch.json").read_text())["space"]
    assert (space["name"], space["num_classes"], space["normalisation"]) == ("mobilenet_v2", 7, [127.5, 127.5])
    model = keras.models.load_model(tmp_path / "run/model.keras")
    np.testing.assert_array_equal(model.get_layer("mix_conv_k1_conv").get_weights()[0],
                                  original.get_layer("Conv_1").get_weights()[0])


def test_other_networks_and_damaged_files_are_refused_in_one_line(original, tmp_path):
    narrow = keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3), alpha=0.5, classes=7)
    narrow.save_weights(tmp_path / "narrow.weights.h5")
    narrow.save(tmp_path / "narrow.keras")
    keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3), include_top=False).save_weights(
        tmp_path / "headless.weights.h5")
    original.save_weights(tmp_path / "whole.weights.h5")
    content = (tmp_path / "whole.weights.h5").read_bytes()
    (tmp_path / "cut.weights.h5").write_bytes(content[:len(content) // 2])
    (tmp_path / "text.h5").write_text("no HDF5")
    for name, expected in {"narrow.weights.h5": "not the weights of MobileNetV2 at alpha 1",
                           "narrow.keras": "does not fit", "headless.weights.h5": "include_top=True",
                           "cut.weights.h5": "cannot be read", "text.h5": "cannot be read",
                           "missing.h5": "cannot be read", "missing.keras": "cannot be read"}.items():
        with pytest.raises(InputError, match=expected):
            import_weights.run(arch_at_96(), keras_mobilenet.read(str(tmp_path / name)), name)
