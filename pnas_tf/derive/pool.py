"""The networks of one goal that a search compares, judged by the effects of ops on the losses of random networks."""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from pnas_tf import terminal
from pnas_tf.cost import within_limits
from pnas_tf.cost.goal import Goal
from pnas_tf.cost.limits import Limit
from pnas_tf.cost.prices import Cost
from pnas_tf.derive import suggestions
from pnas_tf.derive.finalists import Finalist
from pnas_tf.derive.scores import Scores
from pnas_tf.run_folder.folder import ARG_MAX, BEST_SUM, RANDOM, SAMPLE
from pnas_tf.space.arch import from_path


class Pool:
    """Networks of one goal with the losses that their ops make them expect.

    Attributes:
        goal: Goal of the networks.
        scores: Scores of the supernet's networks.
    """

    def __init__(self, goal: Goal, probs: np.ndarray, scores: Scores):
        """Starts without networks.

        Args:
            goal: Goal of the networks.
            probs: Probabilities at the end of the search, float [choices, ops].
            scores: Scores of the supernet's networks, which all goals share.
        """
        self.goal, self.scores, self._probs = goal, scores, probs
        self._found: dict[bytes, Finalist] = {}

    def add(self, how: str, path: np.ndarray) -> None:
        """Adds a network, unless it is in the pool.

        Args:
            how: Origin of the network, one of the names in `run_folder.folder`.
            path: Op indices, int [choices].
        """
        path, goal = np.asarray(path, np.int32), self.goal
        if path.tobytes() not in self._found:
            costs = {"ms": goal.ms.of_path(path), **{limit.name: limit.cost.of_path(path) for limit in goal.limits}}
            log_prob = float(np.sum(np.log(np.maximum(self._probs[np.arange(len(path)), path], 1e-30))))
            self._found[path.tobytes()] = Finalist(how, from_path(self.scores.space, path), log_prob, costs, False,
                                                   math.inf)

    def add_random(self, count: int) -> None:
        """Adds networks drawn evenly from the whole space, and scores them: they show the effects of all ops.

        No other network has a part in these effects. The supernet has trained what the probabilities prefer more than
        the rest, so the ops of such networks look better than they are; and effects hide behind each other there.

        Args:
            count: Number of draws, the same for every goal of the supernet.
        """
        rng, counts = np.random.default_rng(0), self.goal.ms.mask.sum(1)
        for path in terminal.countdown(rng.integers(counts, size=(count, len(counts))), "Scoring random networks",
                                       count):
            self.add(RANDOM, path)
            self.scores.first_look(path.astype(np.int32))

    def suggest(self, goal: Goal, samples: int, seed: int, least: float | None = None) -> None:
        """Adds what the probabilities, and the rules that need no search, suggest within the limits of a goal.

        Args:
            goal: Goal whose limits count: the pool's, perhaps at other milliseconds.
            samples: Number of samples.
            seed: Seed of the samples.
            least: Share of the first limit that the networks use at least; None for nearly all that they can use.
        """
        limits = goal.all_limits
        least = suggestions.least_share(limits) if least is None else least
        for how, path in suggestions.by_rule(self.scores.space, self._probs, limits, least):
            self.add(how, path)
        for path in within_limits.samples(self._probs, limits, least, samples, seed):
            self.add(SAMPLE, path)

    def add_arg_max(self) -> None:
        """Adds the most probable op of each choice, whether it keeps the limits or not."""
        self.add(ARG_MAX, np.argmax(self._probs, axis=1))

    def add_best_sums(self, bounds: Sequence[float]) -> None:
        """Adds the network of the best effects at each budget.

        The term for depth is no sum, but nearly the largest of several.

        Args:
            bounds: Budgets in milliseconds.
        """
        gains = [Cost(-matrix, -constant, self.goal.ms.mask) for matrix, constant in self.scores.leaning.tangents()]
        for bound in bounds:
            path = within_limits.most_of_least(gains, self._limits(bound))
            if path is not None:
                self.add(BEST_SUM, path)

    def networks(self) -> list[Finalist]:
        """All networks with their expected losses, those of least loss first; none is eligible.

        A network's own loss has no part in this: what it has beyond the effects of the ops is gone after a training of
        the network's own (benchmarks/NOTES.md).
        """
        networks = list(self._found.values())
        expected = self.scores.leaning.loss(self._paths(networks))
        return sorted((dataclasses.replace(each, expected_loss=float(loss))
                       for each, loss in zip(networks, expected, strict=True)), key=lambda each: each.expected_loss)

    def finalists(self, goal: Goal, least: float = 0.0) -> list[Finalist]:
        """All networks, those of least expected loss first; those that keep the limits are eligible.

        Args:
            goal: Goal whose limits count.
            least: Share of the first limit that a network uses at least.
        """
        networks = self.networks()
        kept = within_limits.keeps(self._paths(networks), goal.all_limits, least)
        return [dataclasses.replace(each, eligible=bool(keeps)) for each, keeps in zip(networks, kept, strict=True)]

    def best(self, bound: float) -> Finalist | None:
        """The network of least expected loss that keeps a budget in milliseconds and all other limits."""
        networks = self.networks()
        kept = within_limits.keeps(self._paths(networks), self._limits(bound), 0.0)
        return next(itertools.compress(networks, kept), None)

    def look_closely(self, finalist: Finalist) -> Finalist:
        """The network with its loss and accuracy on all images, see `Scores.close_look`."""
        self.scores.close_look(self._path(finalist))
        return self.with_scores(finalist)

    def with_scores(self, finalist: Finalist) -> Finalist:
        """The network with its loss and accuracy on all images, if they are known."""
        score = self.scores.whole(self._path(finalist))
        return dataclasses.replace(finalist, loss=score.loss, accuracy=score.accuracy) if score else finalist

    def error(self, finalist: Finalist, other: Finalist) -> float:
        """Standard error of the difference between the expected losses of two networks."""
        return self.scores.leaning.error(self._path(finalist), self._path(other))

    def accuracy_error(self, finalist: Finalist, other: Finalist) -> float:
        """Standard error of the difference between the accuracies of two networks on the same held-out images."""
        return self.scores.accuracy_error(self._path(finalist), self._path(other))

    def _path(self, finalist: Finalist) -> np.ndarray:
        return finalist.arch.path_in(self.scores.space)

    def _paths(self, networks: Sequence[Finalist]) -> np.ndarray:
        return np.stack([self._path(each) for each in networks])

    def _limits(self, bound: float) -> tuple[Limit, ...]:
        return Limit("ms", self.goal.ms, bound), *self.goal.limits
