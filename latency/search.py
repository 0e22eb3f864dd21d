"""Searches as pnas_tf.search does, and times the finalists on the device itself before it delivers one of them.

    python -m latency.search --flagfile=quickstart.flags --table=host.jsonl --target_ms=0.5 --run_dir=runs/quickstart

The device is that of the table: this machine, a phone, a board, or Vela's estimate for a microcontroller. Flags and run
folder are the same as for pnas_tf.search. If the folder holds a finished search, the command only times its finalists
and chooses among them. It works best with a table that latency.compare has calibrated.
"""

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from latency import anchors, measure, timed_networks
from pnas_tf import terminal
from pnas_tf.cli import start
from pnas_tf.cost import network_times, prices, table_commands
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.derive import device_check
from pnas_tf.search import command as search_command
from pnas_tf.space.blocks import Space

if TYPE_CHECKING:
    from pnas_tf.derive.device_check import Timer

# Number of networks of the table's comparison that are timed along with the finalists and show the device's current
# speed. Their times are the nearest to those of the finalists, because a busy machine slows slow networks down more
# than quick networks. More are hardly better (benchmarks/NOTES.md).
ANCHORS = 6


def network_timer(table: LatencyTable, space: Space, named_by: Sequence[str] = ()) -> "Timer":
    """A timer: takes networks and the run folder that keeps their times, and returns their costs.

    The speed of a device changes with time. So anchors, networks that the table was compared with, are timed in turns
    with the given networks. The median ratio of their time now to their time then is the device's current pace:

        pace = median(anchor_ms_now / anchor_ms_then)
        network_ms = network_ms_now / pace

    Networks are visited as in the table's comparison. If there was none, they are visited as the table's rows were,
    there are no anchors, and times are returned as measured.

    Args:
        table: Latency table of the device.
        space: Space of the networks.
        named_by: Flags that name the space, for a command to paste.

    Raises:
        InputError: If the device is not attached, or is not the device of the table.
    """
    networks = network_times.compared(table.path, space)
    header = {**table.header, **networks.settings}
    # One device for all searches, made now rather than after the first: it may not be attached.
    device = measure.from_header({**header, "together": device_check.COUNT + ANCHORS}, table.path)
    if not networks.ms:
        terminal.say(
            f"The table of {table.target} was not compared with networks of {space.name}, so times of finalists cannot "
            "be corrected for the device's current speed. To correct them, first run: " + table_commands.compare(
                table.file, [*table_commands.space_flags(space, named_by), "--networks=30", "--calibrate=100"]))
    return functools.partial(_times, table, device, networks.ms, space)


def _times(table, device, compared, space, archs, run_folder):
    """Costs of networks: milliseconds at the pace of the comparison, and SRAM if the device's compiler plans it."""
    middle = math.log(np.median([prices.of_arch(arch, table.ms) for arch in archs]))
    names = {network_times.digest(arch) for arch in archs}
    others = [(arch, ms) for arch, ms in compared if network_times.digest(arch) not in names]
    others_near = sorted(others, key=lambda other: abs(math.log(other[1]) - middle))[:ANCHORS]
    together = [*archs, *(arch for arch, _ in others_near)]
    ms = timed_networks.in_one_pass(run_folder.finalist_times, device, together, anchors.references_of(table.header),
                                    space)
    now, then = np.array(ms[len(archs):]), np.array([ms for _, ms in others_near])
    pace = float(np.median(now / then)) if others_near else 1.0
    sram = network_times.facts(run_folder.finalist_times, "sram_bytes")
    costs = [{"ms": network_ms / pace} for network_ms in ms[:len(archs)]]
    return [{**cost, **({"sram_bytes": sram[name]} if name in sram else {})}
            for cost, name in zip(costs, map(network_times.digest, archs), strict=True)]


def _main() -> None:
    f = flags.FLAGS
    named_by = [*start.import_flags(), *table_commands.named_by(f.space, f.width_mult)]
    search_command.by_flags(functools.partial(network_timer, named_by=named_by))


def main() -> None:
    """Entry point."""
    search_command.define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
