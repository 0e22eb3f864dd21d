"""The end of a search: from the probabilities of each goal to its network, with the weights that it inherits."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pnas_tf import network, terminal
from pnas_tf.cost import expectation
from pnas_tf.cost.goal import Goal
from pnas_tf.data import Data
from pnas_tf.derive import device_check, finalists, suggestions
from pnas_tf.derive import front as front_lib
from pnas_tf.derive.finalists import Finalist
from pnas_tf.derive.pool import Pool
from pnas_tf.derive.scores import Scores
from pnas_tf.derive.trials import Prepare
from pnas_tf.network import build, evaluate
from pnas_tf.run_folder import RunFolder
from pnas_tf.run_folder.folder import ARG_MAX
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Space
from pnas_tf.supernet.path_scorer import PathScorer
from pnas_tf.supernet.supernet import Supernet

# Number of held-out images on which finalists are compared, largest size of their float32 pixels in bytes, and
# smallest number of batches.
IMAGES, IMAGE_BYTES, LEAST_BATCHES = 5000, 2**29, 10

# Networks sampled for a target of which all is used: few networks are so near to it.
NEAR_SAMPLES = 64

# Function that trains finalists, in a goal's folder, and returns them in a better order; see `trials.run`.
Try = Callable[[Sequence[Finalist], RunFolder, Prepare], list[Finalist]]


@dataclasses.dataclass(frozen=True)
class Result:
    """A goal, and the folder for its network.

    Attributes:
        goal: Goal of the search.
        folder: Folder of arch.json and metrics.jsonl; the run folder itself if there is only one goal.
    """

    goal: Goal
    folder: RunFolder


@dataclasses.dataclass(frozen=True)
class LastChoice:
    """Settings of the last choice between finalists.

    Attributes:
        batch_size: Images per step.
        bn_recalibration_batches: Training batches that set a network's batch norm statistics; 0 keeps the statistics
            of the search.
        budgets: Budgets of the front up to the target.
        seed: Seed of the sampled finalists.
        use_all_ms: Whether the delivered network uses all the milliseconds that it may use.
        timers: Timer of each goal's device; empty if the tables decide.
        trials: Function that trains finalists and returns them in a better order; None for no trials.
        compared_at: Image size that determines the number of held-out images; 0 for that of the data.
        with_training_images: Whether losses on training images rank finalists, too. Where few images are held out,
            these say more: a short search from pretrained weights does not learn them by heart.
    """

    batch_size: int
    bn_recalibration_batches: int = 20
    budgets: int = 8
    seed: int = 0
    use_all_ms: bool = False
    timers: Sequence[device_check.Timer] = ()
    trials: Try | None = None
    compared_at: int = 0
    with_training_images: bool = False


def batches(image_shape: Sequence[int], batch_size: int, held_out: int) -> int:
    """Number of held-out batches on which finalists are compared.

    On 1,000 images, networks whose losses differ by 0.02 change places by chance. A last batch of another size is left
    out where there are others enough: it would be traced, and prepared for each op, once more.

    Args:
        image_shape: Height, width and channels.
        batch_size: Images per batch.
        held_out: Number of all held-out images.
    """
    whole = held_out // batch_size
    return min(_enough(image_shape, batch_size), whole if whole >= LEAST_BATCHES else math.ceil(held_out / batch_size))


def _enough(image_shape, batch_size):
    images = min(IMAGES, IMAGE_BYTES // (4 * math.prod(image_shape)))
    return max(LEAST_BATCHES, math.ceil(images / batch_size))


def deliver(net: Supernet, results: Sequence[Result], scorer: PathScorer, data: Data, choice: LastChoice
            ) -> list[Arch]:
    """Chooses the network of each goal; writes finalists.json, arch.json and the inherited weights.

    Args:
        net: Supernet after the search.
        results: Goal of each of its alphas, and folder for its files.
        scorer: Scorer of the supernet's paths, on any images.
        data: Data set of the search.
        choice: Settings of the last choice.

    Returns:
        The arch of each goal, with its costs.
    """
    scores = scores_of(net.space, scorer, data, choice)
    return [_deliver(net, number, result, scores, data, choice) for number, result in enumerate(results)]


def scores_of(space: Space, scorer: PathScorer, data: Data, choice: LastChoice) -> Scores:
    """Scores on held-out images and, where the choice says so, on full batches of training images.

    Args:
        space: Space of the networks.
        scorer: Scorer of the supernet's paths, on any images.
        data: Data set of the search.
        choice: Settings of the last choice.
    """
    size, side = choice.batch_size, choice.compared_at
    shape = (side, side, data.image_shape[2]) if side else data.image_shape
    scorer = scorer.on(data.held_out.batches(size).take(batches(shape, size, data.held_out.size)))
    more = min(_enough(shape, size) - scorer.num_batches, data.train.size // size)
    ranker = scorer.on_more(data.train.batches(size).take(more)) if choice.with_training_images and more > 0 else None
    return Scores(space, scorer, ranker)


def _deliver(net: Supernet, number: int, result: Result, scores: Scores, data: Data, choice: LastChoice) -> Arch:
    goal, folder, probs = result.goal, result.folder, net.probs(number).numpy()
    terminal.say(f"Comparing finalists on held-out{' and training' if choice.with_training_images else ''} images.")
    pool, bounds = Pool(goal, probs, scores), front_lib.budgets(goal, choice.budgets)
    timer = choice.timers[number] if choice.timers and goal.keeps_ms else None
    front_lib.explore(pool, bounds, choice.seed)
    candidates = _candidates(pool, folder, timer, choice)
    if choice.trials:
        candidates = choice.trials(candidates, folder,
                                   lambda finalist, trial: _write(net, finalist, goal, probs, trial))
    chosen = pool.look_closely(candidates[0])
    front = front_lib.picks(pool, bounds, chosen)
    candidates = [pool.with_scores(each) for each in candidates]
    finalists.save(folder.finalists, goal, candidates, scores.labels, net.space)
    kept = device_check.keeping_limits([pick.finalist.arch for pick in front], goal, timer, folder)
    front = list(itertools.compress(front, kept))
    terminal.say(front_lib.table(front, chosen, goal, len(scores.labels)))
    terminal.say(_summary(goal, candidates, choice))
    archs = [_write(net, pick.finalist, goal, probs, folder.front_part(pick.ms)) for pick in front]
    front_lib.save(folder.front, goal, front, chosen, archs, net.space)
    return _write(net, chosen, goal, probs, folder, lambda model: terminal.say(_recalibrated(model, data, choice)))


def _candidates(pool: Pool, folder: RunFolder, timer: device_check.Timer | None, choice: LastChoice) -> list[Finalist]:
    """All networks of the pool, the one to deliver first; those that keep the limits are eligible."""
    if timer is None:
        return by_table(pool, choice)
    enough = device_check.COUNT if choice.trials else 1  # trials choose among several
    timed = device_check.run(lambda aim: _using_all(pool, aim, choice.seed), pool.goal, timer, folder, enough)
    return front_lib.ordered(pool, timed, use_all_ms=True)


def by_table(pool: Pool, choice: LastChoice) -> list[Finalist]:
    """All networks of an explored pool, the one to deliver first; nothing is timed.

    Where latency is free, that is the best one: nobody asked for a quicker one that is as good.

    Args:
        pool: Pool after `front.explore`; networks may be added.
        choice: Settings of the last choice.
    """
    found = _using_all(pool, pool.goal, choice.seed) if choice.use_all_ms else pool.finalists(pool.goal)
    return front_lib.ordered(pool, found, choice.use_all_ms or not pool.goal.keeps_ms)


def _using_all(pool: Pool, aim: Goal, seed: int) -> list[Finalist]:
    """All networks of a pool and more; those are eligible that keep the limits of a goal and use nearly all of it."""
    pool.suggest(aim, NEAR_SAMPLES, seed)
    pool.add_best_sums([aim.target_ms])
    return pool.finalists(aim, suggestions.least_share(aim.all_limits))


def _write(net: Supernet, finalist: Finalist, goal: Goal, probs: np.ndarray, folder: RunFolder,
           finish: Callable[[Any], None] = lambda model: None) -> Arch:
    """Writes a network's arch.json and inherited weights, after a last change of the weights."""
    arch = delivered_arch(finalist, goal, probs)
    model = network.build_network(arch)
    net.copy_weights_to(model, arch)
    finish(model)
    build.save_weights(model, folder.inherited_weights)
    arch = arch.with_costs(params=network.count_params(model), macs=network.count_macs(model))
    arch.save(folder.arch)
    return arch


