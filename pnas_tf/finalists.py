"""Which network a search delivers: finalists that keep every limit, scored with the weights they inherit."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from pnas_tf import arch as arch_lib
from pnas_tf import derive
from pnas_tf.arch import Arch
from pnas_tf.cost import Cost
from pnas_tf.evaluate import PathScorer
from pnas_tf.limits import Goal, Limit
from pnas_tf.supernet import Supernet

FORMAT = "pnas_tf.finalists/1"
SAMPLES = 64
ARG_MAX, MOST_PROBABLE, SAMPLE = "arg-max", "most probable within the limits", "sample"


@dataclasses.dataclass(frozen=True)
class Finalist:
    """A network that may be delivered.

    Attributes:
        how: it was found.
        arch: the network.
        log_prob: logarithm of its probability.
        costs: by the limits' names, and `ms`.
        eligible: whether it keeps every limit and uses most of the first.
        loss: on held-out images, with the supernet's weights and each batch's statistics.
        accuracy: likewise.
    """

    how: str
    arch: Arch
    log_prob: float
    costs: dict[str, float]
    eligible: bool
    loss: float
    accuracy: float


def find(supernet: Supernet, probs: np.ndarray, goal: Goal, scorer: PathScorer, samples: int = SAMPLES,
               seed: int = 0) -> list[Finalist]:
    """The networks to choose from, scored: the eligible one of lowest held-out loss comes first.

    The most probable network is only one of them. A choice among several like ops and one cheap one splits the
    probability of the like ones, so the op of largest probability is too often the cheap one, and the network too
    cheap. So finalists use `derive.USED_SHARE` of what a limit allows, or as much as any network can.

    Args:
        supernet: whose weights they inherit.
        probs: float [choices, ops].
        goal: with its limits; one that some network keeps.
        scorer: on held-out images.
        samples: of the probabilities, at most.
        seed: of the samples.

    Returns:
        At least one finalist, the first one eligible.
    """
    space, limits, ops = supernet.space, goal.all_limits, np.arange(len(probs))
    least = _least(space, limits)
    found = {}

    def add(how, arch, eligible):
        if arch is not None:
            found.setdefault(supernet.path(arch).tobytes(), (how, arch, eligible))

    def eligible(arch):
        path = supernet.path(arch)
        used = [(limit.cost.of_path(path), limit.bound) for limit in limits]
        return all(cost <= bound * (1 + 1e-9) for cost, bound in used) and (
            not used or used[0][0] >= least * used[0][1] * (1 - 1e-9))

    add(MOST_PROBABLE, derive.most_probable_within(space, probs, limits, least), True)
    arg_max = derive.most_probable(space, probs)
    add(ARG_MAX, arg_max, eligible(arg_max))
    for path in derive.samples_within(probs, limits, least, samples, seed):
        add(SAMPLE, supernet.arch(path), True)
    scored = []
    for how, arch, is_eligible in found.values():
        path, score = supernet.path(arch), scorer.score(supernet.path(arch))
        costs = {"ms": goal.ms.of_path(path), **{limit.name: limit.cost.of_path(path) for limit in goal.limits}}
        log_prob = float(np.sum(np.log(np.maximum(probs[ops, path], 1e-30))))
        scored.append(Finalist(how, arch, log_prob, costs, is_eligible, score.loss, score.accuracy))
    return sorted(scored, key=lambda finalist: (not finalist.eligible, finalist.loss))


def _least(space, limits: Sequence[Limit]) -> float:
    """Share of the first limit that finalists use: little less than the network that uses most of it."""
    if not limits:
        return 0.0
    first = limits[0]
    largest = derive.cheapest(space, Cost(-first.cost.matrix, -first.cost.fixed), limits)
    if largest is None:
        return 0.0
    path = [block.ops.index(largest.ops[name]) for name, block in space.choices.items()]
    return derive.USED_SHARE * first.cost.of_path(np.array(path)) / first.bound


def save(file_path: str, goal: Goal, found: Sequence[Finalist]) -> None:
    """Writes finalists.json: every finalist with its scores, best first."""
    def entry(finalist: Finalist) -> dict[str, Any]:
        return {**dataclasses.asdict(finalist), "arch": None, "ops": finalist.arch.ops}

    entries = [{name: value for name, value in entry(finalist).items() if value is not None} for finalist in found]
    arch_lib.write_text(file_path, json.dumps({
        "format": FORMAT, "target": goal.target, "limits": {limit.name: limit.bound for limit in goal.all_limits},
        "finalists": entries}, indent=1) + "\n")
