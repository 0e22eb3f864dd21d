"""Times subjects in turns, again and again until repeats agree, and says how far they differ if they never do.

On a busy machine the same network takes 0.7 ms in one second and 1.0 ms in the next. A repeat visits all subjects in
turns for some seconds, so that all of them see the same machine. Repeats are trusted by `judge`.
"""

import dataclasses
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np

from export import timing

Name = TypeVar("Name", bound=str)

# Repeats that agree differ by at most this share; so do the visits of a repeat in which the machine was calm.
TOLERANCE = 0.10
# Number of repeats that have to agree, and least seconds and rounds of a repeat.
AGREEING, SECONDS, ROUNDS = 2, 2.0, 3
# Quantile of the visits of a repeat that stands for the undisturbed machine. It is compared with their median.
_QUICK = 0.1


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What repeats are worth.

    Attributes:
        steady: Whether enough repeats agree.
        counted: Indices of the repeats that count: those that agree, or all if there are not enough.
    """

    steady: bool
    counted: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Times(Generic[Name]):
    """Times of subjects.

    Attributes:
        steady: Whether the times can be trusted.
        repeats: Number of repeats.
        samples: Milliseconds [visits][runs] of each subject, in the repeats that count.
        spread_ms: Least and largest time of each subject in milliseconds, in one of the repeats that count or in all of
            them together: with few visits, the lower quartile of all can lie below those of the repeats.
    """

    steady: bool
    repeats: int
    samples: Mapping[Name, Sequence[Sequence[float]]]
    spread_ms: Mapping[Name, tuple[float, float]]


def judge(repeats: Sequence[Mapping[Name, Sequence[float]]]) -> Judgement:
    """Decides which repeats count.

    Other programs make a subject slower, rarely quicker. So a repeat agrees with the others if, for every subject,

        median(visits) <= 1.1 * quantile(visits, 0.1)      the machine was calm during the repeat
        time <= 1.1 * quickest time of all repeats         and not slow all the time

    with the time of a repeat as `timing.STATISTIC` says. Two slow repeats in a row are not enough to be trusted,
    because they are seldom calm, and because a quicker repeat reveals them.

    Args:
        repeats: Median milliseconds of each visit by subject, for each repeat.
    """
    times = [{name: timing.of_visits(visits) for name, visits in repeat.items()} for repeat in repeats]
    quickest = {name: min(each[name] for each in times) for name in times[0]}
    agreeing = tuple(
        number for number, (repeat, ms) in enumerate(zip(repeats, times, strict=True))
        if all(_calm(visits) for visits in repeat.values())
        and all(ms[name] <= (1 + TOLERANCE) * quickest[name] for name in ms))
    if len(agreeing) >= AGREEING:
        return Judgement(True, agreeing)
    return Judgement(False, tuple(range(len(repeats))))


def _calm(visits: Sequence[float]) -> bool:
    return float(np.median(visits)) <= (1 + TOLERANCE) * float(np.quantile(visits, _QUICK))


def in_turns(names: Sequence[Name], visit: Callable[[Name], list[float]], *, patience_seconds: float,
             waiting: Callable[[], None] = lambda: None, clock: Callable[[], float] = time.monotonic) -> Times[Name]:
    """Times subjects until repeats agree, or patience ends.

    Args:
        names: Names of the subjects.
        visit: Function that times one subject now and returns the milliseconds of its runs.
        patience_seconds: Seconds after which no further repeat is begun. At least two repeats are made; below 4, they
            are shorter than `SECONDS`.
        waiting: Function that is called once if the first repeats do not agree and are made again.
        clock: Function that returns the present time in seconds.
    """
    rng, begin = random.Random(0), clock()
    seconds = min(SECONDS, patience_seconds / AGREEING)
    repeats: list[dict[Name, list[list[float]]]] = []
    while True:
        repeats.append(_repeat(names, visit, seconds, rng, clock))
        judgement = judge([_medians(repeat) for repeat in repeats])
        if len(repeats) >= AGREEING and (judgement.steady or clock() - begin >= patience_seconds):
            return _times(repeats, judgement)
        if len(repeats) == AGREEING:
            waiting()


def _repeat(names, visit, seconds, rng, clock):
    """Visits all subjects in turns, in random order, for some seconds: milliseconds [visits][runs] of each."""
    begin, samples, order = clock(), {name: [] for name in names}, list(names)
    rounds = 0
    while rounds < ROUNDS or clock() - begin < seconds:
        rng.shuffle(order)
        for name in order:
            samples[name].append(visit(name))
        rounds += 1
    return samples


def _medians(repeat):
    return {name: [float(np.median(runs)) for runs in visits] for name, visits in repeat.items()}


def _times(repeats, judgement):
    counted = [repeats[number] for number in judgement.counted]
    samples = {name: [runs for repeat in counted for runs in repeat[name]] for name in counted[0]}
    ms = {name: [timing.summarise(visits)["median_ms"] for visits in (samples[name], *(each[name] for each in counted))]
          for name in samples}
    return Times(judgement.steady, len(repeats), samples, {name: (min(each), max(each)) for name, each in ms.items()})
