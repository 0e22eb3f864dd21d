"""The export command writes checked files with their facts, and refuses models, data and flags that do not fit."""

import dataclasses
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from export import agreement, convert, interpreter, keras_model, model_card, tflite
from export.settings import ExportConfig
from pnas_tf import network
from pnas_tf.data.parts import ArrayPart
from pnas_tf.errors import InputError
from pnas_tf.space.arch import Arch
from tests import forked

SIDE = 16


@pytest.fixture(scope="module")
def data(small_data):
    return small_data


@pytest.fixture(scope="module")
def model(small_model):
    return small_model


def test_colour_input_is_for_grey_networks(model, data, tmp_path):
    with pytest.raises(InputError, match="is for networks of grey images"):
        tflite.run(model=model, data=data, config=ExportConfig(mode=("float32",), input="rgb"), out_dir=str(tmp_path))


def test_comparison_by_hand():
    keras_logits = np.array([[1, 0], [0, 1], [3, -20], [0, 1]], np.float32)
    logits = np.array([[1, 0.5], [1, 0], [3, -20], [0, 1]], np.float32)
    assert agreement.compare("float32", logits, keras_logits, np.array([0, 0, 0, 0])) == {
        "checked_images": 4, "max_difference": 1.0, "keras_logit": 20.0, "agreement": 0.75, "top1": 0.75,
        "keras_top1": 0.5, "near_ties": 0, "ties_lost": 0,
        "class_images": [4, 0], "class_correct": [3, 0], "class_mistaken_for": [1, None]}
    by_class = agreement.by_class(np.array([0, 1, 2, 2, 1, 0]), np.array([0, 0, 0, 0, 1, 2]), 4)
    assert by_class == {"class_images": [4, 1, 1, 0], "class_correct": [1, 1, 0, 0],
                        "class_mistaken_for": [2, None, 0, None]}


def test_near_ties_by_hand():
    """The largest logit is 8: classes within 2^-9 * 8 = 1/64 are a tie in float16, those within 1/16 in int8."""
    keras_logits = np.array([[8, 0], [1, 1 + 1 / 100], [1 + 1 / 20, 1], [1, 1 + 1 / 10]], np.float32)
    swapped = keras_logits[:, ::-1].copy()
    swapped[0] = keras_logits[0]
    labels = np.array([0, 1, 1, 1])
    found = {mode: agreement.compare(mode, swapped, keras_logits, labels) for mode in ("float32", "float16", "int8")}
    assert [(found[mode]["near_ties"], found[mode]["ties_lost"]) for mode in found] == [(0, 0), (1, 1), (2, 0)]
    assert {(facts["agreement"], facts["top1"], facts["keras_top1"]) for facts in found.values()} == {
        (0.25, 0.5, 0.75)}
    same = agreement.compare("int8", keras_logits, keras_logits, labels)
    assert (same["near_ties"], same["ties_lost"]) == (0, 0)


@pytest.mark.parametrize(("mode", "change", "bad"), [
    ("float32", {"max_difference": 0.9e-4}, False), ("float32", {"max_difference": 1.1e-4}, True),
    ("float32", {"max_difference": 1.9e-4, "keras_logit": 20.0}, False), ("float32", {"max_difference": np.nan}, True),
    ("float16", {"agreement": 0.995}, False), ("float16", {"agreement": 0.994}, True),
    ("float16", {"agreement": 0.98, "checked_images": 50}, False), ("float16", {"agreement": np.nan}, True),
    ("int8", {"top1": 0.885}, False), ("int8", {"top1": 0.884}, True), ("int8", {"top1": 0.95}, False),
    ("int8", {"max_difference": 0.5, "agreement": 0.9}, False), ("int8", {"max_difference": np.inf}, True),
    # One image, besides those between two classes.
    ("float16", {"agreement": 101 / 103, "checked_images": 103}, True),
    ("float16", {"agreement": 101 / 103, "checked_images": 103, "near_ties": 1}, False),
    ("float16", {"agreement": 96 / 103, "checked_images": 103, "near_ties": 6}, False),
    ("float16", {"agreement": 0.994, "near_ties": 2}, False), ("float16", {"agreement": 0.994, "near_ties": 1}, True),
    ("int8", {"top1": 0.9 - 2 / 103, "checked_images": 103}, True),
    ("int8", {"top1": 0.9 - 2 / 103, "checked_images": 103, "ties_lost": 1}, False),
    ("int8", {"top1": 0.9 - 1 / 103, "checked_images": 103, "ties_lost": -1}, True),
    ("int8", {"top1": 0.9 - 2 / 103, "checked_images": 103, "near_ties": 2}, True),
    ("dynamic", {"top1": 0.885}, False), ("dynamic", {"top1": 0.884}, True),
    ("int8_qat", {"top1": 0.893}, False), ("int8_qat", {"top1": 0.892}, True)])
