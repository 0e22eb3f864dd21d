"""Networks that keep every limit: the most probable one, the cheapest, the largest, and random samples.

Choosing one op for each choice, with the sum of each cost within its bound, is an integer program that is small enough
to solve exactly.
Networks are given as paths, op indices int32 [choices].
"""

from collections.abc import Sequence

import numpy as np

from pnas_tf.cost.limits import Limit
from pnas_tf.cost.prices import Cost
from pnas_tf.terminal import quiet

# Candidates use at least this share of the first limit, where such networks exist: unused milliseconds give accuracy
# away.
USED_SHARE = 0.99
# Largest number of batches of random paths, and number of paths in each batch.
DRAWS, DRAWN = 50, 4096


def most_probable(probs: np.ndarray, limits: Sequence[Limit] = (), least: float = 0.0) -> np.ndarray | None:
    """The most probable network that keeps every limit (paper section 3.3).

        argmax over paths of sum over choices of ln probs[choice, path[choice]]

    Args:
        probs: Probabilities, float [choices, ops]; 0 for ops that a choice lacks.
        limits: Limits to keep; without one, the result is the most probable op of each choice.
        least: Share of the first limit's bound that the network uses at least.

    Returns:
        The path, or None if no network keeps the limits.
    """
    if not limits:
        return np.argmax(probs, axis=1).astype(np.int32)
    return _solve(np.log(np.maximum(probs.astype(np.float64), 1e-30)), limits[0].cost.mask, limits, least)


def cheapest(cost: Cost, limits: Sequence[Limit]) -> np.ndarray | None:
    """The path of the cheapest network that keeps every limit, or None if there is none."""
    return _solve(-cost.matrix.astype(np.float64), cost.mask, limits, 0.0)


def most_of(cost: Cost, limits: Sequence[Limit], least: float = 0.0) -> np.ndarray | None:
    """The network with the largest cost, such as MACs, that keeps every limit.

    Args:
        cost: Cost to maximise.
        limits: Limits to keep.
        least: Share of the first limit's bound that the network uses at least.

    Returns:
        The path, or None if no network keeps the limits.
    """
    return _solve(cost.matrix.astype(np.float64), cost.mask, limits, least)


def samples(probs: np.ndarray, limits: Sequence[Limit], least: float, count: int, seed: int) -> np.ndarray:
    """Different paths drawn by their probability among those that keep every limit and use most of the first.

    If few paths qualify, the probabilities are tilted towards costs near the first bound, so that paths of equal cost
    keep their odds:

        tilted[choice, op] = probs[choice, op] * exp(-t * matrix[choice, op]) / normaliser

    with the t that puts the expected cost in the middle of the allowed range.

    Args:
        probs: Probabilities, float [choices, ops].
        limits: Limits to keep; without one, plain samples are drawn.
        least: Share of the first limit's bound that a path uses at least.
        count: Largest number of paths.
        seed: Seed of the random paths.

    Returns:
        Paths, int32 [at most count, choices].
    """
    rng = np.random.default_rng(seed)
    if limits:
        probs = _tilted(probs, limits[0], 0.5 * (1.0 + least))
    cumulative = np.cumsum(probs, axis=1)
    cumulative /= cumulative[:, -1:]
    distinct: dict[bytes, np.ndarray] = {}
    for _ in range(DRAWS):
        drawn = rng.random((DRAWN, len(probs), 1))
        paths = np.argmax(cumulative[None] > drawn, axis=2).astype(np.int32)
        for path in paths[keeps(paths, limits, least)]:
            distinct.setdefault(path.tobytes(), path)
            if len(distinct) == count:
                return np.stack(list(distinct.values()))
    return np.stack(list(distinct.values())) if distinct else np.zeros((0, len(probs)), np.int32)


def keeps(paths: np.ndarray, limits: Sequence[Limit], least: float) -> np.ndarray:
    """Tells which paths keep every limit and use enough of the first.

    Args:
        paths: Op indices, int [networks, choices].
        limits: Limits to keep.
        least: Share of the first limit's bound that a path uses at least.

    Returns:
        bool [networks].
    """
    kept = np.ones(len(paths), bool)
    for number, limit in enumerate(limits):
        costs = limit.cost.of_paths(paths)
        kept &= costs <= limit.bound * (1 + 1e-9)
        if number == 0:
            kept &= costs >= least * limit.bound
    return kept


def _tilted(probs: np.ndarray, limit: Limit, share: float) -> np.ndarray:
    """`probs * exp(-t * cost)`, normalised, with the t that makes the expected cost a share of the bound."""
    costs, aim = limit.cost.matrix.astype(np.float64), share * limit.bound - limit.cost.fixed
    unit = max(float(costs.max()), 1e-12)
    low, high = -200.0, 200.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        logits = np.where(probs > 0, np.log(np.maximum(probs, 1e-30)) - middle * costs / unit, -np.inf)
        tilted = np.exp(logits - logits.max(1, keepdims=True))
        tilted /= tilted.sum(1, keepdims=True)
        low, high = (middle, high) if np.sum(tilted * costs) > aim else (low, middle)
    return tilted


def _solve(gain: np.ndarray, mask: np.ndarray, limits: Sequence[Limit], least: float) -> np.ndarray | None:
    """The path of largest summed gain, float64 [choices, ops], that keeps every limit; None if there is none."""
    from scipy import optimize, sparse

    rows = np.nonzero(mask)[0].astype(np.int32)  # milp of SciPy 1.11 reads no other integers
    one_each = sparse.csr_array((np.ones(len(rows)), (rows, np.arange(len(rows), dtype=np.int32))))
    constraints = [optimize.LinearConstraint(one_each, 1, 1)]
    for number, limit in enumerate(limits):
        # Scaled to the part of the bound that the choices may use, so that the solver's tolerance is relative, too.
        room = limit.bound - limit.cost.fixed
        if room < 0:
            return None
        low = least * limit.bound - limit.cost.fixed if number == 0 and least else -np.inf
        unit = room or 1.0
        constraints.append(optimize.LinearConstraint(limit.cost.matrix[mask].astype(np.float64)[None] / unit,
                                                     low / unit, room / unit * (1 - 1e-6)))
    with quiet():  # HiGHS prints lines of its own now and then
        result = optimize.milp(-gain[mask], integrality=np.ones(len(rows)), bounds=optimize.Bounds(0, 1),
                               constraints=constraints, options={"mip_rel_gap": 0.0, "time_limit": 60.0})
    if result.x is None:
        return None
    chosen = np.full(mask.shape, -1.0)
    chosen[mask] = result.x
    path = np.argmax(chosen, axis=1).astype(np.int32)
    return path if keeps(path[None], limits, 0.0)[0] else None
