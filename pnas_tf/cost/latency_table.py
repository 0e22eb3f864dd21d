"""A latency table: measured milliseconds of each op on one target, as JSON Lines.

Line 1 is the header (what was measured, where and how), each further line one measurement. A row
that is missing is an error, never 0. `latency.compare --calibrate` leaves the measured times as they are and
adds `calibrated_ms` to rows: what the op adds to whole networks.
"""

import contextlib
import dataclasses
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, TextIO

from pnas_tf import files
from pnas_tf.errors import InputError, shown
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Block, OpKey, Space

FORMAT = "pnas_tf.latency/1"
# Of a file: 400,000 rows; and of a line, which in memory can become 25 times as large.
MAX_BYTES, MAX_LINE = 100_000_000, 100_000
TIMES = ("median_ms", "min_ms", "mean_ms")
# Missing rows that an error names.
NAMED = 4
# A target becomes the name of a folder and stands in commands and messages, and tables come from others.
_TARGET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")


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

    def accuracy(self, space: Space) -> dict[str, Any] | None:
        """How far predictions were off for whole networks of a space, as `latency.compare` found and wrote down.

        Returns:
            networks, within_5_percent, within_10_percent, rmse_of_mean, spearman, calibrated, date, ...; None if the
            table was not compared with networks of such a space.
        """
        entries = self.header.get("accuracy")
        entry = entries.get(accuracy_name(space)) if isinstance(entries, dict) else None
        if not isinstance(entry, dict):
            return None
        return {name: value for name, value in entry.items() if isinstance(value, bool | str | None)
                or (isinstance(value, int | float) and abs(value) < 1e15)}

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
        """Milliseconds that an op at a block adds to a network: calibrated ones if there are any. See `row`.

        Raises:
            InputError: if the table has no row for it.
        """
        row = self.row(block_name, key)
        if row is None:
            raise InputError(f"Table {self.target} ({self.path}) has no row for {key}. "
                             f"Measure it: python -m latency.build_table --space=SPACE --only={key.op} "
                             f"--output={self.file}")
        return row.get("calibrated_ms", row["median_ms"])

    def missing(self, what: Space | Arch) -> list[tuple[Block, OpKey]]:
        """The ops of a space, or of one network, that the table cannot price."""
        return [(block, key) for block, key in what.op_keys() if self.row(block.name, key) is None]

    def check_covers(self, what: Space | Arch) -> None:
        """Raises InputError that names missing rows of a space or of one network, and says how many more there are."""
        missing = list(dict.fromkeys(str(key) for _, key in self.missing(what)))
        if missing:
            space, more = (what.space if isinstance(what, Arch) else what), len(missing) - NAMED
            raise InputError(
                f"Table {self.target} ({self.path}) has no row for {'; '.join(missing[:NAMED])}"
                + (f"; and {more} more" if more > 0 else "")
                + f". Measure them: python -m latency.build_table {space_flags(space)} --output={self.file}")

    @property
    def file(self) -> str:
        """The table's file, as commands to paste name it."""
        return shlex.quote(self.path) if self.path.endswith(".jsonl") else "TABLE.jsonl"  # not into a shipped one


def space_flags(space: Space) -> str:
    """Flags by which the commands of `latency` know a space that was fitted to data."""
    return (f"--space={shlex.quote(space.name)} --image_size={space.input_size} "
            f"--image_channels={space.input_channels} --num_classes={space.num_classes}")


def read(path: str) -> LatencyTable:
    """Reads a table from a file, or a shipped one by name.

    Raises:
        InputError: if it is missing, cut off, or holds a line that is not a measurement.
    """
    if not os.path.exists(path) and path in names():
        shipped = resources.files("pnas_tf").joinpath("tables", path + ".jsonl")
        return parse(shipped.read_text(encoding="utf-8"), path)
    if not os.path.isfile(path):
        raise InputError(f"No latency table at {path}. Shipped: {', '.join(names()) or 'none'}. Make one for your "
                         f"device: python -m latency.build_table --space=SPACE --measurer=host --output={path}")
    if os.path.getsize(path) > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES} bytes; this is not a latency table.")
    try:
        with open(path, encoding="utf-8") as file:
            return parse(file.read(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}).") from None


def names() -> list[str]:
    """The tables that ship with the package."""
    return sorted(entry.name[:-6] for entry in resources.files("pnas_tf").joinpath("tables").iterdir()
                  if entry.name.endswith(".jsonl"))


def row(key: OpKey, *, median_ms: float, **more: Any) -> dict[str, Any]:
    """One measurement as it stands in a table.

    Args:
        key: of the op.
        median_ms: milliseconds that count.
        **more: what else is known: min_ms, mean_ms, std_ms, runs, choice (the only block that the row prices), ...
    """
    return {"op": key.op, "input": list(key.input), "filters": key.filters, "strides": key.strides,
            "shortcut": key.shortcut, **({"summed": key.summed} if key.summed > 1 else {}), "median_ms": median_ms,
            **more}


