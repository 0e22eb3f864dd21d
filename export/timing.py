"""How things are timed: interleaved rounds, so that a busy moment of the machine does not fall on one of them alone."""

import random
import time
from collections.abc import Callable, Sequence

import numpy as np

# A busy machine only ever makes a run slower, and for longer than a run. So: the median inside a round, against
# single slow runs, and the best round, against slow moments.
STATISTIC = "median_ms is the minimum over rounds of the round's median"

WARMUP_RUNS = 2


def interleaved_ms(subjects: Sequence[Callable[[], object]], *, rounds: int, runs: int,
                   before: Callable[[int], object] | None = None, seed: int = 0) -> list[list[list[float]]]:
    """Times every subject in every round, in an order drawn anew for each round.

    Args:
        subjects: calls to time; each returns when its work is done.
        rounds: passes over the subjects.
        runs: timed calls of each subject in a round.
        before: called with the subject's position before each timed call, not timed itself.
        seed: of the order.

    Returns:
        Milliseconds [subjects][rounds][runs].
    """
    order, rng = list(range(len(subjects))), random.Random(seed)
    samples: list[list[list[float]]] = [[] for _ in subjects]
    for _ in range(rounds):
        rng.shuffle(order)
        for position in order:
            for _ in range(WARMUP_RUNS):
                subjects[position]()
            samples[position].append([_timed_ms(subjects[position], before, position) for _ in range(runs)])
    return samples


def _timed_ms(subject, before, position):
    if before:
        before(position)
    begin = time.perf_counter()
    subject()
    return (time.perf_counter() - begin) * 1000


def summarise(samples: Sequence[Sequence[float]]) -> dict[str, float]:
    """The figures of a table row.

    Args:
        samples: milliseconds [rounds][runs] of one subject.

    Returns:
        median_ms as `STATISTIC` says; min_ms, mean_ms, std_ms and runs over all samples.
    """
    flat = np.concatenate([np.asarray(round_ms, np.float64) for round_ms in samples])
    return {"median_ms": float(min(np.median(round_ms) for round_ms in samples)), "min_ms": float(flat.min()),
            "mean_ms": float(flat.mean()), "std_ms": float(flat.std()), "runs": len(flat)}
