"""A small MBConv network, exported in every mode and compared with Keras; what is broken is refused."""

import dataclasses
import json
import os
import resource
import subprocess
import sys
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from export import agreement, convert, interpreter, keras_model, model_card, tflite, timing
from export import graph as graph_lib
from export import inputs as inputs_lib
from pnas_tf import network
from pnas_tf.data.parts import ArrayPart
from pnas_tf.errors import InputError
from pnas_tf.space.arch import Arch

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
    found = convert.describe(exported(model, mode, images))
    ops = Counter(found.ops)
    ops.pop("DEQUANTIZE", None)  # float16 weights
    assert ops == {"CONV_2D": 2 + 2 + 2 + 1, "DEPTHWISE_CONV_2D": 3, "ADD": 2, "MEAN": 1, "FULLY_CONNECTED": 1}
    assert found.input_shape == (1, SIDE, SIDE, 3)
    for name in LAYERS:
        assert any(f"/{name}_" in tensor.name for tensor in found.tensors), name


@pytest.mark.parametrize("mode", convert.MODES)
def test_relu6_is_fused(model, images, mode):
    """Every convolution but the three projections carries its ReLU6."""
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


def test_quantised_input_and_output_by_hand(model, images):
    """Scale and zero point applied outside, with TensorFlow's own interpreter."""
    content = exported(model, "int8", images)
    reference = tf.lite.Interpreter(model_content=content)
    reference.allocate_tensors()
    given, taken = reference.get_input_details()[0], reference.get_output_details()[0]
    scale, zero = given["quantization"]
    quantised = np.round(images[:1].astype(np.float64) / scale) + zero
    reference.set_tensor(given["index"], np.clip(quantised, -128, 127).astype(np.int8))
    reference.invoke()
    scale, zero = taken["quantization"]
    expected = (reference.get_tensor(taken["index"]).astype(np.float64) - zero) * scale
    logits = interpreter.run(interpreter.make_interpreter(content), images[:1])
    np.testing.assert_allclose(logits, expected, atol=1.01 * scale)  # kernels may round the last step apart


def test_old_runtimes_can_read_dynamic(model, images):
    """The published tflite-runtime ends at 2.14, which knows FULLY_CONNECTED up to version 11."""
    codes = schema.ModelT.InitFromPackedBuf(exported(model, "dynamic", images), 0).operatorCodes
    versions = {code.builtinCode: code.version for code in codes}
    assert 0 < versions[schema.BuiltinOperator.FULLY_CONNECTED] <= 11


def test_what_tflite_cannot_express_is_refused():
    inputs = keras.Input((4, 4, 1))
    outputs = keras.layers.Lambda(lambda x: tf.reduce_sum(tf.math.digamma(x), [1, 2]))(inputs)
    with pytest.raises(InputError, match=r"no built-in op for tf\.Digamma\."):
        convert.convert(keras.Model(inputs, outputs), "float32")


def test_unfrozen_and_unquantised_models_are_refused():
    """What the converter has been seen to write without an error."""
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
    """Real graphs that TFLite cannot fold: a scale and an activation with bounds that no kernel fuses."""
    inputs = keras.Input((4, 4, 3))
    conv = keras.layers.Conv2D(4, 1)(inputs)
    pool = keras.layers.GlobalAveragePooling2D()
    for loose, op in ((tf.clip_by_value, "MINIMUM"), (lambda x, *_: tf.nn.relu(x) * 2.0, None)):
        outputs = pool(keras.layers.Lambda(lambda x, loose=loose: loose(x, -0.5, 3.5))(conv))
        if op:
            with pytest.raises(InputError, match=f"{op}|MAXIMUM"):
                convert.convert(keras.Model(inputs, outputs), "float32")
        else:  # the ReLU is fused, so the factor after it does not stand after a bare convolution
            with pytest.raises(InputError, match="MUL"):
                convert.convert(keras.Model(inputs, outputs), "float32")


@pytest.mark.parametrize(("mode", "item_bytes"), [("float32", 4), ("float16", 4), ("int8", 1)])
def test_peak_of_activations_by_hand(model, images, mode, item_bytes):
    """In b00 (8x8): the shortcut's 8 channels, the 48 expanded ones and the 48 that the depthwise kernel writes."""
    found = graph_lib.peak_activation_bytes(graph_lib.describe(exported(model, mode, images)))
    assert found == 8 * 8 * (8 + 48 + 48) * item_bytes


