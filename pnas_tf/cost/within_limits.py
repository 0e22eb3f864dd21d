"""From probabilities to networks that keep every limit: the most probable one, and samples that use what is allowed.

One op for each choice, the sum of a cost within its bound: an integer program, small enough to solve exactly.
"""

from collections.abc import Sequence

import numpy as np

from pnas_tf.cost.limits import Limit
from pnas_tf.cost.prices import Cost
from pnas_tf.space import blocks
from pnas_tf.space.arch import Arch, from_path
from pnas_tf.space.blocks import Space
from pnas_tf.terminal import quiet

# Least share of the first limit that a candidate uses, if there are such networks: what is allowed but not used is
# accuracy given away.
USED_SHARE = 0.99
# Batches of random paths, and paths of a batch, drawn at most to find samples within the limits.
DRAWS, DRAWN = 50, 4096


def most_probable(space: Space, probs: np.ndarray) -> Arch:
    """The arch of the most probable op of each choice (paper section 3.3).

    Args:
        space: what was searched.
        probs: float [choices, ops], 0 for ops that a choice lacks.
    """
    return from_path(space, np.argmax(probs, axis=1))


def most_probable_within(space: Space, probs: np.ndarray, limits: Sequence[Limit], least: float = 0.0) -> Arch | None:
    """The most probable arch that keeps every limit: exact, by an integer program.

    Args:
        space: what was searched.
        probs: float [choices, ops], 0 for ops that a choice lacks.
        limits: to keep.
        least: of the first limit's bound, the share that the arch uses at least.

    Returns:
        The arch, or None if there is none.
    """
    if not limits:
        return most_probable(space, probs)
    path = _solve(space, np.log(np.maximum(probs.astype(np.float64), 1e-30)), limits, least)
    return None if path is None else from_path(space, path)


def cheapest(space: Space, cost: Cost, limits: Sequence[Limit]) -> Arch | None:
    """The arch of least cost that keeps every limit, or None if there is none."""
    path = _solve(space, -cost.matrix.astype(np.float64), limits, 0.0)
    return None if path is None else from_path(space, path)


def dearest(space: Space, limits: Sequence[Limit]) -> Arch | None:
    """The arch that uses most of the first limit and keeps every one, or None if there is none."""
    return most_of(space, limits[0].cost, limits, 0.0)


def most_of(space: Space, gain: Cost, limits: Sequence[Limit], least: float) -> Arch | None:
    """The arch with most of another cost, such as MACs, that keeps every limit; None if there is none.

    Args:
        space: what was searched.
        gain: what to have most of.
        limits: to keep.
        least: of the first limit's bound, the share that the arch uses at least.
    """
    path = _solve(space, gain.matrix.astype(np.float64), limits, least)
    return None if path is None else from_path(space, path)


def samples_within(probs: np.ndarray, limits: Sequence[Limit], least: float, count: int, seed: int) -> np.ndarray:
    """Different paths drawn by their probability among those that keep every limit and use most of the first.

    Where few do, probabilities are tilted towards costs near the first bound, by the factor exp(-t * cost) with the t
    that makes that cost expected: paths of equal cost keep their odds.

    Args:
        probs: float [choices, ops].
        limits: to keep; without one, plain samples are drawn.
        least: share of the first limit's bound that a path uses at least.
        count: paths wanted at most.
        seed: of the draws.

    Returns:
        int32 [found, choices], found <= count.
    """
    rng = np.random.default_rng(seed)
    if limits:
        probs = _tilted(probs, limits[0], 0.5 * (1.0 + least))
    cumulative = np.cumsum(probs, axis=1)
    found: dict[bytes, np.ndarray] = {}
    cumulative /= cumulative[:, -1:]
    for _ in range(DRAWS):
        drawn = rng.random((DRAWN, len(probs), 1))
        paths = np.argmax(cumulative[None] > drawn, axis=2).astype(np.int32)
        for path in paths[keeps(paths, limits, least)]:
            found.setdefault(path.tobytes(), path)
            if len(found) == count:
                return np.stack(list(found.values()))
    return np.stack(list(found.values())) if found else np.zeros((0, len(probs)), np.int32)


def keeps(paths: np.ndarray, limits: Sequence[Limit], least: float) -> np.ndarray:
    """Which paths keep every limit and use enough of the first.

    Args:
        paths: int [n, choices].
        limits: to keep.
        least: share of the first limit's bound that a path uses at least.

    Returns:
        bool [n].
    """
    kept, ops = np.ones(len(paths), bool), np.arange(paths.shape[1])
    for number, limit in enumerate(limits):
        costs = limit.cost.fixed + np.sum(limit.cost.matrix.astype(np.float64)[ops, paths], axis=1)
        kept &= costs <= limit.bound * (1 + 1e-9)
        if number == 0:
            kept &= costs >= least * limit.bound
    return kept


def _tilted(probs, limit, share):
    """Probs times exp(-t * cost), normalised, with t such that the expected cost is a share of the bound."""
    costs, wanted = limit.cost.matrix.astype(np.float64), share * limit.bound - limit.cost.fixed
    unit = max(float(costs.max()), 1e-12)
    low, high = -200.0, 200.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        logits = np.where(probs > 0, np.log(np.maximum(probs, 1e-30)) - middle * costs / unit, -np.inf)
        tilted = np.exp(logits - logits.max(1, keepdims=True))
        tilted /= tilted.sum(1, keepdims=True)
        low, high = (middle, high) if np.sum(tilted * costs) > wanted else (low, middle)
    return tilted


def _solve(space, gain, limits, least):
    """The path of largest summed gain [choices, ops] that keeps every limit, or None."""
    from scipy import optimize, sparse

    mask = blocks.op_mask(space)
    rows = np.nonzero(mask)[0]
    one_each = sparse.csr_array((np.ones(len(rows)), (rows, np.arange(len(rows)))))
    constraints = [optimize.LinearConstraint(one_each, 1, 1)]
    for number, limit in enumerate(limits):
        # In shares of what the choices may use, so that the solver's tolerance is one of shares, too.
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
