"""Times of whole networks, kept beside a table as JSON Lines, so that a stopped comparison can be continued.

Line 1 is a header like that of a table. Each further line is one network: {"network": ..., "pass": 1, "ops": {...},
"median_ms": 1.92, ...}. A network is named by its `digest`.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from latency import measure
from pnas_tf import files
from pnas_tf.errors import InputError
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Space

FORMAT = "pnas_tf.network_times/1"
MAX_BYTES = 200_000_000

# Digest of a network, and number of the pass over all networks in which it was timed.
Timed = tuple[str, int]


def beside(table_path: str) -> str:
    """Path of the file that keeps the times of the networks that a table was compared with."""
    return f"{table_path.removesuffix('.jsonl')}.networks.jsonl"


def digest(arch: Arch) -> str:
    """16 hexadecimal digits that name the time of a network: equal for networks with the same ops in the same order.

    `Arch.fingerprint` names the network instead. The two differ in spaces of cells, where the same ops can be wired in
    several ways: such networks have one digest, because a table has one sum for them, but several fingerprints. Files
    of times name networks by the digest, so its bytes must not change.
    """
    return hashlib.sha256("; ".join(str(key) for _, key in arch.op_keys()).encode()).hexdigest()[:16]


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
    from tqdm import tqdm

    facts = device.facts()
    times = _read(path, facts) if path else {}
    missing = {(digest(arch), number): arch for arch, number in runs if (digest(arch), number) not in times}
    for number in sorted({number for _, number in missing}):
        builds = {name: measure.network_build(arch) for (name, its_pass), arch in missing.items() if its_pass == number}
        for name, row in tqdm(device.measure(builds), total=len(builds), unit="network", desc=f"pass {number}"):
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


@dataclasses.dataclass(frozen=True)
class ComparedNetworks:
    """The networks that a table was compared with, from the file beside it.

    Attributes:
        settings: Settings of the measurer that influence a time: rounds and runs.
        ms: Networks of a space, each with its time in the first pass; those that the table was judged by come first.
        judged: Number of networks that the table was judged by.
    """

    settings: Mapping[str, int]
    ms: Sequence[tuple[Arch, float]]
    judged: int


def compared(table_path: str, space: Space) -> ComparedNetworks:
    """The networks of a space that a table was compared with; none if there was no comparison.

    Args:
        table_path: Path of the table.
        space: Space of the networks.

    Raises:
        InputError: If the file beside the table does not hold times of networks.
    """
    path = beside(table_path)
    if not os.path.exists(path):
        return ComparedNetworks({}, (), 0)
    header, rows = _content(path)
    first: dict[str, tuple[Arch, float]] = {}
    again: list[str] = []
    for name, _, ms, ops in rows:
        if name in first:
            again.append(name)
        elif arch := _network(space, ops, name):
            first[name] = arch, ms
    judged = {name: first[name] for name in again}
    settings = {name: header[name] for name in ("rounds", "runs") if name in header}
    return ComparedNetworks(settings, list((judged | first).values()), len(judged))


def _network(space, ops, name):
    """The network of a space with these ops; None if its digest differs, which means that it is of another space."""
    if not isinstance(ops, dict) or set(ops) != set(space.choices):
        return None
    if any(ops[choice] not in block.ops for choice, block in space.choices.items()):
        return None
    arch = Arch(space, ops)
    return arch if digest(arch) == name else None


def _read(path: str, facts: dict[str, Any]) -> dict[Timed, float]:
    """The times in a file. A missing file is made, with a header only."""
    if not os.path.exists(path):
        files.write_text(path, json.dumps({"format": FORMAT, **facts}) + "\n")
    header, rows = _content(path)
    measure.check_same(header, facts, path)
    return {(name, number): ms for name, number, ms, _ in rows}


def _content(path):
    """The header; and digest, pass, milliseconds and ops of each complete line."""
    way_out = "Choose another file with --times."
    lines = files.read_lines(path, MAX_BYTES, way_out)
    try:
        header, *rows = lines
        if header["format"] != FORMAT:
            raise ValueError("another format")
        return header, [(str(row["network"]), int(row["pass"]), _milliseconds(row["median_ms"]), row.get("ops"))
                        for row in rows]
    except (ValueError, TypeError, KeyError, OverflowError):
        raise InputError(f"{path}: does not hold times of networks as latency.compare writes them. {way_out}") from None


def _milliseconds(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e7:
        raise ValueError("not a time")
    return float(value)
