"""A latency table: measured milliseconds of each op on one target, as JSON Lines.

Line 1 is the header: what was measured, where and how. Each further line is one measurement. A missing row is an error;
it never counts as 0. Measured times stay as they are. Where the device's pace is known, `latency.build_table` adds
`paced_ms`, the median at one reference pace. `latency.compare --calibrate` adds `calibrated_ms`, the milliseconds that
the op adds to whole networks.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from io import FileIO
from typing import Any

from pnas_tf import files
from pnas_tf.cost import coverage, table_commands
from pnas_tf.errors import InputError, shown
from pnas_tf.space import ops
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Block, OpKey, Space

FORMAT = "pnas_tf.latency/1"
# Largest table in bytes, about 400,000 rows, and longest line in characters. Parsed JSON can take 25 times as much
# memory.
MAX_BYTES, MAX_LINE = 100_000_000, 100_000
# First bytes of a table of any version.
_BEGIN = b'{"format": "pnas_tf.latency/'
_WAY_OUT = "Give the file of a latency table."
# Measured times of a row.
TIMES = ("median_ms", "min_ms", "mean_ms")
# Largest number of missing rows that an error names.
NAMED = 4
# The name of the target becomes part of folders, commands and messages, and a table may come from a stranger.
_TARGET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")


@dataclasses.dataclass(frozen=True)
class LatencyTable:
    """Measurements of one target.

    Attributes:
        path: File that the table was read from, or name of a shipped table.
        header: Contents of line 1: target, device, runtime, delegate, threads, dtype, date, ...
        rows: Measurements by key, without those in `choice_rows`.
        choice_rows: Measurements by (block name, key) that price an op in this block only.
    """

    path: str
    header: dict[str, Any]
    rows: dict[OpKey, dict[str, Any]]
    choice_rows: dict[tuple[str, OpKey], dict[str, Any]]

    @property
    def target(self) -> str:
        """Name of the target: device, runtime and dtype in one word."""
        return self.header["target"]

    def accuracy(self, space: Space) -> dict[str, Any] | None:
        """How well the table predicts whole networks of a space, as `latency.compare` measured it.

        Returns:
            The entry in the header: networks, within_5_percent, within_10_percent, rmse_of_mean, spearman, calibrated,
            date, ...; None if the table has not been compared with networks of this space, or rows of this space have
            changed since, such as by the calibration of another space that shares them.
        """
        entries = self.header.get("accuracy")
        entry = entries.get(accuracy_name(space)) if isinstance(entries, dict) else None
        if not isinstance(entry, dict) or ("rows" in entry and entry["rows"] != self.rows_of(space)):
            return None
        return {name: value for name, value in entry.items() if isinstance(value, bool | str | None)
                or (isinstance(value, int | float) and abs(value) < 1e15)}

    def rows_of(self, space: Space) -> str:
        """Digest of the milliseconds of a space's ops, but for the classifier, which depends on the data set."""
        last = space.all_blocks[-1].name
        ms = {f"{block.name} {key}": row_ms(row) for block, key in space.op_keys() if block.name != last
              and (row := self.row(block.name, key))}
        return hashlib.sha256(json.dumps(ms, sort_keys=True).encode()).hexdigest()[:16]

    def row(self, block_name: str, key: OpKey) -> dict[str, Any] | None:
        """The measurement that prices an op in a block, or None.

        A row for this block takes precedence over the row for the op's shape. A classifier whose number of classes is
        missing is priced as the next larger classifier in the table: its price may be too high, but not too low.
        """
        measurement = self.choice_rows.get((block_name, key)) or self.rows.get(key)
        if measurement is None and ops.is_classifier(key.op):
            larger = [other for other in self.rows if other.op == key.op and other.input == key.input
                      and other.filters > key.filters]
            measurement = self.rows[min(larger, key=lambda other: other.filters)] if larger else None
        return measurement

    def ms(self, block_name: str, key: OpKey) -> float:
        """Milliseconds that an op in a block adds to a network: those of its `row`, calibrated if the row is.

        Raises:
            InputError: If the table has no row for the op.
        """
        row = self.row(block_name, key)
        if row is None:
            raise InputError(f"Table {self.target} ({self.path}) has no row for {key}. "
                             f"{self._to_measure(['--space=SPACE', f'--only={key.op}'])}")
        return row_ms(row)

    def missing(self, what: Space | Arch) -> list[tuple[Block, OpKey]]:
        """The ops of a space or of one network that the table has no row for, each with its block."""
        return [(block, key) for block, key in what.op_keys() if self.row(block.name, key) is None]

    def check_covers(self, what: Space | Arch, named_by: Sequence[str] = ()) -> None:
        """Checks that the table has a row for every op of a space or of one network.

        Args:
            what: The space or the network.
            named_by: Flags that name the space, for the command to paste; see `table_commands.space_flags`.

        Raises:
            InputError: If rows are missing. The message names the first of them and the number of the others.
        """
        missing = list(dict.fromkeys(str(key) for _, key in self.missing(what)))
        if missing:
            space, more = (what.space if isinstance(what, Arch) else what), len(missing) - NAMED
            raise InputError(
                f"Table {self.target} ({self.path}) has no row for {'; '.join(missing[:NAMED])}"
                + (f"; and {more} more" if more > 0 else "")
                + f". {self._to_measure(table_commands.space_flags(space, named_by))}")

    def _to_measure(self, flags: Sequence[str]) -> str:
        """A sentence with the command that measures rows which this table lacks."""
        if self.header.get("measurer") != "import":
            return f"Measure them: {table_commands.build(self.header, flags, self.file)}"
        return (f"It was imported and takes no new rows; it covers {coverage.words(coverage.of_spaces(self))}. Choose "
                f"such a space, or build a table of your own device: {table_commands.build({}, flags, 'OWN.jsonl')}")

    @property
    def file(self) -> str:
        """The table's file in commands to paste; a placeholder for a shipped table, which takes no new rows."""
        return self.path if self.path.endswith(".jsonl") else "TABLE.jsonl"