def test_pixel_input_is_the_same_network(model, data):
    """On whole grey levels, against normalisation in NumPy; the border included, where folding would be wrong."""
    grey = np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 3)).astype(np.float32)
    expected = model.predict((grey - np.array(data.mean)) / np.array(data.std), verbose=0)
    content = convert.convert(inputs_lib.with_pixel_input(model, data.mean, data.std), "float32")
    np.testing.assert_allclose(interpreter.run(interpreter.make_interpreter(content), grey), expected, atol=1e-4)


def test_colour_input_of_a_grey_network(grey_arch):
    """Against grey by hand, on colours that differ; int8 rounds the three factors."""
    model = network.build_network(grey_arch)
    colour = np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 3)).astype(np.float32)
    grey = colour @ np.array([[0.299], [0.587], [0.114]], np.float32)
    content = convert.convert(inputs_lib.with_pixel_input(model, [90.0], [60.0], rgb=True), "float32")
    np.testing.assert_allclose(interpreter.run(interpreter.make_interpreter(content), colour),
                               model.predict((grey - 90) / 60, verbose=0), atol=1e-4)


def test_colour_input_is_for_grey_networks(model, data, tmp_path):
    with pytest.raises(InputError, match="is for networks of grey images"):
        tflite.run(model=model, data=data, modes=["float32"], out_dir=str(tmp_path), input_form="rgb")


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


def test_facts_by_hand():
    keras_logits = np.array([[1, 0], [0, 1], [3, -20], [0, 1]], np.float32)
    logits = np.array([[1, 0.5], [1, 0], [3, -20], [0, 1]], np.float32)
    assert agreement.agreement(logits, keras_logits, np.array([0, 0, 0, 0])) == {
        "checked_images": 4, "max_difference": 1.0, "keras_logit": 20.0, "agreement": 0.75, "top1": 0.75,
        "keras_top1": 0.5}


@pytest.mark.parametrize(("mode", "change", "bad"), [
    ("float32", {"max_difference": 0.9e-4}, False), ("float32", {"max_difference": 1.1e-4}, True),
    ("float32", {"max_difference": 1.9e-4, "keras_logit": 20.0}, False), ("float32", {"max_difference": np.nan}, True),
    ("float16", {"agreement": 0.995}, False), ("float16", {"agreement": 0.994}, True),
    ("float16", {"agreement": 0.98, "checked_images": 50}, False), ("float16", {"agreement": np.nan}, True),
    ("int8", {"top1": 0.885}, False), ("int8", {"top1": 0.884}, True), ("int8", {"top1": 0.95}, False),
    ("int8", {"max_difference": 0.5, "agreement": 0.9}, False), ("int8", {"max_difference": np.inf}, True),
    ("dynamic", {"top1": 0.885}, False), ("dynamic", {"top1": 0.884}, True),
    ("int8_qat", {"top1": 0.893}, False), ("int8_qat", {"top1": 0.892}, True)])
def test_bounds_of_the_check(mode, change, bad):
    facts = {"checked_images": 2000, "max_difference": 0.0, "keras_logit": 5.0, "agreement": 1.0, "top1": 0.9,
             "keras_top1": 0.9, **change}
    assert (agreement.problem(mode, facts) is not None) == bad


def test_entry_point_writes_files_and_facts(model, small_npz, tmp_path):
    model.save(tmp_path / "model.keras")
    done = export(f"--model={tmp_path}/model.keras", f"--dataset=npz:{small_npz}", "--mode=float32,int8",
                  "--check_images=100", "--calibration_images=60", "--input=normalised", "--author=A. Person",
                  "--license=MIT")
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path)) == ["float32.json", "float32.md", "float32.tflite", "int8.json", "int8.md",
                                            "int8.tflite", "model.keras"]
    assert f"{tmp_path}/int8.tflite" in done.stdout
    assert f"Next: python -m export.bundle --run_dir={tmp_path} --dataset=npz:{small_npz}\n" in done.stdout
    facts = json.loads((tmp_path / "int8.json").read_text())
    assert facts["size_bytes"] == os.path.getsize(tmp_path / "int8.tflite")
    assert facts["checked_images"] == 100 and facts["params"] == network.count_params(model)
    assert facts["target"] == "host_xnnpack1_int8" and facts["measured_ms"] > 0
    assert facts["peak_activation_bytes"] == 8 * 8 * (8 + 48 + 48) and facts["author"] == "A. Person"
    card = (tmp_path / "int8.md").read_text()
    for wanted in (f"{facts['top1']:.2%}", f"{facts['keras_top1']:.2%}", f"{facts['size_bytes']:,} bytes", "MIT",
                   f"{facts['measured_ms']:.4g} ms", f"{facts['macs']:,}", "A. Person", "--check_images=100"):
        assert wanted in card, wanted
    assert "MediaPipe takes no int8 input" in card
    grey = {**facts, "input": {**facts["input"], "shape": [1, SIDE, SIDE, 1]}}
    assert "MediaPipe takes colour images only" in model_card.render(grey)
    runner = interpreter.make_interpreter(str(tmp_path / "float32.tflite"))
    np.testing.assert_allclose(interpreter.run(runner, np.ones((1, SIDE, SIDE, 3), np.float32)),
                               model(np.ones((1, SIDE, SIDE, 3))), atol=1e-4)


