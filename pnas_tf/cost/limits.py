"""Limits on a network: milliseconds on a target, parameters, MACs, bytes of its file, of its activations and of SRAM.

To add a limit, add a price to `ADDITIVE`.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

from pnas_tf.cost import prices
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.cost.prices import Cost
from pnas_tf.errors import InputError
from pnas_tf.space import ops
from pnas_tf.space.blocks import Space

# Prices by the name of the limit, for a target's dtype. A network's cost is the sum over its ops.
ADDITIVE: dict[str, Callable[[str], prices.Price]] = {
    "params": lambda dtype: prices.params(), "macs": lambda dtype: prices.macs(), "size_bytes": prices.size_bytes}
# The peak of a network is that of its most expensive op, so this limit removes single ops and needs no multiplier.
PEAK = "peak_activation_bytes"
# The peak of SRAM in a compiler's plan (`latency.vela`). It is near that of the network's most expensive op, but not
# equal to it: the compiler fetches the weights of an op while the op before runs. So this limit removes the ops that
# need more alone, and finalists are compiled as whole networks before one is delivered (`derive.device_check`).
SRAM = "sram_bytes"

# A limit as the user gives it: name and bound.
Bound = tuple[str, float]


@dataclasses.dataclass(frozen=True)
class Limit:
    """An upper bound on one additive cost.

    Attributes:
        name: Name of the cost, `ms` or one of `ADDITIVE`.
        cost: Cost of each op.
        bound: Bound in the cost's unit, which no delivered network exceeds.
    """

    name: str
    cost: Cost
    bound: float


def parse(text: str) -> Bound:
    """Splits `params<=3e6` into name and bound.

    Raises:
        InputError: If the text is not a limit.
    """
    name, separator, value = text.partition("<=")
    name = name.strip()
    try:
        bound = float(value)
    except ValueError:
        bound = math.nan
    names = (*ADDITIVE, PEAK, SRAM)
    if not separator or name not in names or not 0 < bound < math.inf:
        raise InputError(f"A limit reads NAME<=NUMBER with NAME one of {', '.join(names)} (milliseconds have "
                         f"--target_ms), got {text[:60]!r}.")
    return name, bound


def of_whole_networks(bounds: Sequence[Bound]) -> tuple[Bound, ...]:
    """The limits that only a whole network on its device shows to be kept."""
    return tuple(bound for bound in bounds if bound[0] == SRAM)


def refuse_whole_networks(bounds: Sequence[Bound]) -> None:
    """Raises InputError if there are limits `of_whole_networks`, in a search that does not measure its finalists."""
    for name, _ in of_whole_networks(bounds):
        raise InputError(f"{name} of a network is known when the whole network is compiled for its device. Search with "
                         "python -m latency.search, which does so with the finalists (same flags, with a target in "
                         "milliseconds).")


def within_peaks(space: Space, bounds: Sequence[Bound], tables: Sequence[LatencyTable]) -> Space:
    """The space without the ops that break a bound on peak memory.

    Args:
        space: Space to search.
        bounds: Limits; only those on peak memory have an effect.
        tables: Tables of the targets. The dtype with the largest activations counts, and the SRAM on each target.

    Raises:
        InputError: If a block has no op within a bound, a table does not have the SRAM of its ops, or the space is not
            a chain of blocks.
    """
    for name, bound in bounds:
        if name == PEAK:
            from pnas_tf.network import counts

            dtypes = [_counted_dtype(table.header.get("dtype")) for table in tables]
            largest = max(dtypes, key=counts.ACTIVATION_BYTES.__getitem__)
            space = within_peak(space, name, bound, prices.peak_activation_bytes(largest))
        elif name == SRAM:
            for table in tables:
                space = within_peak(space, name, bound, prices.sram_bytes(table))
    return space


def _counted_dtype(dtype: str | None) -> str:
    """The dtype by which a target's bytes are counted: float32, the largest, if its table does not state one."""
    from pnas_tf.network import counts

    return dtype if dtype in counts.FILE_BYTES else "float32"


def within_peak(space: Space, name: str, bound: float, price: prices.Price) -> Space:
    """The space without the ops that need more memory than a bound on their own.

    A network's peak of activations is that of its most expensive block, so these are exactly the ops that no network
    within the bound can have.

    Args:
        space: Space to search.
        name: Name of the limit.
        bound: Bytes for one image.
        price: Bytes of each op.

    Raises:
        InputError: If a block has no op within the bound, or the space is not a chain of blocks.
    """
    if space.width_choices:
        raise InputError(f"{name}: this limit removes single ops, which need less memory at smaller widths, and "
                         f"{space.name} searches filters. Leave it out, or give each block one number of filters.")
    if not space.is_chain:
        raise InputError(f"{name}: this limit works only for chains of blocks, and {space.name} has blocks whose "
                         "outputs are in memory at the same time. Leave it out, or limit macs or size_bytes.")
    def peak(block, op):
        return 0.0 if op == ops.ZERO else price(block.name, space.op_key(block, op))

    least = {block.name: min(peak(block, op) for op in block.ops) for block in space.all_blocks}
    worst = max(least, key=least.__getitem__)
    if least[worst] > bound:
        raise InputError(f"No network of {space.name} keeps {name}<={bound:g}: block {worst} alone needs "
                         f"{least[worst]:,.0f} bytes. Raise the limit or lower --image_size or --width_mult.")

    def thinned(blocks):
        return tuple(dataclasses.replace(block, ops=tuple(op for op in block.ops if peak(block, op) <= bound))
                     for block in blocks)

    return dataclasses.replace(space, stem=thinned(space.stem), blocks=thinned(space.blocks), head=thinned(space.head))


def additive(space: Space, bounds: Sequence[Bound], dtype: str | None) -> tuple[Limit, ...]:
    """Limits on additive costs, priced for a space.

    Args:
        space: Space to search.
        bounds: Names of `ADDITIVE` with their bounds; bounds on peaks are ignored.
        dtype: Dtype of the target, as its table states it.

    Raises:
        InputError: If there is a limit that no network of the space keeps.
    """
    limits = []
    for name, bound in bounds:
        if name not in ADDITIVE:
            continue
        limit = Limit(name, prices.matrix(space, ADDITIVE[name](_counted_dtype(dtype))), bound)
        low, high = limit.cost.range
        if bound < low:
            raise InputError(f"No network of {space.name} keeps {name}<={bound:g}: "
                             f"they have {low:,.0f} to {high:,.0f} (--limit).")
        limits.append(limit)
    return tuple(limits)
