"""The code for apps prepares photos as run.py does: from the same description, and where Kotlin is installed, run."""

import json
import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from export import apps, bundle_runner

ANDROID = Path(__file__).parents[1] / "programs" / "android"


def facts(shape=(1, 16, 16, 3), dtype="uint8", mean=(0.0,), std=(1.0,), part=0.875, output_kind="logits",
          background=(255, 255, 255)):
    return {"mode": "int8", "central_part": part, "normalisation": {"mean": list(mean), "std": list(std)},
            "input": {"shape": list(shape), "dtype": dtype}, "output_kind": output_kind, "background": list(background)}


def constants(source):
    """Values of the constants of a file in Kotlin or Swift, by their names in small letters without underscores."""
    lines = re.findall(r"^private (?:const )?(?:val|let) (\w+)[^=]*= (.*)$", source, flags=re.M)
    return {name.replace("_", "").lower(): json.loads(re.sub(r"floatArrayOf\((.*)\)", r"[\1]", value).replace("f,", ",")
                                                      .replace("f]", "]")) for name, value in lines}


@pytest.mark.parametrize("description", [
    facts(), facts(part=1.0, output_kind="probabilities", background=(0, 128, 7)),
    facts(dtype="float32", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
    facts(shape=(1, 28, 28, 1), dtype="float32", mean=(72.9,), std=(90.0,))])
def test_constants_are_those_of_the_description(description):
    files = apps.render(description)
    assert sorted(files) == ["Classifier.kt", "Classifier.swift"]
    for source in files.values():
        found = constants(source.decode())
        logits = found.pop("haslogits", None) if "haslogits" in found else found.pop("logits")
        assert logits is (description["output_kind"] == "logits")
        assert found == {
            "model": "int8.tflite", "centralpart": description["central_part"],
            "background": description["background"],
            "mean": description["normalisation"]["mean"], "std": description["normalisation"]["std"],
            "luma": list(bundle_runner.LUMA)}


def test_what_the_code_cannot_feed():
    assert list(apps.render(facts(dtype="int8"))) == ["Classifier.kt"]  # Swift's interpreter has no int8
    assert apps.render(facts(shape=(3, 16, 16, 3))) == apps.render(facts(shape=(1, 16, 16, 5))) == {}


def test_bundle_holds_the_code_of_its_recommended_file(small_run, small_data):
    from export import bundle

    files, _ = bundle.contents(str(small_run), small_data, ["float32", "int8"], 1, 0)
    manifest = json.loads(files["bundle.json"])
    entry = manifest["models"][manifest["recommended"]]
    for name in (apps.KOTLIN, apps.SWIFT):
        values = constants(files[name].decode())
        assert values["model"] == entry["file"] and values["centralpart"] == manifest["central_part"]
        assert (values["mean"], values["std"]) == (entry["mean"], entry["std"])
        assert f"`{name}`" in files["README.md"].decode()


def compiled(folder, description):
    """Compiles Classifier.kt, with stand-ins for Android and the interpreter, to a program."""
    (folder / "Classifier.kt").write_bytes(apps.render(description)["Classifier.kt"])
    subprocess.run(["kotlinc", "-d", folder / "app.jar", "-include-runtime", folder / "Classifier.kt",
                    *sorted(ANDROID.glob("*.kt"))], check=True, capture_output=True, timeout=300)


def classified(folder, photo, shape, dtype, quantization, output):
    """Runs the program; returns what Classifier.kt fed to the interpreter, and its classes and probabilities."""
    height, width = photo.shape[:2]
    pixels = photo.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1, 1 << 24], np.uint32)
    (folder / "photo").write_bytes(struct.pack(">ii", width, height) + pixels.astype(">u4").tobytes())
    scale, zero_point = quantization
    (folder / "int8.tflite").write_text(f"{','.join(map(str, shape))} {dtype} {scale} {zero_point}\n"
                                        "1,4 uint8 0.25 100\n")
    (folder / "labels.txt").write_text("ä\nb b\nc\nd\n", encoding="utf-8")
    (folder / "output").write_bytes(bytes(output))
    done = subprocess.run(["java", "-Dfile.encoding=UTF-8", "-cp", "app.jar", "MainKt"], cwd=folder, check=True,
                          capture_output=True, timeout=60)
    lines = [line.partition(" ") for line in done.stdout.decode().splitlines()]
    return np.frombuffer((folder / "input").read_bytes(), dtype), [(name, float(value)) for value, _, name in lines]


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("kotlinc") and shutil.which("java")), reason="kotlinc and java: apt-get install "
                                                                                  "kotlin")
@pytest.mark.parametrize(("description", "quantization"), [
    (facts(), (1.0, 0)), (facts(dtype="int8"), (1.0, -128)),
    (facts(part=1.0, shape=(1, 12, 16, 1), background=(9, 99, 0)), (1.0, 0)),
    (facts(dtype="float32", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)), (0.0, 0)),
    (facts(mean=(120.0,), std=(60.0,)), (0.018, 111))])
def test_kotlin_feeds_what_the_runner_feeds(description, quantization, tmp_path):
    compiled(tmp_path, description)
    shape, dtype = description["input"]["shape"], np.dtype(description["input"]["dtype"])
    rng, normalisation = np.random.default_rng(0), description["normalisation"]
    for height, width in ((16, 16), (75, 130), (30, 20)):
        photo = rng.integers(0, 256, (height, width, 4))
        photo[: height // 2, :, 3] = 255
        opaque = photo[..., 3:] / 255
        behind = np.array(description["background"])
        visible = np.round(photo[..., :3] * opaque + behind * (1 - opaque)).astype(np.uint8)
        fed, classes = classified(tmp_path, photo, shape, dtype.name, quantization, [100, 104, 96, 255])
        pixels = bundle_runner.prepare(visible, shape[1:], description["central_part"])
        values = (pixels - np.float32(normalisation["mean"])) / np.float32(normalisation["std"])
        step = 1 / min(normalisation["std"])
        if dtype != np.float32:
            limits = np.iinfo(dtype)
            values = np.clip(np.round(values / quantization[0]) + quantization[1], limits.min, limits.max)
            step = 1
        # A level may fall to the other side of a half.
        assert np.abs(fed.reshape(shape[1:]) - values).max() <= step * 1.001
        assert np.mean(np.abs(fed.reshape(shape[1:]) - values) < 1e-3) > 0.9
        logits = 0.25 * np.array([0, 4, -4, 155])
        probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        assert [name for name, _ in classes] == ["d", "b b", "ä", "c"]
        np.testing.assert_allclose([value for _, value in classes], np.sort(probabilities)[::-1], rtol=1e-4)
