"""Makes a latency table from published measurements of phones.

    python -m latency.import_table --format=proxylessnas_yaml --source=mobile_trim.yaml --output=mobile_trim.jsonl
    python -m latency.import_table --format=tunas --source=proxylessnas_search.csv --output=pixel1_tunas.jsonl

Formats: proxylessnas_yaml and ofa_yaml (means over whole networks), singlepath_json (Single-Path NAS), tunas (weights
of a linear model as CSV, its bias in a .json file of the same name). docs/latency_tables.md says what each becomes.
"""

import hashlib
import json
import os
from typing import Any

from absl import flags

from latency import published
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.cost import latency_table
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError


def run(*, source: str, source_format: str, output: str, target_name: str | None = None, device: str | None = None,
        license_name: str | None = None) -> LatencyTable:
    """Reads a published file and writes a table.

    Args:
        source: path of the file.
        source_format: of `import_formats.FORMATS`.
        output: path of the table; must not exist.
        target_name: default: the name of the file.
        device: what was measured; default: what is known of the format.
        license_name: of the data; default: as `device`.

    Returns:
        The table.

    Raises:
        InputError: if the file is not of the format, or the table exists.
    """
    if os.path.exists(output):
        raise InputError(f"{output} exists already: a table is never overwritten. Choose another --output.")
    content = _read(source)
    stem = os.path.splitext(source)[0]
    imported = published.FORMATS[source_format](content, lambda suffix: _read(stem + suffix))
    facts = {**imported.facts, **({"device": device} if device else {}),
             **({"license": license_name} if license_name else {})}
    head = latency_table.header(
        target_name or os.path.basename(stem)[:100], measurer="import", **facts,
        source=os.path.basename(source), source_format=source_format,
        source_sha256=hashlib.sha256(content.encode()).hexdigest())
    text = "".join(json.dumps(line) + "\n" for line in [head, *imported.rows])
    latency_table.parse(text, f"{source} as a table")
    files.write_text(output, text)
    return latency_table.read(output)


def _read(path: str) -> str:
    try:
        if os.path.getsize(path) > published.MAX_BYTES:
            raise InputError(f"{path}: larger than {published.MAX_BYTES} bytes; this is not a table of ops.")
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise InputError(f"{path}: cannot be read ({reason}). Name the published file by --source.") from None


def _define_flags() -> None:
    flags.DEFINE_string("source", None, "The published file.")
    flags.DEFINE_enum("format", None, list(published.FORMATS), "What it is.")
    flags.DEFINE_string("target_name", None, "Name of the target; default: the name of the file.")
    flags.DEFINE_string("device", None, "What was measured, if the format does not say.")
    flags.DEFINE_string("license", None, "Licence of the data, if the format does not say.")
    flags.DEFINE_string("output", None, "The table, a .jsonl file.")


def _main() -> None:
    f: Any = flags.FLAGS
    if not (f.source and f.format and f.output):
        raise InputError("Name the published file, what it is, and the table to make: --source=FILE "
                         f"--format={'|'.join(published.FORMATS)} --output=TABLE.jsonl.")
    table = run(source=f.source, source_format=f.format, output=f.output, target_name=f.target_name, device=f.device,
                license_name=f.license)
    print(f"Target: {table.target} ({table.header['device']})\nRows:   {len(table.rows) + len(table.choice_rows)}\n"
          f"Table:  {f.output}")


def main() -> None:
    """Console script."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
