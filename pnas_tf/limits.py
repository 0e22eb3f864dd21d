"""What a network has to keep: milliseconds on a target, parameters, MACs, bytes of its file and of its activations.

To add a limit, add a price to `ADDITIVE`.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

from pnas_tf import cost, gates, network, ops, run_folder
from pnas_tf.cost import Cost
from pnas_tf.errors import InputError
from pnas_tf.space import Space

# By name, from the target's dtype to the price. A network's cost is the sum over its ops.
ADDITIVE: dict[str, Callable[[str], cost.Price]] = {
    "params": lambda dtype: cost.params(), "macs": lambda dtype: cost.macs(), "size_bytes": cost.size_bytes}
# A network's is that of its dearest op, so a limit leaves out single ops and needs no multiplier.
PEAK = "peak_activation_bytes"


@dataclasses.dataclass(frozen=True)
class Limit:
    """At most so much of one additive cost.

    Attributes:
        name: of the cost, `ms` or one of `ADDITIVE`.
        cost: of each op.
        bound: never exceeded by what a search delivers, in the cost's unit.
    """

    name: str
    cost: Cost
    bound: float


@dataclasses.dataclass(frozen=True)
class Goal:
    """What a search looks for on one target.

    Attributes:
        target: name of the table's target.
        ms: milliseconds of each op.
        target_ms: wanted milliseconds; where they are free, what they are compared with.
        limits: what else is to be kept.
        keeps_ms: whether `target_ms` is a limit, too.
    """

    target: str
    ms: Cost
    target_ms: float
    limits: tuple[Limit, ...] = ()
    keeps_ms: bool = True

    @property
    def wanted_ms(self) -> float | None:
        """`target_ms`; None where milliseconds are free."""
        return self.target_ms if self.keeps_ms else None

    @property
    def all_limits(self) -> tuple[Limit, ...]:
        """Milliseconds first, unless they are free."""
        return ((Limit("ms", self.ms, self.target_ms),) if self.keeps_ms else ()) + self.limits

    @property
    def name(self) -> str:
        """Of the goal among several: target and milliseconds."""
        return run_folder.goal_name(self.target, self.target_ms)


def parse(text: str) -> tuple[str, float]:
    """Splits `params<=3e6` into its name and bound.

    Raises:
        InputError: if it is no limit.
    """
    name, separator, value = text.partition("<=")
    name = name.strip()
    try:
        bound = float(value)
    except ValueError:
        bound = math.nan
    known = (*ADDITIVE, PEAK)
    if not separator or name not in known or not 0 < bound < math.inf:
        raise InputError(f"A limit reads NAME<=NUMBER with NAME one of {', '.join(known)} (milliseconds have "
                         f"--target_ms), got {text[:60]!r}.")
    return name, bound


def within_peaks(space: Space, bounds: Sequence[tuple[str, float]], dtypes: Sequence[str | None]) -> Space:
    """`within_peak` for the limits of that name among some, on the target whose activations are the largest."""
    dtype = max(map(_sized_as, dtypes), key=network.ACTIVATION_BYTES.__getitem__)
    for name, bound in bounds:
        space = within_peak(space, bound, dtype) if name == PEAK else space
    return space


def _sized_as(dtype: str | None) -> str:
    """The dtype by which a target's bytes are counted: what is not known counts as the largest."""
    return dtype if dtype in network.FILE_BYTES else "float32"


def within_peak(space: Space, bound: float, dtype: str) -> Space:
    """The space without the ops that need more activation memory than a bound, each alone.

    A network's peak is that of its dearest block, so those ops are just the ones that no network within the bound has.

    Args:
        space: to search.
        bound: bytes for one image.
        dtype: of the target.

    Raises:
        InputError: if a block has no op within the bound, or the space is no chain of blocks.
    """
    if not space.is_chain:
        raise InputError(f"{PEAK}: the limit is known for chains of blocks alone, and {space.name} has places that are "
                         "alive side by side. Leave it out, or limit macs or size_bytes.")
    price = cost.peak_activation_bytes(dtype)

    def peak(block, op):
        return 0.0 if op == ops.ZERO else price(block.name, space.op_key(block, op))

    least = {block.name: min(peak(block, op) for op in block.ops) for block in space.all_blocks}
    worst = max(least, key=least.__getitem__)
    if least[worst] > bound:
        raise InputError(f"No network of {space.name} keeps {PEAK}<={bound:g}: block {worst} alone needs "
                         f"{least[worst]:,.0f} bytes. Raise the limit or lower --image_size or --width_mult.")

    def thinned(blocks):
        return tuple(dataclasses.replace(block, ops=tuple(op for op in block.ops if peak(block, op) <= bound))
                     for block in blocks)

    return dataclasses.replace(space, stem=thinned(space.stem), blocks=thinned(space.blocks), head=thinned(space.head))


def additive(space: Space, bounds: Sequence[tuple[str, float]], dtype: str | None) -> tuple[Limit, ...]:
    """Limits by name and bound, priced for a space.

    Args:
        space: to search.
        bounds: by names of `ADDITIVE`.
        dtype: of the target, as its table states it.

    Raises:
        InputError: if no network of the space keeps one of them.
    """
    found = []
    for name, bound in bounds:
        limit = Limit(name, cost.matrix(space, ADDITIVE[name](_sized_as(dtype))), bound)
        low, high = limit.cost.range(gates.op_mask(space))
        if bound < low:
            raise InputError(f"No network of {space.name} keeps {name}<={bound:g}: "
                             f"they have {low:,.0f} to {high:,.0f} (--limit).")
        found.append(limit)
    return tuple(found)
