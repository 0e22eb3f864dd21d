"""A lean towards large networks, which gain more from a training of their own than their losses in a supernet show.

An op of a supernet is trained in a share of a few epochs, and large ops learn most slowly. On NAS-Bench-Macro a lean
ranks networks better on each supernet, and those chosen are nearer to the best of all (benchmarks/NOTES.md). Its error
is as large as itself, so no network is preferred to a quicker one for the sake of the lean alone.
"""

import math

import numpy as np

from pnas_tf.cost.prices import Cost
from pnas_tf.derive.op_effects import OpEffects

# Deviation of the lean over the networks of a space, as a share of the deviation of their summed effects. Anything from
# 0.1 to 0.4 does about as well.
SHARE = 0.2


def towards(cost: Cost, effects: OpEffects) -> OpEffects:
    """Effects that make networks of larger cost expect a smaller loss.

        log loss = effects - SHARE * deviation(sum of effects) * (cost - mean(cost)) / deviation(cost)

    Mean and deviation are over all networks of the space; the sum is without the term for depth. Both are sums over
    choices, so the lean is one, too. Where filters are searched, the cost is the additive part around evenly drawn
    networks.

    Args:
        cost: What large networks have more of, such as MACs.
        effects: Effects of the ops of the space.
    """
    cost = cost.around(cost.mask / cost.mask.sum(1, keepdims=True))
    deviation = _deviation(cost.matrix.astype(np.float64), cost.mask)
    if deviation == 0:
        return effects
    slope = SHARE * _deviation(effects.matrix(), cost.mask) / deviation
    return effects.leaning(-slope * _centred(cost.matrix.astype(np.float64), cost.mask))


def _centred(matrix: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The entries of each choice less their mean, float64 [choices, ops]; 0 for entries that a choice lacks."""
    matrix = np.where(mask, matrix, 0.0)
    return np.where(mask, matrix - matrix.sum(1, keepdims=True) / mask.sum(1, keepdims=True), 0.0)


def _deviation(matrix: np.ndarray, mask: np.ndarray) -> float:
    """Standard deviation over all networks of the sum of their entries: the variances of the choices add up."""
    return math.sqrt(float(np.sum(np.square(_centred(matrix, mask)) / mask.sum(1, keepdims=True))))
