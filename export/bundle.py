"""Packs exported networks for an app team: which to take, model cards, labels, a runner, code for apps, examples.

    python -m export.bundle --run_dir=runs/quickstart
    python -m export.bundle --run_dir=runs/quickstart --zip
    python -m export.bundle --run_dir=runs/quickstart --mode=int8 --output=handover.zip

The runner needs numpy and a TFLite runtime, but nothing of this project.
"""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
from absl import flags

from export import apps, bundle_readme, inputs, interpreter, metadata, recommend, settings
from export import facts as facts_lib
from pnas_tf import files as files_lib
from pnas_tf import shell, workspaces
from pnas_tf.cli import start
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder, exports
from pnas_tf.run_folder import folder as run_folder

MANIFEST = "bundle.json"

# Largest difference of a logit between runtimes, as a share of the largest logit. Kernels of different releases or CPUs
# may add in a different order (float32), compute in float16, or round to the neighbouring step of 1/255 of the range.
TOLERANCE = {"float32": 1e-4, "float16": 0.02, "dynamic": 0.05, "int8": 0.05, "int8_qat": 0.05}

PHONE_SCRIPT = """#!/bin/sh
# Times the models of this folder on the phone that `adb devices` shows; with several, set ANDROID_SERIAL to choose one.
# Get benchmark_model for Android from https://ai.google.dev/edge/litert/models/measurement and name its path:
#     sh time_on_phone.sh path/to/benchmark_model
set -eu
name=${1:?name the path of benchmark_model for Android}
binary=$(cd "$(dirname "$name")" && pwd)/$(basename "$name")
cd "$(dirname "$0")"
there=/data/local/tmp/pnas_tf_bundle
adb shell "mkdir -p $there"
trap 'adb shell "rm -r $there"' EXIT
adb push "$binary" "$there/benchmark_model"
adb shell "chmod 755 $there/benchmark_model"
for model in MODELS; do
    adb push "$model" "$there/$model"
    echo "$model:"
    adb shell "$there/benchmark_model --graph=$there/$model --num_threads=1 --use_xnnpack=true --warmup_runs=10 \\
        --num_runs=50"
done
"""


def run(*, run_dir: str, data: Any, modes: Sequence[str], output: str, examples: int = 8, seed: int = 0
        ) -> tuple[list[str], str]:
    """Writes a bundle.

    Args:
        run_dir: Folder with <mode>.tflite, .json and .md.
        data: Data set from `data.load`, whose test images give the examples.
        modes: Modes to pack, each in `facts.MODES` and exported.
        output: Path of a folder, or of a file that ends in .zip; an earlier bundle is replaced.
        examples: Number of images with expected outputs.
        seed: Seed of the random images.

    Returns:
        Names of the files in the bundle; and the recommended file, with the reason.

    Raises:
        InputError: If an export is missing or was changed, or the bundle cannot be written.
    """
    files, recommended = contents(run_dir, data, modes, examples, seed)
    if output.endswith(".zip"):
        files_lib.write_bytes(output, _zipped(files))
    else:
        _write_folder(files, output)
    return sorted(files), recommended


