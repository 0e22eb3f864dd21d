"""From probabilities to an arch."""

import numpy as np

from pnas_tf.arch import Arch, from_path
from pnas_tf.cost import Cost
from pnas_tf.space import Space

# Partial networks kept at most while looking for the most probable one within a limit.
MAX_FRONTIER = 200_000


def most_probable(space: Space, probs: np.ndarray) -> Arch:
    """The arch of the most probable op of each choice (paper section 3.3).

    Args:
        space: what was searched.
        probs: float [choices, ops], 0 for ops that a choice lacks.
    """
    return from_path(space, np.argmax(probs, axis=1))


def most_probable_within(space: Space, probs: np.ndarray, cost: Cost, limit: float) -> Arch | None:
    """The most probable arch whose cost is at most a limit.

    Exact, by going through the choices and keeping, of all partial networks, those that no other one beats in
    both probability and cost. Should there be more than `MAX_FRONTIER` of them, costs are rounded up to a
    fine grid: the result then still keeps the limit.

    Args:
        space: what was searched.
        probs: float [choices, ops], 0 for ops that a choice lacks.
        cost: of each op, same shape.
        limit: in the cost's unit, fixed part included.

    Returns:
        The arch, or None if no network keeps the limit.
    """
    # The cheapest that the choices from each one on can be.
    allowed = np.arange(probs.shape[1]) < np.array([len(block.ops) for block in space.choices.values()])[:, None]
    least = np.where(allowed, cost.matrix, np.inf).min(1).astype(np.float64)
    rest = np.append(np.cumsum(least[::-1])[::-1], 0.0)
    costs, scores, history = np.array([float(cost.fixed)]), np.zeros(1), []
    for row in range(len(probs)):
        ops = np.flatnonzero(allowed[row])
        total = (costs[:, None] + cost.matrix[row, ops].astype(np.float64)).ravel()
        score = (scores[:, None] + np.log(np.maximum(probs[row, ops].astype(np.float64), 1e-300))).ravel()
        keep = _frontier(total, score, limit - rest[row + 1])
        if not len(keep):
            return None
        costs, scores = total[keep], score[keep]
        history.append((keep // len(ops), ops[keep % len(ops)]))
    index, path = int(np.argmax(scores)), []
    for parents, chosen in reversed(history):
        path.append(int(chosen[index]))
        index = int(parents[index])
    return from_path(space, path[::-1])


def _frontier(costs, scores, limit):
    """Positions of the partial networks within the limit that are the best for what they cost."""
    kept = np.flatnonzero(costs <= limit * (1 + 1e-9))
    for cells in (None, MAX_FRONTIER):
        prices = costs[kept] if cells is None else np.ceil(costs[kept] / limit * cells)
        order = kept[np.lexsort((-scores[kept], prices))]
        best = np.maximum.accumulate(scores[order])
        improves = np.append(True, scores[order][1:] > best[:-1]) if len(order) else np.zeros(0, bool)
        if improves.sum() <= MAX_FRONTIER:
            break
    return order[improves]
