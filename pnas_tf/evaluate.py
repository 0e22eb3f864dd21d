"""Loss and accuracy: of paths through a supernet, and of networks; and batch norm's statistics set anew."""

import copy
import dataclasses
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from pnas_tf.arch_updaters import accuracy_of, cross_entropy
from pnas_tf.supernet import Supernet

Batch = tuple[tf.Tensor, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Score:
    """Mean cross-entropy, share of images whose largest logit is the label's, and the number of images."""

    loss: float
    accuracy: float
    images: int

    def __add__(self, other: "Score") -> "Score":
        """Of the images of both."""
        return _mean([(np.array([one.loss, one.accuracy]), one.images) for one in (self, other)])


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
        self._score = tf.function(lambda images, labels, path: _score(labels, supernet(images, path), class_weights),
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
        return _mean((self._score(images, labels, path), labels.shape[0])
                     for images, labels in self._batches[first:batches])


def network(model: keras.Model, batches: Iterable[Batch]) -> Score:
    """Of a network as it would be used: by its moving statistics."""
    score = tf.function(lambda images, labels: _score(labels, model(images, training=False)),
                        autograph=False, reduce_retracing=True)
    return _mean((score(images, labels), labels.shape[0]) for images, labels in batches)


def recalibrate(model: keras.Model, batches: Iterable[Batch]) -> None:
    """Sets batch norm's moving statistics to the mean over batches of what this very network sees.

    An op of the supernet has seen the outputs of every op before it; a derived network has one.

    Args:
        model: its other weights stay.
        batches: of (images, labels), training images.
    """
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    moving = [variable for layer in layers for variable in (layer.moving_mean, layer.moving_variance)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0  # a moving statistic is then that of the last batch
    observe = tf.function(lambda images: model(images, training=True), autograph=False, reduce_retracing=True)
    sums, count = [np.zeros(variable.shape, np.float32) for variable in moving], 0
    for images, _ in batches:
        observe(images)
        sums, count = [total + np.asarray(variable) for total, variable in zip(sums, moving, strict=True)], count + 1
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    for variable, total in zip(moving, sums, strict=True):
        variable.assign(total / count)


def _score(labels, logits, class_weights=None):
    return tf.stack([cross_entropy(labels, logits, class_weights=class_weights), accuracy_of(labels, logits)])


def _mean(scores):
    values, sizes = zip(*((np.asarray(value), size) for value, size in scores), strict=True)
    loss, accuracy = np.average(values, axis=0, weights=sizes)
    return Score(float(loss), float(accuracy), sum(sizes))
