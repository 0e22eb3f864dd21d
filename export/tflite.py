"""Exports a trained network as .tflite files, which are checked against Keras on test images, timed and described.

    python -m export.tflite --run_dir=runs/quickstart
    python -m export.tflite --run_dir=runs/quickstart --mode=int8,int8_qat --int8_io=uint8
    python -m export.tflite --model=model.keras --dataset=folder:photos --mode=float32,int8
    python -m export.tflite --model=model.keras --dataset=folder:photos --model_takes=-1..1   # not 0..255

Writes <mode>.tflite, <mode>.json (the facts) and <mode>.md (the model card) into the folder of the model. A file that
does not agree with Keras is not written.
"""

import contextlib
import math
import os
import sys
import time
from typing import Any

import numpy as np
from absl import flags

from export import (
    agreement,
    convert,
    inputs,
    interpreter,
    keras_model,
    metadata,
    model_card,
    model_ends,
    qat,
    timed_files,
    trained_images,
)
from export import anchor as anchor_lib
from export import facts as facts_lib
from export.anchor import Anchor
from export.settings import ExportConfig
from pnas_tf import __version__, extras, packages, shell, terminal
from pnas_tf import files as files_lib
from pnas_tf.cli import settings, start
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder, measured
from pnas_tf.run_folder import folder as run_folder
from pnas_tf.space.arch import Arch

ENDINGS = (".tflite", ".json", ".md")
# An int8 file is reported if it takes this many times as long as float32; smaller factors are noise.
SLOWER = 1.2


def run(*, model: Any, data: Any, config: ExportConfig, out_dir: str, arch: Arch | None = None,
        origin: dict[str, Any] | None = None, anchor: Anchor | None = None) -> list[dict[str, Any]]:
    """Exports a model in each mode of the settings.

    Args:
        model: Keras model from `keras_model.load`.
        data: Data set from `data.load`, of the images and classes of the model.
        config: Settings of the export.
        out_dir: Folder of the results.
        arch: Architecture of the model; int8_qat needs it.
        origin: Origin of the model from `facts.of_run`.
        anchor: Network to time beside the files, which shows the pace of the machine; None for none.

    Returns:
        The facts of each mode, as its .json holds them.

    Raises:
        InputError: If the model does not fit the data or the arch, a model without an arch is no better than chance, or
            a mode fails its check or lacks a package, or answers are not finite numbers.
    """
    if facts_lib.QAT in config.mode:
        extras.check("qat", "--mode=int8_qat")
    keras_model.check_fits_data(model, data)
    if arch:
        arch.space.check_normalised(data)
    if config.input == "rgb" and data.image_shape[-1] != 1:
        raise InputError(f"--input=rgb is for networks of grey images, but the images of {data.name} have "
                         f"{data.image_shape[-1]} channels. Leave the flag out.")
    samples = _draw(data.test, config.check_images, data, config)
    keras_logits = model.predict(samples.normalised, batch_size=inputs.BATCH, verbose=0)
    if not_finite := int((~np.isfinite(keras_logits)).any(1).sum()):
        raise InputError(f"The model's answers to {not_finite:,} of {len(keras_logits):,} test images are not finite "
                         "numbers, so nothing is exported. Train it again at a lower learning rate.")
    if not arch and not config.allow_drop:
        model_ends.check_range(model, keras_logits, samples.labels, samples.normalised, data)
    shared = {**_shared_facts(model, arch, data, config, origin or {"commands": {}, "seeds": {}}),
              "output_kind": model_ends.output_kind(keras_logits)}
    exports, failures, begin = {}, [], time.monotonic()
    for number, mode in enumerate(config.mode):
        _announce(number, config.mode, len(samples.labels), time.monotonic() - begin)
        try:
            content, graph = _described(mode, model, data, arch, config, shared)
            exports[mode] = content, {"mode": mode, **facts_lib.of_file(content), **graph,
                                      **_checked(mode, content, samples, keras_logits, config)}
        except InputError as error:  # the other modes are timed and written before it is raised
            _remove(mode, out_dir)
            failures.append(str(error))
    times = _timed({mode: content for mode, (content, _) in exports.items()}, config, anchor)
    results = []
    for mode, (content, facts) in exports.items():
        results.append({**facts, **times[mode], **shared})
        _write(mode, content, results[-1], out_dir)
    if failures:
        raise InputError(" ".join(dict.fromkeys(failures)))
    return results


def _announce(number, modes, images, seconds):
    """Tells the step that begins, and the time left, of which the seconds so far give an idea."""
    left = f"; {terminal.seconds(round(seconds / number * (len(modes) - number)))} left." if number else "."
    terminal.say(f"{modes[number]}, {number + 1} of {len(modes)}: converting, checking on {images:,} images{left}")


def _described(mode, model, data, arch, config, shared):
    """The model in one mode: contents of a `.tflite` with its metadata, and facts about its graph."""
    content = _convert(mode, model, data, arch, config)
    graph = facts_lib.of_graph(content)
    return metadata.add(content, _info(mode, shared, graph)), graph


