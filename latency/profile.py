"""Shows where the milliseconds of a .tflite go, operator by operator.

    python -m latency.profile --model=runs/quickstart/int8.tflite
    python -m latency.profile --model=runs/quickstart/int8.tflite --measurer=android --benchmark_binary=benchmark_model

On this machine, each operator is cut out and timed alone, after a run of the whole network. On a phone, the profiler of
benchmark_model times the operators. The command writes MODEL.profile.json and MODEL.profile.svg beside the model, where
the report of a run finds them.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from absl import flags

from export import convert, graph, interpreter, timing
from latency import host, measure, measurer_flags, split_model
from latency.host import HostSettings
from latency.phones import android
from latency.phones.settings import PhoneSettings
from pnas_tf import files, terminal, workspaces
from pnas_tf.cli import start
from pnas_tf.errors import InputError
from pnas_tf.report import op_profile
from pnas_tf.run_folder import RunFolder

WHOLE, CALL = "whole", "call"
HOST_METHOD = "each operator alone, right after a run of the whole network, less what a call takes"
PHONE_METHOD = "by benchmark_model's profiler, which slows the run down; the whole network without it"


def run(*, model: str, measurer: str = "host", settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Profiles a model.

    Args:
        model: Path of a `.tflite`.
        measurer: Key of `MEASURERS`.
        settings: Fields of the measurer's settings (`HostSettings`, `PhoneSettings`) that differ from their defaults.

    Returns:
        The contents of the .profile.json: network_ms, operators (operator, name, block, op, ms; in order of execution),
        method, target, device, runtime and more.

    Raises:
        InputError: If the model cannot be read, or cannot be run with these settings.
    """
    interpreter.make_interpreter(model)  # raises an error for a file that is not a model, before anything else is done
    content = files.read_bytes(model, files.MAX_MODEL_BYTES)
    profile = MEASURERS[measurer](content, KINDS[measurer][0](**(settings or {})))
    for entry in profile["operators"]:
        entry["block"], entry["op"] = op_profile.place(entry["name"])
    return {"format": op_profile.FORMAT, "model": os.path.basename(model), "size_bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(), **profile, "date": datetime.date.today().isoformat()}


def of_host(content: bytes, settings: HostSettings) -> dict[str, Any]:
    """Profiles a model on this machine, where no runtime has a profiler that Python can call.

    Each operator is cut out and timed as a model of its own:

        operator_ms = max(0, alone_ms - call_ms)

    Args:
        content: Bytes of a `.tflite` that can be run.
        settings: Settings of the measurements; dtype is taken from the model.

    Returns:
        The part of the profile that depends on the device.
    """
    pieces = split_model.cut(content)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(workspaces.temporary_folder())
        models = {WHOLE: content, CALL: _smallest(), **{str(i): piece.content for i, piece in enumerate(pieces)}}
        paths = {key: workspaces.write_temporary(folder, f"{key}.tflite", model) for key, model in models.items()}
        visit = stack.enter_context(host.visits(settings, paths[WHOLE]))
        bar = stack.enter_context(terminal.bar(len(paths) * settings.rounds, "timing"))

        def noted_visit(key):
            times = visit(paths[key])
            bar.update()
            return times

        times = {key: timing.summarise(samples)["median_ms"]
                 for key, samples in timing.spread_out(list(paths), settings.rounds, noted_visit)}
    operators = [{"operator": piece.operator, "name": piece.name, "output": list(piece.output_shape),
                  "ms": max(0.0, times[str(i)] - times[CALL]), "alone_ms": times[str(i)]}
                 for i, piece in enumerate(pieces)]
    runtime = interpreter.installed_runtime(settings.runtime)
    target = interpreter.target_name(threads=settings.threads, delegate=settings.delegate, dtype=_dtype(content),
                                     runtime=runtime)
    return {"target": target, "network_ms": times[WHOLE], "call_ms": times[CALL], "operators": operators,
            "method": HOST_METHOD, "runtime": interpreter.runtime_name(runtime), "threads": settings.threads,
            "delegate": settings.delegate, "rounds": settings.rounds, "runs": settings.runs,
            "statistic": timing.STATISTIC, **timing.machine_facts()}


def of_phone(content: bytes, settings: PhoneSettings) -> dict[str, Any]:
    """Profiles a model on the first attached phone, with benchmark_model's profiler of operators.

    Args:
        content: Bytes of a `.tflite` that can be run.
        settings: Settings of the measurements; dtype is taken from the model.

    Returns:
        The part of the profile that depends on the device.
    """
    device = android.Android(dataclasses.replace(settings, dtype=_dtype(content)))
    facts = device.facts()
    whole, operators = device.profile(content)
    return {**facts, "network_ms": whole.mean_ms if whole.median_ms is None else whole.median_ms,
            "operators": [{"operator": operator.node_type, "name": operator.name, "ms": operator.mean_ms,
                           "times_called": operator.times_called} for operator in operators], "method": PHONE_METHOD}


MEASURERS: dict[str, Callable[[bytes, Any], dict[str, Any]]] = {"host": of_host, "android": of_phone}
# Settings of each measurer, and the names of those that are flags.
KINDS: dict[str, tuple[type, tuple[str, ...]]] = {
    "host": (HostSettings, ("runtime", "threads", "delegate", "rounds", "runs")),
    "android": (PhoneSettings, ("threads", "delegate", "runs", "benchmark_binary", "binary_sha256", "serial", "adb",
                                "cpu_mask"))}


def _smallest() -> bytes:
    """A model that computes almost nothing: its time is the overhead of a call."""
    return convert.to_time(measure.op_build(measure.OVERHEAD_KEY)(), "float32")


def _dtype(content: bytes) -> str:
    """Number format of a model, one of `convert.MODES`, derived from its tensors."""
    contents = graph.describe(content)
    written = {contents.tensors[position].dtype for operator in contents.operators
               if operator.name in graph.WITH_WEIGHTS for position in operator.outputs}
    constants = {tensor.dtype for tensor in contents.tensors if tensor.constant}
    if "FLOAT16" in constants:
        return "float16"
    if "INT8" in constants or "UINT8" in constants:
        return "dynamic" if "FLOAT32" in written else "int8"
    return "float32"


def _define_flags() -> None:
    flags.DEFINE_string("model", None, "The .tflite to profile.")
    flags.DEFINE_enum("measurer", "host", list(MEASURERS), "Measurer: host is this machine, android is a phone.")
    measurer_flags.define(KINDS)


def _main() -> None:
    f = flags.FLAGS
    if not f.model:
        raise InputError("Name the model: --model=FILE.tflite.")
    settings = measurer_flags.given(f.measurer, KINDS)
    start.load_tensorflow()
    profile = run(model=f.model, measurer=f.measurer, settings=settings)
    stem = f.model.removesuffix(".tflite") + ".profile"
    files.write_text(f"{stem}.json", json.dumps(profile, indent=1) + "\n")
    files.write_text(f"{stem}.svg", op_profile.chart(profile))
    folder = os.path.dirname(f.model) or "."
    print(f"{op_profile.table(profile)}\n\nProfile: {stem}.json\nChart:   {stem}.svg")
    if os.path.exists(RunFolder(folder).arch):
        print(f"Next:    {start.next_command('pnas_tf.report', f'--run_dir={folder}')}")


def main() -> None:
    """Console script."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
