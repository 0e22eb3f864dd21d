"""Makes the table of a new device from a few timed networks and the tables of other devices.

    python -m latency.transfer --from=x86_xnnpack1_float32,runs/pixel2.jsonl --space=quickstart --networks=50 \\
        --output=runs/host.jsonl

Instead of every op alone, whole networks are timed on the device. Each row is the mixture of the other tables that fits
the networks best, corrected where the networks ask for it. Cross-validation says how well the table predicts networks,
and the table keeps it. To continue a stopped measurement, run the same command again.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

from absl import flags

from latency import build_table, compare, fitted_table, measure, measurer_flags, space_flags, timed_networks
from latency.fitted_table import TimedArch
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.cost import latency_table, network_times, table_commands
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError
from pnas_tf.space import memory
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Space

# Added to seeds: `latency.compare` has none that large, so it does not judge a table by the networks of its fit.
OWN_SEEDS = 2**31


def run(*, archs: Sequence[Arch], tables: Sequence[LatencyTable], output: str, measurer: str = "host",
        settings: dict[str, Any] | None = None, target_name: str | None = None, space: Space | None = None
        ) -> LatencyTable:
    """Times networks and writes a table.

    Args:
        archs: Different networks of one space.
        tables: Tables of other devices that have every op of the space.
        output: Path of the table, which must not exist. Times of networks are kept beside it.
        measurer: Key of `measure.MEASURERS`.
        settings: Fields of the measurer's settings that differ from their defaults.
        target_name: Name of the target in place of the measurer's own name for it.
        space: Space that the networks were drawn from; None for that of the first.

    Returns:
        The table, from its file.

    Raises:
        InputError: If the table exists, a table lacks an op, or networks cannot be timed.
    """
    _check_new(output)
    fitted_table.check_enough(len(archs))
    space = space or archs[0].space
    for table in tables:
        table.check_covers(space)
    device, times = measure.measurer_of(measurer, **(settings or {})), network_times.beside(output)
    rows = timed_networks.measured_rows(times, device, [(arch, 1) for arch in archs], space=space)
    timed = [timed_arch(arch, rows[network_times.digest(arch), 1]) for arch in archs]
    fitted = fitted_table.fitted(timed, tables, space)
    facts = device.facts()
    # The pace that rows were brought to, so that networks that are timed later are brought to the same.
    pace = {name: value for name, value in network_times.read(times)[0].items() if name == "pace"}
    header = latency_table.header(**{**facts, "target": target_name or facts["target"], **pace}, **fitted.facts)
    text = "".join(json.dumps(line) + "\n" for line in [header, *fitted.rows])
    latency_table.parse(text, output)
    files.create(output, text.encode())
    return latency_table.read(output)


def random_networks(space: Space, count: int, seed: int) -> list[Arch]:
    """Random networks to fit a table to, others than `latency.compare` draws to judge it by.

    Args:
        space: Space of the networks.
        count: Number of different networks.
        seed: Seed of the random networks.

    Raises:
        InputError: If the space has too few networks.
    """
    return compare.random_networks(space, count, 0, OWN_SEEDS + seed)[0]


def timed_arch(arch: Arch, row: dict[str, Any]) -> TimedArch:
    """A network with its measurement.

    Args:
        arch: The network.
        row: Measurement as `timed_networks.measured_rows` returns it.
    """
    return TimedArch(arch, row["median_ms"], row.get("time_s", 0.0), row.get("pace"))  # older files have no times


def _check_new(output):
    if os.path.exists(output):
        raise InputError(f"{output} exists already, and latency.transfer makes a whole table. Choose another --output.")


def _define_flags() -> None:
    flags.DEFINE_list("from", [], "Tables of other devices, with commas between: files, or names of shipped tables.")
    flags.DEFINE_integer("networks", 50, "Random networks of the space to time.", fitted_table.LEAST_NETWORKS, 10_000)
    flags.DEFINE_integer("seed", 0, "Seed of the random networks.", 0, 2**31 - 2)
    space_flags.define()
    flags.DEFINE_enum("measurer", "host", list(measure.MEASURERS), "As for latency.build_table.")
    measurer_flags.define(build_table.kinds())
    flags.DEFINE_string("target_name", None, "Name of the target; default: host_xnnpack1_float32 and the like.")
    flags.DEFINE_string("output", None, "The table, a .jsonl file.")


def _main() -> None:
    f = flags.FLAGS
    if not (f["from"].value and f.output):
        raise InputError("Name the tables of other devices, and the table to make: --from=A.jsonl,B.jsonl "
                         "--output=TABLE.jsonl.")
    _check_new(f.output)
    space, settings = space_flags.space_of(f), measurer_flags.given(f.measurer, build_table.kinds())
    tables = [latency_table.read(path) for path in f["from"].value]
    archs = random_networks(space, f.networks, f.seed)
    for arch in archs:
        memory.check_network(arch)
    start.load_tensorflow()
    table = run(archs=archs, tables=tables, output=f.output, measurer=f.measurer, settings=settings,
                target_name=f.target_name, space=space)
    dataset, words = table_commands.images(space)
    search = start.next_command("pnas_tf.search", f"--space={f.space}", f"--table={f.output}", *dataset,
                                "--run_dir=DIR")
    print(f"\nTarget: {table.target} ({table.header['device']}, {table.header['runtime']})\n"
          f"{fitted_table.words(table.header)}\nTable:  {f.output}\nNext:   " + "\n        ".join([search, *words]))


def main() -> None:
    """Console script."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
