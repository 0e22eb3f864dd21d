"""The anchor of a timing: a network that is timed beside exported files, and shows the pace of the machine."""

import dataclasses
import math
import os
from collections.abc import Iterator

from export import convert, interpreter, timing
from pnas_tf.cost import latency_table, network_times
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import ops, spaces
from pnas_tf.space.arch import Arch, from_chosen
from pnas_tf.space.blocks import Space

# Space of the anchor of a model that has no arch.
DEFAULT_SPACE = "quickstart"


@dataclasses.dataclass(frozen=True)
class Anchor:
    """A network to time beside others.

    Attributes:
        arch: The network; its weights are random.
        dtype: Mode in which it is converted.
        then_ms: Its milliseconds in the comparison of the run's table, or None if it was not timed then.
    """

    arch: Arch
    dtype: str = "float32"
    then_ms: float | None = None


def of_run(run_dir: str | None, arch: Arch | None, *, threads: int, delegate: str) -> Anchor:
    """The anchor for the exports of a run.

    Args:
        run_dir: Run folder, whose flags name the tables of the search; None if there is none.
        arch: Architecture of the exported network, or None.
        threads: CPU threads of the timing.
        delegate: Delegate of the timing.

    Returns:
        If a table of the run is of this machine and was compared with networks, the one of them whose time is nearest
        to the predicted time of `arch`; otherwise a small network of the same space.
    """
    space = arch.space if arch else spaces.SPACES[DEFAULT_SPACE]
    predicted_ms = arch.costs.get("table_ms") if arch else None
    if run_dir and isinstance(predicted_ms, int | float) and predicted_ms > 0:
        middle = math.log(predicted_ms)
        timed = list(_compared(run_dir, space, threads, delegate))
        if timed:
            return min(timed, key=lambda anchor: abs(math.log(anchor.then_ms or predicted_ms) - middle))
    return Anchor(small(space))


def small(space: Space) -> Arch:
    """A network of a space that skips what can be skipped, and has the first op of every other choice."""
    return from_chosen(space, {name: ops.ZERO if ops.ZERO in choice.ops else choice.ops[0]
                               for name, choice in space.choices.items()})


def _compared(run_dir: str, space: Space, threads: int, delegate: str) -> Iterator[Anchor]:
    """The networks that tables of this machine were compared with; files that are gone or damaged count as none."""
    here = {"measurer": "host", "device": timing.cpu_name(), "runtime": interpreter.runtime_name(), "threads": threads,
            "delegate": delegate}
    folder = RunFolder(run_dir)
    flags = folder.read_flags() if os.path.exists(folder.flags) else {}
    targets = [text.rpartition(":")[0] for text in flags.get("targets", "").split(",")]
    for path in dict.fromkeys([flags.get("table", ""), *targets]):
        if not os.path.exists(path) or not os.path.exists(network_times.beside(path)):
            continue
        try:
            header = latency_table.read(path).header
            networks = network_times.compared(path, space).ms
        except InputError:
            continue
        if header.get("dtype") in convert.MODES and all(header.get(name) == value for name, value in here.items()):
            yield from (Anchor(arch, header["dtype"], ms) for arch, ms in networks)
