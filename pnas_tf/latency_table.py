"""A latency table: measured milliseconds of each op on one target, as JSON Lines.

Line 1 is the header (what was measured, where and how), each further line one measurement. A row
that is missing is an error, never 0.
"""

import dataclasses
import json
import math
import os
from importlib import resources
from typing import Any

from pnas_tf.errors import InputError
from pnas_tf.space import Block, OpKey, Space

FORMAT = "pnas_tf.latency/1"
MAX_BYTES = 200_000_000
TIMES = ("median_ms", "min_ms", "mean_ms")


@dataclasses.dataclass(frozen=True)
class LatencyTable:
    """Measurements of one target.

    Attributes:
        path: where it was read from.
        header: the first line: target, device, runtime, delegate, threads, dtype, date, ...
        rows: measurement by key; a row that names a choice is kept in `choice_rows` instead.
        choice_rows: measurement by (block name, key), which prices only that position.
    """

    path: str
    header: dict[str, Any]
    rows: dict[OpKey, dict[str, Any]]
    choice_rows: dict[tuple[str, OpKey], dict[str, Any]]

    @property
    def target(self) -> str:
        """Name of what was measured."""
        return self.header["target"]

    def row(self, block_name: str, key: OpKey) -> dict[str, Any] | None:
        """The measurement that prices an op at a block, or None.

        A row for that position comes first, then the one for its shape. A classifier of another number of
        classes is priced as the next larger one in the table: dearer, never cheaper.
        """
        found = self.choice_rows.get((block_name, key)) or self.rows.get(key)
        if found is None and key.op == "classifier":
            larger = [other for other in self.rows if other.op == key.op and other.input == key.input
                      and other.filters > key.filters]
            found = self.rows[min(larger, key=lambda other: other.filters)] if larger else None
        return found

    def ms(self, block_name: str, key: OpKey) -> float:
        """Milliseconds of an op at a block: see `row`.

        Raises:
            InputError: if the table has no row for it.
        """
        row = self.row(block_name, key)
        if row is None:
            raise InputError(f"Table {self.target} ({self.path}) has no row for {key}. "
                             f"Measure it: python -m latency.build_table --space=SPACE --only={key.op} "
                             f"--output={self._output()}")
        return row["median_ms"]

    def missing(self, space: Space) -> list[tuple[Block, OpKey]]:
        """The candidates of a space that the table cannot price."""
        return [(block, key) for block, key in space.op_keys() if self.row(block.name, key) is None]

    def check_covers(self, space: Space) -> None:
        """Raises InputError that names the first missing row and says how many more there are."""
        missing = self.missing(space)
        if missing:
            key = missing[0][1]
            more = len({key for _, key in missing}) - 1
            raise InputError(
                f"Table {self.target} ({self.path}) has no row for {key}" + (f" and {more} more" if more else "")
                + f". Measure them: python -m latency.build_table --space={space.name} --image_size={space.input_size} "
                f"--image_channels={space.input_channels} --num_classes={space.num_classes} --output={self._output()}")

    def _output(self) -> str:
        return self.path if self.path.endswith(".jsonl") else "TABLE.jsonl"  # not into a shipped one


def read(path: str) -> LatencyTable:
    """Reads a table from a file, or a shipped one by name.

    Raises:
        InputError: if it is missing, cut off, or holds a line that is not a measurement.
    """
    shipped = resources.files("pnas_tf").joinpath("tables", path + ".jsonl")
    if os.sep not in path and not os.path.exists(path) and shipped.is_file():
        return _parse(shipped.read_text(encoding="utf-8"), path)
    if not os.path.isfile(path):
        raise InputError(f"No latency table at {path}. Shipped: {', '.join(names()) or 'none'}. Make one for your "
                         f"device: python -m latency.build_table --space=SPACE --measurer=host --output={path}")
    if os.path.getsize(path) > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES} bytes; this is not a latency table.")
    try:
        with open(path, encoding="utf-8") as file:
            return _parse(file.read(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}).") from None


def names() -> list[str]:
    """The tables that ship with the package."""
    return sorted(entry.name[:-6] for entry in resources.files("pnas_tf").joinpath("tables").iterdir()
                  if entry.name.endswith(".jsonl"))


def row(key: OpKey, *, median_ms: float, min_ms: float, mean_ms: float, std_ms: float, runs: int,
        **more: Any) -> dict[str, Any]:
    """One measurement as it stands in a table."""
    return {"op": key.op, "input": list(key.input), "filters": key.filters, "strides": key.strides,
            "shortcut": key.shortcut, "median_ms": median_ms, "min_ms": min_ms, "mean_ms": mean_ms,
            "std_ms": std_ms, "runs": runs, **more}


def header(target: str, **facts: Any) -> dict[str, Any]:
    """The first line of a table."""
    return {"format": FORMAT, "target": target, **facts}


def _parse(text: str, path: str) -> LatencyTable:
    lines = text.split("\n")
    if lines[-1]:
        raise InputError(f"{path}, line {len(lines)}: cut off. Run the same latency.build_table command again: "
                         "it drops the half line and goes on.")
    rows, choice_rows = {}, {}
    head = _object(lines[0], path, 1)
    if head.get("format") != FORMAT or not isinstance(head.get("target"), str):
        raise InputError(f"{path}: not a latency table (line 1 should be a header with format {FORMAT!r} "
                         "and a target).")
    for number, line in enumerate(lines[1:-1], start=2):
        entry = _object(line, path, number)
        key = _key(entry, path, number)
        for name in TIMES:
            value = entry.get(name)
            if name == "median_ms" or value is not None:
                _check_time(value, f"{path}, line {number}: {name}")
        choice = entry.get("choice")
        if choice is None:
            rows[key] = entry
        elif isinstance(choice, str):
            choice_rows[choice, key] = entry
        else:
            raise InputError(f"{path}, line {number}: choice must be a block's name.")
    return LatencyTable(path, head, rows, choice_rows)


def _check_time(value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) \
            or not 0 <= value < 1e7:
        raise InputError(f"{where} is not a time in milliseconds: {str(value)[:40]}.")


def _object(line: str, path: str, number: int) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict):
        raise InputError(f"{path}, line {number}: not a JSON object. Remove the line, then build the table again.")
    return entry


def _key(entry: dict[str, Any], path: str, number: int) -> OpKey:
    def whole(value):
        return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10_000_000

    shape = entry.get("input")
    if not (isinstance(entry.get("op"), str) and isinstance(shape, list) and len(shape) == 3 and all(map(whole, shape))
            and whole(entry.get("filters")) and whole(entry.get("strides"))
            and isinstance(entry.get("shortcut"), bool)):
        raise InputError(f"{path}, line {number}: a row needs op, input [height, width, channels], filters, strides "
                         "and shortcut.")
    return OpKey(entry["op"], tuple(shape), entry["filters"], entry["strides"], entry["shortcut"])
