"""Bundles are complete, both runtimes reproduce their outputs without this project, and a (test) phone times them."""

import hashlib
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

from export import bundle, convert, facts, interpreter, tflite
from export.settings import ExportConfig
from pnas_tf.errors import InputError
from tests import forked

RECORDED = Path(__file__).parents[1] / "adb_device" / "recorded_benchmark.sh"

# Files of every bundle, whatever its modes.
COMMON = ["Classifier.kt", "Classifier.swift", "README.md", "bundle.json",
          *(f"examples/{number}.png" for number in range(8)), "examples.npz", "labels.txt", "run.py",
          "time_on_phone.sh"]


@pytest.fixture(scope="module")
def packed(small_run, small_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "bundle"
    bundle.run(run_dir=str(small_run), data=small_data, modes=facts.MODES, output=str(folder))
    return folder


def run_program(python, folder, *arguments):
    """Runs run.py in isolation: without PYTHONPATH and user packages, from another folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([python, "-I", folder / "run.py", *arguments], capture_output=True, text=True, check=False,
                          cwd="/", env=environment)


def test_contents(packed):
    assert sorted(str(path.relative_to(packed)) for path in packed.rglob("*") if path.is_file()) == sorted(
        COMMON + [f"{mode}.{ending}" for mode in facts.MODES for ending in ("tflite", "json", "md")])
    assert [path.name for path in packed.parent.iterdir()] == ["bundle"]
    labels = (packed / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert labels == ["top half", "bottom half", "middle columns", "äußere Spalten 外列"]
    manifest = json.loads((packed / "bundle.json").read_text())
    assert manifest["image_shape"] == [16, 16, 3]
    with np.load(packed / "examples.npz") as examples:
        for name, image in zip(manifest["expected"]["pictures"], examples["images"], strict=True):
            np.testing.assert_array_equal((plt.imread(packed / name) * 255).round(), image)


@pytest.mark.parametrize("runtime", ["ai_edge_litert", "tflite_runtime"])
def test_runner_reproduces_the_outputs(packed, runtime):
    if importlib.util.find_spec(runtime) is None:
        pytest.skip(f"{runtime} is not installed")
    done = run_program(sys.executable, packed, f"--runtime={runtime}")
    assert done.returncode == 0, done.stdout + done.stderr
    modes = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert sorted(modes) == sorted(facts.MODES)
    assert modes[0] == json.loads((packed / "bundle.json").read_text())["recommended"]
    assert done.stdout.count("as expected") == len(facts.MODES) and runtime in done.stdout


def test_runner_notices_a_wrong_model(packed, tmp_path):
    """A file is replaced by that of another mode."""
    shutil.copytree(packed, tmp_path / "b")
    shutil.copy(packed / "dynamic.tflite", tmp_path / "b" / "float32.tflite")
    done = run_program(sys.executable, tmp_path / "b", "--mode=float32")
    assert done.returncode == 1 and "NOT AS EXPECTED" in done.stdout


def test_runner_classifies_its_own_example(packed, tmp_path):
    """An image of the network's size goes in as it is, and gives the expected logits; without --mode, the recommended
    file classifies it."""
    manifest = json.loads((packed / "bundle.json").read_text())
    best = manifest["recommended"]
    logits = np.array(manifest["expected"]["logits"][best][3])
    probability = np.exp(logits.max()) / np.exp(logits).sum()
    with np.load(packed / "examples.npz") as examples:
        np.save(tmp_path / "image.npy", examples["images"][3])
    for image in (f"{packed}/examples/3.png", f"{tmp_path}/image.npy"):
        done = run_program(sys.executable, packed, f"--image={image}")
        label = manifest["expected"]["labels"][3]
        assert done.stdout.startswith(f"{best}: {label} {probability:.1%}, "), done.stdout + done.stderr


def test_readme_begins_with_the_recommended_file(packed):
    readme, manifest = (packed / "README.md").read_text(), json.loads((packed / "bundle.json").read_text())
    best = manifest["recommended"]
    assert next(iter(manifest["models"])) == best and f"**Take `{best}.tflite`.** {manifest['reason']}" in readme
    chosen = json.loads((packed / f"{best}.json").read_text())
    assert f"{chosen['top1']:.1%}" in readme and chosen["target"] in readme
    for label, images, correct in zip(chosen["labels"], chosen["class_images"], chosen["class_correct"], strict=True):
        assert f"| {label} | {correct / images:.1%} | {images} |" in readme


def test_expected_logits_are_those_of_the_interpreter(packed):
    """Quantised by hand: the bytes of a camera go in as they are."""
    expected_logits = json.loads((packed / "bundle.json").read_text())["expected"]["logits"]
    with np.load(packed / "examples.npz") as examples:
        runner = interpreter.make_interpreter(str(packed / "int8.tflite"))
        input_details, output_details = runner.get_input_details()[0], runner.get_output_details()[0]
        for image, expected in zip(examples["images"], expected_logits["int8"], strict=True):
            runner.set_tensor(input_details["index"], image[None])
            runner.invoke()
            scale, zero = output_details["quantization"]
            logits = (runner.get_tensor(output_details["index"])[0].astype(np.float64) - zero) * scale
            np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_runner_normalises_and_fills_the_last_batch(small_model, small_data, tmp_path):
    """An int8 network takes three normalised images at once; the number of examples, 8, is no multiple of 3."""
    config = ExportConfig(mode=("int8",), timing_seconds=0, input="normalised", batch_size=3, check_images=99)
    tflite.run(model=small_model, data=small_data, config=config, out_dir=str(tmp_path))
    bundle.run(run_dir=str(tmp_path), data=small_data, modes=["int8"], output=str(tmp_path / "b"))
    done = run_program(sys.executable, tmp_path / "b")
    assert done.returncode == 0 and "as expected" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_runner_gives_grey_examples_to_a_colour_input(grey_run, grey_data, tmp_path):
    bundle.run(run_dir=str(grey_run), data=grey_data, modes=facts.MODES, output=str(tmp_path / "b"))
    done = run_program(sys.executable, tmp_path / "b")
    assert done.returncode == 0 and done.stdout.count("as expected") == len(facts.MODES), done.stdout + done.stderr


@pytest.mark.parametrize("adb_server", ["any"], indirect=True)
def test_phone_script_times_each_model(packed, client, device, tmp_path, monkeypatch):
    """The real adb talks to a device that speaks its protocol; the benchmark there reports one us per byte."""
    phone = device()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "adb").symlink_to(shutil.which(client.path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("ANDROID_SERIAL", phone.serial)
    script = ["sh", packed / "time_on_phone.sh"]
    done = subprocess.run([*script, RECORDED.name], capture_output=True, text=True, check=False, cwd=RECORDED.parent)
    assert done.returncode == 0, done.stderr
    for mode in facts.MODES:
        assert f"Inference (avg): {(packed / f'{mode}.tflite').stat().st_size}.5" in done.stdout
    assert not (phone.root / "data/local/tmp/pnas_tf_bundle").exists()
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode and "name the path of benchmark_model" in done.stderr


def test_zip_holds_the_same(packed, small_run, small_data, tmp_path):
    for _ in range(2):
        bundle.run(run_dir=str(small_run), data=small_data, modes=["int8"], output=str(tmp_path / "b.zip"))
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert sorted(archive.namelist()) == sorted([*COMMON, "int8.tflite", "int8.json", "int8.md"])
        assert archive.read("int8.tflite") == (packed / "int8.tflite").read_bytes()


def test_changed_export_is_refused(small_run, small_data, tmp_path):
    for name in ("int8.tflite", "int8.json", "int8.md"):
        (tmp_path / name).write_bytes((small_run / name).read_bytes())
    (tmp_path / "int8.tflite").write_bytes((small_run / "float32.tflite").read_bytes())
    with pytest.raises(InputError, match="does not describe"):
        bundle.read_export(str(tmp_path), "int8")
    (tmp_path / "int8.json").write_text("[]")
    with pytest.raises(InputError, match="does not describe"):
        bundle.read_export(str(tmp_path), "int8")


def test_an_export_that_answers_nan_is_refused(small_run, small_model, small_data, tmp_path):
    """Such as one that an earlier version has written."""
    shutil.copytree(small_run, tmp_path / "run")
    spoiled = keras.models.clone_model(small_model)
    spoiled.set_weights([np.full_like(weight, np.nan) for weight in spoiled.get_weights()])
    content = convert.convert(spoiled, "float32")
    (tmp_path / "run" / "float32.tflite").write_bytes(content)
    written = json.loads((small_run / "float32.json").read_text())
    (tmp_path / "run" / "float32.json").write_text(json.dumps(
        written | {"sha256": hashlib.sha256(content).hexdigest()}))
    with pytest.raises(InputError, match=r"float32\.tflite.* answers example images with numbers that are not finite"):
        bundle.run(run_dir=str(tmp_path / "run"), data=small_data, modes=["float32"], output=str(tmp_path / "bundle"))
    assert os.listdir(tmp_path) == ["run"]


def test_export_of_an_earlier_model_is_refused(small_run, tmp_path):
    """The digest in the facts is compared with hashlib's; a folder without the model tells nothing."""
    for name in ("int8.tflite", "int8.json", "int8.md", "model.keras"):
        (tmp_path / name).write_bytes((small_run / name).read_bytes())
    written = json.loads((tmp_path / "int8.json").read_text())
    digest = hashlib.sha256((tmp_path / "model.keras").read_bytes()).hexdigest()
    (tmp_path / "int8.json").write_text(json.dumps(written | {"model": {"file": "model.keras", "sha256": digest}}))
    bundle.read_export(str(tmp_path), "int8")
    (tmp_path / "model.keras").write_bytes(b"trained again")
    with pytest.raises(InputError, match=r"int8\.tflite in .* was made from an earlier model\.keras"):
        bundle.read_export(str(tmp_path), "int8")
    (tmp_path / "model.keras").unlink()
    bundle.read_export(str(tmp_path), "int8")


def test_nothing_is_overwritten_or_left_half(small_run, small_data, tmp_path):
    """A folder that is no bundle stays, and an earlier bundle is replaced. A full disk, simulated by the system's limit
    on the size of a file, leaves everything as it was."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    with pytest.raises(InputError, match="is not a bundle"):
        bundle.run(run_dir=str(small_run), data=small_data, modes=["int8"], output=str(tmp_path / "mine"))
    for modes in (["int8", "float32"], ["int8"]):
        bundle.run(run_dir=str(small_run), data=small_data, modes=modes, output=str(tmp_path / "old"))
    assert not (tmp_path / "old" / "float32.tflite").exists()
    before = sorted(os.listdir(tmp_path / "old"))
    for output in ("b.zip", "old"):
        done = subprocess.run(
            [sys.executable, "-m", "export.bundle", f"--run_dir={small_run}", f"--output={tmp_path}/{output}"],
            check=False, capture_output=True, text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)))
        assert done.returncode == 1 and done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == ["mine", "old"] and sorted(os.listdir(tmp_path / "old")) == before


@pytest.mark.parametrize("earlier", [True, False], ids=["with an earlier export", "empty"])
def test_export_into_a_read_only_folder_is_one_line(small_run, small_disk, earlier):
    disk = small_disk("size=1m")
    if earlier:
        (disk / "float32.tflite").write_bytes(b"earlier")
    small_disk("remount,ro")
    facts = json.loads((small_run / "float32.json").read_text())
    with pytest.raises(InputError, match=r"float32.tflite: cannot be written \(Read-only file system\)"):
        tflite._write("float32", b"new", facts, str(disk))
    if earlier:
        with pytest.raises(InputError, match=r"of an earlier export cannot be removed \(Read-only file system\)"):
            tflite._remove("float32", str(disk))
    else:
        tflite._remove("float32", str(disk))


def test_entry_point(small_run, tmp_path):
    """The command works as a user calls it, and so does the next command that it prints."""
    shutil.copytree(small_run, tmp_path / "run")
    for options, output in (["--zip"], "bundle.zip"), ([], "bundle"):
        done = forked.run(["export.bundle", f"--run_dir={tmp_path}/run", *options])
        assert done.returncode == 0 and f"Bundle: {tmp_path}/run/{output}\n" in done.stdout, done.stderr
    next_command = done.stdout.splitlines()[-1].removeprefix("Next: python ")
    assert run_program(sys.executable, Path(next_command).parent).returncode == 0


@pytest.mark.parametrize("arguments", [(), ("--run_dir=/nonexistent",), ("--run_dir=/nonexistent", "--mode=int4"),
                                       ("--run_dir=/nonexistent", "--zip", "--output=b")])
def test_bad_flags_are_one_line(arguments):
    done = forked.run(["export.bundle", *arguments])
    assert done.returncode == 1 and done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("packages", [["ai-edge-litert==2.3.0", "numpy"], ["tflite-runtime==2.14.0", "numpy<2"]])
def test_runner_in_a_fresh_environment(packed, tmp_path, packages):
    if "tflite" in packages[0] and sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime has no wheel for Python 3.12")
    subprocess.run([sys.executable, "-m", "venv", tmp_path], check=True)
    subprocess.run([tmp_path / "bin" / "pip", "install", "-q", *packages], check=True)
    listed = subprocess.run([tmp_path / "bin" / "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "tensorflow" not in listed and "keras" not in listed
    done = run_program(tmp_path / "bin" / "python", packed)
    assert done.returncode == 0 and done.stdout.count("as expected") == len(facts.MODES), done.stdout + done.stderr