def test_facts_of_a_run(model, small_arch, small_npz, tmp_path):
    """Where the network comes from: search, training, export; what the table predicted; what was used."""
    model.save(tmp_path / "model.keras")
    Arch(small_arch.space, small_arch.ops, {"target": "pixel6_xnnpack1_int8", "table_ms": 1.25}).save(
        str(tmp_path / "arch.json"))
    (tmp_path / "run.flags").write_text("--space=small\n--seed=7\n")
    (tmp_path / "train.json").write_text(json.dumps({"command": "python -m pnas_tf.train --lr=0.1", "seed": 5,
                                                     "data": {"dataset": f"npz:{small_npz}", "seed": 0}}))
    done = export(f"--run_dir={tmp_path}", "--mode=dynamic", "--check_images=50", "--seed=3")
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "dynamic.json").read_text())
    assert (facts["table_ms"], facts["table_target"]) == (1.25, "pixel6_xnnpack1_int8")
    assert facts["seeds"] == {"search": 7, "train": 5, "export": 3}
    assert list(facts["commands"]) == ["search", "train", "export"]
    assert facts["commands"]["search"] == f"python -m pnas_tf.search --flagfile={tmp_path}/run.flags"
    assert facts["dataset"] == f"npz:{small_npz}" and len(facts["labels"]) == 4
    assert facts["versions"]["tensorflow"] == tf.__version__ and facts["versions"]["keras"] == keras.__version__
    assert facts["architecture"][1] == "b00: mb_k5_e6, 8 filters, stride 1, shortcut"
    card = (tmp_path / "dynamic.md").read_text()
    for wanted in ("1.25 ms on pixel6_xnnpack1_int8", facts["architecture"][1], facts["commands"]["train"],
                   "export 3", f"tensorflow {tf.__version__}", facts["sha256"], small_npz,
                   f"{facts['peak_activation_bytes']:,} bytes"):
        assert wanted in card, wanted


def test_failed_check_leaves_nothing_behind(model, data, tmp_path):
    """Calibrated on images far darker than the test's, int8 clips what it should tell apart."""
    dark = np.zeros((60, SIDE, SIDE, 3), np.uint8)
    dark_data = dataclasses.replace(data, train=ArrayPart(dark, np.zeros(60, np.int32), np.arange(60), SIDE,
                                                          data.mean, data.std))
    for old in ("int8.tflite", "int8.json"):
        (tmp_path / old).write_text("of an earlier export")
    arguments = {"model": model, "data": dark_data, "modes": ["int8"], "out_dir": str(tmp_path),
                 "input_form": "normalised"}
    with pytest.raises(InputError, match=r"int8\.tflite is not written") as caught:
        tflite.run(**arguments)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []
    facts, = tflite.run(**arguments, allow_drop=True)
    assert "top-1" in facts["problem"] and facts["top1"] < facts["keras_top1"] - 0.015
    assert "failed its check" in (tmp_path / "int8.md").read_text()
    assert sorted(os.listdir(tmp_path)) == ["int8.json", "int8.md", "int8.tflite"]


def test_arch_of_another_network_is_refused(model, small_arch, tmp_path):
    small_arch.save(str(tmp_path / "arch.json"))
    assert keras_model.arch_beside(model, str(tmp_path)) == small_arch
    Arch(small_arch.space, {"b00": "mb_k3_e3", "b02": "mb_k3_e1"}).save(str(tmp_path / "arch.json"))
    with pytest.raises(InputError, match="another network"):
        keras_model.arch_beside(model, str(tmp_path))
    assert keras_model.arch_beside(model, str(tmp_path / "elsewhere")) is None


