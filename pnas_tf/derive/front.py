"""The front of a search: the best network at each of several budgets, and the choice of the one to deliver.

The networks come from the probabilities, from rules that need no search, and from the effects of ops: once random
networks are scored, the network of the best effects at a budget is a small integer program. All are judged by these
effects.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from pnas_tf import terminal
from pnas_tf.cost.goal import Goal
from pnas_tf.derive.finalists import Finalist
from pnas_tf.derive.pool import Pool
from pnas_tf.run_folder import front_file
from pnas_tf.run_folder.folder import front_name
from pnas_tf.run_folder.front_file import FrontNetwork
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Space

# A budget above the target, as a multiple of it: what a little more would buy.
ABOVE = 1.1
# Random networks for each op of each choice, at least and at most in all.
RANDOM_FOR_OP, LEAST_RANDOM, MOST_RANDOM = 12, 144, 384
# Networks sampled from the probabilities at each budget.
SAMPLES = 12
# With fewer held-out images than this, one of them is more than half a point of accuracy.
FEW_IMAGES = 200


def budgets(goal: Goal, count: int) -> list[float]:
    """Budgets of a front in milliseconds, ascending: from the quickest network to the target, and one above it.

    Without a target, they go to the slowest network.

    Args:
        goal: Goal with its target.
        count: Number of budgets up to the target.
    """
    low, high = goal.range_ms or goal.ms.range
    top = min(goal.target_ms, high) if goal.keeps_ms else high
    if count < 2 or low >= top:
        return [top]
    above = [min(ABOVE * top, high)] if goal.keeps_ms and high > 1.01 * top else []
    return [*np.geomspace(low, top, count).tolist(), *above]


def explore(pool: Pool, bounds: Sequence[float], seed: int) -> None:
    """Fills a pool: suggestions at each budget, random networks, which are scored, and then the best sums of effects.

    Args:
        pool: Pool, which may hold networks already.
        bounds: Budgets in milliseconds, ascending.
        seed: Seed of the samples.
    """
    pool.add_arg_max()
    below = None
    for bound in bounds:
        goal = dataclasses.replace(pool.goal, target_ms=bound, keeps_ms=True)
        pool.suggest(goal, SAMPLES, seed, below / bound if below else None)
        below = bound
    pool.add_random(min(MOST_RANDOM, max(LEAST_RANDOM, RANDOM_FOR_OP * int(pool.goal.ms.mask.sum()))))
    pool.add_best_sums(bounds)


def ordered(pool: Pool, candidates: Sequence[Finalist], use_all_ms: bool) -> list[Finalist]:
    """Candidates with the one to deliver first: the quickest that the best does not beat by more than the error.

    The error is the standard error of the difference between the two expected losses. In a space around a pretrained
    network it is the slowest of these: more images than those at hand have shown what its weights are worth.

    Args:
        pool: Pool of the candidates.
        candidates: Candidates with their expected losses, of which those that are eligible may be delivered.
        use_all_ms: Whether the best is delivered whatever it costs.

    Returns:
        First the one to deliver, then the others that are eligible, then the rest, each by expected loss.
    """
    known = sorted(candidates, key=lambda each: (not each.eligible, each.expected_loss))
    best = known[0]
    equal = [best] if use_all_ms else [each for each in known if each.eligible
                                       and each.expected_loss - best.expected_loss <= pool.error(each, best)]
    first = max if pool.scores.space.pretrained else min
    chosen = first(equal, key=lambda each: each.costs["ms"], default=best)
    return [chosen, *(each for each in known if each is not chosen)]


@dataclasses.dataclass(frozen=True)
class Pick:
    """A network of a front.

    Attributes:
        finalist: The network.
        gain: Accuracy that the best network within the target is expected to have above it, -1 to 1.
        gain_error: Standard error of `gain`, from the effects of ops and from the number of images; see `picks`.
    """

    finalist: Finalist
    gain: float
    gain_error: float

    @property
    def ms(self) -> float:
        """Milliseconds by the table."""
        return self.finalist.costs["ms"]


def picks(pool: Pool, bounds: Sequence[float], chosen: Finalist) -> list[Pick]:
    """The delivered network and the best network at each budget, by milliseconds; each network counts once.

        gain = slope * (expected loss - expected loss of the best)
        gain_error = sqrt((slope * error of this difference)^2 + (error of the difference in accuracy)^2)

    The first error is that of the effects of ops. The second is that of few images, which are a sample of those that
    the network will see: from the images that one of the two networks classifies correctly, and the other does not.

    Args:
        pool: Pool after `explore`.
        bounds: Budgets in milliseconds.
        chosen: Network that is delivered.
    """
    top = pool.best(pool.goal.limit_ms or math.inf) or chosen
    best = [each for each in (pool.best(bound) for bound in bounds) if each]
    # Each network has a folder named by its milliseconds; of two with the same name, the later of these counts.
    named = {front_name(each.costs["ms"]): each for each in (*best, top, chosen)}
    networks = [pool.look_closely(each) for each in terminal.countdown(
        named.values(), "Scoring the best networks on all images", len(named))]
    slope = _accuracy_for_loss(networks)
    return sorted((Pick(each, slope * (each.expected_loss - top.expected_loss),
                        math.hypot(slope * pool.error(each, top), pool.accuracy_error(each, top)))
                   for each in networks), key=lambda pick: pick.ms)


def save(path: str, goal: Goal, front: Sequence[Pick], chosen: Finalist, archs: Sequence[Arch], space: Space) -> None:
    """Writes front.json.

    Args:
        path: Path of the file.
        goal: Goal of the front.
        front: Result of `picks`.
        chosen: Network that is delivered.
        archs: Arch of each network, with its parameters and MACs.
        space: Space that was searched.
    """
    networks = [FrontNetwork(
        pick.ms, front_name(pick.ms), pick.finalist.how, pick.gain, pick.gain_error, _same(pick.finalist, chosen),
        {**pick.finalist.costs, **{name: arch.costs[name] for name in ("params", "macs")}}, arch.chosen_in(space),
        pick.finalist.expected_loss, pick.finalist.accuracy) for pick, arch in zip(front, archs, strict=True)]
    front_file.save(path, goal.target, goal.limit_ms, networks)


def table(front: Sequence[Pick], chosen: Finalist, goal: Goal, images: int) -> str:
    """The front as lines of text, and what more milliseconds than those of the delivered network would gain.

    Args:
        front: Result of `picks`.
        chosen: Network that is delivered.
        goal: Goal of the front.
        images: Number of held-out images; if they are few, a line says what one of them counts.
    """
    lines = [f"The best network at each budget, beside the best{' within the target' if goal.limit_ms else ' of all'}:"]
    for pick in front:
        above = goal.limit_ms and pick.ms > goal.limit_ms * (1 + 1e-9)
        mark = "delivered" if _same(pick.finalist, chosen) else "above the target" if above else ""
        lines.append(line(pick.ms, pick.gain, pick.gain_error, mark))
    delivered = next(pick for pick in front if _same(pick.finalist, chosen))
    best = min((pick for pick in front if not goal.limit_ms or pick.ms <= goal.limit_ms * (1 + 1e-9)),
               key=lambda pick: pick.gain)
    if best.ms > delivered.ms:
        lines.append(f"{best.ms - delivered.ms:.2g} ms more would gain {100 * delivered.gain:.1f} +- "
                     f"{100 * delivered.gain_error:.1f} points (pnas_tf.train --pick={best.ms:.4g}ms).")
    if images < FEW_IMAGES:
        lines += [f"Accuracies are those on the same {images} held-out images, of which one is",
                  f"{100 / images:.1f} points. Other images may order the networks differently."]
    return "\n".join(lines)


def line(ms: float, gain: float, gain_error: float, mark: str, pixels: str = "") -> str:
    """A line of a front's table.

    Args:
        ms: Milliseconds.
        gain: Accuracy, -1 to 1, that the network it is set beside has above that of this one.
        gain_error: Standard error of `gain`.
        mark: Words at the end, or "".
        pixels: Image size, where there are several.
    """
    points = 0.0 - round(100 * gain, 1)  # 0.0, not -0.0
    return f"{ms:10.3g} ms{pixels}  {points:+5.1f} +- {100 * gain_error:.1f} points  {mark}".rstrip()


def _same(one: Finalist, other: Finalist) -> bool:
    return one.arch.fingerprint() == other.arch.fingerprint()


def _accuracy_for_loss(looked_at: Sequence[Finalist]) -> float:
    """Accuracy lost for each nat of loss, from networks that have both; at least 0."""
    losses, accuracies = (np.array([getattr(each, name) for each in looked_at]) for name in ("loss", "accuracy"))
    if len(looked_at) < 2 or np.ptp(losses) == 0:
        return 0.0
    return max(0.0, -float(np.polyfit(losses, accuracies, 1)[0]))
