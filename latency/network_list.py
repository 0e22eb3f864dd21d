"""Reads a user's list of whole networks with their times, as JSON Lines. The file is untrusted.

    {"ops": [1, 0, 4], "ms": 28.0, "time": 12.0}
    {"ops": {"b01": "mb_k3_e3", "b02": "zero", "b03": "mb_k5_e6"}, "ms": 31.5, "time": 12.5}

`ops` has the op of each choice of the space: by name of the choice, or in order, as texts or as numbers of the ops that
the choice has. `time` is the time of the measurement in any unit; without it, the lines are in the order of
measurement.
"""

import json
from typing import Any

from latency.fitted_table import TimedArch
from pnas_tf import files
from pnas_tf.errors import InputError, shown
from pnas_tf.space.arch import Arch, from_chosen
from pnas_tf.space.blocks import Space

MAX_BYTES = 20_000_000
# No network is quicker: a call alone takes more than a tenth of a microsecond.
LEAST_MS = 1e-4


def read(path: str, space: Space) -> list[TimedArch]:
    """The networks of a list, in its order.

    Args:
        path: Path of the file.
        space: Space of the networks.

    Raises:
        InputError: If a line is not a network of the space with its time.
    """
    text = files.read_text(path, MAX_BYTES, "Name a list of networks and their times.")
    files.check_values(text, path)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    entries = [(number, _entry(line, f"{path}, line {number}")) for number, line in lines]
    with_time = sum("time" in entry for _, entry in entries)
    if with_time not in (0, len(entries)):
        raise InputError(f"{path}: {with_time} of {len(entries)} lines have a time. Give it to all, or to none.")
    return [_timed(entry, space, f"{path}, line {number}", number) for number, entry in entries]


def _entry(line: str, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{where}: not valid JSON. Expected an object with ops, ms and perhaps time.") from None
    if not isinstance(entry, dict) or not {"ops", "ms"} <= set(entry) <= {"ops", "ms", "time"}:
        raise InputError(f"{where}: expected an object with ops, ms and perhaps time, got {shown(entry)}.")
    return entry


def _timed(entry: dict[str, Any], space: Space, where: str, number: int) -> TimedArch:
    ms, time = entry["ms"], entry.get("time", number)
    if not _is_number(ms) or not LEAST_MS <= ms < 1e7:
        raise InputError(f"{where}: ms must be milliseconds, at least {LEAST_MS:g}, got {shown(ms)}.")
    if not _is_number(time) or not abs(time) <= 1e15:
        raise InputError(f"{where}: time must be a number, got {shown(time)}.")
    return TimedArch(_arch(entry["ops"], space, where), float(ms), float(time))


def _arch(ops: Any, space: Space, where: str) -> Arch:
    if isinstance(ops, list):
        if len(ops) != len(space.choices):
            raise InputError(f"{where}: {space.name} has {len(space.choices)} choices, and ops has {len(ops)}.")
        ops = dict(zip(space.choices, ops, strict=True))
    if not isinstance(ops, dict) or set(ops) != set(space.choices):
        raise InputError(f"{where}: ops must be a list, or an object with the choices of {space.name} "
                         f"({', '.join(list(space.choices)[:3])}, ...), got {shown(ops)}.")
    return from_chosen(space, {name: _op(ops[name], choice.ops, f"{where}: {name}")
                               for name, choice in space.choices.items()})


def _op(op: Any, candidates: tuple[str, ...], where: str) -> str:
    if isinstance(op, int) and not isinstance(op, bool) and 0 <= op < len(candidates):
        return candidates[op]
    if isinstance(op, str) and op in candidates:
        return op
    raise InputError(f"{where} must be one of {', '.join(candidates)}, or a number from 0 to {len(candidates) - 1}, "
                     f"got {shown(op)}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
