"""Exports a trained network as .tflite files: converted, checked against Keras on test images, and timed.

    python -m export.tflite --run_dir=runs/quickstart
    python -m export.tflite --model=model.keras --dataset=folder:photos --mode=float32,int8

Writes <mode>.tflite and <mode>.json (the facts) into the folder of the model. A file that does not agree with
Keras is not written.
"""

import contextlib
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from export import check, convert, interpreter, machine, timing
from pnas_tf import arch as arch_lib
from pnas_tf import run_flags, run_folder
from pnas_tf.errors import InputError

ROUNDS, RUNS = 6, 10
BATCH = 50


def run(*, model: Any, data: Any, modes: Sequence[str], out_dir: str, costs: dict[str, Any] | None = None,
        check_images: int = 2000, calibration_images: int = 200, threads: int = 1, delegate: str = "xnnpack",
        seed: int = 0, command: str = "", verbose: bool = False) -> list[dict[str, Any]]:
    """Exports a model in some modes.

    Args:
        model: from `load_model`.
        data: from `data.load`; fits the model.
        modes: of `convert.MODES`.
        out_dir: folder of the results.
        costs: what the arch knows of itself; its table_ms goes into the facts.
        check_images: test images to compare with Keras, about; all if there are fewer.
        calibration_images: training images, not augmented, that set the ranges of int8.
        threads: CPU threads of the interpreter.
        delegate: `xnnpack` or `none`.
        seed: of the choice of images.
        command: noted in the facts.
        verbose: whether to let the converter talk.

    Returns:
        The facts of each mode, as in its .json.

    Raises:
        InputError: if the model does not fit the data, or a mode fails its check.
    """
    from pnas_tf import network

    _check_fit(model, data)
    checked = _batches(data.test, check_images, seed)
    keras_logits, labels = check.logits_of(model.predict_on_batch, checked)
    shared = {"dataset": data.name, "params": network.count_params(model), "macs": network.count_macs(model),
              "table_ms": (costs or {}).get("table_ms"), "table_target": (costs or {}).get("target"),
              "versions": _versions(), "command": command}
    results = []
    for mode in modes:
        calibration = [images.numpy() for images, _ in _batches(data.train, calibration_images, seed)] \
            if mode == "int8" else None
        content = convert.convert(model, mode, calibration, verbose=verbose)
        runner = interpreter.make_interpreter(content, threads=threads, delegate=delegate)
        logits, _ = check.logits_of(lambda images, runner=runner: interpreter.run(runner, images), checked)
        facts = {"mode": mode, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(),
                 **check.facts(logits, keras_logits, labels)}
        _refuse_if_wrong(mode, facts, out_dir)
        facts |= {**_measured(runner, threads, delegate, mode), **shared}
        arch_lib.write_bytes(os.path.join(out_dir, f"{mode}.tflite"), content)
        arch_lib.write_text(os.path.join(out_dir, f"{mode}.json"), json.dumps(facts, indent=1) + "\n")
        results.append(facts)
    return results


def load_model(path: str) -> Any:
    """Loads a .keras file; runs no code that the file may bring along.

    Raises:
        InputError: if it is missing, damaged, or not from images to logits.
    """
    import keras

    from pnas_tf import fast_layers  # noqa: F401  (registers the layers that a file may hold)

    if not os.path.isfile(path):
        raise InputError(f"No model at {path}. Train one: python -m pnas_tf.train --run_dir=DIR")
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Which one depends on where the file is damaged; none is a defect of ours.
        raise InputError(f"{path}: not a Keras model that can be loaded ({' '.join(str(error).split())[:150]}). "
                         "Train it again.") from None
    shapes = (getattr(model, "input_shape", None), getattr(model, "output_shape", None))
    if not all(isinstance(shape, tuple) and len(shape) == rank and None not in shape[1:]
               for shape, rank in zip(shapes, (4, 2), strict=True)):
        raise InputError(f"{path}: expected a model from images [batch, height, width, channels] of a fixed size to "
                         f"logits [batch, classes], got {shapes[0]} to {shapes[1]}.")
    return model


def _check_fit(model, data):
    wanted, given = (*model.input_shape[1:], model.output_shape[1]), (*data.image_shape, data.num_classes)
    if wanted != given:
        raise InputError(f"The model takes images {wanted[:3]} of {wanted[3]} classes, but {data.name} has {given[:3]} "
                         f"of {given[3]}. Name the data set that it was trained on: --dataset.")


