"""Loss and accuracy of networks, and the recalibration of their batch norm statistics."""

import dataclasses
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

Batch = tuple[tf.Tensor, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Score:
    """Loss and accuracy on some images.

    Attributes:
        loss: Mean cross-entropy.
        accuracy: Share of images whose largest logit belongs to the label.
        images: Number of images.
    """

    loss: float
    accuracy: float
    images: int

    def __add__(self, other: "Score") -> "Score":
        """The score on the images of both scores together."""
        return mean_score([(np.array([score.loss, score.accuracy]), score.images) for score in (self, other)])


def score_network(model: keras.Model, batches: Iterable[Batch]) -> Score:
    """Loss and accuracy of a network in inference mode: batch norm uses its moving statistics.

    Args:
        model: Network from images to logits.
        batches: Pairs of images [batch, height, width, channels] and labels int32 [batch].
    """
    score = tf.function(lambda images, labels: loss_and_accuracy(labels, model(images, training=False)),
                        autograph=False, reduce_retracing=True)
    return mean_score((score(images, labels), labels.shape[0]) for images, labels in batches)


def recalibrate(model: keras.Model, batches: Iterable[Batch], may_lower: bool = True) -> None:
    """Sets the moving statistics of batch norm to the mean of the batch statistics of this network.

    In the supernet, an op was trained on the outputs of all ops of the block before it. In a derived network only one
    of these ops is left, so the statistics differ.

    Args:
        model: Network from images to logits. Its other weights do not change.
        batches: Pairs of training images and labels. Dropout is off.
        may_lower: Whether variances may become lower than they are. A channel that many images of a pretraining need,
            and these images do not, hardly varies in them: divided by that variance, it would be loud noise.
    """
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    moving = [variable for layer in layers for variable in (layer.moving_mean, layer.moving_variance)]
    momenta = [layer.momentum for layer in layers]
    earlier = [np.asarray(layer.moving_variance) for layer in layers]
    for layer in layers:
        layer.momentum = 0.0  # makes moving statistics those of the last batch
    dropping = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    rates = [layer.rate for layer in dropping]
    for layer in dropping:  # which is not there when the network is used
        layer.rate = 0.0
    observe = tf.function(lambda images: model(images, training=True), autograph=False, reduce_retracing=True)
    sums, count = [np.zeros(variable.shape, np.float32) for variable in moving], 0
    for images, _ in batches:
        observe(images)
        sums, count = [total + np.asarray(variable) for total, variable in zip(sums, moving, strict=True)], count + 1
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    for layer, rate in zip(dropping, rates, strict=True):
        layer.rate = rate
    for layer, (means, variances), before in zip(layers, zip(sums[::2], sums[1::2], strict=True), earlier, strict=True):
        layer.moving_mean.assign(means / count)
        layer.moving_variance.assign(np.maximum(variances / count, 0 if may_lower else before))


def loss_and_accuracy(labels: tf.Tensor, logits: tf.Tensor, class_weights: np.ndarray | None = None) -> tf.Tensor:
    """Cross-entropy and accuracy of one batch, float32 [2]; arguments as for `cross_entropy`."""
    return tf.stack([cross_entropy(labels, logits, class_weights=class_weights), accuracy_of(labels, logits)])


def mean_score(scores: Iterable[tuple[np.ndarray | tf.Tensor, int]]) -> Score:
    """The score on several batches.

    Args:
        scores: For each batch, float32 [2] from `loss_and_accuracy` and the number of images.
    """
    values, sizes = zip(*((np.asarray(value), size) for value, size in scores), strict=True)
    loss, accuracy = np.average(values, axis=0, weights=sizes)
    return Score(float(loss), float(accuracy), sum(sizes))


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor, label_smoothing: float = 0.0,
                  class_weights: np.ndarray | None = None) -> tf.Tensor:
    """Mean cross-entropy.

    The loss of a mixed label is the mean of its classes' losses, weighted by their shares.

    Args:
        labels: Labels, int32 [batch], or shares of the classes of mixed images, float32 [batch, classes].
        logits: Logits, float [batch, classes].
        label_smoothing: Share of the probability that is spread evenly over all classes.
        class_weights: Weight of an image by its label, float32 [classes]; None for weights of 1.

    Returns:
        Scalar float32.
    """
    logits = tf.cast(logits, tf.float32)
    if len(labels.shape) == 2:
        shares = labels if class_weights is None else labels * class_weights
        spread = tf.reduce_mean(shares, -1, keepdims=True)
        target = (1.0 - label_smoothing) * shares + label_smoothing * spread
        return -tf.reduce_mean(tf.reduce_sum(target * tf.nn.log_softmax(logits), -1))
    if label_smoothing:
        classes = logits.shape[-1]
        target = tf.one_hot(labels, classes) * (1.0 - label_smoothing) + label_smoothing / classes
        losses = tf.nn.softmax_cross_entropy_with_logits(target, logits)
    else:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return tf.reduce_mean(losses if class_weights is None else losses * tf.gather(class_weights, labels))


def accuracy_of(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Share of images whose largest logit belongs to the label, scalar float32."""
    return tf.reduce_mean(tf.cast(is_right(labels, logits), tf.float32))


def is_right(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Whether the largest logit of each image belongs to its label, bool [batch]."""
    return tf.equal(tf.argmax(logits, -1, labels.dtype), labels)
