"""Model cards: the facts of an export as a Markdown page for people, to accompany the `.tflite`."""

from typing import Any

from pnas_tf.run_folder import measured

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
    lines = [f"# {name}", "", "An image classifier found by hardware-aware architecture search (ProxylessNAS).", ""]
    if facts.get("problem"):
        lines += [f"**This file failed its check: {facts['problem']}**", ""]
    lines += ["| | |", "| --- | --- |", *(f"| {label} | {value} |" for label, value in _rows(facts)), ""]
    lines += ["## Input and output", "", *_ends(facts), "", "## Quantisation", "", QUANTISATION[facts["mode"]], ""]
    if facts["architecture"]:
        lines += ["## Architecture", "", "```", *facts["architecture"], "```", ""]
    lines += ["Operators: " + ", ".join(f"{count} {op}" for op, count in facts["operators"].items()) + ".", ""]
    lines += ["## Where it comes from", "", "```", *facts["commands"].values(), "```", "",
              "Seeds: " + (", ".join(f"{name} {seed}" for name, seed in facts["seeds"].items()) or "not recorded")
              + ". Versions: " + ", ".join(f"{name} {version}" for name, version in facts["versions"].items()) + ".",
              f"SHA-256: `{facts['sha256']}`.", ""]
    return "\n".join(lines)


def _rows(facts):
    predicted = f"{facts['table_ms']:.4g} ms on {facts['table_target']}" \
        if isinstance(facts["table_ms"], (int, float)) else "not known"
    return [("Top-1 of the `.tflite`", f"{facts['top1']:.2%} on {facts['checked_images']:,} test images"),
            ("Top-1 of the Keras model", f"{facts['keras_top1']:.2%} on the same images"),
            ("Same class as Keras", f"{facts['agreement']:.2%} of the images"),
            ("Largest difference of a logit", f"{facts['max_difference']:.3g}"),
            ("Predicted latency", predicted),
            ("Measured latency", f"{facts['measured_ms']:.4g} ms on {facts['target']} ({_cell(facts['device'])}, "
                                 f"{facts['runtime']}){_doubt(facts)}"),
            ("Size", f"{facts['size_bytes']:,} bytes"),
            ("Parameters, multiply-adds", f"{facts['params']:,} and {facts['macs']:,}"),
            ("Activation memory, at least", f"{facts['peak_activation_bytes']:,} bytes"),
            ("Data set", f"{_cell(facts['dataset'])}, {len(facts['labels'])} classes"),
            ("Author, licence", f"{_cell(facts['author'])}, {_cell(facts['license'])}")]


def _doubt(facts):
    """Words about a time that cannot be trusted."""
    time = measured.of_export(facts)
    return f"; not to be trusted: {time.doubt}" if time and time.doubt else ""


def _ends(facts):
    end, normalisation = facts["input"], facts["normalisation"]
    values = f"(pixel - {_list(normalisation['mean'])}) / {_list(normalisation['std'])} with pixels 0..255" \
        if facts["input_form"] == "normalised" else "pixels 0..255"
    colours = {3: " (red, green, blue)", 1: " (grey)"}.get(end["shape"][-1], "")
    lines = [f"Input: {end['dtype']} {end['shape']}{colours}, {values}{_scale(end)}.",
             f"Output: {facts['output']['dtype']} {facts['output']['shape']}, logits (their softmax is the "
             f"probabilities){_scale(facts['output'])}. Class names are in `labels.txt`, which the file also carries."]
    if end["shape"][-1] != 3:
        lines.append("MediaPipe takes colour images only: for it, export with `--input=rgb`.")
    elif end["dtype"] == "int8":
        lines.append("MediaPipe takes no int8 input: for it, export with `--int8_io=uint8` or `float32`.")
    return lines


def _scale(end):
    return f", quantised: value = {end['scale']:.6g} * (q - {end['zero_point']})" if end["scale"] else ""


def _list(values):
    return "[" + ", ".join(f"{value:.4g}" for value in values) + "]" if len(set(values)) > 1 else f"{values[0]:.4g}"


def _cell(value):
    """Makes text from outside safe for a cell of a table."""
    return " ".join(str(value).replace("|", "/").split())[:200]
