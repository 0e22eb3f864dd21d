"""TODO: docstring."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from pnas_tf.cost import latency_table
from pnas_tf.cost.limits import Limit
from pnas_tf.cost.prices import Cost
from pnas_tf.errors import InputError
from pnas_tf.space import blocks


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
        return goal_name(self.target, self.target_ms)

def goal_name(target: str, target_ms: float) -> str:
    """Of one goal among several, and of its folder in the run folder.

    Args:
        target: name of the table's target.
        target_ms: wanted milliseconds.
    """
    return f"{target}_{target_ms:g}ms"

# Of what a random network of the space takes: where to aim if no target is given.
DEFAULT_TARGET = 0.75


def feasible(search_space: blocks.Space, table: latency_table.LatencyTable, target_ms: float,
         bounds: Sequence[tuple[str, float]], keeps_ms: bool) -> Any:
    """What to look for on the target of a table.

    Args:
        search_space: fits the data.
        table: covers the space.
        target_ms: wanted milliseconds, or 0 for `DEFAULT_TARGET`.
        bounds: further limits by name, see `limits.ADDITIVE`.
        keeps_ms: whether the milliseconds are a limit.

    Returns:
        A `limits.Goal`.

    Raises:
        InputError: if no network of the space keeps all limits.
    """
    from pnas_tf.cost import limits, prices, within_limits
    from pnas_tf.space import blocks

    ms = prices.matrix(search_space, prices.milliseconds(table))
    high = ms.range(blocks.op_mask(search_space))[1]
    found = limits.additive(search_space, bounds, table.header.get("dtype"))
    random_ms = float(ms.expected(blocks.uniform_probs(search_space).astype("float32")))
    cheapest = within_limits.cheapest(search_space, ms, found)
    if cheapest is None:
        raise InputError(f"No network of {search_space.name} keeps {' and '.join(f'{n}<={b:g}' for n, b in bounds)} "
                         "together, though some keep each. Raise one (--limit).")
    low = prices.of_arch(cheapest, prices.milliseconds(table))
    target_ms = target_ms or max(low, DEFAULT_TARGET * random_ms)
    if keeps_ms and target_ms < low:
        raise InputError(f"No network of {search_space.name} takes {target_ms:g} ms on {table.target}"
                         f"{' and keeps the other limits' if bounds else ''}: ask for {low:.4g} to {high:.4g} ms "
                         "(--target_ms).")
    wanted = f"target {target_ms:.3g} ms" if keeps_ms else "latency is free"
    print(f"{table.target}: {low:.3g} to {high:.3g} ms, {wanted}"
          + "".join(f", {limit.name} at most {limit.bound:g}" for limit in found) + ".")
    return Goal(table.target, ms, target_ms, found, keeps_ms)
