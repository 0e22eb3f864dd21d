"""Networks that keep every limit: the most probable one, the cheapest, the largest, and random samples.

Choosing one op for each choice, with the sum of each cost within its bound, is an integer program that is small enough
to solve exactly.
Networks are given as paths, op indices int32 [choices].
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pnas_tf.cost.limits import Limit
from pnas_tf.cost.prices import Cost
from pnas_tf.errors import InputError
from pnas_tf.terminal import quiet

# Candidates use at least this share of the first limit, where such networks exist: unused milliseconds give accuracy
# away.
USED_SHARE = 0.99
# Seconds for an integer program. Those of the shipped spaces take up to a few seconds.
SECONDS = 60.0
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
    log_probs = np.log(np.maximum(probs.astype(np.float64), 1e-30))
    return _solve([Cost(log_probs, 0.0, limits[0].cost.mask)], limits, least)


def cheapest(cost: Cost, limits: Sequence[Limit]) -> np.ndarray | None:
    """The path of the cheapest network that keeps every limit, or None if there is none."""
    return _solve([cost], limits, 0.0, sign=-1.0)


def most_of(cost: Cost, limits: Sequence[Limit], least: float = 0.0) -> np.ndarray | None:
    """The network with the largest cost, such as MACs, that keeps every limit.

    Args:
        cost: Cost to maximise.
        limits: Limits to keep.
        least: Share of the first limit's bound that the network uses at least.

    Returns:
        The path, or None if no network keeps the limits.
    """
    return _solve([cost], limits, least)


def most_of_least(gains: Sequence[Cost], limits: Sequence[Limit]) -> np.ndarray | None:
    """The network whose least gain of several is largest, and that keeps every limit.

    The least of several sums is a concave function: so may a sum be replaced that has a concave term.

    Args:
        gains: Gains, at least one.
        limits: Limits to keep.

    Returns:
        The path, or None if no network keeps the limits.
    """
    return _solve(gains, limits, 0.0)


def samples(probs: np.ndarray, limits: Sequence[Limit], least: float, count: int, seed: int) -> np.ndarray:
    """Different paths drawn by their probability among those that keep every limit and use most of the first.

    Where there is a limit, the probabilities are tilted towards costs near the first bound, so that paths of equal
    cost keep their odds:

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
    """`probs * exp(-t * cost)`, normalised, with the t that makes the expected cost a share of the bound.

    Of a cost with terms, the exponent has the part that is additive around `probs`.
    """
    costs, aim = limit.cost.around(probs).matrix.astype(np.float64), share * limit.bound
    unit = max(float(costs.max()), 1e-12)
    low, high = -200.0, 200.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        logits = np.where(probs > 0, np.log(np.maximum(probs, 1e-30)) - middle * costs / unit, -np.inf)
        tilted = np.exp(logits - logits.max(1, keepdims=True))
        tilted /= tilted.sum(1, keepdims=True)
        low, high = (middle, high) if limit.cost.expected(tilted) > aim else (low, middle)
    return tilted


def _solve(gains: Sequence[Cost], limits: Sequence[Limit], least: float, sign: float = 1.0) -> np.ndarray | None:
    """The path of largest gain that keeps every limit; None if there is none.

    Args:
        gains: Gain of each op; its mask tells which ops may be taken. Of several, the least counts.
        limits: Limits to keep.
        least: Share of the first limit's bound that the network uses at least.
        sign: 1 for the largest gain, -1 for the smallest of a single one.

    Raises:
        InputError: If the solver needs longer than `SECONDS`.
    """
    from scipy import optimize

    costs = (*gains, *(limit.cost for limit in limits))
    program = _Program(gains[0].mask, dict.fromkeys(term.choices for cost in costs for term in cost.terms))
    constraints = [optimize.LinearConstraint(*program.consistency())]
    objective = program.coefficients(gains[0])
    if len(gains) > 1:
        objective = program.reached
        constraints += [optimize.LinearConstraint((program.coefficients(gain) - program.reached)[None], -gain.fixed,
                                                  np.inf) for gain in gains]
    for number, limit in enumerate(limits):
        # Scaled to the part of the bound that the choices may use, so that the solver's tolerance is relative, too.
        room = limit.bound - limit.cost.fixed
        if room < 0:
            return None
        low = least * limit.bound - limit.cost.fixed if number == 0 and least else -np.inf
        unit = room or 1.0
        constraints.append(optimize.LinearConstraint(program.coefficients(limit.cost)[None] / unit,
                                                     low / unit, room / unit * (1 - 1e-6)))
    with quiet():  # HiGHS prints lines of its own now and then
        result = optimize.milp(-sign * objective, integrality=program.is_whole,
                               bounds=optimize.Bounds(*program.bounds()), constraints=constraints,
                               options={"mip_rel_gap": 0.0, "time_limit": SECONDS})
    if result.status == 1:
        raise InputError(f"The best network within the limits was not found in {SECONDS:g} s. Leave out a --limit, or "
                         "search a smaller space.")
    if result.x is None:
        return None
    path = program.path(result.x)
    return path if keeps(path[None], limits, 0.0)[0] else None


