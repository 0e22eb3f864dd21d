"""Times exported files in turns with an anchor, and says whether the machine was calm enough for the times to count."""

from collections.abc import Callable, Mapping
from typing import Any

from export import convert, interpreter, repeats, timed_runs, timing
from export.anchor import Anchor
from pnas_tf import workspaces

# Timed runs of a visit.
RUNS = 10
_ANCHOR = "the anchor"


def measured(contents: Mapping[str, bytes], *, threads: int, delegate: str, patience_seconds: float,
             anchor: Anchor | None = None, waiting: Callable[[], None] = lambda: None) -> dict[str, dict[str, Any]]:
    """Times `.tflite` files on this machine, all of them in turns.

    Args:
        contents: Contents of each file by mode.
        threads: CPU threads.
        delegate: Kernels, one of `interpreter.DELEGATES`.
        patience_seconds: Seconds for which files are timed again while repeats disagree.
        anchor: Network to time beside the files; None for none.
        waiting: Function that is called once if repeats disagree.

    Returns:
        For each mode: measured_ms, the median that `timing.STATISTIC` describes; steady, whether repeats agree, and
        spread_ms, the least and largest time of a repeat; repeats, their number; anchor, its milliseconds now (ms) and
        in the comparison of the table (then_ms), or None; other statistics; and the machine and its settings.
    """
    with workspaces.temporary_folder() as folder:
        paths = {mode: workspaces.write_temporary(folder, f"{mode}.tflite", content)
                 for mode, content in contents.items()}
        if anchor:
            paths[_ANCHOR] = workspaces.write_temporary(folder, "anchor.tflite", _converted(anchor))
        visit = timed_runs.here(runtime="auto", threads=threads, delegate=delegate, runs=RUNS)
        times = repeats.in_turns(list(paths), lambda name: visit(paths[name]), patience_seconds=patience_seconds,
                                 waiting=waiting)
    figures = {name: timing.summarise(samples) for name, samples in times.samples.items()}
    shared = {"steady": times.steady, "repeats": times.repeats,
              "anchor": {"ms": figures[_ANCHOR]["median_ms"], "then_ms": anchor.then_ms} if anchor else None,
              "statistic": timing.STATISTIC, "runtime": interpreter.runtime_name(), "threads": threads,
              "delegate": delegate, **timing.machine_facts()}
    return {mode: {"measured_ms": figures[mode].pop("median_ms"), **figures[mode],
                   "spread_ms": list(times.spread_ms[mode]),
                   "target": interpreter.target_name(threads=threads, delegate=delegate,
                                                     dtype=mode.removesuffix("_qat")), **shared}
            for mode in contents}


def _converted(anchor: Anchor) -> bytes:
    from pnas_tf import network

    return convert.to_time(convert.randomise(network.build_network(anchor.arch)), anchor.dtype)
