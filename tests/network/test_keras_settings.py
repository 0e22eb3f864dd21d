"""Keras' settings of another project build no other network: they are replaced in commands and refused in programs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from pnas_tf import network
from pnas_tf.errors import InputError
from pnas_tf.supernet.supernet import Supernet

ROOT = Path(__file__).parents[2]


def run(code, home, **environment):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120, env={
        **os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "HOME": str(home), **environment})


def write(home, text):
    (home / ".keras").mkdir(exist_ok=True)
    (home / ".keras" / "keras.json").write_text(text)


COMMAND = ("from pnas_tf.cli import start\nfrom pnas_tf import errors\ntry:\n    start.load_tensorflow()\n"
           "    from pnas_tf import network\n    print(network.build_network('efficientnet_lite0').count_params())\n"
           "except errors.InputError as error:\n    print('Error:', error)")


def test_a_command_replaces_them(tmp_path):
    write(tmp_path, json.dumps({"image_data_format": "channels_first", "floatx": "float16", "backend": "torch",
                                "epsilon": 0.1}))
    done = run(COMMAND, tmp_path, KERAS_BACKEND="jax")
    assert done.stdout.strip() == "4694024", done.stderr  # with the moving statistics of batch norm, as Keras counts


@pytest.mark.slow
@pytest.mark.parametrize(("text", "environment", "message"), [
    ('{"floatx": "float8"}', {}, r".keras/keras.json \("),
    ("{}", {"KERAS_MAX_EPOCHS": "1"}, "limited to 1 epochs by KERAS_MAX_EPOCHS")])
def test_a_command_refuses_what_it_cannot_replace(tmp_path, text, environment, message):
    write(tmp_path, text)
    done = run(COMMAND, tmp_path, **environment)
    assert done.stdout.startswith("Error: ") and done.stdout.count("\n") == 1, done.stderr
    assert message.replace("\\", "") in done.stdout


@pytest.mark.slow
def test_a_program_chooses_the_backend_by_importing_us_first(tmp_path):
    write(tmp_path, json.dumps({"backend": "torch"}))
    done = run("import pnas_tf, keras; print(keras.config.backend())", tmp_path, KERAS_BACKEND="jax")
    assert done.stdout.strip() == "tensorflow", done.stderr


@pytest.mark.parametrize(("name", "value", "good"), [
    ("image_data_format", "channels_first", "channels_last"), ("floatx", "float16", "float32"),
    ("max_epochs", 1, None), ("max_steps_per_epoch", 10, None)])
def test_a_program_is_told(small_arch, name, value, good):
    change = getattr(keras.config, f"set_{name}")
    builds = (lambda: network.build_network(small_arch), lambda: Supernet(small_arch.space),
              lambda: network.build_op(small_arch.op_keys()[0][1]))
    change(value)
    try:
        for build in builds:
            with pytest.raises(InputError, match=rf"keras\.config\.set_{name}\(") as caught:
                build()
            assert "\n" not in str(caught.value)
    finally:
        change(good)
    assert [build() for build in builds]
