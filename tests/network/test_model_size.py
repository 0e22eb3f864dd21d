"""Networks of .keras files are counted before their weights are made."""

import json
import zipfile

import keras
import numpy as np
import pytest

from pnas_tf.errors import InputError
from pnas_tf.network import model_size


def config_of(model, path):
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def compiled(units):
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.Sequential([keras.layers.RandomFlip()]),
                              keras.layers.Normalization(mean=[1.0] * 3, variance=[2.0] * 3),
                              keras.layers.BatchNormalization(), keras.layers.Flatten(), keras.layers.Dense(units)])
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 10)), "mse", ["accuracy"],
                  jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def test_a_compiled_model_is_counted(tmp_path):
    config = config_of(compiled(2), tmp_path / "model.keras")
    assert config["compile_config"]["optimizer"]
    model_size.check(config, "model.keras")
    dense = config["config"]["layers"][-1]["config"]
    dense["units"] = 10**12
    with pytest.raises(InputError, match=r"model\.keras: its network"):
        model_size.check(config, "model.keras")
    # Keras is not left with weights that it would make at the next chance.
    layer = keras.layers.Dense(1)
    layer.build((1, 1))
    layer.stateless_call(layer.trainable_variables, [], np.ones((1, 1), np.float32))
