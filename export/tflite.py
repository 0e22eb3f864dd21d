"""Exports a trained network as .tflite files: converted, described, checked against Keras on test images, and timed.

    python -m export.tflite --run_dir=runs/quickstart
    python -m export.tflite --run_dir=runs/quickstart --mode=int8,int8_qat --int8_io=uint8
    python -m export.tflite --model=model.keras --dataset=folder:photos --mode=float32,int8

Writes <mode>.tflite, <mode>.json (the facts) and <mode>.md (the model card) into the folder of the model. A file that
does not agree with Keras is not written.
"""

import contextlib
import math
import os
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any

from absl import flags

from export import agreement, convert, inputs, interpreter, keras_model, metadata, model_card, qat
from export import facts as facts_lib
from pnas_tf import __version__, terminal
from pnas_tf import files as files_lib
from pnas_tf.cli import start
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.run_folder import folder as run_folder
from pnas_tf.space.arch import Arch

DEFAULT_MODES = ("float32", "float16", "int8")
ENDINGS = (".tflite", ".json", ".md")
# Times of float32 that an int8 file may take before it is said; less is noise.
SLOWER = 1.2


def run(*, model: Any, data: Any, modes: Sequence[str], out_dir: str, arch: Arch | None = None,
        input_form: str = "pixels", int8_io: str = "int8", batch_size: int = 1, check_images: int = 2000,
        calibration_images: int = 200, qat_settings: qat.Settings | None = None, threads: int = 1,
        delegate: str = "xnnpack", allow_drop: bool = False, author: str = "", license_name: str = "", seed: int = 0,
        origin: dict[str, Any] | None = None, verbose: bool = False) -> list[dict[str, Any]]:
    """Exports a model in some modes.

    Args:
        model: from `model_file.load`.
        data: from `data.load`; fits the model.
        modes: of `facts.MODES`.
        out_dir: folder of the results.
        arch: what the model is; int8_qat needs it.
        input_form: `pixels` (0..255, the normalisation is part of the network), `rgb` (the same for a network of grey
            images, which makes colour ones grey itself) or `normalised`.
        int8_io: type of input and output of the int8 modes: `int8`, `uint8` or `float32`.
        batch_size: images that the `.tflite` takes at once.
        check_images: test images to compare with Keras, about; all if there are fewer.
        calibration_images: training images, not augmented, that set the ranges of int8.
        qat_settings: of int8_qat.
        threads: CPU threads of the interpreter.
        delegate: `xnnpack` or `none`.
        allow_drop: whether to write a file that fails its check; its facts then name the problem.
        author: for metadata and model card.
        license_name: for metadata and model card.
        seed: of the choice of images.
        origin: from `facts.of_run`.
        verbose: whether to let the converter talk.

    Returns:
        The facts of each mode, as in its .json.

    Raises:
        InputError: if the model fits neither data nor arch, or a mode fails its check.
    """
    keras_model.check_fits_data(model, data)
    if input_form == "rgb" and data.image_shape[-1] != 1:
        raise InputError(f"--input=rgb is for networks of grey images, but those of {data.name} have "
                         f"{data.image_shape[-1]} channels. Leave it out.")
    form = {"form": input_form, "mean": data.mean, "std": data.std}
    checked = inputs.draw(data.test, check_images, seed, **form)
    keras_logits = model.predict(checked.normalised, batch_size=inputs.BATCH, verbose=0)
    shared = {**facts_lib.of_network(model, arch, data), **(origin or {"commands": {}, "seeds": {}}),
              "input_form": input_form, "normalisation": _normalisation(data, input_form),
              "author": author or "not named", "license": license_name or "not named",
              "versions": facts_lib.versions()}
    shared["seeds"] = {**shared["seeds"], "export": seed}
    results, begin = [], time.monotonic()
    for number, mode in enumerate(modes):
        seconds = (time.monotonic() - begin) / number * (len(modes) - number) if number else 0
        print(f"{mode}, {number + 1} of {len(modes)}: converts, checks {len(checked.labels):,} images, times"
              + (f"; {terminal.seconds(round(seconds))} left." if number else "."), flush=True)
        content = _convert(mode, model, data, arch, form, int8_io=int8_io, batch_size=batch_size, seed=seed,
                           calibration_images=calibration_images, settings=qat_settings, verbose=verbose)
        graph = facts_lib.of_graph(content)
        content = metadata.add(content, _info(mode, shared, graph))
        runner = interpreter.make_interpreter(content, threads=threads, delegate=delegate)
        found = {"mode": mode, **facts_lib.of_file(content), **graph,
                 **agreement.agreement(interpreter.run(runner, checked.inputs), keras_logits, checked.labels)}
        found["problem"] = agreement.problem(mode, found)
        if found["problem"] and not allow_drop:
            _remove(mode, out_dir)
            raise InputError(f"{mode}.tflite is not written: {found['problem']}, or accept it by --allow_drop.")
        found |= {**facts_lib.measured(runner, threads=threads, delegate=delegate, dtype=mode), **shared}
        _write(mode, content, found, out_dir)
        results.append(found)
    return results


