"""What is known of an exported network, as the values of its <mode>.json."""

import hashlib
import json
import os
import shlex
from typing import Any

from export import convert, graph, interpreter, timing
from pnas_tf import files
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.run_folder import folder as run_folder
from pnas_tf.space.arch import Arch

FORMAT = "pnas_tf.export/1"
QAT = "int8_qat"
MODES = (*convert.MODES, QAT)
ROUNDS, RUNS = 6, 10
PACKAGES = ("tensorflow", "keras", "numpy", "ai-edge-litert", "tf-keras", "tensorflow-model-optimization")


def of_network(model: Any, arch: Arch | None, data: Any) -> dict[str, Any]:
    """What holds for every mode: architecture, predicted_ms on which target, size in parameters and MACs, data."""
    from pnas_tf import network

    costs = arch.costs if arch else {}
    return {"format": FORMAT, "name": model.name,
            "architecture": [f"{block.name}: {op}, {block.filters} filters, stride {block.strides}"
                             + (", shortcut" if block.shortcut else "") for block, op in arch.blocks()]
            if arch else None,
            "table_ms": costs.get("table_ms"), "table_target": costs.get("target"),
            "params": network.count_params(model), "macs": network.count_macs(model),
            "dataset": data.name, "image_shape": list(data.image_shape), "labels": list(data.class_names)}


def of_file(content: bytes) -> dict[str, Any]:
    """Of the file itself: size and checksum."""
    return {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def of_graph(content: bytes) -> dict[str, Any]:
    """Of what the file computes: operators by count, activation memory, types and scales of both ends."""
    found, runner = graph.describe(content), interpreter.make_interpreter(content)
    ends = {}
    for name, details in (("input", runner.get_input_details()[0]), ("output", runner.get_output_details()[0])):
        scale, zero_point = details["quantization"]
        ends[name] = {"dtype": details["dtype"].__name__, "shape": [int(size) for size in details["shape"]],
                      "scale": float(scale), "zero_point": int(zero_point)}
    return {"operators": {op: found.ops.count(op) for op in sorted(set(found.ops))},
            "peak_activation_bytes": graph.peak_activation_bytes(found), **ends}


def measured(runner: Any, *, threads: int, delegate: str, dtype: str) -> dict[str, Any]:
    """Times an interpreter on this machine; measured_ms is the median that `timing.STATISTIC` describes."""
    invoke, _ = interpreter.subject(runner)
    times = timing.summarise([timing.timed_ms(invoke, RUNS) for _ in range(ROUNDS)])
    return {"measured_ms": times.pop("median_ms"), **times, "statistic": timing.STATISTIC,
            "target": interpreter.target_name(threads=threads, delegate=delegate, dtype=dtype),
            "runtime": interpreter.runtime_name(), "threads": threads, "delegate": delegate, **timing.machine_facts()}


def of_run(run_dir: str | None, command: str) -> dict[str, Any]:
    """How the network came about, as far as the run folder says: commands and seeds of search, training, export."""
    commands: dict[str, str | None] = {"export": command}
    seeds: dict[str, int | None] = {}
    flags_path = RunFolder(run_dir).flags if run_dir else ""
    if os.path.exists(flags_path):
        commands["search"] = shlex.join(["python", "-m", "pnas_tf.search", f"--flagfile={flags_path}"])
        seed = run_folder.read_flags(flags_path).get("seed", "")
        seeds["search"] = int(seed) if seed.isdecimal() else None
    train_path = RunFolder(run_dir).training_facts if run_dir else ""
    if os.path.exists(train_path):
        trained = files.read_json(train_path)
        if not isinstance(trained, dict):
            raise InputError(f"{train_path}: expected a JSON object. Train again.")
        commands["train"], seeds["train"] = trained.get("command"), trained.get("seed")
    return {"commands": {name: commands[name] for name in ("search", "train", "export") if commands.get(name)},
            "seeds": {name: seed for name, seed in seeds.items() if seed is not None}}


def versions() -> dict[str, str]:
    """Of the packages that an export depends on, as far as they are installed."""
    from importlib import metadata

    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def text(facts: dict[str, Any]) -> str:
    """The contents of a <mode>.json."""
    return json.dumps(facts, indent=1) + "\n"