def _recalibrated(model, data: Data, choice: LastChoice) -> str:
    """Recalibrates batch norm for this network; returns a text with the held-out accuracy before and after."""
    held_out = data.held_out.batches(choice.batch_size)
    message = f"Held-out accuracy with inherited weights: {evaluate.score_network(model, held_out).accuracy:.2%}"
    if not choice.bn_recalibration_batches:
        return f"{message}."
    evaluate.recalibrate(model, data.train.batches(choice.batch_size, seed=0).take(choice.bn_recalibration_batches))
    return (f"{message}, {evaluate.score_network(model, held_out).accuracy:.2%} after recalibration of batch norm on "
            f"{choice.bn_recalibration_batches} batches.")


def delivered_arch(best: Finalist, goal: Goal, probs: np.ndarray) -> Arch:
    """The network that a search delivers, with its milliseconds.

    Args:
        best: Finalist that is delivered.
        goal: Goal that the finalist belongs to.
        probs: Probabilities at the end of the search, float [choices, ops].
    """
    measured = {} if best.measured_ms is None else {"measured_ms": best.measured_ms}
    doubt = {"table_doubt": goal.table_doubt} if goal.table_doubt else {}
    whole = {"pretrained_ms": goal.pretrained_ms} if goal.pretrained_ms else {}
    return best.arch.with_costs(**goal.costs, expected_ms=float(expectation.expected(goal.ms, probs)),
                                table_ms=best.costs["ms"], **measured, **doubt, **whole)


def _summary(goal: Goal, candidates: Sequence[Finalist], choice: LastChoice) -> str:
    """Text about the delivered finalist, and about the network of the most probable op of each choice."""
    best = candidates[0]
    arg_max = next((finalist for finalist in candidates if finalist.how == ARG_MAX), best)
    measured = "" if best.measured_ms is None else f" ({best.measured_ms:.3g} ms measured)"
    loss = f"{'' if choice.with_training_images else 'held-out '}loss {best.loss:.4f}"
    lines = [f"Chosen from {len(candidates)} networks: {best.how}, {best.costs['ms']:.3g} ms on {goal.target}"
             f"{measured}, {loss} with inherited weights"
             + (f", accuracy {best.trial_accuracy:.2%} after its trial." if best.trial_accuracy is not None else ".")]
    if arg_max is not best:
        lines.append(f"The most probable op of each choice would take {arg_max.costs['ms']:.3g} ms.")
    return "\n".join(lines)