def _convert(mode, model, data, arch, form, *, int8_io, batch_size, calibration_images, seed, settings, verbose):
    if mode == facts_lib.QAT:
        if arch is None:
            raise InputError("int8_qat needs the arch.json of the network beside model.keras. Export int8, or use "
                             "--run_dir.")
        return qat.export(model, arch, data, settings or qat.Settings(seed=seed), form=form["form"], int8_io=int8_io,
                          batch_size=batch_size, verbose=verbose)
    calibration = None
    if mode == "int8":
        images = inputs.draw(data.train, calibration_images, seed, **form).inputs
        calibration = [images if form["form"] == "normalised" else inputs.full_range(images)]
    if form["form"] != "normalised":
        model = inputs.with_pixel_input(model, data.mean, data.std, rgb=form["form"] == "rgb")
    return convert.convert(model, mode, calibration, int8_io=int8_io, batch_size=batch_size, verbose=verbose)


def _normalisation(data, input_form):
    """(value - mean) / std, by channel, that an app applies to pixels 0..255."""
    if input_form != "normalised":
        return {"mean": [0.0], "std": [1.0]}
    return {"mean": [float(value) for value in data.mean], "std": [float(value) for value in data.std]}


def _info(mode, shared, graph):
    """The metadata that goes into the file."""
    normalised = shared["input_form"] == "normalised"
    values = "Pixels, normalised by (pixel - mean) / std" if normalised else "Pixels 0..255"
    return metadata.Info(
        name=f"{shared['name']} {mode}", version=__version__, author=shared["author"], license=shared["license"],
        description=f"Image classifier for {shared['dataset']}, found by hardware-aware architecture search "
                    f"(ProxylessNAS). Quantisation: {model_card.QUANTISATION[mode]}",
        image_shape=tuple(graph["input"]["shape"][1:]), mean=shared["normalisation"]["mean"],
        std=shared["normalisation"]["std"],
        input_description=f"{values}; {graph['input']['dtype']}{_scale(graph['input'])}.",
        output_description=f"Logits, one a class; {graph['output']['dtype']}{_scale(graph['output'])}. "
                           "Their softmax is the probabilities.",
        labels=shared["labels"])


def _scale(end):
    return f", scale {end['scale']:.6g}, zero point {end['zero_point']}" if end["scale"] else ""


def _write(mode, content, facts, out_dir):
    """All files of a mode, or none."""
    files = zip(ENDINGS, (content, facts_lib.text(facts).encode(), model_card.render(facts).encode()), strict=True)
    try:
        for ending, data in files:
            files_lib.write_bytes(os.path.join(out_dir, mode + ending), data)
    except InputError:
        _remove(mode, out_dir)
        raise


def _remove(mode, out_dir):
    """Takes away what an earlier export left, which would pass for this one."""
    for ending in ENDINGS:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(out_dir, mode + ending))


def _show(results, out_dir, data_flags):
    """The result as a table, and what to do next; `data_flags` say which data set it was, if the folder does not."""
    lines = [f"\n{'mode':<8} {'size':>10} {'top-1':>8} {'Keras':>8} {'ms':>8}  file"]
    for facts in results:
        lines.append(f"{facts['mode']:<8} {facts['size_bytes'] / 1000:>7,.0f} kB {facts['top1']:>8.2%} "
                     f"{facts['keras_top1']:>8.2%} {facts['measured_ms']:>8.3f}  "
                     f"{os.path.join(out_dir, facts['mode'])}.tflite"
                     + (f"  FAILED ITS CHECK: {facts['problem']}" if facts["problem"] else ""))
    first = results[0]
    lines.append(f"Checked on {first['checked_images']:,} test images of {first['dataset']}; timed on "
                 f"{first['device']}, {first['runtime']}, {first['delegate']}, {first['threads']} thread(s).")
    lines += _slower(results, out_dir)
    lines.append("Next: " + shlex.join(["python", "-m", "export.bundle", f"--run_dir={out_dir}", *data_flags]))
    return "\n".join(lines)


def _slower(results, out_dir):
    """A line for each int8 file that is no faster than float32: nobody expects that, and it has a reason."""
    ms = {facts["mode"]: facts["measured_ms"] for facts in results}
    return [f"{mode}.tflite takes {ms[mode] / ms['float32']:.2g} times as long as float32.tflite here. Which op it is: "
            + shlex.join(["python", "-m", "latency.profile", f"--model={os.path.join(out_dir, mode)}.tflite"])
            for mode in ms if mode.startswith("int8") and ms[mode] > SLOWER * ms.get("float32", math.inf)]


