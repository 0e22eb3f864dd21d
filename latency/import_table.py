"""Makes a latency table from published measurements of phones.

    python -m latency.import_table --format=proxylessnas_yaml --source=mobile_trim.yaml --output=mobile_trim.jsonl
    python -m latency.import_table --format=tunas --source=proxylessnas_search.csv --output=pixel1_tunas.jsonl

Formats: proxylessnas_yaml and ofa_yaml (means over whole networks), singlepath_json (Single-Path NAS), tunas (weights
    of a linear model as CSV, its bias in a .json file of the same name). docs/latency_tables.md explains how each
    format is read.
"""

import hashlib
import json
import os
from typing import Any

from absl import flags

from latency import published
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.cost import coverage, latency_table, table_commands
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError


def run(*, source: str, source_format: str, output: str, target_name: str | None = None, device: str | None = None,
        license_name: str | None = None) -> LatencyTable:
    """Reads a published file and writes a table.

    Args:
        source: Path of the published file.
        source_format: Key of `published.FORMATS`.
        output: Path of the table, which must not exist.
        target_name: Name of the target; None for the name of the file.
        device: Name of the device; None for the device that the format implies.
        license_name: Licence of the data; None for the licence that the format implies.

    Returns:
        The table, from its file.

    Raises:
        InputError: If the file does not have the format, or the table exists.
    """
    if os.path.exists(output):
        raise InputError(f"{output} exists already, and a table is never overwritten. Choose another --output.")
    content = _read(source)
    stem = os.path.splitext(source)[0]
    imported = published.FORMATS[source_format](content, lambda suffix: _read(stem + suffix))
    facts = {**imported.facts, **({"device": device} if device else {}),
             **({"license": license_name} if license_name else {})}
    header = latency_table.header(
        target_name or os.path.basename(stem)[:100], measurer="import", **facts,
        source=os.path.basename(source), source_format=source_format,
        source_sha256=hashlib.sha256(content.encode()).hexdigest())
    text = "".join(json.dumps(line) + "\n" for line in [header, *imported.rows])
    latency_table.parse(text, f"{source} as a table")  # raises before anything is written
    files.write_text(output, text)
    return latency_table.read(output)


def _covered(table: LatencyTable) -> str:
    """Which spaces can be searched with a table, and the next command."""
    parts = coverage.of_spaces(table)
    lines = [f"Covers: {coverage.words(parts)}"]
    if parts and parts[0].is_whole:
        lines.append("Next:   " + start.next_command("pnas_tf.search", f"--space={parts[0].space}",
                                                    f"--table={table.path}", "--dataset=folder:IMAGES",
                                                    f"--run_dir={table_commands.run_dir(table.path)}"))
        lines.append("        IMAGES is the folder of your images.")
    else:
        lines.append("A search needs every op of its space, and an imported table takes no new rows. Write a space of "
                     "ops that this table has into a JSON file, and name it by --space.")
    return "\n".join(lines)


def _read(path: str) -> str:
    """The text of a published file; raises InputError if it is too large or cannot be read."""
    return files.read_text(path, published.MAX_BYTES, "Name the published file by --source.")


def _define_flags() -> None:
    flags.DEFINE_string("source", None, "The published file.")
    flags.DEFINE_enum("format", None, list(published.FORMATS), "Format of the file.")
    flags.DEFINE_string("target_name", None, "Name of the target; default: the name of the file.")
    flags.DEFINE_string("device", None, "Name of the device, if the format does not imply it.")
    flags.DEFINE_string("license", None, "Licence of the data, if the format does not imply it.")
    flags.DEFINE_string("output", None, "The table, a .jsonl file.")


def _main() -> None:
    f: Any = flags.FLAGS
    if not (f.source and f.format and f.output):
        raise InputError("Name the published file, its format, and the table to make: --source=FILE "
                         f"--format={'|'.join(published.FORMATS)} --output=TABLE.jsonl.")
    table = run(source=f.source, source_format=f.format, output=f.output, target_name=f.target_name, device=f.device,
                license_name=f.license)
    print(f"Target: {table.target} ({table.header['device']})\nRows:   {len(table.rows) + len(table.choice_rows)}\n"
          f"Table:  {f.output}\n{_covered(table)}")


def main() -> None:
    """Console script."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
