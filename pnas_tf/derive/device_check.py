"""Times the finalists on the device before one is delivered; finalists that keep the target come first.

A table's sum is off by a percent or two for a single network, and a search exploits the table's errors: it drifts
towards networks whose latency the table underestimates. So the networks are checked on the device that they are for.
"""

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence

from pnas_tf.cost.goal import Goal
from pnas_tf.derive.finalists import Finalist
from pnas_tf.run_folder import RunFolder
from pnas_tf.space.arch import Arch

# Function that returns the milliseconds of whole networks, at the pace that the device had when the table was made. The
# times are kept in the given run folder, and no network is measured twice.
Timer = Callable[[Sequence[Arch], RunFolder], list[float]]
# Function from a goal to finalists that keep its limits according to the table, see `finalists.suggested`.
Suggest = Callable[[Goal], list[Finalist]]

# Number of finalists timed in a round, and largest number of rounds.
COUNT, ROUNDS = 8, 3
# Smallest share of the target that a network uses on the device: its time is measured to about a percent.
USED_SHARE = 0.98


def run(suggest: Suggest, goal: Goal, timer: Timer, folder: RunFolder) -> list[Finalist]:
    """Finalists, of which only those that take 98 to 100 % of the target on the device are eligible.

    If there are none, the table is off by about the same factor for all networks that this search prefers. The target
    is then divided by that factor, and the finalists suggested for the new target are timed, too.

    Args:
        suggest: Function that returns the finalists of a goal, best first.
        goal: Goal with the target in milliseconds.
        timer: Timer of its device.
        folder: Folder of the goal's results, which keeps the times.

    Returns:
        Every suggested finalist, best first; timed finalists have their measured_ms. If none fits, only the finalist
        nearest to the target is eligible, if possible one below the target.
    """
    finalists: dict[str, Finalist] = {}
    aim = goal
    for _ in range(ROUNDS):
        suggested = {finalist.arch.fingerprint(): finalist for finalist in reversed(suggest(aim))}
        finalists = suggested | finalists  # finalists that were timed before keep their time
        untimed = [finalist for finalist in _by_loss(suggested.values())
                   if finalist.eligible and finalists[finalist.arch.fingerprint()].measured_ms is None][:COUNT]
        if not untimed:
            break
        print(f"Timing {len(untimed)} finalists on {goal.target}.", flush=True)
        times = timer([finalist.arch for finalist in untimed], folder)
        finalists |= {finalist.arch.fingerprint(): dataclasses.replace(finalist, measured_ms=ms)
                      for finalist, ms in zip(untimed, times, strict=True)}
        if any(_fits(finalist, goal) for finalist in finalists.values()):
            break
        factor = statistics.median(ms / finalist.costs["ms"] for finalist, ms in zip(untimed, times, strict=True))
        aim = dataclasses.replace(goal, target_ms=goal.target_ms / factor)
    return judged(_by_loss(finalists.values()), goal)


def judged(finalists: Sequence[Finalist], goal: Goal) -> list[Finalist]:
    """The finalists, with those eligible whose measured_ms fits the target; if none does, the nearest finalist."""
    fitting = [finalist for finalist in finalists if _fits(finalist, goal)]
    # Below the target, the slowest network is nearest; above it, the quickest, which counts only if none is below.
    off = [(finalist.measured_ms - goal.target_ms, finalist) for finalist in finalists
           if finalist.measured_ms is not None]
    fitting = fitting or [finalist for _, finalist in sorted(off, key=lambda pair: (pair[0] > 0, abs(pair[0])))[:1]]
    return [dataclasses.replace(finalist, eligible=finalist in fitting) for finalist in finalists]


def _by_loss(finalists: Iterable[Finalist]) -> list[Finalist]:
    return sorted(finalists, key=lambda finalist: finalist.rank_loss)


def _fits(finalist: Finalist, goal: Goal) -> bool:
    return finalist.measured_ms is not None and USED_SHARE * goal.target_ms <= finalist.measured_ms <= goal.target_ms