def _define_flags() -> None:
    flags.DEFINE_string("run_dir", None, "Folder with model.keras, and of the results.")
    flags.DEFINE_string("model", None, "A .keras file, instead of --run_dir; results go beside it.")
    flags.DEFINE_list("mode", list(DEFAULT_MODES), f"Any of {', '.join(facts_lib.MODES)}, with commas between.")
    flags.DEFINE_string("dataset", None, "Data set; default: that of the training.")
    flags.DEFINE_string("data_dir", None, "Where the files of the data set are; default: as in the training.")
    flags.DEFINE_enum("input", "pixels", list(inputs.FORMS),
                      "What the file takes: pixels 0..255; the same in colour, made grey inside (rgb, for networks of "
                      "grey images: MediaPipe wants colour); or images normalised by the app (mean and std are in the "
                      "metadata; MediaPipe can do that only if all channels have the same).")
    flags.DEFINE_enum("int8_io", "int8", list(convert.INT8_IO), "Input and output of the int8 modes.")
    flags.DEFINE_integer("batch_size", 1, "Images that the file takes at once.", 1, 4096)
    flags.DEFINE_integer("check_images", 2000, "Test images to compare with Keras.", 1)
    flags.DEFINE_integer("calibration_images", 200, "Training images that set the ranges of int8.", 1)
    flags.DEFINE_bool("allow_drop", False, "Write a file that fails its check all the same; its facts say so.")
    flags.DEFINE_integer("qat_epochs", qat.Settings.epochs, "Passes over the training images for int8_qat.", 1, 10_000)
    flags.DEFINE_float("qat_lr", qat.Settings.lr, "Learning rate of int8_qat at the start; falls as a cosine.", 0)
    flags.DEFINE_integer("qat_batch_size", qat.Settings.batch_size, "Images a step of int8_qat.", 1, 65536)
    flags.DEFINE_string("author", "", "Author, for metadata and model card.")
    flags.DEFINE_string("license", "", "Licence of the network, for metadata and model card.")
    flags.DEFINE_integer("threads", 1, "CPU threads to time with.", 1, 256)
    flags.DEFINE_enum("delegate", "xnnpack", list(interpreter.DELEGATES), "XNNPACK, or the built-in kernels.")
    flags.DEFINE_integer("seed", 0, "Of the choice of images.", 0, 2**31 - 1)
    flags.DEFINE_bool("verbose", False, "Let the converter talk.")


def _main() -> None:
    f = flags.FLAGS
    if bool(f.run_dir) == bool(f.model):
        raise InputError("Name what to export: either --run_dir=DIR or --model=FILE.keras.")
    unknown = sorted(set(f.mode) - set(facts_lib.MODES))
    if unknown or not f.mode:
        raise InputError(f"--mode takes {', '.join(facts_lib.MODES)}, with commas between; got {', '.join(unknown)!r}.")
    model_path = f.model or RunFolder(f.run_dir).model
    out_dir = f.run_dir or os.path.dirname(f.model) or "."
    wanted = run_folder.data_arguments(f.run_dir, dataset=f.dataset, data_dir=f.data_dir, seed=f.seed, trained=True)
    start.load_tensorflow()
    model = keras_model.load(model_path)
    arch = keras_model.arch_beside(model, out_dir)
    from pnas_tf import data as data_lib

    data = data_lib.load(**wanted, image_size=model.input_shape[1])
    command = shlex.join(["python", "-m", "export.tflite", *sys.argv[1:]])
    with data_lib.naming_broken_images():
        results = run(model=model, data=data, modes=f.mode, out_dir=out_dir, arch=arch, input_form=f.input,
                      int8_io=f.int8_io, batch_size=f.batch_size, check_images=f.check_images,
                      calibration_images=f.calibration_images, threads=f.threads, delegate=f.delegate,
                      qat_settings=qat.Settings(f.qat_epochs, f.qat_lr, min(f.qat_batch_size, data.train.size), f.seed),
                      allow_drop=f.allow_drop, author=f.author, license_name=f.license, seed=f.seed,
                      origin=facts_lib.of_run(f.run_dir, command), verbose=f.verbose)
    named = {"dataset": f.dataset, "data_dir": f.data_dir}
    print(_show(results, out_dir, [f"--{name}={value}" for name, value in named.items() if value]))


def main() -> None:
    """Console script."""
    _define_flags()
    start.start(_main, agreement.check_ops_ship)


if __name__ == "__main__":
    main()