def test_bounds_of_the_check(mode, change, bad):
    facts = {"checked_images": 2000, "max_difference": 0.0, "keras_logit": 5.0, "agreement": 1.0, "top1": 0.9,
             "keras_top1": 0.9, "near_ties": 0, "ties_lost": 0, **change}
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
    assert facts["model"] == {"file": "model.keras", "sha256": hashlib.sha256(
        (tmp_path / "model.keras").read_bytes()).hexdigest()}
    assert facts["checked_images"] == 100 and facts["params"] == network.count_params(model)
    assert facts["target"] == "host_xnnpack1_int8" and facts["measured_ms"] > 0
    assert facts["repeats"] >= 2 and facts["spread_ms"][0] <= facts["spread_ms"][1]
    assert facts["anchor"]["ms"] > 0 and facts["anchor"]["then_ms"] is None  # no table was compared
    assert facts["peak_activation_bytes"] == 8 * 8 * (8 + 48 + 48) and facts["author"] == "A. Person"
    card = (tmp_path / "int8.md").read_text()
    for text in (f"{facts['top1']:.2%}", f"{facts['keras_top1']:.2%}", f"{facts['size_bytes']:,} bytes", "MIT",
                 f"{facts['measured_ms']:.4g} ms", f"{facts['macs']:,}", "A. Person", "--check_images=100"):
        assert text in card, text
    assert facts["input"]["dtype"] == "uint8" and "MediaPipe does not normalise bytes" in card
    assert f"resize it to {SIDE} x {SIDE}" in card and "the largest square that fits" in card and "87.5%" not in card
    for label, images, correct in zip(facts["labels"], facts["class_images"], facts["class_correct"], strict=True):
        assert f"| {label} | {correct / images:.1%} | {images} |" in card
    assert sum(facts["class_images"]) == 100 and sum(facts["class_correct"]) == round(100 * facts["top1"])
    runner = interpreter.make_interpreter(str(tmp_path / "float32.tflite"))
    np.testing.assert_allclose(interpreter.run(runner, np.ones((1, SIDE, SIDE, 3), np.float32)),
                               model(np.ones((1, SIDE, SIDE, 3))), atol=1e-4)


@pytest.mark.parametrize(("shape", "dtype", "form", "mean", "words"), [
    ([1, 16, 16, 3], "uint8", "pixels", [0.0], None), ([1, 16, 16, 3], "float32", "pixels", [0.0], None),
    ([1, 16, 16, 3], "float32", "normalised", [5.0, 5.0, 5.0], None),
    ([1, 16, 16, 3], "float32", "normalised", [5.0, 6.0, 5.0], "one mean and std"),
    ([1, 16, 16, 3], "uint8", "normalised", [5.0], "does not normalise bytes"),
    ([1, 16, 16, 1], "uint8", "pixels", [0.0], "colour images only"),
    ([1, 16, 16, 3], "int8", "pixels", [0.0], "no int8 input"),
    ([4, 16, 16, 3], "uint8", "pixels", [0.0], "one image")])
def test_what_mediapipe_cannot_use(shape, dtype, form, mean, words):
    problem = model_card.mediapipe_problem({"input": {"shape": shape, "dtype": dtype}, "input_form": form,
                                            "normalisation": {"mean": mean, "std": [1.0] * len(mean)}})
    assert problem is None if words is None else words in problem


