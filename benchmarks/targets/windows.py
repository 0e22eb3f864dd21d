"""Times networks in windows of seconds, and keeps the windows in which the machine runs at the pace of a table.

A shared machine changes its pace from second to second. So networks are timed in turns with anchors: networks whose
milliseconds were measured when the table was judged. In each window

    pace = median over anchors of (milliseconds now / milliseconds when the table was judged)

and a window counts if this ratio is near 1, for all anchors and for the shortest, middle and longest third of them: a
busy machine may slow long networks down more than short ones, or the other way round.
"""

import functools
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from export import timing
from pnas_tf import files
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import blocks
from pnas_tf.space.arch import Arch

# Number of networks of the table's comparison that serve as anchors.
ANCHORS = 15
# Visits of each network in a window. The machine is assumed to keep its pace within a window.
ROUNDS = 5
# Number of groups of anchors, by their milliseconds.
PARTS = 3

# A network and its milliseconds when the table was judged.
Anchor = tuple[Arch, float]
# Name of a network, by which its times are kept, and number of the pass: 1 or 2.
NamedPass = tuple[str, int]


def anchors(table: LatencyTable, search_space: blocks.Space) -> list[Anchor]:
    """Networks that the table was judged by, each with the milliseconds that it took then.

    Args:
        table: Table of this machine.
        search_space: Space of the networks.

    Raises:
        InputError: If the table was not compared with networks of the space.
    """
    from pnas_tf.cost import network_times

    timed = network_times.compared(table.path, search_space)
    if not timed.judged:
        raise InputError(f"{network_times.beside(table.path)} holds no networks of {search_space.name}, so the error "
                         f"of the table is unknown. Compare it first: python -m latency.compare "
                         f"--space={search_space.name} --table={table.path} --networks=30 --calibrate=100")
    return list(timed.ms[:timed.judged][:ANCHORS])


def time_all(run_dirs: Sequence[str], judged: Sequence[Anchor], table: LatencyTable, path: str, max_drift: float,
             minutes: float) -> tuple[dict[NamedPass, float], dict[str, int]]:
    """Times networks and anchors in turns, until enough windows are at the table's pace.

    Each network is converted as `export.tflite` does, with the weights that it inherits from its supernet.

    Args:
        run_dirs: Run folders of searches, whose networks are timed.
        judged: Anchors, as `anchors` returns them.
        table: Table of this machine, timed as TFLite.
        path: File of windows. The windows that it holds count, and new ones are added.
        max_drift: Largest `drift` at which a window counts.
        minutes: Longest time to wait for windows at the table's pace.

    Returns:
        The milliseconds by (run_dir or `anchor N`, pass), and how many windows were `timed`, `kept`, and `at_pace`
        among the kept ones. The milliseconds are the lower quartile over the visits of every other kept window: the
        first, third, ... for pass 1, the others for pass 2. If too few windows are at the table's pace when time is
        over, the windows nearest to it are kept.

    Raises:
        InputError: If the table is not of this machine's TFLite, or the file holds windows of other networks.
    """
    from latency import measure
    from pnas_tf.cost import network_times

    builds: dict[str, Callable[[], Any]] = {run_dir: functools.partial(_inherited, run_dir) for run_dir in run_dirs}
    builds |= {f"anchor {number}": measure.network_build(arch) for number, (arch, _) in enumerate(judged)}
    settings = network_times.compared(table.path, judged[0][0].space).settings
    device = _host(table, settings)
    windows = [line["ms"] for line in files.read_lines(path)]
    if any(window.keys() != builds.keys() for window in windows):
        raise InputError(f"{path} holds times of other networks. Remove it to time these.")
    drifts = [drift(_times(window), judged) for window in windows]
    needed = 2 * math.ceil(settings["rounds"] / ROUNDS)
    begin = time.monotonic()
    with device.visiting(builds) as (visit, _):
        for name in builds:
            visit(name)  # The first visit converts the network.
        while (at_pace := sum(far <= max_drift for far in drifts)) < needed:
            if len(windows) >= 2 and time.monotonic() - begin > 60 * minutes:
                break
            window = _window(list(builds), visit)
            windows.append(window)
            files.append_line(path, {"ms": window})
            ms = _times(window)
            drifts.append(drift(ms, judged))
            print(f"Window {len(windows)}: pace {pace(ms, judged):.3f} of the table's; {at_pace} of {needed} at it so "
                  "far.", flush=True)
    nearest = sorted(range(len(windows)), key=lambda number: (max(max_drift, drifts[number]), number))[:needed]
    kept = [windows[number] for number in sorted(nearest)]
    ms_by_pass = {(name, number): timing.of_visits([visit_ms for window in kept[number - 1::2]
                                                    for visit_ms in window[name]])
                  for name in builds for number in (1, 2)}
    return ms_by_pass, {"timed": len(windows), "kept": len(kept), "at_pace": min(at_pace, len(kept))}


def _host(table, settings):
    """The measurer of a table, with the settings by which its networks were timed."""
    from latency import host, measure

    device = measure.from_header({**table.header, **settings}, table.path)
    if not isinstance(device, host.Host):
        raise InputError(f"{table.path}: expected a table of this machine's TFLite, made by latency.build_table "
                         f"--measurer=host, got one of {table.target}.")
    return device


def _window(names, visit):
    """Visits every network `ROUNDS` times in random order: the median milliseconds of each visit, by name."""
    window: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in random.sample(names, len(names)):
            window[name].append(float(np.median(visit(name))))
    return window


def _times(window):
    """Milliseconds by name, from the visits of a window."""
    return {name: timing.of_visits(visits) for name, visits in window.items()}


def _inherited(run_dir):
    from pnas_tf import network

    folder = RunFolder(run_dir)
    model = network.build_network(arch_lib.load(folder.arch))
    model.load_weights(folder.inherited_weights)
    return model


def pace(ms: Mapping[str, float], judged: Sequence[Anchor]) -> float:
    """Median ratio of the anchors' milliseconds to those they took when the table was judged.

    Args:
        ms: Milliseconds by name; those of the anchors are `anchor 0`, `anchor 1`, ...
        judged: Anchors, as `anchors` returns them.
    """
    return float(np.median(_ratios(ms, judged)))


def _ratios(ms, judged):
    return np.array([ms[f"anchor {number}"] / judged_ms for number, (_, judged_ms) in enumerate(judged)])


def paces_of_parts(ms: Mapping[str, float], judged: Sequence[Anchor]) -> list[float]:
    """The pace by the shortest anchors alone, by the middle ones, and by the longest ones; arguments as of `pace`."""
    rising = _ratios(ms, judged)[np.argsort([judged_ms for _, judged_ms in judged])]
    return [float(np.median(part)) for part in np.array_split(rising, min(PARTS, len(judged)))]


def drift(ms: Mapping[str, float], judged: Sequence[Anchor]) -> float:
    """Largest distance from the table's pace: max |ratio - 1| over `pace` and `paces_of_parts`, whose arguments it has.
    """
    return max(abs(ratio - 1) for ratio in (pace(ms, judged), *paces_of_parts(ms, judged)))
