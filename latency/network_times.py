"""Times of whole networks, kept beside a table as JSON Lines, so that a stopped comparison goes on where it was.

Line 1 is a header like a table's, each further line one network: {"network": ..., "pass": 1, "ops": {...}, "median_ms":
1.92, ...}. A network goes by a digest of its rows' keys, which are all that its time depends on.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

from latency import measure
from pnas_tf import arch as arch_lib
from pnas_tf.arch import Arch
from pnas_tf.errors import InputError

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


def _read(path: str, facts: dict[str, Any]) -> dict[Timed, float]:
    """What the file holds; makes it if there is none, and drops a half last line."""
    if not os.path.exists(path):
        arch_lib.write_text(path, json.dumps({"format": FORMAT, **facts}) + "\n")
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
        times = {(str(row["network"]), int(row["pass"])): _milliseconds(row["median_ms"]) for row in rows}
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        raise InputError(f"{path}: does not hold times of networks as latency.compare writes them. "
                         "Choose another file by --times.") from None
    measure.check_same(head, facts, path)
    if rest:
        arch_lib.write_bytes(path, whole + b"\n")
    return times


def _milliseconds(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e7:
        raise ValueError("not a time")
    return float(value)


def _add(path, row):
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