def test_facts_of_a_run(model, small_arch, small_npz, tmp_path):
    """Facts name search, training and export, the latency that the table predicted, versions and data."""
    model.save(tmp_path / "model.keras")
    Arch(small_arch.space, small_arch.ops, {"target": "pixel6_xnnpack1_int8", "table_ms": 1.25}).save(
        str(tmp_path / "arch.json"))
    (tmp_path / "run.flags").write_text("--space=small\n--seed=7\n")
    (tmp_path / "train.json").write_text(json.dumps({"command": "python -m pnas_tf.train --lr=0.1", "seed": 5,
                                                     "data": {"dataset": f"npz:{small_npz}", "seed": 0}}))
    done = export(f"--run_dir={tmp_path}", "--mode=dynamic", "--check_images=50", "--seed=3", "--timing_seconds=0")
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "dynamic.json").read_text())
    assert (facts["table_ms"], facts["table_target"]) == (1.25, "pixel6_xnnpack1_int8")
    assert facts["seeds"] == {"search": 7, "train": 5, "export": 3}
    assert list(facts["commands"]) == ["search", "train", "export"]
    assert facts["commands"]["search"] == f"python -m pnas_tf.search --flagfile={tmp_path}/run.flags"
    assert facts["found"] and "found by hardware-aware architecture search" in (tmp_path / "dynamic.md").read_text()
    assert facts["dataset"] == f"npz:{small_npz}" and len(facts["labels"]) == 4
    assert facts["versions"]["tensorflow"] == tf.__version__ and facts["versions"]["keras"] == keras.__version__
    assert facts["architecture"][1] == "b00: mb_k5_e6, 8 filters, stride 1, shortcut"
    card = (tmp_path / "dynamic.md").read_text()
    for text in ("1.25 ms on pixel6_xnnpack1_int8", facts["architecture"][1], facts["commands"]["train"],
                 "export 3", f"tensorflow {tf.__version__}", facts["sha256"], small_npz,
                 f"{facts['peak_activation_bytes']:,} bytes"):
        assert text in card, text


def nan_inside(model):
    """A copy of a model whose second layer of weights are not numbers."""
    spoiled = keras.models.clone_model(model)
    layer = spoiled.get_layer("b00_mb_k5_e6_expand")
    layer.set_weights([np.full_like(weight, np.nan) for weight in layer.get_weights()])
    return spoiled


@pytest.mark.parametrize("allow_drop", [False, True])
def test_a_model_that_answers_nan_is_never_exported(model, data, small_arch, tmp_path, allow_drop):
    config = ExportConfig(mode=("float32",), allow_drop=allow_drop, timing_seconds=0)
    (tmp_path / "float32.tflite").write_text("from an earlier export")
    with pytest.raises(InputError, match="The model's answers to 300 of 300 test images are not finite numbers"):
        tflite.run(model=nan_inside(model), data=data, config=config, out_dir=str(tmp_path), arch=small_arch)
    assert os.listdir(tmp_path) == ["float32.tflite"]


@pytest.mark.parametrize("allow_drop", [False, True])
def test_a_file_that_answers_nan_is_never_written(model, data, allow_drop):
    """A file may answer NaN where Keras does not: float16 overflows."""
    config = ExportConfig(mode=("float32",), allow_drop=allow_drop, input="normalised")
    samples = tflite._draw(data.test, 8, data, config)
    content, expected = convert.convert(nan_inside(model), "float32"), np.zeros((len(samples.labels), 4), np.float32)
    with pytest.raises(InputError, match=r"float32.tflite is not written: its logits are not numbers\.$"):
        tflite._checked("float32", content, samples, expected, config)