def contents(run_dir: str, data: Any, modes: Sequence[str], examples: int, seed: int) -> tuple[dict[str, bytes], str]:
    """Makes the files of a bundle; the arguments are those of `run`.

    Returns:
        Contents of the files by name; and the recommended file, with the reason.

    Raises:
        InputError: If an export is missing, was changed or answers NaN, or its images or classes differ from those of
            the data set.
    """
    exported = {mode: read_export(run_dir, mode) for mode in modes}
    for mode, (_, facts) in exported.items():
        if facts["image_shape"] != list(data.image_shape) or facts["labels"] != list(data.class_names):
            raise InputError(f"{mode}.tflite in {run_dir} is for other images or classes than {data.name}. "
                             "Name the data set that it was exported with: --dataset.")
    best, reason = recommend.recommended({mode: facts for mode, (_, facts) in exported.items()})
    modes = [best, *(mode for mode in exported if mode != best)]
    drawn = inputs.draw(data.test, examples, seed, form="pixels", mean=data.mean, std=data.std)
    # Images are drawn in full batches, so there may be more of them than `examples`.
    images, labels = drawn.inputs[:examples], drawn.labels[:examples]
    files = _example_files(images.astype(np.uint8))
    models, logits = {}, {}
    for mode in modes:
        model, facts = exported[mode]
        outputs = _expected_logits(model, facts, images)
        if not np.all(np.isfinite(outputs)):
            raise InputError(f"{RunFolder(run_dir).tflite(mode)} answers example images with numbers that are not "
                             "finite. Train again at a lower learning rate, and export again.")
        logits[mode] = [[float(f"{value:.8g}") for value in row] for row in outputs]
        models[mode] = {"file": f"{mode}.tflite", "mean": facts["normalisation"]["mean"],
                        "std": facts["normalisation"]["std"], "output": facts["output_kind"],
                        "tolerance": TOLERANCE[mode] * max(1.0, float(np.abs(outputs).max()))}
        files |= {f"{mode}.tflite": model, f"{mode}.json": facts_lib.text(facts).encode(),
                  f"{mode}.md": _read(os.path.join(run_dir, f"{mode}.md"))}
    manifest = {"recommended": best, "reason": reason, "image_shape": list(data.image_shape),
                "central_part": exported[best][1]["central_part"],
                "background": exported[best][1]["background"], "models": models,
                "expected": {"pictures": [name for name in files if name.endswith(".png")],
                             "labels": [data.class_names[label] for label in labels], "logits": logits}}
    names = " ".join(f"{mode}.tflite" for mode in modes)
    files |= {**apps.render(exported[best][1]), "labels.txt": metadata.label_text(data.class_names).encode(),
              MANIFEST: (json.dumps(manifest) + "\n").encode(),
              "run.py": resources.files("export").joinpath("bundle_runner.py").read_bytes(),
              "time_on_phone.sh": PHONE_SCRIPT.replace("MODELS", names).encode()}
    readme = bundle_readme.render([exported[mode][1] for mode in modes], reason, files)
    return {**files, "README.md": readme.encode()}, f"{best}.tflite. {reason}"


def _expected_logits(model: bytes, facts: dict[str, Any], images: np.ndarray) -> np.ndarray:
    """Logits of pixel images by the interpreter of this host."""
    normalisation = facts["normalisation"]
    pixels = np.repeat(images, 3, -1) if facts["input_form"] == "rgb" else images
    normalised = (pixels - np.float32(normalisation["mean"])) / np.float32(normalisation["std"])
    return interpreter.run(interpreter.make_interpreter(model), normalised)


def read_export(run_dir: str, mode: str) -> tuple[bytes, dict[str, Any]]:
    """Reads a `.tflite` and its facts.

    Raises:
        InputError: If one of them is missing, the facts are not about this file, or it is of an earlier model.
    """
    folder = RunFolder(run_dir)
    path = folder.tflite(mode)
    model, facts = _read(path), files_lib.read_json(folder.export_facts(mode))
    digest = hashlib.sha256(model).hexdigest()
    if not facts_lib.is_complete(facts) or (facts["mode"], facts.get("sha256")) != (mode, digest):
        raise InputError(f"{path}: {mode}.json does not describe this file. Export it again: python -m export.tflite "
                         f"--run_dir={run_dir} --mode={mode}")
    exports.check_current(run_dir, mode, facts)
    return model, facts


def _example_files(images: np.ndarray) -> dict[str, bytes]:
    """Example images as an array for `run.py`, and as PNG files for tests in the app.

    Args:
        images: Pixels, uint8 [images, height, width, channels].

    Returns:
        Files by name; without pictures if PNG does not support this number of channels.
    """
    import tensorflow as tf

    archive = io.BytesIO()
    np.savez_compressed(archive, images=images)
    has_pictures = images.shape[-1] in (1, 3, 4)
    return {**{f"examples/{number}.png": tf.io.encode_png(image).numpy()
               for number, image in enumerate(images) if has_pictures},
            "examples.npz": archive.getvalue()}