def _checked(mode, content, samples, keras_logits, config):
    """Facts about the agreement of a file with Keras; raises InputError if it disagrees."""
    runner = interpreter.make_interpreter(content, threads=config.threads, delegate=config.delegate)
    facts = agreement.compare(mode, interpreter.run(runner, samples.inputs), keras_logits, samples.labels)
    problem = agreement.problem(mode, facts)
    if not math.isfinite(facts["max_difference"]):
        raise InputError(f"{mode}.tflite is not written: {problem}.")
    if problem and not config.allow_drop:
        raise InputError(f"{mode}.tflite is not written: {problem}, or accept the file with --allow_drop.")
    return {**facts, "problem": problem}


def _timed(contents, config, anchor):
    """Facts about the times of files by mode."""
    if not contents:
        return {}
    terminal.say(f"Timing {', '.join(contents)} in turns.")
    return timed_files.measured(
        contents, threads=config.threads, delegate=config.delegate, patience_seconds=config.timing_seconds,
        anchor=anchor, waiting=lambda: terminal.say("This machine is busy, so they are timed again, for up to "
                                                    f"{terminal.seconds(config.timing_seconds)}."))


def _draw(part, count, data, config):
    """Draws images from a part of a data set in the form that the file takes."""
    return inputs.draw(part, count, config.seed, form=config.input, mean=data.mean, std=data.std)


def _shared_facts(model, arch, data, config, origin):
    """Facts that all modes share."""
    facts = {**facts_lib.of_network(model, arch, data), **origin, "input_form": config.input,
             "normalisation": _normalisation(data, config.input), "author": config.author or "not named",
             "license": config.license or "not named", "versions": packages.versions(facts_lib.PACKAGES)}
    facts["seeds"] = {**facts["seeds"], "export": config.seed}
    return facts


def _convert(mode, model, data, arch, config):
    """Converts the model in one mode; returns the contents of a `.tflite`."""
    if mode == facts_lib.QAT:
        if arch is None:
            raise InputError("int8_qat needs the arch.json of the network beside model.keras. Export int8, or use "
                             "--run_dir.")
        return qat.export(model, arch, data, config)
    calibration = None
    if mode == "int8":
        images = _draw(data.train, config.calibration_images, data, config).inputs
        calibration = [images if config.input == "normalised" else inputs.full_range(images)]
    if config.input != "normalised" and (config.input == "rgb" or not _takes_pixels(data)):
        model = inputs.with_pixel_input(model, data.mean, data.std, rgb=config.input == "rgb")
    return convert.convert(model, mode, calibration, int8_io=config.int8_io, batch_size=config.batch_size,
                           verbose=config.verbose)


def _takes_pixels(data):
    """Whether the model takes pixels 0..255 as they are."""
    return set(data.mean) == {0.0} and set(data.std) == {1.0}


def _normalisation(data, input_form):
    """The mean and std of each channel in `(pixel - mean) / std`, which an app applies to pixels 0..255."""
    if input_form != "normalised":
        return {"mean": [0.0], "std": [1.0]}
    return {"mean": [float(value) for value in data.mean], "std": [float(value) for value in data.std]}


def _info(mode, shared, graph):
    """Metadata of a file."""
    normalised = shared["input_form"] == "normalised"
    values = "Pixels, normalised by (pixel - mean) / std" if normalised else "Pixels 0..255"
    return metadata.Info(
        name=f"{shared['name']} {mode}", version=__version__, author=shared["author"], license=shared["license"],
        description=f"Image classifier for {shared['dataset']}{', ' + model_card.FOUND if shared['found'] else ''}. "
                    f"Quantisation: {model_card.QUANTISATION[mode]}",
        image_shape=tuple(graph["input"]["shape"][1:]), mean=shared["normalisation"]["mean"],
        std=shared["normalisation"]["std"],
        input_description=f"{values}; {graph['input']['dtype']}{_scale(graph['input'])}.",
        output_name=shared["output_kind"],
        output_description=f"One for each class: {model_ends.OUTPUTS[shared['output_kind']]}; "
                           f"{graph['output']['dtype']}{_scale(graph['output'])}.",
        labels=shared["labels"])


def _scale(end):
    return f", scale {end['scale']:.6g}, zero point {end['zero_point']}" if end["scale"] else ""


def _write(mode, content, facts, out_dir):
    """Writes all files of a mode, or none."""
    files = zip(ENDINGS, (content, facts_lib.text(facts).encode(), model_card.render(facts).encode()), strict=True)
    try:
        for ending, data in files:
            files_lib.write_bytes(os.path.join(out_dir, mode + ending), data)
    except InputError:
        with contextlib.suppress(InputError):
            _remove(mode, out_dir)
        raise


def _remove(mode, out_dir):
    """Removes the files of an earlier export, which would otherwise be taken for files of this export.

    Raises:
        InputError: If one of them cannot be removed.
    """
    for path in (os.path.join(out_dir, mode + ending) for ending in ENDINGS):
        try:
            os.unlink(path)
        except OSError as error:
            if os.path.lexists(path):
                raise InputError(f"{path} of an earlier export cannot be removed ({error.strerror}). Make the folder "
                                 "writable and run the same command again.") from None


