"""Times the finalists on the device before one is delivered; finalists that keep the target come first.

A table's sum is off by a percent or two for a single network, and a search exploits the table's errors: it drifts
towards networks whose latency the table underestimates. So the networks are checked on the device that they are for.
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from pnas_tf import terminal
from pnas_tf.cost.goal import Goal
from pnas_tf.derive.finalists import Finalist
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space.arch import Arch

# Function that returns the costs of whole networks on the device: `ms`, at the pace that the device had when the table
# was made, and `sram_bytes` if the device's compiler plans it. They are kept in the given run folder, and no network is
# measured twice.
Timer = Callable[[Sequence[Arch], RunFolder], list[Mapping[str, float]]]
# Function from a goal to finalists, of which those are eligible that keep its limits according to the table.
Suggest = Callable[[Goal], list[Finalist]]

# Largest number of finalists timed in a round, number of those timed in turns, and largest number of rounds.
COUNT, GROUP, ROUNDS = 8, 3, 3
# Smallest share of the target that a network uses on the device: its time is measured to about a percent.
USED_SHARE = 0.98


def run(suggest: Suggest, goal: Goal, timer: Timer, folder: RunFolder, enough: int = 1) -> list[Finalist]:
    """Finalists, of which those are eligible that keep the limits and take 98 to 100 % of the target on the device.

    Finalists are timed from the best on, until `enough` are eligible. If none is, the table is off by about the same
    factor for all networks that this search prefers. The target is then divided by that factor, and the finalists
    suggested for the new target are timed, too.

    Args:
        suggest: Function that returns the finalists of a goal, best first.
        goal: Goal with the target in milliseconds.
        timer: Timer of its device.
        folder: Folder of the goal's results, which keeps the times.
        enough: Number of eligible finalists after which no more are timed.

    Returns:
        Every suggested finalist, best first; timed finalists have their measured_ms. If none fits, only the finalist
        nearest to the target is eligible, if possible one below the target.

    Raises:
        InputError: If no timed finalist keeps the limits that whole networks are measured for.
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
        timed: list[Finalist] = []
        for begin in range(0, len(untimed), GROUP):
            group = untimed[begin:begin + GROUP]
            terminal.say(f"Timing {len(group)} finalists on {goal.target}.")
            costs = timer([finalist.arch for finalist in group], folder)
            timed += [_measured(finalist, cost) for finalist, cost in zip(group, costs, strict=True)]
            if sum(_fits(finalist, goal) for finalist in timed) >= enough:
                break
        finalists |= {finalist.arch.fingerprint(): finalist for finalist in timed}
        if any(_fits(finalist, goal) for finalist in timed):
            break
        factor = statistics.median(finalist.measured_ms / finalist.costs["ms"] for finalist in timed
                                   if finalist.measured_ms is not None)
        aim = dataclasses.replace(goal, target_ms=goal.target_ms / factor)
    return judged(_by_loss(finalists.values()), goal)


def judged(finalists: Sequence[Finalist], goal: Goal) -> list[Finalist]:
    """The finalists, with those eligible whose measurements fit the goal; if none does, the nearest to its target.

    Raises:
        InputError: If no timed finalist keeps the limits that whole networks are measured for.
    """
    fitting = [finalist for finalist in finalists if _fits(finalist, goal)]
    # Below the target, the slowest network is nearest; above it, the quickest, which counts only if none is below.
    timed = [(finalist.measured_ms - goal.target_ms, finalist) for finalist in finalists
             if finalist.measured_ms is not None]
    off = [(off_ms, finalist) for off_ms, finalist in timed if _keeps_whole(finalist.costs, goal)]
    if timed and not off:
        raise InputError("None of the timed networks keeps " + " and ".join(
            f"{name}<={bound:g} (they have {_range([finalist.costs.get(name) for _, finalist in timed])})"
            for name, bound in goal.whole) + ". Raise the limit, or lower --target_ms.")
    fitting = fitting or [finalist for _, finalist in sorted(off, key=lambda pair: (pair[0] > 0, abs(pair[0])))[:1]]
    return [dataclasses.replace(finalist, eligible=finalist in fitting) for finalist in finalists]


def _by_loss(finalists: Iterable[Finalist]) -> list[Finalist]:
    return sorted(finalists, key=lambda finalist: finalist.expected_loss)


def _fits(finalist: Finalist, goal: Goal) -> bool:
    return (finalist.measured_ms is not None and USED_SHARE * goal.target_ms <= finalist.measured_ms <= goal.target_ms
            and _keeps_whole(finalist.costs, goal))


def keeping_limits(archs: Sequence[Arch], goal: Goal, timer: Timer | None, folder: RunFolder) -> list[bool]:
    """Tells which networks keep the limits that whole networks are measured for; all do if there are none.

    Args:
        archs: Networks with different fingerprints.
        goal: Goal with the limits.
        timer: Timer of its device; needed if there are such limits.
        folder: Folder of the goal's results.
    """
    if not goal.whole:
        return [True] * len(archs)
    assert timer
    return [_keeps_whole(costs, goal) for costs in timer(archs, folder)]


def _keeps_whole(costs: Mapping[str, float], goal: Goal) -> bool:
    return all(costs.get(name, math.inf) <= bound for name, bound in goal.whole)


def _measured(finalist: Finalist, costs: Mapping[str, float]) -> Finalist:
    further = {name: cost for name, cost in costs.items() if name != "ms"}
    return dataclasses.replace(finalist, measured_ms=costs["ms"], costs={**finalist.costs, **further})


def _range(values: Sequence[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    return f"{min(numbers):,.0f} to {max(numbers):,.0f}" if numbers else "no such measurement"
