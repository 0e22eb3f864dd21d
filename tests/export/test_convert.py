"""A small MBConv network is converted in every mode and compared with Keras; faulty models are refused."""

import re
import sys
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from export import convert, interpreter, metadata
from export import graph as graph_lib
from export import inputs as inputs_lib
from pnas_tf import network
from pnas_tf.errors import InputError

SIDE = 16
LAYERS = ("stem_conv_k3", "b00_mb_k5_e6", "b01_mb_k5_e3", "b02_mb_k3_e1", "mix_conv_k1", "classifier_classifier")


@pytest.fixture(scope="module")
def data(small_data):
    return small_data


@pytest.fixture(scope="module")
def model(small_model):
    return small_model


@pytest.fixture(scope="module")
def images(data):
    return np.concatenate([batch for batch, _ in data.test.batches(100).as_numpy_iterator()])


def exported(model, mode, images):
    return convert.convert(model, mode, [images[:50]])


def test_float32_agrees_with_keras(model, images):
    logits = interpreter.run(interpreter.make_interpreter(exported(model, "float32", images)), images)
    np.testing.assert_allclose(logits, model.predict(images, verbose=0), atol=1e-4)
    builtin = interpreter.make_interpreter(exported(model, "float32", images), delegate="none")
    np.testing.assert_allclose(interpreter.run(builtin, images), logits, atol=1e-4)


@pytest.mark.parametrize("mode", convert.MODES)
def test_batch_norm_is_folded_and_layers_keep_their_names(model, images, mode):
    contents = convert.describe(exported(model, mode, images))
    ops = Counter(contents.ops)
    ops.pop("DEQUANTIZE", None)  # float16 weights
    assert ops == {"CONV_2D": 2 + 2 + 2 + 1, "DEPTHWISE_CONV_2D": 3, "ADD": 2, "MEAN": 1, "FULLY_CONNECTED": 1}
    assert contents.input_shape == (1, SIDE, SIDE, 3)
    for name in LAYERS:
        assert any(f"/{name}_" in tensor.name for tensor in contents.tensors), name


@pytest.mark.parametrize("mode", convert.MODES)
def test_relu6_is_fused(model, images, mode):
    """Every convolution except the three projections contains its ReLU6."""
    contents = schema.ModelT.InitFromPackedBuf(exported(model, mode, images), 0)
    convolutions = (schema.Conv2DOptionsT, schema.DepthwiseConv2DOptionsT)
    activations = Counter(operator.builtinOptions.fusedActivationFunction
                          for operator in contents.subgraphs[0].operators
                          if isinstance(operator.builtinOptions, convolutions))
    assert activations == {schema.ActivationFunctionType.RELU6: 7, schema.ActivationFunctionType.NONE: 3}


def test_float16_is_smaller_and_agrees(model, images):
    content = exported(model, "float16", images)
    logits = interpreter.run(interpreter.make_interpreter(content), images)
    expected = model.predict(images, verbose=0)
    assert "FLOAT16" in convert.describe(content).dtypes
    assert len(content) < len(exported(model, "float32", images))
    assert np.mean(logits.argmax(1) == expected.argmax(1)) >= 0.995
    assert 0 < np.abs(logits - expected).max() < 0.1


def test_int8_is_all_integer_and_as_right_as_keras(model, images, data):
    content = exported(model, "int8", images)
    assert convert.describe(content).dtypes <= {"INT8", "INT32"}
    runner = interpreter.make_interpreter(content)
    assert runner.get_input_details()[0]["dtype"] == runner.get_output_details()[0]["dtype"] == np.int8
    labels = np.concatenate([labels for _, labels in data.test.batches(100).as_numpy_iterator()])
    keras_top1 = np.mean(model.predict(images, verbose=0).argmax(1) == labels)
    top1 = np.mean(interpreter.run(runner, images).argmax(1) == labels)
    assert keras_top1 > 0.9 and keras_top1 - top1 <= 0.015


