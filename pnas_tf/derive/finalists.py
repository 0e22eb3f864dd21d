"""Which network a search delivers: finalists that keep every limit, scored with the weights they inherit."""

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
# All are scored on so many batches; samples go on to all images if they are among so many that are best there.
FIRST_LOOK = 3
SECOND_LOOKS = 3


@dataclasses.dataclass(frozen=True)
class Finalist:
    """A network that may be delivered.

    Attributes:
        how: it was found.
        arch: the network.
        log_prob: logarithm of its probability.
        costs: by the limits' names, and `ms`.
        eligible: whether it may be delivered: it keeps every limit and uses most of the first, by the table or, where
            finalists are timed, on the device.
        first_look: score on the first held-out images, with the supernet's weights and each batch's statistics.
        loss: likewise on all of them; None for what was no longer among the best after the first.
        accuracy: on all of them, or None.
        measured_ms: of the whole network on the device, if it was timed; see `device_check`.
        trial_accuracy: on held-out images after a training of its own, if it had one; see `trials`.
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
        """That of the first look."""
        return self.first_look.loss


def find(supernet: Supernet, probs: np.ndarray, goal: Goal, scorer: PathScorer, samples: int = SAMPLES,
         seed: int = 0) -> list[Finalist]:
    """The networks to choose from, best first: as `suggested` suggests them and `scored` scores them."""
    return scored(supernet, suggested(supernet, probs, goal, scorer, samples, seed), scorer)


def suggested(supernet: Supernet, probs: np.ndarray, goal: Goal, scorer: PathScorer, samples: int = SAMPLES,
              seed: int = 0) -> list[Finalist]:
    """Networks that the probabilities suggest, scored on the first held-out images, the one of lowest loss first.

    The most probable network is only one of them. A choice among several like ops and one cheap one splits the
    probability of the like ones, so the op of largest probability is too often the cheap one, and the network too
    cheap. So finalists use `derive.USED_SHARE` of what a limit allows, or as much as any network can. Among them is the
    network that computes most within the limits, which no search is needed for: what a search has to beat.

    Args:
        supernet: whose weights they inherit.
        probs: float [choices, ops].
        goal: with its limits.
        scorer: on held-out images.
        samples: of the probabilities, at most.
        seed: of the samples.

    Returns:
        At least one, an eligible one if any network keeps the limits.
    """
    limits, ops = goal.all_limits, np.arange(len(probs))
    least = _least(supernet, limits)
    found: dict[bytes, tuple[str, np.ndarray]] = {}

    def add(how, path):
        found.setdefault(path.tobytes(), (how, path))

    probable = within_limits.most_probable_within(supernet.space, probs, limits, least)
    if probable is not None:
        add(MOST_PROBABLE, supernet.path(probable))
    computing = within_limits.most_of(supernet.space, prices.matrix(supernet.space, prices.macs()), limits, least) \
        if limits else None
    if computing is not None:
        add(MOST_MACS, supernet.path(computing))
    add(ARG_MAX, supernet.path(within_limits.most_probable(supernet.space, probs)))
    for path in within_limits.samples_within(probs, limits, least, samples, seed):
        add(SAMPLE, path)
    looked_at = []
    for how, path in found.values():
        costs = {"ms": goal.ms.of_path(path), **{limit.name: limit.cost.of_path(path) for limit in goal.limits}}
        log_prob = float(np.sum(np.log(np.maximum(probs[ops, path], 1e-30))))
        eligible = how != ARG_MAX or bool(within_limits.keeps(path[None], limits, least)[0])
        looked_at.append(Finalist(how, supernet.arch(path), log_prob, costs, eligible,
                                  scorer.score(path, FIRST_LOOK)))
    return sorted(looked_at, key=lambda finalist: finalist.first_loss)


def scored(supernet: Supernet, found: Sequence[Finalist], scorer: PathScorer) -> list[Finalist]:
    """Finalists in the order in which they are delivered: the eligible one of lowest loss on all images first.

    Samples that did badly on the first images, or are not eligible, are not scored on the others (successive halving,
    in two rounds).

    Args:
        supernet: whose weights they inherit.
        found: from `suggested`, in its order.
        scorer: as there.

    Returns:
        All of them, those that were scored on all images before the others.
    """
    samples = [finalist for finalist in found if finalist.how == SAMPLE]
    best = [finalist for finalist in samples if finalist.eligible][:SECOND_LOOKS]
    looked_at = []
    for finalist in (*(one for one in found if one.how != SAMPLE), *best):
        score = finalist.first_look
        if scorer.num_batches > FIRST_LOOK:
            score += scorer.score(supernet.path(finalist.arch), first=FIRST_LOOK)
        looked_at.append(dataclasses.replace(finalist, loss=score.loss, accuracy=score.accuracy))
    return [*sorted(looked_at, key=lambda finalist: (not finalist.eligible, finalist.loss)),
            *(finalist for finalist in samples if finalist not in best)]


def _least(supernet: Supernet, limits: Sequence[Limit]) -> float:
    """Share of the first limit that finalists use: little less than the network that uses most of it."""
    dearest = within_limits.dearest(supernet.space, limits) if limits else None
    if dearest is None:
        return 0.0
    return within_limits.USED_SHARE * limits[0].cost.of_path(supernet.path(dearest)) / limits[0].bound


def save(file_path: str, goal: Goal, found: Sequence[Finalist]) -> None:
    """Writes finalists.json: every finalist with its scores, best first."""
    def entry(finalist: Finalist) -> dict[str, Any]:
        fields = {field.name: getattr(finalist, field.name) for field in dataclasses.fields(finalist)}
        fields["first_loss"] = fields.pop("first_look").loss
        return {name: value for name, value in fields.items() if name != "arch" and value is not None} | {
            "ops": finalist.arch.ops}

    files.write_text(file_path, json.dumps({
        "format": FORMAT, "target": goal.target, "limits": {limit.name: limit.bound for limit in goal.all_limits},
        "finalists": [entry(finalist) for finalist in found]}, indent=1) + "\n")