def _read(path):
    return files_lib.read_bytes(path, files_lib.MAX_MODEL_BYTES, "Export first: python -m export.tflite "
                                f"--run_dir={shell.word(os.path.dirname(path))}")


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """Makes a zip archive. The same files give the same bytes."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return zipped.getvalue()


def _write_folder(files: Mapping[str, bytes], output: str) -> None:
    """Writes all files into a new folder in place of an earlier bundle, or changes nothing."""
    output = os.path.abspath(output)
    if os.path.lexists(output) and not os.path.exists(os.path.join(output, MANIFEST)):
        raise InputError(f"{output} exists and is not a bundle, so it is not overwritten. Choose another --output.")
    try:
        os.makedirs(os.path.dirname(output), exist_ok=True)
        with workspaces.workspace(os.path.dirname(output)) as temporary:
            bundle = os.path.join(temporary, "new")
            for name, data in files.items():
                files_lib.write_bytes(os.path.join(bundle, name), data)
            workspaces.put_folder(bundle, output)
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror}). Free some space or choose another "
                         "--output.") from None


def _define_flags() -> None:
    flags.DEFINE_string("run_dir", None, "Folder with the exports.")
    flags.DEFINE_list("mode", None, f"Any of {', '.join(facts_lib.MODES)}, with commas between; default: all modes "
                                    "that have been exported.")
    flags.DEFINE_bool("zip", False, "Write one file, bundle.zip, instead of a folder.")
    flags.DEFINE_string("output", None, "Folder, or file that ends in .zip; default: bundle or bundle.zip in the "
                                        "folder with the exports.")
    flags.DEFINE_string("dataset", None, "Data set; default: the data set of the training.")
    flags.DEFINE_string("data_dir", None, "Folder of the data set's files; default: as for the training.")
    flags.DEFINE_integer("examples", 8, "Number of test images with expected outputs.", 1, 1000)
    flags.DEFINE_integer("seed", 0, "Seed of the random images.", 0, 2**31 - 1)


def _main() -> None:
    f = flags.FLAGS
    if not f.run_dir:
        raise InputError("Name the folder with the exports: --run_dir=DIR.")
    if not os.path.isdir(f.run_dir):
        raise InputError(f"{f.run_dir}: no such folder. Name the folder with the exports: --run_dir=DIR.")
    folder = RunFolder(f.run_dir)
    modes = f.mode or [mode for mode in facts_lib.MODES if os.path.exists(folder.tflite(mode))]
    if not modes:
        raise InputError(f"{f.run_dir} holds no .tflite. Export first: python -m export.tflite --run_dir={f.run_dir}")
    settings.check_modes(modes)
    if f.output and f.zip and not f.output.endswith(".zip"):
        raise InputError(f"--zip writes one file: expected --output=NAME.zip, got {f.output!r}.")
    data_arguments = run_folder.data_arguments(f.run_dir, dataset=f.dataset, data_dir=f.data_dir, seed=f.seed,
                                               trained=True)
    _, facts = read_export(f.run_dir, modes[0])
    start.load_tensorflow()
    from pnas_tf import data as data_lib

    data = data_lib.load(**data_arguments, image_size=facts["image_shape"][0])
    output = f.output or folder.bundle(zipped=f.zip)
    with data_lib.naming_broken_images(data):
        names, recommended = run(run_dir=f.run_dir, data=data, modes=modes, output=output, examples=f.examples,
                                 seed=f.seed)
    print(f"{', '.join(names)}\nRecommended: {recommended}\nBundle: {output}")
    if not output.endswith(".zip"):
        print(f"Next: python {shell.word(os.path.join(output, 'run.py'))}")


def main() -> None:
    """Runs the command."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
