"""Makes a latency table from published measurements of phones, or from a list of timed networks.

    python -m latency.import_table --format=proxylessnas_yaml --source=mobile_trim.yaml --output=mobile_trim.jsonl
    python -m latency.import_table --format=tunas --source=proxylessnas_search.csv --output=pixel1_tunas.jsonl

    python -m latency.import_table --format=networks --source=mine.jsonl --space=quickstart --output=mine_table.jsonl

Formats: proxylessnas_yaml and ofa_yaml (means over whole networks), singlepath_json (Single-Path NAS), tunas (weights
    of a linear model as CSV, its bias in a .json file of the same name), networks (times of whole networks of your
    own, to which the rows are fitted). docs/latency_tables.md explains how each
    format is read.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

from absl import flags

from latency import fitted_table, network_list, published, space_flags
from latency.fitted_table import TimedArch
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.cost import coverage, latency_table, table_commands
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError
from pnas_tf.space import spaces
from pnas_tf.space.blocks import Space

# Format of a list of networks with their times; see `network_list`.
NETWORKS = "networks"


def run(*, source: str, source_format: str, output: str, target_name: str | None = None, device: str | None = None,
        license_name: str | None = None, space: Space | None = None, tables: Sequence[LatencyTable] = ()
        ) -> LatencyTable:
    """Reads a published file, or a list of networks, and writes a table.

    Args:
        source: Path of the file.
        source_format: Key of `published.FORMATS`, or `NETWORKS`.
        output: Path of the table, which must not exist.
        target_name: Name of the target; None for the name of the file.
        device: Name of the device; None for the device that the format implies.
        license_name: Licence of the data; None for the licence that the format implies.
        space: Space of the networks of a list.
        tables: Tables of other devices for a list of networks; see `fitted_table.fitted`.

    Returns:
        The table, from its file.

    Raises:
        InputError: If the file does not have the format, or the table exists.
    """
    if os.path.exists(output):
        raise InputError(f"{output} exists already, and a table is never overwritten. Choose another --output.")
    stem = os.path.splitext(source)[0]
    if source_format == NETWORKS:
        assert space, "a list of networks is of a space"
        imported = _fitted(network_list.read(source, space), tables, space)
    else:
        imported = published.FORMATS[source_format](_read(source), lambda suffix: _read(stem + suffix))
    facts = {**imported.facts, **({"device": device} if device else {}),
             **({"license": license_name} if license_name else {})}
    header = latency_table.header(
        target_name or os.path.basename(stem)[:100], measurer="import", **facts,
        source=os.path.basename(source), source_format=source_format,
        source_sha256=files.sha256(source))
    text = "".join(json.dumps(line) + "\n" for line in [header, *imported.rows])
    latency_table.parse(text, f"{source} as a table")  # raises before anything is written
    files.write_text(output, text)
    return latency_table.read(output)


def _fitted(timed: Sequence[TimedArch], tables: Sequence[LatencyTable], space: Space) -> published.Imported:
    fitted = fitted_table.fitted(timed, tables, space)
    return published.Imported({"device": "not named by the file", "runtime": "not named by the file", "statistic":
                               "median_ms is fitted to whole networks, error_ms its standard deviation",
                               **fitted.facts}, fitted.rows)


def _covered(table: LatencyTable) -> str:
    """Which spaces can be searched with a table, and the next command."""
    parts = coverage.of_spaces(table)
    lines = [f"Covers: {coverage.words(parts)}"]
    if parts and parts[0].is_whole:
        dataset, words = table_commands.images(spaces.load(parts[0].space))
        lines.append("Next:   " + start.next_command("pnas_tf.search", f"--space={parts[0].space}",
                                                    f"--table={table.path}", *dataset,
                                                    f"--run_dir={table_commands.run_dir(table.path)}"))
        lines += [f"        {each}" for each in words]
    else:
        lines.append("A search needs every op of its space, and an imported table takes no new rows. Write a space of "
                     "ops that this table has into a JSON file, and name it by --space.")
    return "\n".join(lines)


def _read(path: str) -> str:
    """The text of a published file; raises InputError if it is too large or cannot be read."""
    return files.read_text(path, published.MAX_BYTES, "Name the published file by --source.")


def _define_flags() -> None:
    flags.DEFINE_string("source", None, "The file to read.")
    flags.DEFINE_enum("format", None, [*published.FORMATS, NETWORKS], "Format of the file.")
    flags.DEFINE_list("from", [], "networks: tables of other devices, with commas between, whose mixture the rows "
                      "follow; without them, rows follow operations and data moved.")
    space_flags.define()
    flags.DEFINE_string("target_name", None, "Name of the target; default: the name of the file.")
    flags.DEFINE_string("device", None, "Name of the device, if the format does not imply it.")
    flags.DEFINE_string("license", None, "Licence of the data, if the format does not imply it.")
    flags.DEFINE_string("output", None, "The table, a .jsonl file.")


def _main() -> None:
    f: Any = flags.FLAGS
    if not (f.source and f.format and f.output):
        raise InputError("Name the published file, its format, and the table to make: --source=FILE "
                         f"--format={'|'.join([*published.FORMATS, NETWORKS])} --output=TABLE.jsonl.")
    space = space_flags.space_of(f) if f.format == NETWORKS else None
    if f["from"].value and not space:
        raise InputError("--from is for --format=networks, which fits rows; other formats have rows already.")
    table = run(source=f.source, source_format=f.format, output=f.output, target_name=f.target_name, device=f.device,
                license_name=f.license, space=space, tables=[latency_table.read(path) for path in f["from"].value])
    if space:
        print(fitted_table.words(table.header))
    print(f"Target: {table.target} ({table.header['device']})\nRows:   {len(table.rows) + len(table.choice_rows)}\n"
          f"Table:  {f.output}\n{_covered(table)}")


def main() -> None:
    """Console script."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
