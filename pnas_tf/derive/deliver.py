"""The end of a search: from the probabilities of each goal to its network, with the weights that it inherits."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from pnas_tf import network
from pnas_tf.cost.goal import Goal
from pnas_tf.data import Data
from pnas_tf.derive import device_check, finalists
from pnas_tf.derive.finalists import Finalist
from pnas_tf.network import build, evaluate
from pnas_tf.run_folder import RunFolder
from pnas_tf.run_folder import folder as run_folder
from pnas_tf.space.arch import Arch
from pnas_tf.supernet.path_scorer import PathScorer
from pnas_tf.supernet.supernet import Supernet

# What finalists are compared on: so many held-out images, or what fits into so many bytes of float32 pixels, or so many
# batches, whatever they hold.
IMAGES, IMAGE_BYTES, LEAST_BATCHES = 5000, 2**29, 10

# From finalists and a goal's folder to the finalists in a better order; see `trials.run`.
Try = Callable[[Sequence[Finalist], str], list[Finalist]]


@dataclasses.dataclass(frozen=True)
class Result:
    """Where what was found for one goal is written.

    Attributes:
        goal: what was searched for.
        folder: of arch.json and metrics.jsonl; the run folder itself if there is one goal.
    """

    goal: Goal
    folder: str


def batches(image_shape: Sequence[int], batch_size: int) -> int:
    """On how many held-out batches finalists are compared.

    On 1,000 images, networks whose losses differ by 0.02 change places by chance.

    Args:
        image_shape: height, width, channels.
        batch_size: images a batch.
    """
    images = min(IMAGES, IMAGE_BYTES // (4 * math.prod(image_shape)))
    return max(LEAST_BATCHES, math.ceil(images / batch_size))


def deliver(net: Supernet, results: Sequence[Result], scorer: PathScorer, data: Data, *, batch_size: int,
            bn_recalibration_batches: int, timers: Sequence[device_check.Timer] = (), tried: Try | None = None,
            seed: int = 0) -> list[Arch]:
    """Chooses the network of each goal; writes finalists.json, its arch, and the weights that it inherits.

    Args:
        net: the supernet, searched.
        results: a goal for each of its alphas, and where its files go.
        scorer: of the supernet's paths, on whatever images.
        data: from `data.load`.
        batch_size: images a step.
        bn_recalibration_batches: training batches that set a network's batch norm statistics; 0 to leave those of the
            search.
        timers: of each goal's device, to time finalists before one is taken; empty: what the tables say is enough.
        tried: what else decides between finalists, if anything.
        seed: of the sampled finalists.

    Returns:
        The arch of each goal, with its costs.
    """
    scorer = scorer.on(data.held_out.batches(batch_size).take(batches(data.image_shape, batch_size)))
    return [_deliver(net, number, result, scorer, timers[number] if timers else None, tried, data, batch_size,
                     bn_recalibration_batches, seed) for number, result in enumerate(results)]


def _deliver(net, number, result, scorer, timer, tried, data, batch_size, bn_recalibration_batches, seed):
    goal, probs = result.goal, net.probs(number).numpy()
    print("Comparing finalists on held-out images.", flush=True)
    suggest = functools.partial(finalists.suggested, net, probs, scorer=scorer, seed=seed)
    found = device_check.run(suggest, goal, timer, result.folder) if timer and goal.keeps_ms else suggest(goal)
    found = finalists.scored(net, found, scorer)
    found = tried(found, result.folder) if tried else found
    finalists.save(RunFolder(result.folder).finalists, goal, found)
    arch = delivered_arch(found, goal, probs)
    print(_said_of(goal, found))
    model = network.build_network(arch)
    net.copy_weights_to(model, arch)
    score = evaluate.score_network(model, data.held_out.batches(batch_size))
    said = f"Held-out accuracy with inherited weights: {score.accuracy:.2%}"
    if bn_recalibration_batches:
        evaluate.recalibrate(model, data.train.batches(batch_size, seed=0).take(bn_recalibration_batches))
        score = evaluate.score_network(model, data.held_out.batches(batch_size))
        said += f", {score.accuracy:.2%} once batch norm has seen {bn_recalibration_batches} batches"
    print(f"{said}.")
    build.save_weights(model, RunFolder(result.folder).inherited_weights)
    arch = arch.with_costs(params=network.count_params(model), macs=network.count_macs(model))
    arch.save(RunFolder(result.folder).arch)
    return arch


def _said_of(goal: Goal, found: Sequence[Finalist]) -> str:
    """Which of the finalists was taken, and what the most probable op of each choice would give."""
    best, arg_max = found[0], next((one for one in found if one.how == run_folder.ARG_MAX), found[0])
    measured = "" if best.measured_ms is None else f" ({best.measured_ms:.3g} ms measured)"
    lines = [f"Taken of {len(found)} networks: {best.how}, {best.costs['ms']:.3g} ms on {goal.target}{measured}, "
             f"held-out loss {best.loss:.4f} with inherited weights"
             + (f", accuracy {best.trial_accuracy:.2%} after its trial." if best.trial_accuracy is not None else ".")]
    if arg_max is not best:
        lines.append(f"The most probable op of each choice would take {arg_max.costs['ms']:.3g} ms, held-out loss "
                     f"{arg_max.loss:.4f}.")
    return "\n".join(lines)

def delivered_arch(found: Sequence[finalists.Finalist], goal: Goal, probs: np.ndarray) -> Arch:
    """The network that a search delivers, with what is known of its time.

    Args:
        found: finalists, best first.
        goal: it was found for.
        probs: float [choices, ops] at the end of the search.
    """
    best = found[0]
    measured = {} if best.measured_ms is None else {"measured_ms": best.measured_ms}
    return best.arch.with_costs(target=goal.target, target_ms=goal.target_ms,
                                expected_ms=float(goal.ms.expected(probs)), table_ms=best.costs["ms"], **measured)