def test_failed_check_leaves_nothing_behind(model, data, tmp_path):
    """Calibrated on images far darker than those of the test, int8 clips the differences between classes."""
    dark = np.zeros((60, SIDE, SIDE, 3), np.uint8)
    dark_data = dataclasses.replace(data, train=ArrayPart(dark, np.zeros(60, np.int32), np.arange(60), SIDE,
                                                          data.mean, data.std))
    for name in ("int8.tflite", "int8.json"):
        (tmp_path / name).write_text("from an earlier export")
    config = ExportConfig(mode=("int8",), timing_seconds=0, input="normalised")
    several = dataclasses.replace(config, mode=("float32", "int8", "float16"))
    with pytest.raises(InputError, match=r"int8\.tflite is not written"):  # what passes is written, before and after
        tflite.run(model=model, data=dark_data, config=several, out_dir=str(tmp_path / "several"))
    assert sorted(os.listdir(tmp_path / "several")) == [f"{mode}.{end}" for mode in ("float16", "float32")
                                                        for end in ("json", "md", "tflite")]
    shutil.rmtree(tmp_path / "several")
    with pytest.raises(InputError, match=r"int8\.tflite is not written") as caught:
        tflite.run(model=model, data=dark_data, config=config, out_dir=str(tmp_path))
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []
    facts, = tflite.run(model=model, data=dark_data, config=dataclasses.replace(config, allow_drop=True),
                        out_dir=str(tmp_path))
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
    """The disk is simulated by the system's limit on the size of a file, too small for the .tflite."""
    model.save(tmp_path / "model.keras")
    command = [sys.executable, "-m", "export.tflite", f"--model={tmp_path}/model.keras", f"--dataset=npz:{small_npz}",
               "--mode=float32", "--check_images=50", "--timing_seconds=0"]
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
        tflite.run(model=other, data=data, config=ExportConfig(mode=("float32",)), out_dir=str(tmp_path))


@pytest.mark.parametrize("arguments", [(), ("--run_dir=a", "--model=b"), ("--model=b",), ("--run_dir=a", "--mode=int4"),
                                       ("--run_dir=/nonexistent",)])
def test_bad_flags_are_one_line(arguments):
    done = export(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("changes", [{"mode": ()}, {"mode": ("int4",)}, {"threads": 0}, {"delegate": "gpu"}])
def test_bad_settings_are_refused(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        ExportConfig(**changes)


def export(*arguments):
    return forked.run(["export.tflite", *arguments])


def test_slower_int8_file_is_reported_with_the_command_that_explains_it():
    def facts(mode, ms):
        return {"mode": mode, "size_bytes": 1000, "top1": 0.5, "keras_top1": 0.5, "measured_ms": ms, "problem": "",
                "checked_images": 10, "dataset": "d", "device": "host", "runtime": "r", "delegate": "x", "threads": 1}

    text = tflite._summary([facts("float32", 2.0), facts("float16", 9.0), facts("int8", 9.0)], "runs/a b", [])
    assert "int8.tflite takes 4.5 times as long as float32.tflite" in text
    assert "--model='runs/a b/int8.tflite'" in text or "'--model=runs/a b/int8.tflite'" in text
    for results in ([facts("float32", 2.0), facts("int8", 2.2)], [facts("int8", 9.0)]):
        assert "times as long" not in tflite._summary(results, "runs", [])


def test_images_that_changed_since_the_training_are_refused(small_model, small_arch, small_data, small_npz, tmp_path):
    """Those that the network has learned could be among the test images now."""
    small_model.save(tmp_path / "model.keras")
    small_arch.save(str(tmp_path / "arch.json"))
    record = {"dataset": f"npz:{small_npz}", "seed": 0}
    contents = [part.fingerprint for part in (small_data.train, small_data.held_out, small_data.test)]
    for known, code in (([*contents[:2], "0123456789abcdef"], 1), (contents, 0)):
        (tmp_path / "train.json").write_text(json.dumps({"data": record, "settings": {
            "contents of the images": " ".join(known)}}))
        done = export(f"--run_dir={tmp_path}", "--mode=float32", "--check_images=20", "--timing_seconds=0")
        assert done.returncode == code, done.stderr
        assert ("are not those of the training" in done.stderr) == bool(code)
