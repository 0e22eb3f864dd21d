"""Evolution on a supernet: children of the best networks so far, each scored by its inherited loss."""

from collections.abc import Callable, Sequence

import numpy as np

# Networks of the first population, children after it, and the size of the population that parents come from.
FIRST, CHILDREN, PARENTS = 64, 64, 16
# Probability that a child has another op than its parent at a choice, and number of draws for a child that fits.
MUTATION, DRAWS = 0.2, 1000


def evolve(random: np.ndarray, losses: Sequence[float], loss: Callable[[np.ndarray], float],
           fits: Callable[[np.ndarray], bool], ops: Sequence[int], seed: int) -> np.ndarray | None:
    """The network of least loss after `CHILDREN` mutations of networks among the best so far; None if none fits.

    Args:
        random: Random networks, op indices, int [networks, choices]; the first `FIRST` that fit are the population.
        losses: Their losses.
        loss: Function from a network to its loss.
        fits: Function that tells whether a network is within the target.
        ops: Number of ops of each choice.
        seed: Seed of parents and mutations.
    """
    rng = np.random.default_rng(seed)
    fitting = [number for number, path in enumerate(random) if fits(path)][:FIRST]
    known = {tuple(map(int, random[number])): losses[number] for number in fitting}
    if not known:
        return None
    for _ in range(CHILDREN):
        best = sorted(known, key=known.__getitem__)[:PARENTS]
        child = _child(best, fits, ops, known, rng)
        if child is None:
            break
        known[child] = loss(np.array(child, np.int32))
    return np.array(min(known, key=known.__getitem__), np.int32)


def _child(parents, fits, ops, known, rng) -> tuple[int, ...] | None:
    """A mutation of a random parent that fits and is new, or None if `DRAWS` draws give none."""
    for _ in range(DRAWS):
        parent = np.array(parents[rng.integers(len(parents))])
        child = np.where(rng.random(len(ops)) < MUTATION, rng.integers(ops), parent).astype(np.int32)
        if tuple(map(int, child)) not in known and fits(child):
            return tuple(map(int, child))
    return None
