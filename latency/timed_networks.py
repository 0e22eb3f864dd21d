"""Times of whole networks, kept beside a table as JSON Lines, so that a stopped comparison goes on where it was.

Line 1 is a header like a table's, each further line one network: {"network": ..., "pass": 1, "ops": {...}, "median_ms":
1.92, ...}. A network goes by a digest of its rows' keys, which are all that its time depends on.
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

# Which network, and which time it was measured: (digest, pass).
Timed = tuple[str, int]


def beside(table_path: str) -> str:
    """Where the times of networks are kept that a table was compared with, unless another file was named."""
    return f"{table_path.removesuffix('.jsonl')}.networks.jsonl"


def digest(arch: Arch) -> str:
    """16 hexadecimal digits that stand for a network, whatever its space and blocks are called."""
    return hashlib.sha256("; ".join(str(key) for _, key in arch.op_keys()).encode()).hexdigest()[:16]


def measured(path: str | None, device: measure.Measurer, wanted: Sequence[tuple[Arch, int]]) -> dict[Timed, float]:
    """Times what the file lacks, and adds it there.

    Args:
        path: of the file; None to keep nothing.
        device: what to time on.
        wanted: networks and passes, in the order of measuring. The same network in a later pass is timed anew.

    Returns:
        median_ms of everything wanted.

    Raises:
        InputError: if the file is another one, or of another target.
    """
    from tqdm import tqdm

    facts = device.facts()
    times = _read(path, facts) if path else {}
    missing = {(digest(arch), number): arch for arch, number in wanted if (digest(arch), number) not in times}
    for number in sorted({number for _, number in missing}):
        builds = {name: measure.network_build(arch) for (name, its_pass), arch in missing.items() if its_pass == number}
        for name, row in tqdm(device.measure(builds), total=len(builds), unit="network", desc=f"pass {number}"):
            times[name, number] = row["median_ms"]
            if path:
                _add(path, {"network": name, "pass": number, "ops": missing[name, number].ops, **row})
    return {name: times[name] for name in ((digest(arch), number) for arch, number in wanted)}


def in_one_pass(path: str, device: measure.Measurer, archs: Sequence[Arch]) -> list[float]:
    """Times of networks that were visited in turns: those of an earlier pass that has all of them, or of a new one.

    Args:
        path: of the file that keeps them.
        device: what to time on.
        archs: that differ.

    Returns:
        median_ms of each.
    """
    names = {digest(arch) for arch in archs}
    passes: dict[int, set[str]] = {}
    for name, number in _read(path, device.facts()):
        passes.setdefault(number, set()).add(name)
    number = next((one for one, timed in passes.items() if names <= timed), max(passes, default=0) + 1)
    ms = measured(path, device, [(arch, number) for arch in archs])
    return [ms[digest(arch), number] for arch in archs]


@dataclasses.dataclass(frozen=True)
class Known:
    """What a comparison has left beside its table.

    Attributes:
        settings: of its measurer, as far as they decide a time: rounds and runs.
        ms: networks of a space and what each took the first time, those first that the table was judged by.
        judged: how many those are.
    """

    settings: Mapping[str, int]
    ms: Sequence[tuple[Arch, float]]
    judged: int


def known(table_path: str, space: Space) -> Known:
    """What is beside a table; nothing if it was not compared with networks of the space.

    Raises:
        InputError: if there is a file, but not one of such times.
    """
    path = beside(table_path)
    if not os.path.exists(path):
        return Known({}, (), 0)
    head, rows, _ = _content(path)
    first: dict[str, tuple[Arch, float]] = {}
    again: list[str] = []
    for name, _, ms, ops in rows:
        if name in first:
            again.append(name)
        elif arch := _network(space, ops, name):
            first[name] = arch, ms
    judged = {name: first[name] for name in again}
    settings = {name: head[name] for name in ("rounds", "runs") if name in head}
    return Known(settings, list((judged | first).values()), len(judged))


def _network(space, ops, name):
    """The arch of a space with these ops if it is the network of that digest, else None: it is of another space."""
    if not isinstance(ops, dict) or set(ops) != set(space.choices):
        return None
    if any(ops[choice] not in block.ops for choice, block in space.choices.items()):
        return None
    arch = Arch(space, ops)
    return arch if digest(arch) == name else None


def _read(path: str, facts: dict[str, Any]) -> dict[Timed, float]:
    """What the file holds; makes it if there is none, and drops a half last line."""
    if not os.path.exists(path):
        files.write_text(path, json.dumps({"format": FORMAT, **facts}) + "\n")
    head, rows, whole = _content(path)
    measure.check_same(head, facts, path)
    if whole:
        files.write_bytes(path, whole)
    return {(name, number): ms for name, number, ms, _ in rows}


def _content(path):
    """Header; digest, pass, ms and ops of each line; what the file should hold, if that ends in half a line."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Choose another file by --times.") from None
    whole, _, rest = content.rpartition(b"\n")
    try:
        head, *rows = [json.loads(line) for line in whole.split(b"\n")]
        if head["format"] != FORMAT:
            raise ValueError("another format")
        rows = [(str(row["network"]), int(row["pass"]), _milliseconds(row["median_ms"]), row.get("ops"))
                for row in rows]
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        raise InputError(f"{path}: does not hold times of networks as latency.compare writes them. "
                         "Choose another file by --times.") from None
    return head, rows, whole + b"\n" if rest else b""


def _milliseconds(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e7:
        raise ValueError("not a time")
    return float(value)


def _add(path, row):
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
