"""Builds the latency table of a search space: times every unique op of it on a target.

    python -m latency.build_table --space=quickstart --output=runs/host.jsonl
    python -m latency.build_table --space=proxyless_imagenet --dtype=int8 --output=tables/host_int8.jsonl
    python -m latency.build_table --space=quickstart --measurer=android --benchmark_binary=PATH --output=phone.jsonl

Stopped and started again, it goes on where it was: rows that are in the file are not measured again.
"""

import json
import os
import shlex
from collections.abc import Sequence
from typing import Any

from absl import flags

from export import agreement, convert, interpreter
from latency import measure, space_flags
from latency.phones import android
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.cost import latency_table
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError
from pnas_tf.space import ops
from pnas_tf.space.blocks import OpKey, Space

# The least that a row may say: a tenth of a microsecond, below what a call can be timed to.
LEAST_MS = 1e-4

# The op that every network has once: its row keeps the overhead of a call, so that the sum of a network's rows has it
# once too.
CALLED_ONCE = "classifier"


def run(*, space: Space, output: str, measurer: str = "host", settings: dict[str, Any] | None = None,
        only: Sequence[str] = (), target_name: str | None = None) -> LatencyTable:
    """Measures the rows that a table lacks.

    Args:
        space: whose candidate ops to time.
        output: path of the table; made, or added to.
        measurer: of `measure.MEASURERS`.
        settings: for the measurer, of `measure.settings_of`.
        only: op texts to restrict the rows to.
        target_name: instead of the measurer's own name for the target.

    Returns:
        The table as it stands in the file.

    Raises:
        InputError: if the file holds something else, or measurements of another target.
    """
    from tqdm import tqdm

    keys = _keys(space, only)
    device = measure.MEASURERS[measurer](**(settings or {}))
    between = measure.context_build(space)
    if os.path.exists(output):
        _drop_half_line(output)
        measure.check_same(latency_table.read(output).header, device.facts(), output)
    else:
        facts = device.facts()
        files.write_text(output, json.dumps(latency_table.header(
            **{**facts, "target": target_name or facts["target"]})) + "\n")
    table = latency_table.read(output)
    if target_name and target_name != table.target:
        raise InputError(f"{output} holds the target {table.target[:80]!r}, not {target_name!r}. "
                         "Leave out --target_name, or build another table by --output.")
    missing = [key for key in keys if key not in table.rows]
    if not missing:
        return table
    # In the context of this space: the same call takes 0.5 us among small networks and 7 us among those of ImageNet.
    overhead = {"the overhead of a call": measure.op_build(measure.OVERHEAD_KEY)}
    ((_, overhead_times),) = device.measure(overhead, between)
    overhead_ms = overhead_times["median_ms"]
    with latency_table.open_to_add(output) as file:
        builds = {key: measure.op_build(key) for key in missing}
        for key, times in tqdm(device.measure(builds, between), total=len(keys), initial=len(keys) - len(missing),
                               desc=table.target, unit="op"):
            taken_off_ms = 0.0 if key.op == CALLED_ONCE else overhead_ms
            row = latency_table.row(key, **less_overhead(times, taken_off_ms), overhead_ms=taken_off_ms)
            file.write(json.dumps(row) + "\n")
            file.flush()
    return latency_table.read(output)


def less_overhead(times: dict[str, float], overhead_ms: float) -> dict[str, float]:
    """What an op adds to a network, which is called once and not once for each op.

    Args:
        times: median_ms, min_ms, mean_ms of an op called alone, ...
        overhead_ms: of a call.

    Returns:
        The same, with the overhead taken off, and at least `LEAST_MS` left.
    """
    return {name: max(value - overhead_ms, LEAST_MS) if name in latency_table.TIMES else value
            for name, value in times.items()}


def _keys(space: Space, only: Sequence[str]) -> list[OpKey]:
    for op in only:
        ops.parse(op)
    keys = list(dict.fromkeys(key for _, key in space.op_keys() if not only or key.op in only))
    if not keys:
        raise InputError(f"Space {space.name} has no op {', '.join(only)}. Its ops: "
                         f"{', '.join(sorted({key.op for _, key in space.op_keys()}))}.")
    return keys


def _drop_half_line(path: str) -> None:
    """Cuts off what follows the last newline: a row that was being written when the program was stopped."""
    try:
        with open(path, "r+b") as file:
            content = file.read(latency_table.MAX_BYTES + 1)
            # Only ever of a table of ours: another file that was named by mistake stays as it is.
            ours = content.startswith(b'{"format": "pnas_tf.latency/') and len(content) <= latency_table.MAX_BYTES
            if ours and b"\n" in content:
                file.truncate(content.rindex(b"\n") + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}). Choose another --output.") from None


