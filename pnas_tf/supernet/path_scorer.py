"""TODO: docstring."""

import copy
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from pnas_tf.network.evaluate import Batch, Score, loss_and_accuracy, mean_score
from pnas_tf.supernet.supernet import Supernet


class PathScorer:
    """Scores paths of a supernet with the weights they inherit, on the same images each time.

    Batch norm normalises by each batch, since moving statistics of shared weights fit no single path
    (`recalibrate` is the equal of this for a network of its own).
    """

    def __init__(self, supernet: Supernet, batches: Iterable[Batch], class_weights: np.ndarray | None = None):
        """Keeps the images.

        Args:
            supernet: whose paths.
            batches: of (images, labels), held out; read once.
            class_weights: float32 [classes], of the loss.
        """
        self._set(batches)
        self._score = tf.function(lambda images, labels, path: loss_and_accuracy(labels, supernet(images, path), class_weights),
                                  autograph=False, reduce_retracing=True)

    def on(self, batches: Iterable[Batch]) -> "PathScorer":
        """A scorer on other images, of batches of the same size; nothing is compiled anew."""
        other = copy.copy(self)
        other._set(batches)
        return other

    def _set(self, batches):
        self._batches = list(batches)
        self.num_batches = len(self._batches)

    def score(self, path: np.ndarray, batches: int | None = None, first: int = 0) -> Score:
        """Of one path.

        Args:
            path: op indices, int [choices].
            batches: the number of the last one to look at, of `num_batches`; None for all.
            first: batches to leave out; fewer than there are.
        """
        path = tf.constant(path, tf.int32)
        return mean_score((self._score(images, labels, path), labels.shape[0])
                     for images, labels in self._batches[first:batches])
