"""Model cards: the facts of an export as a Markdown page for people, to accompany the `.tflite`."""

from typing import Any

from export import front_matter, model_ends
from pnas_tf.run_folder import measured

# Largest number of classes in a table; a card is for people, and the facts hold all of them.
MAX_CLASSES = 100
# How a network was found, if a search found it.
FOUND = "found by hardware-aware architecture search (ProxylessNAS)"
# Texts for model card and metadata, by mode.
QUANTISATION = {
    "float32": "None: weights and activations are float32.",
    "float16": "Weights are stored as float16; activations are float32 where there are no float16 kernels.",
    "dynamic": "Weights are int8, one scale a channel; activations are quantised as they come (dynamic range).",
    "int8": "Weights and activations are int8, weights with one scale a channel; ranges are from calibration images "
            "(post-training quantisation).",
    "int8_qat": "Weights and activations are int8, weights with one scale a channel; the network was fine-tuned with "
                "the rounding in place (quantisation-aware training).",
}


def render(facts: dict[str, Any]) -> str:
    """Renders the facts of a <mode>.json as Markdown."""
    name = f"{facts['name']}, {facts['mode']}"
    lines = [*front_matter.render([facts]), ""]
    lines += [f"# {name}", "", f"An image classifier{' ' + FOUND if facts['found'] else ''}.", ""]
    if facts.get("problem"):
        lines += [f"**This file failed its check: {facts['problem']}**", ""]
    lines += ["| | |", "| --- | --- |", *(f"| {label} | {value} |" for label, value in _rows(facts)), ""]
    lines += ["## Input and output", "", *ends(facts), "", preparation(facts), ""]
    lines += ["## Accuracy of each class", "", *class_table(facts), ""]
    lines += ["## Quantisation", "", QUANTISATION[facts["mode"]], ""]
    if facts["architecture"]:
        lines += ["## Architecture", "", "```", *facts["architecture"], "```", ""]
    lines += ["Operators: " + ", ".join(f"{count} {op}" for op, count in facts["operators"].items()) + ".", ""]
    model = facts.get("model")
    lines += ["## Where it comes from", "", "```", *facts["commands"].values(), "```", "",
              "Seeds: " + (", ".join(f"{name} {seed}" for name, seed in facts["seeds"].items()) or "not recorded")
              + ". Versions: " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()) + ".",
              f"SHA-256: `{facts['sha256']}`" + (f"; of {_cell(model['file'])}, which it was made from: "
                                                 f"`{model['sha256']}`." if model else "."), ""]
    return "\n".join(lines)


def _rows(facts):
    predicted = f"{facts['table_ms']:.4g} ms on {facts['table_target']}" \
        if isinstance(facts["table_ms"], (int, float)) else "not known"
    return [("Top-1 of the `.tflite`", f"{facts['top1']:.2%} on {facts['checked_images']:,} test images"),
            ("Top-1 of the Keras model", f"{facts['keras_top1']:.2%} on the same images"),
            ("Same class as Keras", f"{facts['agreement']:.2%} of the images"),
            ("Largest difference of an output", f"{facts['max_difference']:.3g}"),
            ("Predicted latency", predicted),
            ("Measured latency", f"{facts['measured_ms']:.4g} ms on {facts['target']} ({_cell(facts['device'])}, "
                                 f"{facts['runtime']}){doubt(facts)}"),
            ("Size", f"{facts['size_bytes']:,} bytes"),
            ("Parameters, multiply-adds", f"{facts['params']:,} and {facts['macs']:,}"),
            ("Activation memory, at least", f"{facts['peak_activation_bytes']:,} bytes"),
            ("Data set", f"{_cell(facts['dataset'])}, {len(facts['labels'])} classes"),
            ("Author, licence", f"{_cell(facts['author'])}, {_cell(facts['license'])}")]


def doubt(facts: dict[str, Any]) -> str:
    """Words about a time that cannot be trusted."""
    time = measured.of_export(facts)
    return f"; not to be trusted: {time.doubt}" if time and time.doubt else ""


