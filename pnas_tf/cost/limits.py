"""What a network has to keep: milliseconds on a target, parameters, MACs, bytes of its file and of its activations.

To add a limit, add a price to `ADDITIVE`.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

from pnas_tf.cost import prices
from pnas_tf.cost.prices import Cost
from pnas_tf.errors import InputError
from pnas_tf.network import counts
from pnas_tf.space import blocks as blocks_lib
from pnas_tf.space import ops
from pnas_tf.space.blocks import Space

# By name, from the target's dtype to the price. A network's cost is the sum over its ops.
ADDITIVE: dict[str, Callable[[str], prices.Price]] = {
    "params": lambda dtype: prices.params(), "macs": lambda dtype: prices.macs(), "size_bytes": prices.size_bytes}
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
    dtype = max(map(_sized_as, dtypes), key=counts.ACTIVATION_BYTES.__getitem__)
    for name, bound in bounds:
        space = within_peak(space, bound, dtype) if name == PEAK else space
    return space


def _sized_as(dtype: str | None) -> str:
    """The dtype by which a target's bytes are counted: what is not known counts as the largest."""
    return dtype if dtype in counts.FILE_BYTES else "float32"


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
    price = prices.peak_activation_bytes(dtype)

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
        limit = Limit(name, prices.matrix(space, ADDITIVE[name](_sized_as(dtype))), bound)
        low, high = limit.cost.range(blocks_lib.op_mask(space))
        if bound < low:
            raise InputError(f"No network of {space.name} keeps {name}<={bound:g}: "
                             f"they have {low:,.0f} to {high:,.0f} (--limit).")
        found.append(limit)
    return tuple(found)