def accuracy_name(space: Space) -> str:
    """What the accuracy of a table goes by: a space, its images and its widths."""
    widths = dict.fromkeys(block.filters for block in space.all_blocks[:-1])
    return (f"{space.name} {space.input_size}x{space.input_size}x{space.input_channels} "
            f"{'-'.join(str(width) for width in widths)}")


def annotate(path: str, *, calibrated_ms: Mapping[OpKey, float], accuracy: Mapping[str, dict[str, Any]]) -> None:
    """Writes what comparison with whole networks found into a table: a whole new file, or none.

    Args:
        path: of the table. Its measurements stay as they are.
        calibrated_ms: for rows; others keep what they have.
        accuracy: by `accuracy_name`, for the header; other entries stay.

    Raises:
        InputError: if the file is no table, or cannot be written.
    """
    def annotated(line: str) -> str:
        entry = json.loads(line)
        found = calibrated_ms.get(_key(entry, path, 0))
        return line if found is None or "choice" in entry else json.dumps({**entry, "calibrated_ms": found})

    with open_to_add(path):  # or rows that another program adds meanwhile would be lost with the old file
        table = read(path)
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()[1:]
        entries = table.header.get("accuracy")
        header = {**table.header, "accuracy": {**(entries if isinstance(entries, dict) else {}), **accuracy}}
        files.write_text(path, "\n".join([json.dumps(header), *map(annotated, lines)]) + "\n")


@contextlib.contextmanager
def open_to_add(path: str) -> Iterator[TextIO]:
    """The file of a table, open for more rows and for nobody else who asks by this function.

    Raises:
        InputError: if another program has it, or it cannot be written.
    """
    try:
        file = open(path, "r+", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}). Choose another file.") from None
    with file:
        if not files.lock(file):
            raise InputError(f"{path}: another program is adding to this table. Wait for it, or stop it.")
        file.seek(0, os.SEEK_END)
        yield file


def header(target: str, **facts: Any) -> dict[str, Any]:
    """The first line of a table.

    Raises:
        InputError: if the target has a name that is none.
    """
    _check_target(target, "The target")
    return {"format": FORMAT, "target": target, **facts}


def parse(text: str, path: str) -> LatencyTable:
    """Reads the contents of a file; the path is what errors call it. Raises InputError as `read`."""
    lines = text.split("\n")
    if lines[-1]:
        raise InputError(f"{path}, line {len(lines)}: cut off. Run the same latency.build_table command again: "
                         "it drops the half line and goes on.")
    rows, choice_rows = {}, {}
    head = _object(lines[0], path, 1)
    if head.get("format") != FORMAT or not isinstance(head.get("target"), str):
        raise InputError(f"{path}: not a latency table (line 1 should be a header with format {FORMAT!r} "
                         "and a target).")
    _check_target(head["target"], f"{path}, line 1: target")
    if not isinstance(head.get("dtype", ""), str):
        raise InputError(f"{path}, line 1: dtype must be a text such as float32, got {shown(head['dtype'])}.")
    for number, line in enumerate(lines[1:-1], start=2):
        entry = _object(line, path, number)
        key = _key(entry, path, number)
        for name in ("median_ms", *(name for name in entry if name.endswith("_ms"))):
            if name in ("median_ms", "calibrated_ms") or entry[name] is not None:
                _check_time(entry.get(name), f"{path}, line {number}: {name}")
        choice = entry.get("choice")
        if choice is None:
            rows[key] = entry
        elif isinstance(choice, str):
            choice_rows[choice, key] = entry
        else:
            raise InputError(f"{path}, line {number}: choice must be a block's name.")
    return LatencyTable(path, head, rows, choice_rows)


def _check_time(value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e7:
        raise InputError(f"{where} is not a time in milliseconds: {shown(value)}.")


def _check_target(target: str, where: str) -> None:
    if not _TARGET.fullmatch(target):
        raise InputError(f"{where} must be a name of at most 100 letters, digits and . _ + - that begins with a letter "
                         f"or digit, got {shown(target)}. Give another (--target_name, or line 1 of the table).")


def _object(line: str, path: str, number: int) -> dict[str, Any]:
    try:
        entry = json.loads(line) if len(line) <= MAX_LINE else None
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
            and isinstance(entry.get("shortcut"), bool) and whole(entry.get("summed", 1))):
        raise InputError(f"{path}, line {number}: a row needs op, input [height, width, channels], filters, strides "
                         "and shortcut, and summed, the number of inputs, if it adds up several.")
    return OpKey(entry["op"], tuple(shape), entry["filters"], entry["strides"], entry["shortcut"],
                 entry.get("summed", 1))