def _define_flags() -> None:
    space_flags.define()
    flags.DEFINE_enum("measurer", "host", list(measure.MEASURERS),
                      "TFLite on this machine, TensorFlow with XLA, or TFLite on phones.")
    _define_settings()
    flags.DEFINE_list("only", [], "Ops to restrict the table to, with commas between: mb_k3_e3,mb_k5_e6.")
    flags.DEFINE_string("target_name", None, "Name of the target; default: host_xnnpack1_float32 and the like.")
    flags.DEFINE_string("output", None, "The table, a .jsonl file.")


def _define_settings() -> None:
    """One flag for each setting of a measurer; None is the measurer's own default."""
    integer, number, text = flags.DEFINE_integer, flags.DEFINE_float, flags.DEFINE_string
    flags.DEFINE_enum("runtime", None, ["auto", *interpreter.RUNTIMES],
                      "host: which TFLite; default: auto, the first of them that is installed.")
    integer("threads", None, "CPU threads; default 1.", 1, 256)
    flags.DEFINE_enum("delegate", None, list(android.DELEGATES),
                      "host, android: none is TFLite's built-in kernels; default: xnnpack. host: xnnpack or none.")
    flags.DEFINE_enum("dtype", None, list(convert.MODES), "Number format; default: float32. xla: float32.")
    integer("batch_size", None, "Images in a run; host: 1.", 1, 65536)
    integer("rounds", None, "Interleaved passes over a group of ops; default: 6, android: 1.", 1, 1000)
    integer("runs", None, "Timed runs of an op in a round; default: 10, android: 50.", 1, 10_000)
    text("benchmark_binary", None, "android: path of TFLite's benchmark_model for Android.")
    text("binary_sha256", None, "android: of a benchmark_model that is on the phone, instead.")
    flags.DEFINE_list("serial", None, "android: of the phones, with commas between; default: all that are attached.")
    text("adb", None, "android: path of adb; default: that of the PATH.")
    text("cpu_mask", None, "android: cores, hexadecimal as taskset takes it, or all; default: the fastest ones.")
    number("min_seconds", None, "android: least time of the runs of an op; default: 1.", 0, 3600)
    integer("warmup_runs", None, "android: least number of runs before; default: 1.", 1, 10_000)
    number("warmup_seconds", None, "android: least time of them; default: 0.5.", 0, 3600)
    number("run_delay_seconds", None, "android: pause between runs of an op; default: 0.", 0, 3600)
    number("pause_seconds", None, "android: pause between ops; default: 0.", 0, 3600)
    number("cooldown_seconds", None, "android: pause before something is tried again; default: 10.", 0, 3600)
    number("wait_seconds", None, "android: how long a lost or hot phone is waited for; default: 600.", 0, 1e6)
    number("timeout_seconds", None, "android: how long an op may take; default: 150.", 1, 1e5)
    number("max_celsius", None, "android: of the battery, above which nothing is measured; default: 40.", 0, 100)
    number("max_drift", None, "android: change of the anchor network's time, as a share, from which on the last batch "
                              "is measured again; default: 0.05.", 0, 1000)


def _settings(measurer: str) -> dict[str, Any]:
    """Flags that were given.

    Raises:
        InputError: for one that the measurer would not obey.
    """
    known = measure.settings_of(measurer)
    given = {name: flags.FLAGS[name].value for kind in measure.MEASURERS for name in measure.settings_of(kind)
             if name in flags.FLAGS and flags.FLAGS[name].value is not None}
    for name in given:
        if name not in known:
            raise InputError(f"--{name} means nothing to --measurer={measurer}, which knows --{', --'.join(known)}.")
    return given


def _main() -> None:
    f = flags.FLAGS
    if not f.output:
        raise InputError("Name the file of the table: --output=TABLE.jsonl.")
    space = space_flags.space_of(f)
    settings = _settings(f.measurer)
    start.load_tensorflow()
    table = run(space=space, output=f.output, measurer=f.measurer, only=f.only, target_name=f.target_name,
                settings=settings)
    print(f"\nTarget: {table.target} ({table.header['device']}, {table.header['runtime']})\n"
          f"Rows:   {len(table.rows)}\nTable:  {f.output}\n"
          f"Next:   {_next(f)}")


def _next(f: flags.FlagValues) -> str:
    """The search that can read the table: of the same space, on the data set that the space was fitted to."""
    same = [f"--{name}={f[name].value}" for name in ("space", "width_mult", "image_size")
            if name == "space" or f[name].present]
    if any(f[name].present for name in ("image_size", "image_channels", "num_classes")):
        same.append("--dataset=DATA")
    return shlex.join(["python", "-m", "pnas_tf.search", *same, f"--table={f.output}", "--run_dir=DIR"])


def main() -> None:
    """Console script."""
    _define_flags()
    start.start(_main, agreement.check_ops_ship)


if __name__ == "__main__":
    main()
