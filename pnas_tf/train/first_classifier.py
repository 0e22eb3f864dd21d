"""The classifier with which a fine-tuning starts: the best linear one on the features of the pretrained network.

A classifier that starts at random sends random gradients through the pretrained weights until it has learned, and a
short training on few images ends before the damage is mended. Ridge regression finds a good one at the price of one
look at the images ("Fine-tuning can distort pretrained features", Kumar et al., ICLR 2022).
"""

import math

import keras
import numpy as np
import tensorflow as tf
from scipy import optimize

from pnas_tf.data.parts import Part
from pnas_tf.errors import InputError

# Images that are looked at; more hardly change the classifier, and its time grows with their square.
MOST_IMAGES = 4000
# Strengths of the ridge, in units of the mean square of a direction in which the features vary.
STRENGTHS = np.logspace(-3, 3, 13)
# Steps of an int8 tensor between its least and its largest value.
STEPS = 255


def start(model: keras.Model, images: Part, label_smoothing: float, seed: int,
          class_weights: np.ndarray | None = None) -> float:
    """Sets the weights of a network's last layer by ridge regression on the features of training images.

    Features are brought to one deviation. A feature that varies by less than rounding to int8 counts for less: its
    weights would be so large that rounding alone decides what the int8 file answers. The strength of the ridge has
    the most right answers, and the scale of the logits the least cross-entropy, over images that are left out of the
    regression in turn (in closed form).

    Args:
        model: Network from images to logits; its last layer with weights is dense.
        images: Training images.
        label_smoothing: Label smoothing of the training.
        seed: Seed of the images that are looked at.
        class_weights: Weight of an image in the regression and in both choices, [classes]; None for equal ones.

    Returns:
        Share of right answers on the images that are left out in turn; there are at most `MOST_IMAGES`.

    Raises:
        InputError: If features are not finite.
    """
    dense = [layer for layer in model.layers if layer.weights][-1]
    features, labels = _features(keras.Model(model.inputs, dense.input), images, seed)
    if not np.isfinite(features).all():
        raise InputError("The initial weights give features that are not finite on training images. Take other "
                         "--init_weights, or another --teacher.")
    targets = np.eye(dense.units)[labels]
    weights = (np.ones(dense.units) if class_weights is None else class_weights.astype(np.float64))[labels]
    weights /= weights.mean()
    mean, share = (np.average(values, axis=0, weights=weights) for values in (features, targets))
    rounding = max(float(np.ptp(features)) / STEPS / math.sqrt(12), 1e-6)
    deviation = np.hypot(features.std(0), rounding)
    root = np.sqrt(weights)[:, None]  # a weighted regression is one of rows that are multiplied by the weights' roots
    left, sizes, right = np.linalg.svd(root * (features - mean) / deviation, full_matrices=False)
    projected = left.T @ (root * (targets - share))
    _, strength, answers = max((_left_out(left, sizes, projected, targets, share, weights, strength)
                                for strength in STRENGTHS), key=lambda found: found[0])
    scale = _scale(answers, targets, weights, label_smoothing)
    kernel = right.T @ (projected * (_shrunk(sizes, strength) / np.maximum(sizes, 1e-12))[:, None])
    kernel *= scale / deviation[:, None]
    dense.set_weights([kernel.astype(np.float32), (scale * share - mean @ kernel).astype(np.float32)])
    return float(np.mean(answers.argmax(1) == labels))


def _features(body: keras.Model, images: Part, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of training images without random changes, float64 [images, features], and their labels."""
    look = tf.function(lambda batch: body(batch, training=False), autograph=False, reduce_retracing=True)
    batch_size = 50
    batches = images.batches(batch_size) if images.size <= MOST_IMAGES else \
        images.batches(batch_size, seed=seed).take(MOST_IMAGES // batch_size)
    features, labels = zip(*((look(batch).numpy(), label.numpy()) for batch, label in batches), strict=True)
    return np.concatenate(features).astype(np.float64), np.concatenate(labels)


def _shrunk(sizes: np.ndarray, strength: float) -> np.ndarray:
    """How much of each direction a ridge of this strength leaves, from 0 to 1."""
    squares = sizes ** 2
    return squares / (squares + strength * max(squares.mean(), 1e-12))  # 0 if no feature varies


def _left_out(left: np.ndarray, sizes: np.ndarray, projected: np.ndarray, targets: np.ndarray, share: np.ndarray,
              weights: np.ndarray, strength: float) -> tuple[float, float, np.ndarray]:
    """(weighted share of right answers, strength, answers) of a ridge regression on images left out in turn."""
    kept = _shrunk(sizes, strength)
    own = weights / weights.sum() + (left ** 2) @ kept  # how much an image's answer depends on its own label
    answers = share + left @ (kept[:, None] * projected) / np.sqrt(weights)[:, None]
    answers = targets - (targets - answers) / np.maximum(1 - own, 1e-6)[:, None]
    return float(np.average(answers.argmax(1) == targets.argmax(1), weights=weights)), strength, answers


def _scale(answers: np.ndarray, targets: np.ndarray, weights: np.ndarray, label_smoothing: float) -> float:
    """The factor that turns answers into the logits of the least cross-entropy."""
    smooth = (1 - label_smoothing) * targets + label_smoothing / targets.shape[1]

    def loss(log_scale: float) -> float:
        logits = np.exp(log_scale) * answers
        return float(np.average(np.logaddexp.reduce(logits, 1) - np.sum(smooth * logits, 1), weights=weights))

    return float(np.exp(optimize.minimize_scalar(loss, bounds=(0.0, np.log(64)), method="bounded").x))
