"""Times whole networks, and keeps their times beside a table, so that a stopped comparison can be continued.

`pnas_tf.cost.network_times` describes the file.
"""

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from latency import anchors, measure
from pnas_tf import files
from pnas_tf.cost import latency_table, network_times
from pnas_tf.cost.network_times import FORMAT, digest
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Space

# Hours after which the times of a comparison that was stopped are too old to go on with.
HOURS = 6.0
# Digest of a network, and number of the pass over all networks in which it was timed.
Timed = tuple[str, int]


def measured(path: str | None, device: measure.Measurer, runs: Sequence[tuple[Arch, int]],
             references_ms: Mapping[str, float] | None = None, space: Space | None = None) -> dict[Timed, float]:
    """Milliseconds of networks, at the device's reference pace if the pace is known; see `measured_rows`."""
    rows = measured_rows(path, device, runs, references_ms, space)
    return {name: latency_table.paced_ms(row) for name, row in rows.items()}


def measured_rows(path: str | None, device: measure.Measurer, runs: Sequence[tuple[Arch, int]],
                  references_ms: Mapping[str, float] | None = None, space: Space | None = None
                  ) -> dict[Timed, dict[str, Any]]:
    """Times the networks that a file lacks, and adds their times to the file.

    Args:
        path: Path of the file; None to keep nothing.
        device: Measurer to time on.
        runs: Networks of one space and passes, in the order of measurement. A network is timed once in each of its
            passes.
        references_ms: Milliseconds of anchors at the pace that times are brought to; see `anchors.references_of`.
        space: Space that the networks were drawn from, which has the table's anchor; None for that of the first
            network, which differs if filters are searched.

    Returns:
        Measurement of each of `runs`.

    Raises:
        InputError: If the file is of another kind, holds times of another target, or another process writes it.
    """
    facts = device.facts()
    # Alone, because lines of another program would be lost when the file is written anew with the pace.
    with files.only_writer(path) if path else contextlib.nullcontext():
        rows = _complete(path, device, facts, runs, references_ms or {}, space or runs[0][0].space)
    return {name: rows[name] for name in ((digest(arch), number) for arch, number in runs)}


def _complete(path, device, facts, runs, references_ms, space):
    """The measurements in a file, with those of `runs` that it lacked."""
    rows = _read(path, facts) if path else {}
    missing = {(digest(arch), number): arch for arch, number in runs if (digest(arch), number) not in rows}
    for number in sorted({number for _, number in missing}):
        builds = {name: measure.network_build(arch) for (name, its_pass), arch in missing.items() if its_pass == number}
        for name, row in measure.with_progress(device, builds, _anchor(facts, space),
                                               what=f"pass {number}, {len(builds)} networks"):
            arch = missing[name, number]
            rows[name, number] = {"network": name, "pass": number, "ops": arch.ops, **_filters(arch),
                                  "time_s": round(time.time(), 3),
                                  **anchors.named(row, space)}
            if path:
                files.append_line(path, rows[name, number])
    if anchors.are_new(rows.values()):  # of this run, or of one that was killed before it came here
        _divide_by_pace(path, rows, references_ms)
    return rows


def _filters(arch):
    """The filters of each block of a chain, which name a network of a space that searches filters."""
    space = arch.space
    return {"filters": {block.name: block.filters for block in space.all_blocks}} if space.is_chain else {}


def _anchor(facts, space):
    """The anchor of the networks' table, for a measurer that times an anchor beside its models."""
    return measure.context_build(space) if facts.get("anchor") else None


def _divide_by_pace(path, rows, references_ms):
    """Adds paced_ms to measurements that have anchors, and to their lines in the file."""
    paced = anchors.paced(rows, references_ms, path or "times of networks")
    for name, facts in paced.rows.items():
        rows[name] = {**rows[name], **facts}
    if path and paced.rows:
        header, _ = network_times.read(path)
        _write(path, {**header, "pace": paced.wandered}, rows.values())


def set_finished_aside(path: str, device: measure.Measurer, runs: Sequence[tuple[Arch, int]], space: Space) -> None:
    """Moves the times of a space's networks into another file, unless they are those of a comparison that goes on.

    One that was stopped goes on with the same visits, within `HOURS`. Otherwise networks are timed anew: a machine that
    has changed since would be judged by times of another day. Those of other spaces stay.

    Args:
        path: Path of a file of times, which may be missing. The other file is beside it, see `aside`.
        device: Measurer of the comparison.
        runs: Networks and passes of the comparison.
        space: Space of the networks.

    Raises:
        InputError: If the file is of another kind, holds times of another target, or another process writes it.
    """
    if not os.path.exists(path):
        return
    facts = device.facts()
    with files.only_writer(path):
        header, lines = network_times.read(path)
        measure.check_same(header, facts, path)
        own = [line for line in lines if network_times.network_of(space, line)]
        visits = any(header.get(name) != facts.get(name) for name in ("rounds", "runs"))
        newest = max((files.number(line.row.get("time_s")) or 0 for line in own), default=0)
        is_old = time.time() - newest > 3600 * HOURS
        wanted = {(digest(arch), number) for arch, number in runs}
        if not own or not (visits or is_old or wanted <= {(line.network, line.number) for line in own}):
            return
        earlier = [each.row for each in network_times.read(aside(path))[1]] if os.path.exists(aside(path)) else []
        _write(aside(path), header, [*earlier, *(line.row for line in own)])
        kept = [line.row for line in lines if line not in own]
        _write(path, {**{name: value for name, value in header.items() if name != "pace"}, **facts}, kept)


def aside(path: str) -> str:
    """Path of the file that keeps the times of earlier comparisons."""
    return f"{path.removesuffix('.jsonl')}.earlier.jsonl"


def _write(path, header, rows):
    files.write_text(path, "".join(json.dumps(line) + "\n" for line in [{**header, "format": FORMAT}, *rows]))


def in_one_pass(path: str, device: measure.Measurer, archs: Sequence[Arch],
                references_ms: Mapping[str, float] | None = None, space: Space | None = None) -> list[float]:
    """Times of networks that were visited in turns, from an earlier pass that has all of them or from a new pass.

    Args:
        path: Path of the file that keeps the times.
        device: Measurer to time on.
        archs: Networks with different digests.
        references_ms: As for `measured`.
        space: As for `measured`.

    Returns:
        Milliseconds of each network.
    """
    names = {digest(arch) for arch in archs}
    passes: dict[int, set[str]] = {}
    for name, number in _read(path, device.facts()):
        passes.setdefault(number, set()).add(name)
    complete = (number for number, timed in passes.items() if names <= timed)
    number = next(complete, max(passes, default=0) + 1)
    ms = measured(path, device, [(arch, number) for arch in archs], references_ms, space)
    return [ms[digest(arch), number] for arch in archs]


def _read(path: str, facts: dict[str, Any]) -> dict[Timed, dict[str, Any]]:
    """The measurements in a file. A missing file is made, with a header only."""
    if not os.path.exists(path):
        files.write_text(path, json.dumps({"format": FORMAT, **facts}) + "\n")
    header, lines = network_times.read(path)
    measure.check_same(header, facts, path)
    return {(line.network, line.number): line.row for line in lines}
