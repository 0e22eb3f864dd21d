"""Scores of sampled networks: loss and accuracy of paths with the weights that they have in the supernet."""

import copy
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from pnas_tf.network.criterion import LABELS_ALONE, Criterion
from pnas_tf.network.evaluate import Batch, Score, is_right, mean_score
from pnas_tf.supernet.supernet import Supernet


class PathScorer:
    """Scores paths of a supernet with their weights from the supernet, always on the same images.

        loss = sum(len(batch) * criterion.loss(labels, supernet(images, path)) for batch in batches) / images

    Accuracy is averaged in the same way. Batch norm normalises by each batch, since moving statistics of shared weights
    fit no single path. For a derived network, `network.evaluate.recalibrate` serves the same purpose.

    Attributes:
        num_batches: Number of batches that `score` may use.
    """

    def __init__(self, supernet: Supernet, batches: Iterable[Batch], criterion: Criterion = LABELS_ALONE):
        """Keeps the images in memory.

        Args:
            supernet: Supernet whose paths are scored. Each call of `score` uses its weights at that time.
            batches: Held-out batches (images, labels); read once.
            criterion: Loss of the logits. A teacher sees each batch once.
        """
        self._criterion = criterion
        self._taught = tf.function(criterion.taught, autograph=False, reduce_retracing=True)
        self._set(self._prepared(batches))
        self._score = tf.function(
            lambda images, labels, taught, path: self._score_batch(labels, supernet(images, path), taught),
            autograph=False, reduce_retracing=True)

    def on(self, batches: Iterable[Batch]) -> "PathScorer":
        """A scorer on other images, which shares this scorer's compiled function.

        Args:
            batches: Batches of the same size as those of this scorer; read once.
        """
        other = copy.copy(self)
        other._set(self._prepared(batches))
        return other

    def on_more(self, batches: Iterable[Batch]) -> "PathScorer":
        """A scorer on this scorer's images and then others, as `on`.

        Args:
            batches: As for `on`.
        """
        other = copy.copy(self)
        other._set([*self._batches, *self._prepared(batches)])
        return other

    def _prepared(self, batches):
        return [(images, labels, self._taught(images)) for images, labels in batches]

    def _set(self, prepared):
        self._batches, self.num_batches = prepared, len(prepared)

    @property
    def labels(self) -> np.ndarray:
        """Labels of all images that `score` may use, int32 [images]."""
        return np.concatenate([labels for _, labels, _ in self._batches])

    def score(self, path: np.ndarray, batches: int | None = None, first: int = 0) -> Score:
        """Mean loss and accuracy of a path.

        Args:
            path: Op indices, int [choices].
            batches: Stop after this batch, counted from 1; None for `num_batches`.
            first: Number of batches to skip; fewer than `num_batches`.
        """
        return self.score_images(path, batches, first)[0]

    def score_images(self, path: np.ndarray, batches: int | None = None, first: int = 0) -> tuple[Score, np.ndarray]:
        """As `score`, and whether each image is classified correctly, bool [images]."""
        path = tf.constant(path, tf.int32)
        values, right = zip(*(self._score(*batch, path) for batch in self._batches[first:batches]), strict=True)
        return mean_score(zip(values, map(len, right), strict=True)), np.concatenate(right)

    def _score_batch(self, labels, logits, taught):
        loss, right = self._criterion.loss(labels, logits, taught), is_right(labels, logits)
        return tf.stack([loss, tf.reduce_mean(tf.cast(right, tf.float32))]), right
