"""The device itself has a say in the last choice: finalists are timed whole, and those that keep their time come first.

A table's sum is a percent or two off for a single network, and a search goes where the table takes networks for quicker
than they are. So what is delivered is checked before, on the device that it is for.
"""

import dataclasses
import statistics
from collections.abc import Callable, Sequence

from pnas_tf.arch import Arch
from pnas_tf.finalists import Finalist
from pnas_tf.limits import Goal

# Milliseconds of whole networks at the pace of the table's time. They are kept in the folder that is named: of the same
# networks, they are not measured again.
Timer = Callable[[Sequence[Arch], str], list[float]]
# From a goal to the finalists that keep its limits by the table.
Find = Callable[[Goal], list[Finalist]]

# Finalists timed in a round, and rounds at most.
COUNT, ROUNDS = 8, 3
# Least share of the wanted milliseconds that a network uses on the device: its time is measured to about a percent.
USED_SHARE = 0.98


def run(find: Find, goal: Goal, timer: Timer, folder: str) -> list[Finalist]:
    """Finalists by their time on the device: those that take 98 to 100 % of what is wanted first, by loss.

    If there are none, the table is off for the networks that this search likes, by about the same for all of them. So
    it is asked for as much less or more, and what it then suggests is timed, too.

    Args:
        find: the finalists of a goal.
        goal: whose milliseconds are wanted.
        timer: of its device.
        folder: of the goal's results, for the times.

    Returns:
        All that were timed, each with its measured_ms, then the others of the last round. Eligible are those within
        the range, or else the one nearest to what is wanted, if possible not above.
    """
    found: list[Finalist] = []
    timed: dict[str, Finalist] = {}
    aim = goal
    for _ in range(ROUNDS):
        found = find(aim)
        new: dict[str, Finalist] = {}
        for one in found:
            if one.eligible and one.loss is not None and one.arch.fingerprint() not in timed:
                new.setdefault(one.arch.fingerprint(), one)
        chosen = dict(list(new.items())[:COUNT])
        if not chosen:
            break
        print(f"Timing {len(chosen)} finalists on {goal.target}.", flush=True)
        times = timer([one.arch for one in chosen.values()], folder)
        timed |= {name: dataclasses.replace(one, measured_ms=ms)
                  for (name, one), ms in zip(chosen.items(), times, strict=True)}
        if any(_fits(one, goal) for one in timed.values()):
            break
        off = statistics.median(ms / one.costs["ms"] for one, ms in zip(chosen.values(), times, strict=True))
        aim = dataclasses.replace(goal, target_ms=goal.target_ms / off)
    others = [one for one in found if one.arch.fingerprint() not in timed]
    return [*ranked(list(timed.values()), goal), *(dataclasses.replace(one, eligible=False) for one in others)]


def ranked(timed: Sequence[Finalist], goal: Goal) -> list[Finalist]:
    """Timed finalists, the best first; eligible are those that may be delivered.

    Args:
        timed: each with its measured_ms and its loss.
        goal: whose milliseconds are wanted.
    """
    fitting = [one for one in timed if _fits(one, goal)]
    # Below what is wanted the slowest one is nearest, and only above it the quickest one.
    fitting = fitting or sorted(timed, key=lambda one: (_ms(one) > goal.target_ms,
                                                        abs(_ms(one) - goal.target_ms)))[:1]
    return sorted((dataclasses.replace(one, eligible=one in fitting) for one in timed),
                  key=lambda one: (not one.eligible, one.loss))


def _fits(finalist, goal):
    return USED_SHARE * goal.target_ms <= _ms(finalist) <= goal.target_ms


def _ms(finalist):
    return finalist.measured_ms
