"""Facts of an exported network for its <mode>.json: network, file, graph, origin and versions."""

import hashlib
import json
import os
from typing import Any

from export import convert, graph, interpreter, model_ends
from pnas_tf import files, shell
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder, exports
from pnas_tf.space.arch import Arch

FORMAT = "pnas_tf.export/1"
QAT = "int8_qat"
MODES = (*convert.MODES, QAT)
# Packages that an export depends on.
PACKAGES = ("tensorflow", "keras", "numpy", "ai-edge-litert", "tf-keras", "tensorflow-model-optimization")


def of_network(model: Any, arch: Arch | None, data: Any) -> dict[str, Any]:
    """Collects the facts that all modes share.

    Args:
        model: Keras model.
        arch: Architecture of the model, or None if there is no arch.json.
        data: Data set from `data.load`.

    Returns:
        Name, whether a search found the network, architecture, predicted latency (table_ms) and its target, numbers of
        parameters and MACs, the data set, and the part of a photo that the network sees.
    """
    from pnas_tf import network

    costs = arch.costs if arch else {}
    return {"format": FORMAT, "name": model.name, "found": bool(arch and costs.get("target")),
            "architecture": [f"{block.name}: {op}, {block.filters} filters, stride {block.strides}"
                             + (", shortcut" if block.shortcut else "") for block, op in arch.blocks()]
            if arch else None,
            "table_ms": costs.get("table_ms"), "table_target": costs.get("target"),
            "params": network.count_params(model), "macs": network.count_macs(model),
            "dataset": data.name, "image_shape": list(data.image_shape), "central_part": data.central_part,
            "background": list(data.rendering.background) if data.rendering else [255, 255, 255],
            "labels": list(data.class_names)}


def of_file(content: bytes) -> dict[str, Any]:
    """Size and checksum of a `.tflite`."""
    return {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def of_graph(content: bytes) -> dict[str, Any]:
    """Facts about the graph of a `.tflite`.

    Returns:
        operators, the number of each kind; peak_activation_bytes; and types, shapes and scales of input and output.
    """
    contents, runner = graph.describe(content), interpreter.make_interpreter(content)
    ends = {}
    for name, details in (("input", runner.get_input_details()[0]), ("output", runner.get_output_details()[0])):
        scale, zero_point = details["quantization"]
        ends[name] = {"dtype": details["dtype"].__name__, "shape": [int(size) for size in details["shape"]],
                      "scale": float(scale), "zero_point": int(zero_point)}
    return {"operators": {op: contents.ops.count(op) for op in sorted(set(contents.ops))},
            "peak_activation_bytes": graph.peak_activation_bytes(contents), **ends}


def of_run(run_dir: str | None, command: str, model_path: str) -> dict[str, Any]:
    """Collects the origin of a network: its .keras file, and commands and seeds of search, training and export.

    Args:
        run_dir: Run folder, whose records of search and training are used as far as they exist; None if there is none.
        command: Command of this export.
        model_path: The .keras file of the network.

    Returns:
        model, with the name and SHA-256 of the file; commands and seeds, each by step.

    Raises:
        InputError: If a record of the run folder is damaged.
    """
    commands: dict[str, str | None] = {"export": command}
    seeds: dict[str, int | None] = {}
    folder = RunFolder(run_dir) if run_dir else None
    if folder and os.path.exists(folder.flags):
        commands["search"] = shell.line(["python", "-m", "pnas_tf.search", f"--flagfile={folder.flags}"])
        seed = folder.read_flags().get("seed", "")
        seeds["search"] = int(seed) if seed.isdecimal() else None
    if folder and os.path.exists(folder.training_facts):
        training = files.read_json(folder.training_facts)
        if not isinstance(training, dict):
            raise InputError(f"{folder.training_facts}: expected a JSON object. Train again.")
        commands["train"], seeds["train"] = training.get("command"), training.get("seed")
    return {"model": exports.origin(model_path),
            "commands": {name: commands[name] for name in ("search", "train", "export") if commands.get(name)},
            "seeds": {name: seed for name, seed in seeds.items() if seed is not None}}


def is_complete(facts: Any) -> bool:
    """Tells whether the facts of a <mode>.json, untrusted, have what a bundle needs."""
    def each(kind, values):
        return isinstance(values, list) and all(isinstance(value, kind) and not isinstance(value, bool)
                                                and (isinstance(value, str) or abs(value) < 1e12) for value in values)

    def end(tensor, rank):
        return (each(str, [tensor["dtype"]]) and each(int, tensor["shape"]) and len(tensor["shape"]) == rank
                and min(tensor["shape"]) > 0 and each(float | int, [tensor["scale"], tensor["zero_point"]]))

    try:
        labels, normalisation = facts["labels"], facts["normalisation"]
        images, correct, mistaken = (facts[name] for name in ("class_images", "class_correct", "class_mistaken_for"))
        numbers = [facts[name] for name in ("top1", "measured_ms", "size_bytes", "central_part")]
        others = [label for label in mistaken if label is not None]
        return (facts["format"] == FORMAT and facts["mode"] in MODES and each(str, labels)
                and each(str, [facts[name] for name in ("name", "dataset", "license", "target", "input_form")])
                and each(str, [facts.get("problem") or ""]) and facts["output_kind"] in model_ends.OUTPUTS
                and each(float | int, numbers) and 0 < facts["central_part"] <= 1
                and each(int, facts["background"]) and len(facts["background"]) == 3
                and all(0 <= level <= 255 for level in facts["background"])
                and end(facts["input"], 4) and end(facts["output"], 2)
                and each(int, facts["image_shape"]) and len(facts["image_shape"]) == 3 and min(facts["image_shape"]) > 0
                and each(int, [facts["checked_images"]]) and facts["checked_images"] > 0
                and each(float | int, normalisation["mean"]) and each(float | int, normalisation["std"])
                and len(normalisation["mean"]) == len(normalisation["std"]) > 0 and min(normalisation["std"]) > 0
                and each(int, images) and each(int, correct) and each(int, others)
                and len(labels) == len(images) == len(correct) == len(mistaken)
                and all(0 <= right <= count for right, count in zip(correct, images, strict=True))
                and all(0 <= label < len(labels) for label in others))
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def text(facts: dict[str, Any]) -> str:
    """Contents of a <mode>.json."""
    return json.dumps(facts, indent=1) + "\n"
