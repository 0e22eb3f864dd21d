"""Times whole networks, and keeps their times beside a table, so that a stopped comparison can be continued.

`pnas_tf.cost.network_times` describes the file.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

from latency import measure
from pnas_tf import files
from pnas_tf.cost import network_times
from pnas_tf.cost.network_times import FORMAT, digest
from pnas_tf.space.arch import Arch

# Digest of a network, and number of the pass over all networks in which it was timed.
Timed = tuple[str, int]


def measured(path: str | None, device: measure.Measurer, runs: Sequence[tuple[Arch, int]]) -> dict[Timed, float]:
    """Times the networks that a file lacks, and adds their times to the file.

    Args:
        path: Path of the file; None to keep nothing.
        device: Measurer to time on.
        runs: Networks and passes, in the order of measurement. A network is timed once in each of its passes.

    Returns:
        median_ms of each of `runs`.

    Raises:
        InputError: If the file is of another kind, or holds times of another target.
    """
    facts = device.facts()
    times = _read(path, facts) if path else {}
    missing = {(digest(arch), number): arch for arch, number in runs if (digest(arch), number) not in times}
    for number in sorted({number for _, number in missing}):
        builds = {name: measure.network_build(arch) for (name, its_pass), arch in missing.items() if its_pass == number}
        for name, row in measure.with_progress(device, builds, what=f"pass {number}, {len(builds)} networks"):
            times[name, number] = row["median_ms"]
            if path:
                files.append_line(path, {"network": name, "pass": number, "ops": missing[name, number].ops, **row})
    return {name: times[name] for name in ((digest(arch), number) for arch, number in runs)}


def in_one_pass(path: str, device: measure.Measurer, archs: Sequence[Arch]) -> list[float]:
    """Times of networks that were visited in turns, from an earlier pass that has all of them or from a new pass.

    Args:
        path: Path of the file that keeps the times.
        device: Measurer to time on.
        archs: Networks with different digests.

    Returns:
        median_ms of each network.
    """
    names = {digest(arch) for arch in archs}
    passes: dict[int, set[str]] = {}
    for name, number in _read(path, device.facts()):
        passes.setdefault(number, set()).add(name)
    complete = (number for number, timed in passes.items() if names <= timed)
    number = next(complete, max(passes, default=0) + 1)
    ms = measured(path, device, [(arch, number) for arch in archs])
    return [ms[digest(arch), number] for arch in archs]


def _read(path: str, facts: dict[str, Any]) -> dict[Timed, float]:
    """The times in a file. A missing file is made, with a header only."""
    if not os.path.exists(path):
        files.write_text(path, json.dumps({"format": FORMAT, **facts}) + "\n")
    header, rows = network_times.read(path)
    measure.check_same(header, facts, path)
    return {(name, number): ms for name, number, ms, _ in rows}