class _Program:
    """The variables of the integer program: one for each op of each choice, and one for each combination in a term.

    The last one is free: what the least of several gains reaches. Of the others, a variable is 1 for what the network
    has. That of a combination needs no condition that it is whole: sums of them over all but one choice equal the
    variable of that choice's op.

    Attributes:
        is_whole: Whether each variable has to be a whole number, 0 or 1, int [variables].
        reached: 1 for the free variable, 0 for all others, float64 [variables].
    """

    def __init__(self, mask: np.ndarray, combined: Iterable[tuple[int, ...]]):
        """
        Args:
            mask: Ops that may be taken, bool [choices, ops].
            combined: Choices of each kind of term, all different.
        """
        self._mask, self._number = mask, np.where(mask, np.cumsum(mask).reshape(mask.shape) - 1, -1)
        count = int(mask.sum())
        self._combinations: dict[tuple[int, ...], np.ndarray] = {}
        for choices in combined:  # ops of each combination, and the number of its variable in the last column
            ops = np.array(list(itertools.product(*(np.nonzero(mask[choice])[0] for choice in choices))))
            self._combinations[choices] = np.column_stack([ops, count + np.arange(len(ops))])
            count += len(ops)
        self.is_whole = (np.arange(count + 1) < mask.sum()).astype(int)
        self.reached = np.append(np.zeros(count), 1.0)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest value of each variable."""
        free = self.reached > 0
        return np.where(free, -np.inf, 0.0), np.where(free, np.inf, 1.0)

    def consistency(self) -> tuple[Any, np.ndarray, np.ndarray]:
        """Matrix and bounds: one op for each choice, and combinations that agree with the ops."""
        from scipy import sparse

        rows, columns = list(np.nonzero(self._mask)[0]), list(range(int(self._mask.sum())))
        values, sums = [1.0] * len(rows), [1.0] * len(self._mask)
        for choices, combinations in self._combinations.items():
            for axis, choice in enumerate(choices):
                for op in np.nonzero(self._mask[choice])[0]:
                    having = combinations[combinations[:, axis] == op, -1]
                    rows += [len(sums)] * (len(having) + 1)
                    columns += [*having, self._number[choice, op]]
                    values += [*np.ones(len(having)), -1.0]
                    sums.append(0.0)
        # milp of SciPy 1.11 reads no other integers than of 32 bits.
        places = np.array(rows, np.int32), np.array(columns, np.int32)
        return sparse.csr_array((values, places), shape=(len(sums), len(self.is_whole))), np.array(sums), np.array(sums)

    def coefficients(self, cost: Cost) -> np.ndarray:
        """The cost of each variable, float64 [variables]."""
        result = np.zeros(len(self.is_whole))
        result[self._number[self._mask]] = cost.matrix[self._mask]
        for choices, values in cost.terms:
            *ops, variables = self._combinations[choices].T
            result[variables] += values[tuple(ops)]
        return result

    def path(self, solution: np.ndarray) -> np.ndarray:
        """Op indices of a solution, int32 [choices]."""
        chosen = np.full(self._mask.shape, -1.0)
        chosen[self._mask] = solution[self._number[self._mask]]
        return np.argmax(chosen, axis=1).astype(np.int32)
