"""Times of whole networks that a table was compared with, in the JSON Lines file beside the table.

Line 1 is a header like that of a table. Each further line is one network: {"network": ..., "pass": 1, "ops": {...},
"median_ms": 1.92, ...}, with paced_ms if the device's pace is known. A network is named by its `digest`.
`latency.timed_networks` writes the file.
"""

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pnas_tf import files
from pnas_tf.cost import latency_table
from pnas_tf.errors import InputError
from pnas_tf.space import widths
from pnas_tf.space.arch import Arch, from_chosen
from pnas_tf.space.blocks import Space

FORMAT = "pnas_tf.network_times/1"
MAX_BYTES = 200_000_000


class Line(NamedTuple):
    """One time of one network.

    Attributes:
        network: Digest of the network.
        number: Number of the pass over all networks in which it was timed.
        ms: Milliseconds, at the device's reference pace if the pace is known.
        row: The whole line.
    """

    network: str
    number: int
    ms: float
    row: dict[str, Any]


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
    header, rows = read(path)
    first: dict[str, tuple[Arch, float]] = {}
    again: list[str] = []
    for line in rows:
        if line.network in first:
            again.append(line.network)
        elif arch := network_of(space, line):
            first[line.network] = arch, line.ms
    judged = {name: first[name] for name in again}
    settings: dict[str, int] = {name: header[name] for name in ("rounds", "runs") if name in header}
    return ComparedNetworks(settings, list((judged | first).values()), len(judged))


def network_of(space: Space, line: Line) -> Arch | None:
    """The network of a line, if it is one of a space; None if its digest differs.

    Args:
        space: Space that the network may be of.
        line: Line of a file of times.
    """
    ops, filters = line.row.get("ops"), line.row.get("filters")
    if not isinstance(ops, dict):
        return None
    if isinstance(filters, dict):
        ops = ops | {choice: str(filters.get(choice.removesuffix(widths.FILTERS)))
                     for choice in space.choices if choice.endswith(widths.FILTERS)}
    if set(ops) != set(space.choices) or any(ops[name] not in choice.ops for name, choice in space.choices.items()):
        return None
    arch = from_chosen(space, ops)
    return arch if digest(arch) == line.network else None


def read(path: str) -> tuple[dict[str, Any], list[Line]]:
    """The header of a file of times, and each complete line.

    Args:
        path: Path of the file.

    Raises:
        InputError: If the file does not hold times of networks.
    """
    way_out = "Choose another file with --times."
    lines = files.read_lines(path, MAX_BYTES, way_out)
    try:
        header, *rows = lines
        if header["format"] != FORMAT:
            raise ValueError("another format")
        return header, [Line(str(row["network"]), int(row["pass"]), _milliseconds(latency_table.paced_ms(row)), row)
                        for row in rows]
    except (ValueError, TypeError, KeyError, OverflowError):
        raise InputError(f"{path}: does not hold times of networks as latency.compare writes them. {way_out}") from None


def facts(path: str, name: str) -> dict[str, float]:
    """A further fact of each network in a file of times, such as sram_bytes, by the network's digest.

    Args:
        path: Path of the file.
        name: Name of the fact; networks without it are left out.

    Raises:
        InputError: If the file does not hold times of networks.
    """
    values = {line.network: files.number(line.row.get(name)) for line in read(path)[1]}
    return {network: value for network, value in values.items() if value is not None}


def _milliseconds(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e7:
        raise ValueError("not a time")
    return float(value)
