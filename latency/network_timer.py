"""Times whole networks at the pace at which a table was made, whatever the pace of the device is now."""

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from latency import measure, timed_networks
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.run_folder import RunFolder
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Space

# Networks of the table's comparison that are timed along with others and tell the pace: those of nearest time, as a
# busy machine slows long networks down more than short ones.
ANCHORS = 12


def of(table: LatencyTable, space: Space) -> Callable[[Sequence[Arch], str], list[float]]:
    """A `device_check.Timer`: from networks, and the folder that keeps their times, to milliseconds.

    Visits are as those of the table's comparison, or as those of its rows where there was none: then there are no
    anchors, and times are at the pace of the day.

    Args:
        table: of the device.
        space: of the networks.

    Raises:
        InputError: if the device is not at hand.
    """
    known = timed_networks.known(table.path, space)
    header = {**table.header, **known.settings}
    measure.from_header(header, table.path)  # said before a long search rather than after it
    if not known.ms:
        print(f"The table of {table.target} was not compared with networks of {space.name}, so nothing tells at which "
              f"pace the device is: finalists count as timed. Compare it before: python -m latency.compare "
              f"--table={table.file} --space={space.name} --networks=30 --calibrate=100")
    return functools.partial(_times, table, header, known.ms)


def _times(table, header, known, archs, folder):
    from pnas_tf.cost import prices

    middle = math.log(np.median([prices.of_arch(arch, table.ms) for arch in archs]))
    names = {timed_networks.digest(arch) for arch in archs}
    anchors = sorted((one for one in known if timed_networks.digest(one[0]) not in names),
                     key=lambda one: abs(math.log(one[1]) - middle))[:ANCHORS]
    together = [*archs, *(arch for arch, _ in anchors)]
    device = measure.from_header({**header, "together": len(together)}, table.path)
    ms = timed_networks.in_one_pass(RunFolder(folder).finalist_times, device, together)
    now, then = np.array(ms[len(archs):]), np.array([ms for _, ms in anchors])
    pace = float(np.median(now / then)) if anchors else 1.0
    return [one / pace for one in ms[:len(archs)]]