def read(path: str) -> LatencyTable:
    """Reads a table from a file.

    Args:
        path: Path of the file, or name of a shipped table.

    Raises:
        InputError: If the table is missing or cut off, or has a line that is not a measurement.
    """
    if not os.path.exists(path) and path in names():
        shipped = resources.files("pnas_tf").joinpath("tables", path + ".jsonl")
        return parse(shipped.read_text(encoding="utf-8"), path)
    if not os.path.isfile(path):
        raise InputError(f"No latency table at {path}. Shipped: {', '.join(names()) or 'none'}. Make one for your "
                         f"device: python -m latency.build_table --space=SPACE --measurer=host --output={path}")
    text = files.read_text(path, MAX_BYTES, _WAY_OUT)
    files.check_values(text, path)
    return parse(text, path)


def names() -> list[str]:
    """Names of the tables that ship with the package."""
    return sorted(entry.name[:-6] for entry in resources.files("pnas_tf").joinpath("tables").iterdir()
                  if entry.name.endswith(".jsonl"))


def row_ms(row: Mapping[str, Any]) -> float:
    """Milliseconds of a measurement: calibrated if it has been calibrated, else those of `paced_ms`."""
    return row["calibrated_ms"] if "calibrated_ms" in row else paced_ms(row)


def paced_ms(row: Mapping[str, Any]) -> float:
    """Milliseconds of a measurement without calibration, at the device's reference pace if the pace is known."""
    return row.get("paced_ms", row["median_ms"])


def row(key: OpKey, *, median_ms: float, **more: Any) -> dict[str, Any]:
    """One measurement, as a line of a table holds it.

    Args:
        key: Key of the op.
        median_ms: Milliseconds that count, unless the row is calibrated.
        **more: Further facts: min_ms, mean_ms, std_ms, runs, choice (the only block that the row prices), ...
    """
    return {"op": key.op, "input": list(key.input), "filters": key.filters, "strides": key.strides,
            "shortcut": key.shortcut, **({"summed": key.summed} if key.summed > 1 else {}), "median_ms": median_ms,
            **more}


def accuracy_name(space: Space) -> str:
    """Name of a space in the header's `accuracy`: the space's name, the size of its images, and its widths."""
    widths = dict.fromkeys("|".join(map(str, block.widths or (block.filters,))) for block in space.all_blocks[:-1])
    return (f"{space.name} {space.input_size}x{space.input_size}x{space.input_channels} "
            f"{'-'.join(widths)}")