def _summary(results, out_dir, data_flags):
    """A table of the results, and the next command; `data_flags` name the data set if the folder does not record it."""
    lines = [f"\n{'mode':<8} {'size':>10} {'top-1':>8} {'Keras':>8} {'ms':>8}  file"]
    for facts in results:
        lines.append(f"{facts['mode']:<8} {facts['size_bytes'] / 1000:>7,.0f} kB {facts['top1']:>8.2%} "
                     f"{facts['keras_top1']:>8.2%} {facts['measured_ms']:>8.3f}  "
                     f"{os.path.join(out_dir, facts['mode'])}.tflite"
                     + (f"  FAILED ITS CHECK: {facts['problem']}" if facts["problem"] else ""))
    first = results[0]
    lines.append(f"Checked on {first['checked_images']:,} test images of {first['dataset']}; timed on "
                 f"{first['device']}, {first['runtime']}, {first['delegate']}, {first['threads']} thread(s).")
    lines += [*_doubts(results), *_slower(results, out_dir)]
    lines.append("Next: " + start.next_command("export.bundle", f"--run_dir={out_dir}", *data_flags))
    return "\n".join(lines)


def _doubts(results):
    """A line about times that cannot be trusted; none if all can."""
    doubts = [f"{facts['mode']}: {time.doubt}" for facts in results if (time := measured.of_export(facts)).doubt]
    return [f"Times not to be trusted: {'. '.join(doubts)}. Export again when the machine is idle."] if doubts else []


def _slower(results, out_dir):
    """A line for each int8 file that is slower than float32: users expect the opposite; the profile shows why."""
    ms = {facts["mode"]: facts["measured_ms"] for facts in results}
    return [f"{mode}.tflite takes {ms[mode] / ms['float32']:.2g} times as long as float32.tflite here. To see which op "
            "is slow: "
            + shell.line(["python", "-m", "latency.profile", f"--model={os.path.join(out_dir, mode)}.tflite"])
            for mode in ms if mode.startswith("int8") and ms[mode] > SLOWER * ms.get("float32", math.inf)]


def _define_flags() -> None:
    flags.DEFINE_string("run_dir", None, "Folder with model.keras, into which the results are written.")
    flags.DEFINE_string("model", None, "A .keras file, instead of --run_dir; the results are written beside it.")
    flags.DEFINE_string("dataset", None, "Data set; default: the data set of the training.")
    flags.DEFINE_string("data_dir", None, "Folder of the data set's files; default: as for the training.")
    flags.DEFINE_enum("model_takes", model_ends.AUTO, model_ends.TAKES,
                      "Pixels that the Keras model takes: normalised by the mean and deviation of the data set "
                      "(dataset), or in a range. auto: 0..255 or 0..1 if a Rescaling or Normalization layer of the "
                      "model says so, otherwise dataset.")
    settings.define(ExportConfig)


def _main() -> None:
    f = flags.FLAGS
    if bool(f.run_dir) == bool(f.model):
        raise InputError("Name the model to export: either --run_dir=DIR or --model=FILE.keras.")
    config = settings.read(ExportConfig)
    model_path = f.model or RunFolder(f.run_dir).model
    out_dir = f.run_dir or os.path.dirname(f.model) or "."
    data_arguments = run_folder.data_arguments(f.run_dir, dataset=f.dataset, data_dir=f.data_dir, seed=f.seed,
                                               trained=True)
    start.load_tensorflow()
    model = keras_model.load(model_path)
    arch = keras_model.arch_beside(model, out_dir)
    from pnas_tf import data as data_lib

    data = data_lib.load(**data_arguments, image_size=model.input_shape[1],
                         normalisation=_of_images(model, arch, f.model_takes))
    if f.run_dir:
        trained_images.check(data, RunFolder(f.run_dir).training_facts, are_the_same=not f.dataset)
    command = shell.line(["python", "-m", "export.tflite", *sys.argv[1:]])
    with data_lib.naming_broken_images(data):
        results = run(model=model, data=data, config=config, out_dir=out_dir, arch=arch,
                      origin=facts_lib.of_run(f.run_dir, command, model_path),
                      anchor=anchor_lib.of_run(f.run_dir, arch, threads=config.threads, delegate=config.delegate))
    data_flags = {"dataset": f.dataset, "data_dir": f.data_dir}
    print(_summary(results, out_dir, [f"--{name}={value}" for name, value in data_flags.items() if value]))


def _of_images(model, arch, takes):
    """Mean and deviation that normalise the images of the model; None for those of the data set."""
    if takes == model_ends.AUTO and arch:
        return arch.space.normalisation
    if takes == model_ends.AUTO and (own := model_ends.own_range(model)):
        print(f"The model rescales its images itself: it gets pixels as {own} (--model_takes).")
        takes = own
    return model_ends.RANGES.get(takes)


def main() -> None:
    """Runs the command."""
    _define_flags()
    start.start(_main, agreement.check_ops_ship)


if __name__ == "__main__":
    main()
