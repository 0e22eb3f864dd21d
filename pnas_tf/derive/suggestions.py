"""Networks worth scoring: those that the probabilities suggest, and those that need no search."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from pnas_tf.cost import prices, within_limits
from pnas_tf.cost.limits import Limit
from pnas_tf.cost.prices import Cost
from pnas_tf.run_folder.folder import FEWEST_SKIPS, MOST_MACS, MOST_PROBABLE
from pnas_tf.space import ops
from pnas_tf.space.blocks import Space

# Origin of a network, one of the names in `run_folder.folder`, and the network's op indices, int32 [choices].
Suggestion = tuple[str, np.ndarray]


def by_rule(space: Space, probs: np.ndarray, limits: Sequence[Limit], least: float) -> list[Suggestion]:
    """The most probable network within the limits, and two that need no search, which therefore has to beat them.

    These two are the network of most MACs, and that of most MACs among those that skip fewest blocks.

    Args:
        space: Space of the networks.
        probs: Probabilities, float [choices, ops].
        limits: Limits to keep; at least one.
        least: Share of the first limit's bound that a network uses at least.
    """
    macs = prices.matrix(space, prices.macs())
    suggested = ((MOST_PROBABLE, within_limits.most_probable(probs, limits, least)),
                 (MOST_MACS, within_limits.most_of(macs, limits, least)),
                 (FEWEST_SKIPS, within_limits.most_of(_unskipped(space, macs), limits, least)))
    return [(how, path) for how, path in suggested if path is not None]


def least_share(limits: Sequence[Limit]) -> float:
    """Smallest share of the first limit that networks use which use all they can.

    It is slightly less than the largest share that any network uses.
    """
    largest = within_limits.most_of(limits[0].cost, limits) if limits else None
    if largest is None:
        return 0.0
    return within_limits.USED_SHARE * limits[0].cost.of_path(largest) / limits[0].bound


def _unskipped(space: Space, macs: Cost) -> Cost:
    """MACs, and for each block that is not skipped more than all MACs together."""
    skips = np.array([[op == ops.ZERO for op in block.ops] + [False] * (macs.mask.shape[1] - len(block.ops))
                      for block in space.choices.values()])
    return dataclasses.replace(macs, matrix=macs.matrix + np.where(macs.mask & ~skips, 2 * macs.range[1], 0))
