"""The quantisation-aware twin equals the network, its export is all integer, and the process stays as it was."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from export import convert, interpreter, qat, tflite
from export.settings import ExportConfig
from pnas_tf import network
from pnas_tf.errors import InputError
from pnas_tf.network import build
from pnas_tf.network import layers as fast_layers
from pnas_tf.space.arch import Arch


def test_twin_is_the_same_network(small_model, small_arch):
    images = np.random.default_rng(0).standard_normal((8, 16, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(qat.twin(small_model, small_arch)(images), small_model(images), atol=1e-5)


def test_twin_of_a_network_padded_as_in_pytorch(small_arch):
    model = network.assemble(small_arch, layers=fast_layers.PyTorchPadded(build.fast_layers))
    images = np.random.default_rng(0).standard_normal((8, 16, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(qat.twin(model, small_arch)(images), model(images), atol=1e-5)


def test_twin_of_another_network_is_refused(small_model, small_arch):
    for ops in ({"b00": "mb_k3_e3", "b02": "mb_k3_e1"}, {"b00": "mb_k5_e6", "b02": "zero"}):
        with pytest.raises(InputError, match=r"arch\.json"):
            qat.twin(small_model, Arch(small_arch.space, ops))


def test_ranges_start_as_those_of_the_network(small_model, small_arch, small_data):
    """tfmot starts them at -6 and 6, from which few steps lead nowhere."""
    import keras

    twin = qat.twin(small_model, small_arch)
    model = qat.quantise(twin)
    qat.start_ranges(model, twin, small_data, ExportConfig(calibration_images=small_data.train.size))
    images = next(iter(small_data.train.batches(small_data.train.size)))[0].numpy()
    ranges = {re.sub(r"(quantize_layer)_\d+", r"\1", variable.name.removesuffix(":0")): variable.numpy()
              for layer in model.layers for variable in layer.weights}
    for name, values in (
            ("quantize_layer/quantize_layer", images),
            ("quant_stem_conv_k3_relu/output",
             keras.Model(small_model.inputs, small_model.get_layer("stem_conv_k3_relu").output)(images).numpy())):
        assert ranges[f"{name}_min"] == pytest.approx(min(0.0, values.min()), abs=1e-4), name
        assert ranges[f"{name}_max"] == pytest.approx(values.max(), rel=1e-4), name


def test_environment_is_as_before():
    """Runs in a process of its own, because this one may have imported tfmot already."""
    code = ("import os; from export import qat\n"
            "os.environ.pop('TF_USE_LEGACY_KERAS', None); before = dict(os.environ)\n"
            "with qat.environment_kept():\n"
            "    import tensorflow_model_optimization\n"
            "    assert os.environ.get('TF_USE_LEGACY_KERAS') == '1'  # the change to undo\n"
            "assert dict(os.environ) == before")
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_needs_an_arch(small_model, small_data, tmp_path):
    with pytest.raises(InputError, match=r"needs the arch\.json"):
        tflite.run(model=small_model, data=small_data, config=ExportConfig(mode=("int8_qat",)), out_dir=str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(("form", "int8_io"), [("pixels", "int8"), ("pixels", "uint8"), ("normalised", "float32")])
def test_quantisation_aware_export(small_model, small_arch, small_data, tmp_path, form, int8_io):
    """The file passes its check, is all integer inside and keeps names; weights and environment are untouched."""
    weights, environment = small_model.get_weights(), dict(os.environ)
    config = ExportConfig(mode=("int8_qat",), timing_seconds=0, input=form, int8_io=int8_io, qat_batch_size=32)
    facts, = tflite.run(model=small_model, data=small_data, config=config, out_dir=str(tmp_path), arch=small_arch)
    assert facts["problem"] is None and facts["top1"] >= facts["keras_top1"] - 0.007
    assert dict(os.environ) == environment
    for before, after in zip(weights, small_model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    contents = convert.describe((tmp_path / "int8_qat.tflite").read_bytes())
    pixel_convolution = 1 if form == "pixels" else 0
    assert [contents.ops.count(op) for op in ("CONV_2D", "DEPTHWISE_CONV_2D", "ADD")] == [7 + pixel_convolution, 3, 2]
    for name in ("stem_conv_k3", "b00_mb_k5_e6", "b01_mb_k5_e3", "b02_mb_k3_e1", "mix_conv_k1"):
        assert any(name in tensor.name for tensor in contents.tensors), name
    details = interpreter.make_interpreter(str(tmp_path / "int8_qat.tflite")).get_input_details()[0]
    assert details["dtype"] == np.dtype(int8_io)
    if form == "pixels":
        assert details["quantization"] == (1.0, {"int8": -128, "uint8": 0}[int8_io])
