"""Scores of networks with weights from a supernet, and the effects of ops that explain them."""

import dataclasses
import math

import numpy as np

from pnas_tf.cost import prices
from pnas_tf.derive import lean
from pnas_tf.derive.op_effects import OpEffects
from pnas_tf.errors import InputError
from pnas_tf.network.evaluate import Score
from pnas_tf.space.blocks import Space
from pnas_tf.supernet.path_scorer import PathScorer

# Batches of a set of images, on which a network is first scored, and largest number of sets.
SET_BATCHES, SETS = 3, 8


class Scores:
    """Scores of the networks of one supernet, which all goals share. No network is scored twice.

    Losses rank the networks, on held-out images or on more; accuracies are always those on held-out images. The
    networks take turns at sets of the images that rank them.

    Attributes:
        space: Space of the networks.
        labels: Labels of all held-out images, int32 [images].
    """

    def __init__(self, space: Space, scorer: PathScorer, ranker: PathScorer | None = None):
        """Starts without networks.

        Args:
            space: Space of the networks.
            scorer: Scorer of the supernet on held-out images.
            ranker: Scorer on the images whose losses rank networks; None for the held-out images.
        """
        self.space, self.labels = space, scorer.labels
        self._macs = prices.matrix(space, prices.macs())
        self._scorer, self._ranker = scorer, ranker or scorer
        self._sets = min(SETS, max(1, self._ranker.num_batches // SET_BATCHES))
        self._first: dict[bytes, tuple[int, Score]] = {}
        self._whole: dict[bytes, tuple[Score, np.ndarray]] = {}
        self._effects: OpEffects | None = None

    def first_look(self, path: np.ndarray) -> Score:
        """Score on one set of images of a network that the effects are fitted to, int32 [choices]."""
        if path.tobytes() not in self._first:
            turn = len(self._first) % self._sets
            score = self._ranker.score(path, SET_BATCHES * (turn + 1), SET_BATCHES * turn)
            self._first[path.tobytes()] = turn, score
            self._effects = None
        return self._first[path.tobytes()][1]

    def close_look(self, path: np.ndarray) -> Score:
        """Loss on all images that rank networks, and accuracy on all held-out images, of a path, int32 [choices]."""
        return self._look_closely(path)[0]

    def whole(self, path: np.ndarray) -> Score | None:
        """The score that `close_look` has taken of a path, int32 [choices]; None if it has not."""
        return self._whole[path.tobytes()][0] if path.tobytes() in self._whole else None

    def accuracy_error(self, path: np.ndarray, other: np.ndarray) -> float:
        """Standard error of the difference between two accuracies on all held-out images, int32 [choices] each.

            difference[image] = right(path, image) - right(other, image)
            error = sqrt(variance(difference) / images)

        Images that both networks classify alike say nothing about their difference.
        """
        right, other_right = (self._look_closely(each)[1].astype(np.float64) for each in (path, other))
        return float(np.std(right - other_right, ddof=1) / math.sqrt(len(right))) if len(right) > 1 else 0.0

    def _look_closely(self, path: np.ndarray) -> tuple[Score, np.ndarray]:
        if path.tobytes() not in self._whole:
            score, right = self._scorer.score_images(path)
            if self._ranker is not self._scorer:
                score = dataclasses.replace(score, loss=self._ranker.score(path).loss)
            self._whole[path.tobytes()] = score, right
        return self._whole[path.tobytes()]

    @property
    def effects(self) -> OpEffects:
        """Effects of ops on the losses of the first looks so far.

        Raises:
            InputError: If no loss is finite.
        """
        if self._effects is None:
            # A loss that overflowed in float16 says nothing about ops.
            known = [(np.frombuffer(path, np.int32), score.loss, turn) for path, (turn, score) in self._first.items()
                     if math.isfinite(score.loss)]
            if not known:
                raise InputError("The held-out loss of every network is infinite or no number. Lower --lr and "
                                 "--warmup_lr, or use --precision=float32.")
            paths, losses, turns = zip(*known, strict=True)
            self._effects = OpEffects.fit(self.space, np.stack(paths), losses, turns)
        return self._effects

    @property
    def leaning(self) -> OpEffects:
        """Effects by which networks are compared: those of `effects`, with a lean towards large networks."""
        return lean.towards(self._macs, self.effects)
