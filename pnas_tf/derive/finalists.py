"""The networks that a search may deliver: they keep every limit, and are scored with weights from the supernet."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from pnas_tf import files
from pnas_tf.cost import prices, within_limits
from pnas_tf.cost.goal import Goal
from pnas_tf.cost.limits import Limit
from pnas_tf.network.evaluate import Score
from pnas_tf.run_folder.folder import ARG_MAX, MOST_MACS, MOST_PROBABLE, SAMPLE
from pnas_tf.space.arch import Arch
from pnas_tf.supernet.path_scorer import PathScorer
from pnas_tf.supernet.supernet import Supernet

FORMAT = "pnas_tf.finalists/1"
SAMPLES = 64
# Every finalist is scored on the first batches. Of the samples, only the best are scored on all images.
FIRST_LOOK = 3
SECOND_LOOKS = 3


@dataclasses.dataclass(frozen=True)
class Finalist:
    """A network that may be delivered.

    Attributes:
        how: Origin of the network: one of the names in `run_folder.folder`.
        arch: The network.
        log_prob: Logarithm of the network's probability.
        costs: Costs of the network by the names of the limits, and `ms`.
        eligible: Whether the network may be delivered: it keeps every limit and uses most of the first, according to
            the table or, if finalists are timed, on the device.
        first_look: Score on the first held-out images, with the supernet's weights and each batch's statistics.
        loss: Loss on all held-out images, likewise; None if the network was not among the best after the first look.
        accuracy: Accuracy on all held-out images, or None like the loss.
        measured_ms: Milliseconds of the whole network on the device, if it was timed; see `device_check`.
        trial_accuracy: Held-out accuracy after a trial training, if there was one; see `trials`.
    """

    how: str
    arch: Arch
    log_prob: float
    costs: dict[str, float]
    eligible: bool
    first_look: Score
    loss: float | None = None
    accuracy: float | None = None
    measured_ms: float | None = None
    trial_accuracy: float | None = None

    @property
    def first_loss(self) -> float:
        """Loss of the first look."""
        return self.first_look.loss


def find(supernet: Supernet, probs: np.ndarray, goal: Goal, scorer: PathScorer, samples: int = SAMPLES,
         seed: int = 0) -> list[Finalist]:
    """The finalists of a goal, best first: suggested by `suggested` and scored by `scored`."""
    return scored(supernet, suggested(supernet, probs, goal, scorer, samples, seed), scorer)


def suggested(supernet: Supernet, probs: np.ndarray, goal: Goal, scorer: PathScorer, samples: int = SAMPLES,
              seed: int = 0) -> list[Finalist]:
    """Networks that the probabilities suggest, scored on the first held-out images.

    The most probable network is only one of them. If a choice has several similar ops and a cheap op, the similar ops
    share their probability, so the most probable op is too often the cheap op, and the network is too cheap. Finalists
    therefore use at least `within_limits.USED_SHARE` of the first limit, or of the most that any network can use of it.
    One of them is the network with most MACs within the limits, which needs no search: the search has to beat it.

    Args:
        supernet: Supernet whose weights the finalists inherit.
        probs: Probabilities, float [choices, ops].
        goal: Goal with its limits.
        scorer: Scorer on held-out images.
        samples: Largest number of networks sampled from the probabilities.
        seed: Seed of the samples.

    Returns:
        At least one finalist, sorted by loss, lowest first; at least one is eligible if any network keeps the limits.
    """
    limits, ops = goal.all_limits, np.arange(len(probs))
    least = _least_share(limits)
    paths: dict[bytes, tuple[str, np.ndarray]] = {}

    def add(how: str, path: np.ndarray | None) -> None:
        if path is not None:
            path = np.asarray(path, np.int32)
            paths.setdefault(path.tobytes(), (how, path))

    add(MOST_PROBABLE, within_limits.most_probable(probs, limits, least))
    if limits:
        add(MOST_MACS, within_limits.most_of(prices.matrix(supernet.space, prices.macs()), limits, least))
    add(ARG_MAX, within_limits.most_probable(probs))
    for path in within_limits.samples(probs, limits, least, samples, seed):
        add(SAMPLE, path)
    finalists = []
    for how, path in paths.values():
        costs = {"ms": goal.ms.of_path(path), **{limit.name: limit.cost.of_path(path) for limit in goal.limits}}
        log_prob = float(np.sum(np.log(np.maximum(probs[ops, path], 1e-30))))
        eligible = how != ARG_MAX or bool(within_limits.keeps(path[None], limits, least)[0])
        finalists.append(Finalist(how, supernet.arch(path), log_prob, costs, eligible, scorer.score(path, FIRST_LOOK)))
    return sorted(finalists, key=lambda finalist: finalist.first_loss)


def scored(supernet: Supernet, finalists: Sequence[Finalist], scorer: PathScorer) -> list[Finalist]:
    """Scores finalists on all images and sorts them: the eligible finalist of lowest loss, to be delivered, is first.

    Samples that have a high loss on the first images, or are not eligible, are not scored on the other images
    (successive halving in two rounds).

    Args:
        supernet: Supernet whose weights the finalists inherit.
        finalists: Finalists in the order of `suggested`.
        scorer: The scorer that `suggested` used.

    Returns:
        Every finalist; finalists that were scored on all images come before the others.
    """
    samples = [finalist for finalist in finalists if finalist.how == SAMPLE]
    best = [finalist for finalist in samples if finalist.eligible][:SECOND_LOOKS]
    looked_at = []
    for finalist in (*(other for other in finalists if other.how != SAMPLE), *best):
        score = finalist.first_look
        if scorer.num_batches > FIRST_LOOK:
            score += scorer.score(supernet.path(finalist.arch), first=FIRST_LOOK)
        looked_at.append(dataclasses.replace(finalist, loss=score.loss, accuracy=score.accuracy))
    return [*sorted(looked_at, key=lambda finalist: (not finalist.eligible, finalist.loss)),
            *(finalist for finalist in samples if finalist not in best)]


def _least_share(limits: Sequence[Limit]) -> float:
    """Smallest share of the first limit that finalists use: slightly less than the largest share of any network."""
    largest = within_limits.most_of(limits[0].cost, limits) if limits else None
    if largest is None:
        return 0.0
    return within_limits.USED_SHARE * limits[0].cost.of_path(largest) / limits[0].bound


def save(path: str, goal: Goal, finalists: Sequence[Finalist], labels: np.ndarray) -> None:
    """Writes finalists.json: every finalist with its scores, best first, and the size of what they were scored on.

    Args:
        path: Path of the file.
        goal: Goal of the finalists.
        finalists: Finalists, best first.
        labels: Labels of all held-out images that `scored` used, int [images].
    """
    def entry(finalist: Finalist) -> dict[str, Any]:
        fields = {field.name: getattr(finalist, field.name) for field in dataclasses.fields(finalist)}
        fields["first_loss"] = fields.pop("first_look").loss
        return {name: value for name, value in fields.items() if name != "arch" and value is not None} | {
            "ops": finalist.arch.ops}

    files.write_text(path, json.dumps({
        "format": FORMAT, "target": goal.target, "limits": {limit.name: limit.bound for limit in goal.all_limits},
        "held_out_images": len(labels), "largest_class_share": float(np.bincount(labels).max() / len(labels)),
        "finalists": [entry(finalist) for finalist in finalists]}, indent=1) + "\n")
