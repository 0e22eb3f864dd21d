"""The device itself has a say in the last choice: finalists are timed whole, and those that keep their time come first.

A table's sum is a percent or two off for a single network, and a search goes where the table takes networks for quicker
than they are. So what is delivered is checked before, on the device that it is for.
"""

import dataclasses
import statistics
from collections.abc import Callable, Sequence

from pnas_tf.cost.goal import Goal
from pnas_tf.derive.finalists import Finalist
from pnas_tf.space.arch import Arch

# Milliseconds of whole networks at the pace of the table's time. They are kept in the folder that is named: of the same
# networks, they are not measured again.
Timer = Callable[[Sequence[Arch], str], list[float]]
# From a goal to finalists that keep its limits by the table, see `finalists.suggested`.
Suggest = Callable[[Goal], list[Finalist]]

# Finalists timed in a round, and rounds at most.
COUNT, ROUNDS = 8, 3
# Least share of the wanted milliseconds that a network uses on the device: its time is measured to about a percent.
USED_SHARE = 0.98


def run(suggest: Suggest, goal: Goal, timer: Timer, folder: str) -> list[Finalist]:
    """Finalists of which those are eligible that take 98 to 100 % of the wanted milliseconds on the device.

    If there are none, the table is off for the networks that this search likes, by about the same for all of them. So
    it is asked for as much less or more, and what it then suggests is timed, too.

    Args:
        suggest: the finalists of a goal, best first.
        goal: whose milliseconds are wanted.
        timer: of its device.
        folder: of the goal's results, for the times.

    Returns:
        All that were suggested, best first, those that were timed with their measured_ms. If none fits, the one
        nearest to what is wanted is eligible, if possible not above.
    """
    known: dict[str, Finalist] = {}
    aim = goal
    for _ in range(ROUNDS):
        suggested = {one.arch.fingerprint(): one for one in reversed(suggest(aim))}
        known = suggested | known  # of those that were timed before, with their time
        new = [one for one in _by_loss(suggested.values())
               if one.eligible and known[one.arch.fingerprint()].measured_ms is None][:COUNT]
        if not new:
            break
        print(f"Timing {len(new)} finalists on {goal.target}.", flush=True)
        times = timer([one.arch for one in new], folder)
        known |= {one.arch.fingerprint(): dataclasses.replace(one, measured_ms=ms)
                  for one, ms in zip(new, times, strict=True)}
        if any(_fits(one, goal) for one in known.values()):
            break
        off = statistics.median(ms / one.costs["ms"] for one, ms in zip(new, times, strict=True))
        aim = dataclasses.replace(goal, target_ms=goal.target_ms / off)
    return judged(_by_loss(known.values()), goal)


def judged(found: Sequence[Finalist], goal: Goal) -> list[Finalist]:
    """The same finalists, of which those are eligible that fit by their measured_ms, or else the nearest one."""
    fitting = [one for one in found if _fits(one, goal)]
    # Below what is wanted the slowest one is nearest, and only above it the quickest one.
    off = [(one.measured_ms - goal.target_ms, one) for one in found if one.measured_ms is not None]
    fitting = fitting or [one for _, one in sorted(off, key=lambda pair: (pair[0] > 0, abs(pair[0])))[:1]]
    return [dataclasses.replace(one, eligible=one in fitting) for one in found]


def _by_loss(found):
    return sorted(found, key=lambda one: one.first_loss)


def _fits(finalist, goal):
    return finalist.measured_ms is not None and USED_SHARE * goal.target_ms <= finalist.measured_ms <= goal.target_ms
