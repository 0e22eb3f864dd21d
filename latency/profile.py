"""Shows where the milliseconds of a .tflite go, operator by operator.

    python -m latency.profile --model=runs/quickstart/int8.tflite
    python -m latency.profile --model=runs/quickstart/int8.tflite --measurer=android --benchmark_binary=benchmark_model

On this machine each operator is cut out and timed alone, after a run of the whole network; on a phone benchmark_model's
own profiler times them. Writes MODEL.profile.json and MODEL.profile.svg beside the model, from where the report of a
run takes them.
"""

import contextlib
import datetime
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from typing import Any

from absl import flags

from export import convert, graph, interpreter, timed_runs, timing
from latency import measure, split_model
from latency.phones import android
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.errors import InputError
from pnas_tf.report import op_profile

WHOLE, CALL = "whole", "call"
HOST_METHOD = "each operator alone, right after a run of the whole network, less what a call takes"
PHONE_METHOD = "by benchmark_model's profiler, which slows the run down; the whole network without it"


def run(*, model: str, measurer: str = "host", settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Profiles a model.

    Args:
        model: path of a `.tflite`.
        measurer: of `MEASURERS`.
        settings: keyword arguments of `of_host` or, for android, of `android.Android`.

    Returns:
        What the .profile.json holds: network_ms, operators (operator, name, block, op, ms; in order of execution), the
        method, and target, device, runtime and so on.

    Raises:
        InputError: if the model cannot be read or run so.
    """
    interpreter.make_interpreter(model)  # whatever else comes, only of a model that can be run
    with open(model, "rb") as file:
        content = file.read()
    found = MEASURERS[measurer](content, **(settings or {}))
    for entry in found["operators"]:
        entry["block"], entry["op"] = op_profile.place(entry["name"])
    return {"format": op_profile.FORMAT, "model": os.path.basename(model), "size_bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(), **found, "date": datetime.date.today().isoformat()}


def of_host(content: bytes, *, runtime: str = "auto", threads: int = 1, delegate: str = "xnnpack", rounds: int = 6,
            runs: int = 10) -> dict[str, Any]:
    """Profiles on this machine, where no runtime has a profiler to call from Python.

    Args:
        content: of a `.tflite` that can be run.
        runtime: of `interpreter.RUNTIMES`, or `auto`.
        threads: CPU threads.
        delegate: `xnnpack` or `none`.
        rounds: visits of each operator, spread over time.
        runs: timed runs in a visit.
    """
    from tqdm import tqdm

    if delegate not in interpreter.DELEGATES:
        raise InputError(f"On this machine the delegate is {' or '.join(interpreter.DELEGATES)}, got {delegate!r}.")
    cut = split_model.cut(content)
    name = interpreter.installed_runtime(runtime)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pnas_tf-"))
        models = {WHOLE: content, CALL: _smallest(), **{str(i): piece.content for i, piece in enumerate(cut)}}
        paths = {key: os.path.join(folder, f"{key}.tflite") for key in models}
        for key, path in paths.items():
            with open(path, "wb") as file:
                file.write(models[key])
        settings: dict[str, Any] = {"runtime": name, "threads": threads, "delegate": delegate, "runs": runs,
                                    "between": paths[WHOLE]}
        visit = stack.enter_context(timed_runs.apart(**settings)) if name == "tflite_runtime" else timed_runs.here(**settings)
        visited = timing.spread_out(list(paths), rounds, lambda key: visit(paths[key]))
        times = {key: timing.summarise(samples)["median_ms"]
                 for key, samples in tqdm(visited, total=len(paths), unit="operator", desc="timing")}
    operators = [{"operator": piece.operator, "name": piece.name, "output": list(piece.output_shape),
                  "ms": max(0.0, times[str(i)] - times[CALL]), "alone_ms": times[str(i)]}
                 for i, piece in enumerate(cut)]
    target = interpreter.target_name(threads=threads, delegate=delegate, dtype=_dtype(content), runtime=name)
    return {"target": target, "network_ms": times[WHOLE], "call_ms": times[CALL], "operators": operators,
            "method": HOST_METHOD, "runtime": interpreter.runtime_name(name), "threads": threads, "delegate": delegate,
            "rounds": rounds, "runs": runs, "statistic": timing.STATISTIC, **timing.machine_facts()}


def of_phone(content: bytes, **settings: Any) -> dict[str, Any]:
    """Profiles on the first phone that is attached, by benchmark_model's profiler of operators."""
    device = android.Android(**settings, dtype=_dtype(content))
    facts = device.facts()
    whole, operators = device.profile(content)
    return {**facts, "network_ms": whole.mean_ms if whole.median_ms is None else whole.median_ms,
            "operators": [{"operator": one.node_type, "name": one.name, "ms": one.mean_ms,
                           "times_called": one.times_called} for one in operators], "method": PHONE_METHOD}


MEASURERS = {"host": of_host, "android": of_phone}
# Flags that each obeys.
SETTINGS = {"host": ("runtime", "threads", "delegate", "rounds", "runs"),
            "android": ("threads", "delegate", "runs", "benchmark_binary", "binary_sha256", "serial", "adb",
                        "cpu_mask")}


def _smallest() -> bytes:
    """A model that does next to nothing: what it takes is the price of a call."""
    return convert.to_time(measure.op_build(measure.OVERHEAD_KEY)(), "float32")


def _dtype(content: bytes) -> str:
    """Which of `convert.MODES` a model is in, by its tensors."""
    found = graph.describe(content)
    written = {found.tensors[position].dtype for operator in found.operators
               if operator.name in graph.WITH_WEIGHTS for position in operator.outputs}
    constants = {tensor.dtype for tensor in found.tensors if tensor.constant}
    if "FLOAT16" in constants:
        return "float16"
    if "INT8" in constants or "UINT8" in constants:
        return "dynamic" if "FLOAT32" in written else "int8"
    return "float32"


def _define_flags() -> None:
    integer, text = flags.DEFINE_integer, flags.DEFINE_string
    text("model", None, "The .tflite.")
    flags.DEFINE_enum("measurer", "host", list(MEASURERS), "This machine, or a phone.")
    flags.DEFINE_enum("runtime", None, ["auto", *interpreter.RUNTIMES], "host: which TFLite; default: auto.")
    integer("threads", None, "CPU threads; default 1.", 1, 256)
    flags.DEFINE_enum("delegate", None, list(android.DELEGATES), "none is TFLite's built-in kernels, which a phone's "
                      "profiler names by layer; default: xnnpack. host: xnnpack or none.")
    integer("rounds", None, "host: passes over the operators; default: 6.", 1, 1000)
    integer("runs", None, "Timed runs of an operator in a round; default: 10, android: 50.", 1, 10_000)
    text("benchmark_binary", None, "android: path of TFLite's benchmark_model for Android.")
    text("binary_sha256", None, "android: of a benchmark_model that is on the phone, instead.")
    flags.DEFINE_list("serial", None, "android: of the phone; default: the one that is attached.")
    text("adb", None, "android: path of adb; default: that of the PATH.")
    text("cpu_mask", None, "android: cores, hexadecimal as taskset takes it, or all; default: the fastest ones.")


def _settings(measurer: str) -> dict[str, Any]:
    """Flags that were given.

    Raises:
        InputError: for one that the measurer would not obey.
    """
    names = dict.fromkeys(name for settings in SETTINGS.values() for name in settings)
    given = {name: flags.FLAGS[name].value for name in names if flags.FLAGS[name].value is not None}
    for name in given:
        if name not in SETTINGS[measurer]:
            raise InputError(f"--{name} means nothing to --measurer={measurer}, which knows "
                             f"--{', --'.join(SETTINGS[measurer])}.")
    return given


def _main() -> None:
    f = flags.FLAGS
    if not f.model:
        raise InputError("Name the model: --model=FILE.tflite.")
    settings = _settings(f.measurer)
    start.load_tensorflow()
    profile = run(model=f.model, measurer=f.measurer, settings=settings)
    stem = f.model.removesuffix(".tflite") + ".profile"
    files.write_text(f"{stem}.json", json.dumps(profile, indent=1) + "\n")
    files.write_text(f"{stem}.svg", op_profile.chart(profile))
    folder = os.path.dirname(f.model) or "."
    print(f"{op_profile.table(profile)}\n\nProfile: {stem}.json\nChart:   {stem}.svg")
    if os.path.exists(os.path.join(folder, "arch.json")):
        print(f"Next:    python -m pnas_tf.report --run_dir={folder}")


def main() -> None:
    """Console script."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