def ends(facts: dict[str, Any]) -> list[str]:
    """Lines that describe the input and the output of a file."""
    end, normalisation = facts["input"], facts["normalisation"]
    values = f"(pixel - {_list(normalisation['mean'])}) / {_list(normalisation['std'])} with pixels 0..255" \
        if facts["input_form"] == "normalised" else "pixels 0..255"
    colours = {3: " (red, green, blue)", 1: " (grey)"}.get(end["shape"][-1], "")
    problem = mediapipe_problem(facts)
    return [f"Input: {end['dtype']} {end['shape']}{colours}, {values}{_scale(end)}.",
            f"Output: {facts['output']['dtype']} {facts['output']['shape']}, "
            f"{model_ends.OUTPUTS[facts['output_kind']]}{_scale(facts['output'])}. "
            "Class names are in `labels.txt`, which the file also carries.", *([problem] if problem else [])]


def mediapipe_problem(facts: dict[str, Any]) -> str | None:
    """Text that says why MediaPipe cannot use a file, and what to export for it; None if it can."""
    end = facts["input"]
    if end["shape"][-1] != 3:
        return "MediaPipe takes colour images only: for it, export with `--input=rgb`."
    if end["dtype"] == "int8":
        return "MediaPipe takes no int8 input: for it, export with `--int8_io=uint8` or `float32`."
    if end["shape"][0] != 1:
        return "MediaPipe takes one image at a time: for it, export with `--batch_size=1`."
    normalised = facts["input_form"] == "normalised"
    if normalised and end["dtype"] == "uint8":
        return "MediaPipe does not normalise bytes: for it, export with `--input=pixels`."
    if normalised and any(len(set(values)) > 1 for values in facts["normalisation"].values()):
        return "MediaPipe uses one mean and std for all channels: for it, export with `--input=pixels`."
    return None


def preparation(facts: dict[str, Any]) -> str:
    """Text that says how a photo becomes an input, as the test images did."""
    height, width, channels = facts["input"]["shape"][1:]
    form = "square" if height == width else f"part {width} wide to {height} high"
    if facts["central_part"] == 1:
        part = f"the largest {form}"
    else:
        part = f"a {form} with {facts['central_part']:.1%} of the side of the largest"
    grey = " Grey is 0.299 red + 0.587 green + 0.114 blue." if channels == 1 else ""
    background = "white" if facts["background"] == [255, 255, 255] else f"the colour {facts['background']}"
    return (f"To prepare a photo: turn it upright (EXIF orientation); put transparent parts on {background}; cut "
            f"out of its centre {part} that fits; resize it to {width} x {height} (width "
            "x height) with bilinear weights, which cover all pixels (antialiasing) if it shrinks to less than half."
            + grey)


def class_table(facts: dict[str, Any]) -> list[str]:
    """Lines of a table with the accuracy of each class, the least accurate first."""
    labels, images, correct = facts["labels"], facts["class_images"], facts["class_correct"]
    tested = sorted((label for label in range(len(labels)) if images[label]),
                    key=lambda label: (correct[label] / images[label], -images[label]))
    lines = ["| class | correct | test images | most often mistaken for |", "| --- | --- | --- | --- |"]
    for label in tested[:MAX_CLASSES]:
        other = facts["class_mistaken_for"][label]
        lines.append(f"| {_cell(labels[label])} | {correct[label] / images[label]:.1%} | {images[label]:,} | "
                     f"{'' if other is None else _cell(labels[other])} |")
    if len(tested) > MAX_CLASSES:
        lines += ["", f"The {MAX_CLASSES} least accurate of {len(tested):,} classes; `{facts['mode']}.json` has all."]
    if len(tested) < len(labels):
        lines += ["", f"{len(labels) - len(tested):,} classes have no image among those that were checked."]
    return lines


def _scale(end):
    return f", quantised: value = {end['scale']:.6g} * (q - {end['zero_point']})" if end["scale"] else ""


def _list(values):
    return "[" + ", ".join(f"{value:.4g}" for value in values) + "]" if len(set(values)) > 1 else f"{values[0]:.4g}"


def _cell(value):
    """Makes text from outside safe for a cell of a table."""
    return " ".join(str(value).replace("|", "/").split())[:200]