def test_full_disk_is_one_line_and_leaves_nothing(model, small_npz, tmp_path):
    """A real limit of the system on the size of a file, too small for the .tflite."""
    model.save(tmp_path / "model.keras")
    command = [sys.executable, "-m", "export.tflite", f"--model={tmp_path}/model.keras", f"--dataset=npz:{small_npz}",
               "--mode=float32", "--check_images=50"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=lambda: resource.setrlimit(
        resource.RLIMIT_FSIZE, (20_000, 20_000)))
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1 and "cannot be written" in done.stderr
    assert os.listdir(tmp_path) == ["model.keras"]


@pytest.mark.parametrize("damage", ["cut", "junk", "empty", "missing"])
def test_broken_model_files_are_refused(model, tmp_path, damage):
    path = tmp_path / "model.keras"
    model.save(path)
    content = path.read_bytes()
    path.write_bytes({"cut": content[:len(content) // 2], "junk": b"junk" * 100, "empty": b"", "missing": b""}[damage])
    if damage == "missing":
        path.unlink()
    with pytest.raises(InputError) as caught:
        keras_model.load(str(path))
    assert "\n" not in str(caught.value)
    assert damage != "missing" or f"python -m pnas_tf.train --run_dir={tmp_path}" in str(caught.value)


def test_models_of_another_kind_are_refused(data, small_arch, tmp_path):
    inputs = keras.Input((5,))
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(tmp_path / "dense.keras")
    with pytest.raises(InputError, match="from images"):
        keras_model.load(str(tmp_path / "dense.keras"))
    inputs = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    keras.Model(inputs, [pooled, pooled]).save(tmp_path / "two.keras")
    with pytest.raises(InputError, match="from images"):
        keras_model.load(str(tmp_path / "two.keras"))
    # Python code in the file is not run.
    keras.Model(inputs, keras.layers.Lambda(lambda x: x[:, 0, 0])(inputs)).save(tmp_path / "code.keras")
    with pytest.raises(InputError, match="not a Keras model that can be loaded"):
        keras_model.load(str(tmp_path / "code.keras"))
    other = network.build_network(small_arch, num_classes=7)
    with pytest.raises(InputError, match="of 7 classes"):
        tflite.run(model=other, data=data, modes=["float32"], out_dir=str(tmp_path))


@pytest.mark.parametrize("arguments", [(), ("--run_dir=a", "--model=b"), ("--model=b",), ("--run_dir=a", "--mode=int4"),
                                       ("--run_dir=/nonexistent",)])
def test_bad_flags_are_one_line(arguments):
    done = export(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1


def export(*arguments):
    return subprocess.run([sys.executable, "-m", "export.tflite", *arguments], capture_output=True, text=True,
                          check=False)


def test_statistic_by_hand():
    """Medians of rounds 3.0 and 2.5: a quarter of the way up from the lower one. Of five rounds it is the second."""
    assert timing.summarise([[3.0, 1.0, 8.0], [2.0, 2.5, 90.0]]) == {
        "median_ms": 2.625, "min_ms": 1.0, "mean_ms": pytest.approx(106.5 / 6),
        "std_ms": pytest.approx(np.std([3, 1, 8, 2, 2.5, 90])), "runs": 6}
    assert timing.summarise([[5.0], [1.0], [2.0], [4.0], [3.0]])["median_ms"] == 2.0


def test_an_int8_file_that_is_slower_is_told_with_the_way_to_find_out():
    def facts(mode, ms):
        return {"mode": mode, "size_bytes": 1000, "top1": 0.5, "keras_top1": 0.5, "measured_ms": ms, "problem": "",
                "checked_images": 10, "dataset": "d", "device": "host", "runtime": "r", "delegate": "x", "threads": 1}

    said = tflite._show([facts("float32", 2.0), facts("float16", 9.0), facts("int8", 9.0)], "runs/a b", [])
    assert "int8.tflite takes 4.5 times as long as float32.tflite" in said
    assert "--model='runs/a b/int8.tflite'" in said or "'--model=runs/a b/int8.tflite'" in said
    for results in ([facts("float32", 2.0), facts("int8", 2.2)], [facts("int8", 9.0)]):
        assert "times as long" not in tflite._show(results, "runs", [])