def annotate(path: str, *, rows: Mapping[OpKey, Mapping[str, float]],
             header: Mapping[str, Mapping[str, dict[str, Any]]]) -> None:
    """Adds what was computed from measurements to a table. Readers see the old file or the new one, never half of it.

    Args:
        path: File of the table. Its measurements stay unchanged.
        rows: Further facts by key: calibrated_ms, or paced_ms and more. Rows of other keys stay unchanged.
        header: Entries by name in line 1: accuracy by `accuracy_name`, pace by anchor. Other entries stay unchanged.

    Raises:
        InputError: If the file is not a table or cannot be written.
    """
    def annotated(line: str) -> str:
        entry = json.loads(line)
        facts = rows.get(_key(entry, path, 0))
        return line if facts is None or "choice" in entry else json.dumps({**entry, **facts})

    with files.only_writer(path):  # other programs must not add rows meanwhile: they would be lost with the old file
        first = dict(read(path).header)
        lines = files.read_text(path, MAX_BYTES, _WAY_OUT).splitlines()[1:]
        for name, entries in header.items():
            before = first.get(name)
            first[name] = {**(before if isinstance(before, dict) else {}), **entries}
        files.write_text(path, "\n".join([json.dumps(first), *map(annotated, lines)]) + "\n")


@contextlib.contextmanager
def open_to_add(path: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Opens a table's file to add rows at its end; other processes that call this function are refused meanwhile.

    An incomplete row at the end, which a stopped program has left, is removed. A file of another kind stays as it is.

    Yields:
        Function that adds a row, whole or not at all. It raises InputError if the row cannot be written.

    Raises:
        InputError: If another process is adding to the table, or the file cannot be written.
    """
    with files.only_writer(path), _opened(path) as file:
        content = file.read(MAX_BYTES + 1)
        if content.startswith(_BEGIN) and b"\n" in content and len(content) <= MAX_BYTES:
            file.truncate(content.rfind(b"\n") + 1)
        yield functools.partial(files.add_line, file, path, what="row")


def _opened(path: str) -> FileIO:
    try:
        return open(path, "r+b", buffering=0)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}). Choose another file.") from None


def header(target: str, **facts: Any) -> dict[str, Any]:
    """Line 1 of a table.

    Args:
        target: Name of the target.
        **facts: Further facts: device, runtime, delegate, threads, dtype, date, ...

    Raises:
        InputError: If the target's name is not made of letters, digits and . _ + -.
    """
    _check_target(target, "The target")
    return {"format": FORMAT, "target": target, **facts}


def parse(text: str, path: str) -> LatencyTable:
    """Parses the contents of a table.

    Args:
        text: Contents of the file.
        path: Path that error messages name.

    Raises:
        InputError: If the text is cut off, or has a line that is not a measurement.
    """
    lines = text.split("\n")
    if lines[-1]:
        raise InputError(f"{path}, line {len(lines)}: cut off. Run the same latency.build_table command again: "
                         "it removes the incomplete line and continues.")
    rows, choice_rows = {}, {}
    facts = _object(lines[0], path, 1)
    if facts.get("format") != FORMAT or not isinstance(facts.get("target"), str):
        raise InputError(f"{path}: not a latency table. Line 1 should be a header with format {FORMAT!r} and a target.")
    _check_target(facts["target"], f"{path}, line 1: target")
    if not isinstance(facts.get("dtype", ""), str):
        raise InputError(f"{path}, line 1: dtype must be a text such as float32, got {shown(facts['dtype'])}.")
    for number, line in enumerate(lines[1:-1], start=2):
        entry = _object(line, path, number)
        key = _key(entry, path, number)
        for name in ("median_ms", *(name for name in entry if name.endswith("_ms"))):
            if name in ("median_ms", "paced_ms", "calibrated_ms") or entry[name] is not None:
                _check_time(entry.get(name), f"{path}, line {number}: {name}")
        choice = entry.get("choice")
        if choice is None:
            rows[key] = entry
        elif isinstance(choice, str):
            choice_rows[choice, key] = entry
        else:
            raise InputError(f"{path}, line {number}: choice must be a block's name, got {shown(choice)}.")
    return LatencyTable(path, facts, rows, choice_rows)


def _check_time(value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e7:
        raise InputError(f"{where} is not a time in milliseconds: {shown(value)}.")


def _check_target(target: str, where: str) -> None:
    if not _TARGET.fullmatch(target):
        raise InputError(f"{where} must be a name of at most 100 letters, digits and . _ + - that begins with a letter "
                         f"or digit, got {shown(target)}. Choose another name (--target_name, or line 1 of the table).")


def _object(line: str, path: str, number: int) -> dict[str, Any]:
    """The JSON object of a line."""
    try:
        entry = json.loads(line) if len(line) <= MAX_LINE else None
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict):
        raise InputError(f"{path}, line {number}: not a JSON object. Remove the line, then build the table again.")
    return entry


def _key(entry: dict[str, Any], path: str, number: int) -> OpKey:
    """The key of a measurement."""
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