def test_without_tf_lite_files_are_read_run_and_packed_and_conversion_is_refused(model, images, monkeypatch):
    """As in a later TensorFlow, from which tf.lite is gone. What needs the converter says so in one line."""
    content = exported(model, "float32", images)
    expected = interpreter.run(interpreter.make_interpreter(content), images[:4])
    for name in [name for name in sys.modules if name.startswith("tensorflow.lite")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delattr(tf, "lite")
    packed = graph_lib.pack(graph_lib.unpack(content))
    assert graph_lib.describe(packed).ops == graph_lib.describe(content).ops
    assert metadata.attach(content, b"facts") != content
    np.testing.assert_array_equal(interpreter.run(interpreter.make_interpreter(packed), images[:4]), expected)
    with pytest.raises(InputError, match=r"TensorFlow 2\.\d+\.\d+ has no tf\.lite, whose converter .*pip install"):
        exported(model, "float32", images)
    with pytest.raises(InputError, match=r"has no tf\.lite\. Use the runtime litert"):
        interpreter.make_interpreter(content, runtime="tf.lite")


def test_tf_lite_and_litert_are_asked_for_in_one_module():
    asking = re.compile(r"tf\.lite\.\w|tensorflow\.lite|(?:from|import) ai_edge_litert|(?:from|import) tflite_runtime")
    folder = Path(convert.__file__).parents[1]
    sources = [path for name in ("pnas_tf", "export", "latency") for path in (folder / name).rglob("*.py")]
    assert [path.name for path in sources if asking.search(path.read_text(encoding="utf-8"))] == ["litert.py"]


def test_quantised_input_and_output_by_hand(model, images):
    """Scale and zero point are applied by hand around TensorFlow's own interpreter."""
    content = exported(model, "int8", images)
    reference = tf.lite.Interpreter(model_content=content)
    reference.allocate_tensors()
    input_details, output_details = reference.get_input_details()[0], reference.get_output_details()[0]
    scale, zero = input_details["quantization"]
    quantised = np.round(images[:1].astype(np.float64) / scale) + zero
    reference.set_tensor(input_details["index"], np.clip(quantised, -128, 127).astype(np.int8))
    reference.invoke()
    scale, zero = output_details["quantization"]
    expected = (reference.get_tensor(output_details["index"]).astype(np.float64) - zero) * scale
    logits = interpreter.run(interpreter.make_interpreter(content), images[:1])
    np.testing.assert_allclose(logits, expected, atol=1.01 * scale)  # kernels may round differently by one step


def test_old_runtimes_can_read_dynamic(model, images):
    """The last published tflite-runtime, 2.14, supports FULLY_CONNECTED up to version 11."""
    codes = schema.ModelT.InitFromPackedBuf(exported(model, "dynamic", images), 0).operatorCodes
    versions = {code.builtinCode: code.version for code in codes}
    assert 0 < versions[schema.BuiltinOperator.FULLY_CONNECTED] <= 11


def test_model_without_a_builtin_op_is_refused():
    inputs = keras.Input((4, 4, 1))
    outputs = keras.layers.Lambda(lambda x: tf.reduce_sum(tf.math.digamma(x), [1, 2]))(inputs)
    with pytest.raises(InputError, match=r"no built-in op for tf\.Digamma\."):
        convert.convert(keras.Model(inputs, outputs), "float32")


def test_unfrozen_and_unquantised_models_are_refused():
    """The converter has been seen to write such models without an error."""
    def graph(name, dtype):
        ends = [graph_lib.Tensor(end, "INT8", (1, 4), 4, False) for end in ("in", "out")]
        middle = graph_lib.Tensor("middle", dtype, (1, 4), 4, False)
        return graph_lib.Contents((graph_lib.Operator("CONV_2D", (0,), (2,)), graph_lib.Operator(name, (2,), (1,))),
                                 (*ends, middle), (0,), (1,))

    graph_lib.check_runnable(graph("CONV_2D", "INT8"), integer=True)
    with pytest.raises(InputError, match="VAR_HANDLE"):
        graph_lib.check_runnable(graph("VAR_HANDLE", "INT8"), integer=False)
    with pytest.raises(InputError, match="FLOAT32"):
        graph_lib.check_runnable(graph("CONV_2D", "FLOAT32"), integer=True)
    graph_lib.check_runnable(graph("CONV_2D", "FLOAT32"), integer=False)


def test_loose_batch_norm_and_relu_are_refused():
    """Real graphs that TFLite cannot fold: an activation with bounds that no kernel fuses, and a scale."""
    inputs = keras.Input((4, 4, 3))
    conv = keras.layers.Conv2D(4, 1)(inputs)
    pool = keras.layers.GlobalAveragePooling2D()
    for loose, op in ((tf.clip_by_value, "MINIMUM"), (lambda x, *_: tf.nn.relu(x) * 2.0, None)):
        outputs = pool(keras.layers.Lambda(lambda x, loose=loose: loose(x, -0.5, 3.5))(conv))
        if op:
            with pytest.raises(InputError, match=f"{op}|MAXIMUM"):
                convert.convert(keras.Model(inputs, outputs), "float32")
        else:  # the ReLU is fused with the convolution, and the scale follows both
            with pytest.raises(InputError, match="MUL"):
                convert.convert(keras.Model(inputs, outputs), "float32")


@pytest.mark.parametrize(("mode", "item_bytes"), [("float32", 4), ("float16", 4), ("int8", 1)])
def test_peak_of_activations_by_hand(model, images, mode, item_bytes):
    """In b00 (8x8), 8 channels of the shortcut, 48 expanded ones and 48 depthwise outputs are alive at once."""
    peak_bytes = graph_lib.peak_activation_bytes(graph_lib.describe(exported(model, mode, images)))
    assert peak_bytes == 8 * 8 * (8 + 48 + 48) * item_bytes


def test_pixel_input_is_the_same_network(model, data):
    """Compares whole levels with normalisation in NumPy, at the border too, where folding would be wrong."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 3)).astype(np.float32)
    expected = model.predict((pixels - np.array(data.mean)) / np.array(data.std), verbose=0)
    content = convert.convert(inputs_lib.with_pixel_input(model, data.mean, data.std), "float32")
    np.testing.assert_allclose(interpreter.run(interpreter.make_interpreter(content), pixels), expected, atol=1e-4)


def test_colour_input_of_a_grey_network(grey_arch):
    """Compares random colours with grey computed by hand."""
    model = network.build_network(grey_arch)
    colour = np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 3)).astype(np.float32)
    grey = colour @ np.array([[0.299], [0.587], [0.114]], np.float32)
    content = convert.convert(inputs_lib.with_pixel_input(model, [90.0], [60.0], rgb=True), "float32")
    np.testing.assert_allclose(interpreter.run(interpreter.make_interpreter(content), colour),
                               model.predict((grey - 90) / 60, verbose=0), atol=1e-4)


def test_bytes_of_a_camera_are_bytes_of_the_input(model, data):
    drawn = inputs_lib.draw(data.train, 60, 0, form="pixels", mean=data.mean, std=data.std)
    narrow = np.clip(drawn.inputs, 20, 200)
    content = convert.convert(inputs_lib.with_pixel_input(model, data.mean, data.std), "int8",
                              [inputs_lib.full_range(narrow)], int8_io="uint8")
    details = interpreter.make_interpreter(content).get_input_details()[0]
    assert details["dtype"] == np.uint8 and details["quantization"] == (1.0, 0)


@pytest.mark.parametrize(("int8_io", "dtype"), [("int8", np.int8), ("uint8", np.uint8), ("float32", np.float32)])
def test_types_of_int8_ends(model, images, int8_io, dtype):
    content = convert.convert(model, "int8", [images[:50]], int8_io=int8_io)
    runner = interpreter.make_interpreter(content)
    assert runner.get_input_details()[0]["dtype"] == runner.get_output_details()[0]["dtype"] == dtype
    np.testing.assert_allclose(
        interpreter.run(runner, images[:50]),
        interpreter.run(interpreter.make_interpreter(exported(model, "int8", images)), images[:50]), atol=1e-6)


def test_batches_of_a_fixed_size(model, images):
    content = convert.convert(model, "float32", batch_size=4)
    runner = interpreter.make_interpreter(content)
    assert tuple(runner.get_input_details()[0]["shape"]) == (4, SIDE, SIDE, 3)
    np.testing.assert_allclose(interpreter.run(runner, images[:10]), model.predict(images[:10], verbose=0), atol=1e-4)


def test_calibration_images_of_another_size_are_refused(model):
    with pytest.raises(InputError, match=r"calibration images are \(8, 8, 3\)"):
        convert.convert(model, "int8", [np.zeros((5, 8, 8, 3), np.float32)])


def test_unreadable_models_are_one_line():
    for model in (b"not a model", "/nonexistent/model.tflite"):
        with pytest.raises(InputError) as caught:
            interpreter.make_interpreter(model)
        assert "\n" not in str(caught.value)