def _batches(part, count, seed):
    """About `count` images of a part, drawn at random so that a sorted data set gives every class; the same always."""
    if count >= part.size:
        return part.batches(BATCH)
    size = min(BATCH, count)
    return part.batches(size, seed=seed).take(-(-count // size))


def _refuse_if_wrong(mode, facts, out_dir):
    problem = check.problem(mode, facts)
    if problem:
        for suffix in (".tflite", ".json"):  # of an earlier export, which would pass for this one
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(out_dir, mode + suffix))
        raise InputError(f"{mode}.tflite is not written: {problem}.")


def _measured(runner, threads, delegate, mode):
    invoke, _ = interpreter.subject(runner)
    times = timing.summarise(timing.interleaved_ms([invoke], rounds=ROUNDS, runs=RUNS)[0])
    return {"measured_ms": times.pop("median_ms"), **times, "statistic": timing.STATISTIC,
            "target": interpreter.target_name(threads=threads, delegate=delegate, dtype=mode),
            "runtime": interpreter.runtime_name(), "threads": threads, "delegate": delegate, **machine.facts()}


def _versions():
    from importlib.metadata import version

    return {name: version(name) for name in ("tensorflow", "keras", "numpy")}


def _show(results, out_dir):
    lines = [f"\n{'mode':<8} {'size':>10} {'top-1':>8} {'Keras':>8} {'ms':>8}  file"]
    for facts in results:
        lines.append(f"{facts['mode']:<8} {facts['size_bytes'] / 1000:>7,.0f} kB {facts['top1']:>8.2%} "
                     f"{facts['keras_top1']:>8.2%} {facts['measured_ms']:>8.3f}  "
                     f"{os.path.join(out_dir, facts['mode'])}.tflite")
    first = results[0]
    lines.append(f"Checked on {first['checked_images']:,} test images of {first['dataset']}; timed on "
                 f"{first['device']}, {first['runtime']}, {first['delegate']}, {first['threads']} thread(s).")
    return "\n".join(lines)


def _define_flags() -> None:
    flags.DEFINE_string("run_dir", None, "Folder with model.keras, and of the results.")
    flags.DEFINE_string("model", None, "A .keras file, instead of --run_dir; results go beside it.")
    flags.DEFINE_list("mode", list(convert.MODES), f"Any of {', '.join(convert.MODES)}, with commas between.")
    flags.DEFINE_string("dataset", None, "Data set; default: that of the search.")
    flags.DEFINE_string("data_dir", None, "Where the files of the data set are; default: as in the search.")
    flags.DEFINE_integer("check_images", 2000, "Test images to compare with Keras.", 1)
    flags.DEFINE_integer("calibration_images", 200, "Training images that set the ranges of int8.", 1)
    flags.DEFINE_integer("threads", 1, "CPU threads to time with.", 1, 256)
    flags.DEFINE_enum("delegate", "xnnpack", list(interpreter.DELEGATES), "XNNPACK, or the built-in kernels.")
    flags.DEFINE_integer("seed", 0, "Of the choice of images.", 0, 2**31 - 1)
    flags.DEFINE_bool("verbose", False, "Let the converter talk.")


def _main() -> None:
    f = flags.FLAGS
    if bool(f.run_dir) == bool(f.model):
        raise InputError("Name what to export: either --run_dir=DIR or --model=FILE.keras.")
    unknown = sorted(set(f.mode) - set(convert.MODES))
    if unknown or not f.mode:
        raise InputError(f"--mode takes {', '.join(convert.MODES)}, with commas between; got {', '.join(unknown)!r}.")
    model_path = f.model or run_folder.path(f.run_dir, "model.keras")
    out_dir = f.run_dir or os.path.dirname(f.model) or "."
    if f.dataset:
        used = {}
    elif f.run_dir:
        used = run_folder.read_flags(run_folder.path(f.run_dir, "run.flags"))
    else:
        raise InputError("--model alone does not say which images to check it on: give --dataset too.")
    run_flags.load_tensorflow()
    model = load_model(model_path)
    arch_path = os.path.join(out_dir, "arch.json")
    costs = arch_lib.load(arch_path).costs if os.path.exists(arch_path) else {}
    from pnas_tf import data as data_lib

    data = data_lib.load(f.dataset or used.get("dataset", ""), image_size=model.input_shape[1],
                         data_dir=f.data_dir or used.get("data_dir"), seed=int(used.get("seed", f.seed)))
    results = run(model=model, data=data, modes=f.mode, out_dir=out_dir, costs=costs,
                  check_images=f.check_images, calibration_images=f.calibration_images, threads=f.threads,
                  delegate=f.delegate, seed=f.seed, verbose=f.verbose,
                  command=shlex.join(["python", "-m", "export.tflite", *sys.argv[1:]]))
    print(_show(results, out_dir))


def main() -> None:
    """Console script."""
    _define_flags()
    run_flags.start(_main)


if __name__ == "__main__":
    main()
