"""The goal of a search on one target: milliseconds and limits, and whether any network can reach them."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pnas_tf import terminal
from pnas_tf.cost import limits as limits_lib
from pnas_tf.cost import prices, table_accuracy, within_limits
from pnas_tf.cost.latency_table import LatencyTable, row_ms
from pnas_tf.cost.limits import Bound, Limit
from pnas_tf.cost.prices import Cost
from pnas_tf.errors import InputError
from pnas_tf.space import shape_layers
from pnas_tf.space.arch import from_path
from pnas_tf.space.blocks import Block, OpKey, Space

# Without a target, a search aims at this share of the milliseconds of the slowest network without slow ops.
DEFAULT_TARGET = 0.75
# An op is slow if it takes this many times the milliseconds of another op at its place, and does less for them by as
# much: in MACs for each millisecond.
SLOW = 2.0


@dataclasses.dataclass(frozen=True)
class Goal:
    """Milliseconds and limits of a search on one target.

    Attributes:
        target: Name of the table's target.
        ms: Milliseconds of each op.
        target_ms: Requested milliseconds; if latency is free, milliseconds for comparison.
        limits: Further limits on additive costs.
        keeps_ms: Whether `target_ms` is a limit, too.
        range_ms: Milliseconds of the quickest network that keeps the further limits, and of the slowest network.
        knee_ms: Milliseconds of the slowest network without slow ops (see `quick_ops`), if that is known. Above it,
            networks get slower ops rather than larger ones.
        table_doubt: Words about a table whose comparison with whole networks went badly, or "".
        whole: Limits that finalists are measured for as whole networks; see `limits.of_whole_networks`.
        pretrained_ms: Milliseconds of the whole pretrained network that the space is a part of, at the size of the
            images that it learns from as the teacher; None if the space starts from no such network.
        device: Device that the table was timed on, by its header; None if unknown.
    """

    target: str
    ms: Cost
    target_ms: float
    limits: tuple[Limit, ...] = ()
    keeps_ms: bool = True
    range_ms: tuple[float, float] | None = None
    knee_ms: float | None = None
    table_doubt: str = ""
    whole: tuple[Bound, ...] = ()
    pretrained_ms: float | None = None
    device: str | None = None

    @property
    def costs(self) -> dict[str, Any]:
        """What an arch says about the goal that it was chosen for."""
        return {"target": self.target, **({"device": self.device} if self.device else {}), "target_ms": self.target_ms}

    @property
    def limit_ms(self) -> float | None:
        """`target_ms`, or None if latency is free."""
        return self.target_ms if self.keeps_ms else None

    @property
    def all_limits(self) -> tuple[Limit, ...]:
        """Every limit: milliseconds first, unless latency is free."""
        return ((Limit("ms", self.ms, self.target_ms),) if self.keeps_ms else ()) + self.limits

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """Names and bounds of `all_limits`, and of those that whole networks are measured for."""
        return (*((limit.name, limit.bound) for limit in self.all_limits), *self.whole)

    @property
    def name(self) -> str:
        """Name of the goal among several, and of its folder in the run folder: target and milliseconds."""
        return goal_name(self.target, self.target_ms)

    def summary(self) -> str:
        """One line that describes the goal, the range of milliseconds and the knee in it, or a warning beside it."""
        aim = f"target {self.target_ms:.3g} ms" if self.keeps_ms else "latency is free"
        span = f"{self.range_ms[0]:.3g} to {self.range_ms[1]:.3g} ms, " if self.range_ms else ""
        knee = self.knee_ms if self.knee_ms and self.range_ms and self.knee_ms < 0.99 * self.range_ms[1] else None
        span += f"{knee:.3g} without slow ops, " if knee else ""
        line = (f"{self.target}: {span}{aim}"
                + "".join(f", {name} at most {bound:g}" for name, bound in self.bounds if name != "ms") + ".")
        if self.range_ms and self.keeps_ms and self.target_ms > self.range_ms[1] * 1.001:
            line += (f"\nWarning: every network is quicker than the target of {self.target_ms:.3g} ms. The slowest "
                     f"takes {self.range_ms[1]:.3g} ms, so milliseconds limit nothing here (--target_ms).")
        if knee and self.keeps_ms and self.target_ms > knee * 1.001:
            line += (f"\nWarning: only networks with slow ops take more than {knee:.3g} ms: ops with {SLOW:g} times "
                     "the milliseconds of others for the same work. A target up to there is better spent "
                     "(--target_ms).")
        return line


def goal_name(target: str, target_ms: float) -> str:
    """Name of one goal among several, and of its folder in the run folder."""
    return f"{target}_{target_ms:g}ms"


def goal_for(space: Space, table: LatencyTable, target_ms: float, bounds: Sequence[Bound] = (), *,
             keeps_ms: bool = True) -> Goal:
    """The goal of a search on the target of a table.

    Args:
        space: Space fitted to the data.
        table: Table that covers the space.
        target_ms: Requested milliseconds, or 0 for `DEFAULT_TARGET` times those of the slowest network without slow
            ops.
        bounds: Further limits, see `limits.ADDITIVE`.
        keeps_ms: Whether the milliseconds are a limit.

    Raises:
        InputError: If no network of the space keeps all limits.
    """
    ms = prices.matrix(space, prices.milliseconds(table))
    limits = limits_lib.additive(space, bounds, table.header.get("dtype"))
    quickest = within_limits.cheapest(ms, limits)
    if quickest is None:
        raise InputError(f"No network of {space.name} keeps {' and '.join(f'{n}<={b:g}' for n, b in bounds)} "
                         "together, although each can be kept alone. Raise one of them (--limit).")
    low, high = prices.of_arch(from_path(space, quickest), prices.milliseconds(table)), ms.range[1]
    quick = quick_ops(ms, prices.matrix(space, prices.macs()))
    knee = dataclasses.replace(ms, mask=quick).range[1]
    target_ms = target_ms or max(low, DEFAULT_TARGET * knee)
    if keeps_ms and target_ms < low:
        raise InputError(f"No network of {space.name} takes {target_ms:g} ms on {table.target}"
                         f"{' and keeps the other limits' if bounds else ''}: ask for {terminal.rounded_up(low):g} to "
                         f"{high:.4g} ms (--target_ms).")
    return Goal(table.target, ms, target_ms, limits, keeps_ms, (low, high), knee,
                table_accuracy.doubt(table.accuracy(space), table.header.get("measurer")),
                limits_lib.of_whole_networks(bounds), device=table.header.get("device"))


def quick_ops(ms: Cost, macs: Cost) -> np.ndarray:
    """The ops that a person would build a network of: all but those that are slow for what they do.

    Op i is slow if another op j at the same place has

        ms_i >= 2 * ms_j   and   ms_i / ms_j >= 2 * macs_i / macs_j

    as a kernel of 7x7 has that the device's library does not make fast.

    Args:
        ms: Milliseconds of each op; at evenly drawn widths, if filters are searched.
        macs: Multiply-accumulates of each op, likewise.

    Returns:
        bool [choices, ops]; every choice has at least one such op.
    """
    even = ms.mask / ms.mask.sum(1, keepdims=True)
    ms, macs = ms.around(even), macs.around(even)
    slower = ms.matrix[:, :, None] >= SLOW * ms.matrix[:, None, :]
    wasteful = ms.matrix[:, :, None] * macs.matrix[:, None, :] >= SLOW * ms.matrix[:, None, :] * macs.matrix[:, :, None]
    working = (macs.matrix > 0) & ms.mask
    slow = np.any(slower & wasteful & working[:, :, None] & working[:, None, :], axis=2)
    return ms.mask & ~slow


def check_reachable(space: Space, table: LatencyTable, target_ms: float) -> None:
    """Refuses a target that no network reaches, before images and TensorFlow are loaded.

    The data set decides the channels of the stem's input and the number of classes, so each of these two blocks is
    priced by its cheapest row for any such number. `goal_for` checks again when the data set is loaded.

    Args:
        space: Space at the size of the images, not yet fitted to their channels and classes.
        table: Latency table; a row that it lacks counts as 0.
        target_ms: Requested milliseconds.

    Raises:
        InputError: If every network takes longer.
    """
    least = sum(least_ms(space, table, block) for block in space.all_blocks)
    if target_ms < least * (1 - 1e-6):
        raise InputError(f"No network of {space.name} takes {target_ms:g} ms on {table.target}: ask for "
                         f"{terminal.rounded_up(least):g} ms or more (--target_ms).")


def check_limits(space: Space, bounds: Sequence[Bound]) -> None:
    """Refuses a limit on parameters or MACs that no network keeps, before images and TensorFlow are loaded.

    Counts by shapes, for the fewest channels and classes that images can have. An op that cannot be counted by shapes
    counts as nothing; `goal_for` then decides.

    Raises:
        InputError: If every network exceeds a bound.
    """
    for name, bound in bounds:
        if name not in ("params", "macs"):
            continue
        least = sum(min(_count(space, block, key, name) for key in space.keys(block)) for block in space.all_blocks)
        if bound < least:
            raise InputError(f"No network of {space.name} keeps {name}<={bound:g}: they have {least:,} or more "
                             "(--limit).")


def _count(space: Space, block: Block, key: OpKey, name: str) -> int:
    """Parameters or MACs of an op of ours at a block; 0 if they are not known without the images or TensorFlow."""
    if block is space.all_blocks[-1]:
        key = dataclasses.replace(key, filters=2)
    elif block is space.all_blocks[0]:
        key = dataclasses.replace(key, input=(*key.input[:2], 1))
    counts = None if key.is_free else shape_layers.count(key)
    return getattr(counts, name) if counts else 0


def least_ms(space: Space, table: LatencyTable, block: Block) -> float:
    """Milliseconds of the cheapest op of a block, for any image channels and number of classes."""
    ends = (space.all_blocks[0].name, space.all_blocks[-1].name)
    costs = []
    for key in space.keys(block):
        if key.is_free:
            return 0.0
        if block.name in ends:
            rows = list(_rows_for_any_images(table, block, key, first=block.name == ends[0]))
        else:
            rows = [row for row in [table.row(block.name, key)] if row]
        costs.append(min(map(row_ms, rows), default=0.0))
    return min(costs)


def _rows_for_any_images(table: LatencyTable, block: Block, key: OpKey, *, first: bool) -> Iterator[Mapping[str, Any]]:
    """Rows of an op in the first block for any number of channels, or in the last one for any number of classes."""
    for other, row in table.rows.items():
        channels = other.input[2] if first else key.input[2]
        filters = key.filters if first else other.filters
        if other == dataclasses.replace(key, input=(*key.input[:2], channels), filters=filters):
            yield row
    for (name, other), row in table.choice_rows.items():
        if name == block.name and other.op == key.op:
            yield row
