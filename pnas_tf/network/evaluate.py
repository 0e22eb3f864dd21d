"""Loss and accuracy: of paths through a supernet, and of networks; and batch norm's statistics set anew."""

import dataclasses
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

Batch = tuple[tf.Tensor, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Score:
    """Mean cross-entropy, share of images whose largest logit is the label's, and the number of images."""

    loss: float
    accuracy: float
    images: int

    def __add__(self, other: "Score") -> "Score":
        """Of the images of both."""
        return mean_score([(np.array([one.loss, one.accuracy]), one.images) for one in (self, other)])


def network(model: keras.Model, batches: Iterable[Batch]) -> Score:
    """Of a network as it would be used: by its moving statistics."""
    score = tf.function(lambda images, labels: loss_and_accuracy(labels, model(images, training=False)),
                        autograph=False, reduce_retracing=True)
    return mean_score((score(images, labels), labels.shape[0]) for images, labels in batches)


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


def loss_and_accuracy(labels, logits, class_weights=None):
    return tf.stack([cross_entropy(labels, logits, class_weights=class_weights), accuracy_of(labels, logits)])


def mean_score(scores):
    values, sizes = zip(*((np.asarray(value), size) for value, size in scores), strict=True)
    loss, accuracy = np.average(values, axis=0, weights=sizes)
    return Score(float(loss), float(accuracy), sum(sizes))

def cross_entropy(labels: tf.Tensor, logits: tf.Tensor, label_smoothing: float = 0.0,
                  class_weights: np.ndarray | None = None) -> tf.Tensor:
    """Mean cross-entropy.

    Args:
        labels: int32 [batch].
        logits: [batch, classes].
        label_smoothing: share of the probability that is spread over all classes.
        class_weights: float32 [classes], what an image counts for by its label; None: 1.

    Returns:
        Scalar float32.
    """
    logits = tf.cast(logits, tf.float32)
    if label_smoothing:
        classes = logits.shape[-1]
        goal = tf.one_hot(labels, classes) * (1.0 - label_smoothing) + label_smoothing / classes
        losses = tf.nn.softmax_cross_entropy_with_logits(goal, logits)
    else:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return tf.reduce_mean(losses if class_weights is None else losses * tf.gather(class_weights, labels))


def accuracy_of(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Share of images whose largest logit is the label's: scalar float32."""
    return tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, -1, labels.dtype), labels), tf.float32))
