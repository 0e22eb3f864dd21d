"""The loss of a network: cross-entropy with the labels and, if there is a teacher, with what the teacher says."""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnas_tf.errors import InputError
from pnas_tf.network.evaluate import cross_entropy


class Teacher:
    """A trained network whose logits a smaller network learns from (Hinton et al. 2015). It is never trained here.

    Attributes:
        num_features: Number of values that its classifier reads; 0 if it has no dense layer as its classifier.
    """

    def __init__(self, model: keras.Model):
        """
        Args:
            model: Model from normalised images to logits [batch, classes].
        """
        self._model, features = model, features_of(model)
        self.num_features = 0 if features is None else int(features.shape[-1])
        self._both = None if features is None else keras.Model(model.inputs, [model.output, features])

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Logits in inference mode, float32 [batch, classes].

        Args:
            images: Normalised images [batch, height, width, channels]; resized if the model takes another size.
        """
        return tf.cast(self._model(self._sized(images), training=False), tf.float32)

    def logits_and_features(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits in inference mode, float32 [batch, classes], and features, float32 [batch, num_features].

        Args:
            images: As for `logits`.
        """
        assert self._both is not None, "it has no features"
        logits, features = self._both(self._sized(images), training=False)
        return tf.cast(logits, tf.float32), tf.cast(features, tf.float32)

    def _sized(self, images: tf.Tensor) -> tf.Tensor:
        size = self._model.input_shape[1:3]
        return images if tuple(images.shape[1:3]) == tuple(size) else tf.image.resize(images, size)


def features_of(model: keras.Model) -> Any:
    """What the classifier of a model reads, a Keras tensor [batch, features]; None if that is not to be found."""
    last = next((layer for layer in reversed(getattr(model, "layers", ())) if layer.weights), None)
    if not isinstance(last, keras.layers.Dense) or not isinstance(model, keras.Model) or len(model.outputs) != 1:
        return None
    try:
        features = last.input
        keras.Model(model.inputs, features)
    except (AttributeError, ValueError):  # the layer is used several times, or is a part of a model in the model
        return None
    return features if len(features.shape) == 2 else None


@dataclasses.dataclass(frozen=True)
class Criterion:
    """Loss of logits.

        loss = (1 - distill) * cross_entropy(labels, logits) + distill * distillation(teacher's logits, logits)

    Attributes:
        label_smoothing: Share of the probability that is spread evenly over all classes.
        class_weights: Weight of an image by its label, float32 [classes]; None for weights of 1.
        teacher: Network to learn from; None for labels alone.
        distill: Weight of the teacher's part.
        temperature: Temperature of the teacher's part.
    """

    label_smoothing: float = 0.0
    class_weights: np.ndarray | None = None
    teacher: Teacher | None = None
    distill: float = 0.5
    temperature: float = 2.0

    def taught(self, images: tf.Tensor) -> tf.Tensor | None:
        """The teacher's logits, float32 [batch, classes]; None without a teacher."""
        return self.teacher.logits(images) if self.teacher else None

    def loss(self, labels: tf.Tensor, logits: tf.Tensor, taught: tf.Tensor | None) -> tf.Tensor:
        """Mean loss, scalar float32.

        Args:
            labels: Labels, int32 [batch].
            logits: Logits, float [batch, classes].
            taught: Result of `taught` for the same images.
        """
        loss = cross_entropy(labels, logits, self.label_smoothing, self.class_weights)
        if taught is None:
            return loss
        counts = image_weights(labels, self.class_weights)
        return (1.0 - self.distill) * loss + self.distill * distillation(taught, logits, self.temperature, counts)

    def without_smoothing(self) -> "Criterion":
        """The criterion of held-out images, on which labels are not smoothed."""
        return dataclasses.replace(self, label_smoothing=0.0)


LABELS_ALONE = Criterion()
SMOOTHED = Criterion(label_smoothing=0.1)


def image_weights(labels: tf.Tensor, class_weights: np.ndarray | None) -> tf.Tensor | float:
    """Weight of each image by its label, float32 [batch]; 1 without weights of classes. Arguments as `cross_entropy`'s.
    """
    if class_weights is None:
        return 1.0
    return tf.linalg.matvec(labels, class_weights) if len(labels.shape) == 2 else tf.gather(class_weights, labels)


def distillation(taught: tf.Tensor, logits: tf.Tensor, temperature: float, weights: tf.Tensor | float = 1.0
                 ) -> tf.Tensor:
    """Divergence of a network from its teacher, at a temperature (Hinton et al. 2015, section 2).

        p, q = softmax(taught / temperature), softmax(logits / temperature)
        temperature ** 2 * mean(weights * sum(p * log(p / q)))

    Args:
        taught: Teacher's logits, float32 [batch, classes].
        logits: Network's logits, float [batch, classes].
        temperature: Temperature; above 1, small probabilities count more.
        weights: Weight of each image, float32 [batch]; see `image_weights`.

    Returns:
        Scalar float32, 0 if both say the same.
    """
    taught, logits = taught / temperature, tf.cast(logits, tf.float32) / temperature
    p = tf.nn.softmax(taught)
    divergence = tf.reduce_sum(p * (tf.nn.log_softmax(taught) - tf.nn.log_softmax(logits)), axis=-1)
    return temperature**2 * tf.reduce_mean(weights * divergence)


def feature_distance(taught: tf.Tensor, features: tf.Tensor, weights: tf.Tensor | float = 1.0) -> tf.Tensor:
    """Distance of a network's features from its teacher's, as a share of how much the teacher's vary in a batch.

        mean(weights * (features - taught) ** 2) / mean((taught - mean of the batch) ** 2)

    A hint as in "FitNets" (Romero et al., ICLR 2015), given where the classifier reads: logits of few classes say less.

    Args:
        taught: Teacher's features, float32 [batch, features].
        features: Network's features, float [batch, features].
        weights: Weight of each image, float32 [batch]; see `image_weights`.

    Returns:
        Scalar float32: 0 if they are the same, about 1 for a network whose features are always the mean. A teacher that
        tells the same of all images counts as one whose features vary by a tenth of what either network's are.
    """
    features = tf.cast(features, tf.float32)
    spread = tf.reduce_mean(tf.square(taught - tf.reduce_mean(taught, axis=0)))
    least = 0.1 * tf.maximum(tf.reduce_mean(tf.square(taught)), tf.reduce_mean(tf.square(features)))
    distances = weights * tf.reduce_mean(tf.square(features - taught), axis=1)
    return tf.reduce_mean(distances) / tf.maximum(tf.maximum(spread, least), 1e-6)


def check_teacher(model: Any, source: str, channels: int, classes: int) -> None:
    """Raises InputError unless a model can teach a network.

    Args:
        model: Keras model.
        source: Path of its file, for the message.
        channels: Channels of the images.
        classes: Number of classes.
    """
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[1:] or shape[3] != channels \
            or model.output_shape != (None, classes):
        raise InputError(f"{source}: a teacher takes images of {channels} channels and returns logits of {classes} "
                         f"classes, got {shape} to {getattr(model, 'output_shape', None)}. Train it on this data set.")
