"""A network that also learns from a teacher when `fit` trains it, and the images with what the teacher says of them."""

import dataclasses
import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from pnas_tf.data.parts import Part
from pnas_tf.errors import InputError
from pnas_tf.network.criterion import Teacher, check_teacher, distillation, feature_distance, features_of, image_weights
from pnas_tf.space.blocks import Space
from pnas_tf.train import recipe
from pnas_tf.train.initial_weights import read_model


def read_teacher(path: str, space: Space) -> Teacher:
    """The teacher in a .keras file, for networks of a space.

    Raises:
        InputError: If the file is missing, damaged, or its network does not fit the space's images and classes.
    """
    model = read_model(path)
    check_teacher(model, path, space.input_channels, space.num_classes)
    return Teacher(model)


def check_answers(teacher: Teacher, path: str, images: Part) -> None:
    """Checks what a teacher says of some images. What it says becomes a part of the loss, and would seem to diverge.

    Args:
        teacher: Teacher.
        path: Path of its file, for the message.
        images: Images of which one batch is shown to the teacher.

    Raises:
        InputError: If an answer is infinite or no number.
    """
    batch, _ = next(iter(images.batches(_SHOWN)))
    if not np.all(np.isfinite(teacher.logits(batch))):
        raise InputError(f"{path}: this teacher answers images of the data set with numbers that are not finite, so "
                         "nothing can be learned from it. Train it again at a lower learning rate, or name another "
                         "one by --teacher.")


# Images that a teacher is asked about before it teaches.
_SHOWN = 32


def kept_steps(image_shape: Sequence[int], batch_size: int, steps_per_epoch: int, num_features: int = 0) -> int:
    """Number of batches that are kept in memory: see `recipe.kept_steps`; 0 if there is a GPU.

    On a CPU, a teacher and the reading of images take longer than a step of a small network. A GPU asks the teacher in
    each step.

    Args:
        image_shape: Height, width and channels. A bfloat16 has two bytes and the range of a float32, which a space's
            normalisation may need.
        batch_size: Images per batch.
        steps_per_epoch: Batches per epoch.
        num_features: Number of the teacher's features that are kept, too.
    """
    if tf.config.list_physical_devices("GPU"):
        return 0
    return recipe.kept_steps(math.prod(image_shape), num_features, batch_size, steps_per_epoch)


@dataclasses.dataclass(frozen=True)
class Distillation:
    """Weights of a teacher's parts in a loss.

        loss = (1 - weight) * labels' loss + weight * distillation + features * feature distance

    Attributes:
        weight: Weight of its logits; 1 less this is the labels'.
        temperature: Temperature of the logits.
        features: Weight of the distance from its features; 0 for none.
        class_weights: Weight of an image by its label, float32 [classes]; None for weights of 1.
    """

    weight: float
    temperature: float
    features: float = 0.0
    class_weights: np.ndarray | None = None


def lessons(batches: tf.data.Dataset, teacher: Teacher, kept: int, skip_steps: int, features: bool = False
            ) -> tf.data.Dataset:
    """Training batches with what the teacher says of them; the first ones are kept and repeat.

    Args:
        batches: Endless batches of images and labels, from step 0.
        teacher: Teacher.
        kept: Number of batches to keep; images are kept as bfloat16.
        skip_steps: Number of steps that are done.
        features: Whether to ask for the teacher's features, too.

    Returns:
        Data set of (images, (labels, *said)) from step `skip_steps` on, where `said` are the teacher's logits, float32
        [batch, classes], and its features, float32 [batch, features].
    """
    def ask(images, labels):
        return tf.cast(images, tf.bfloat16), (labels, *_said(teacher, images, features))

    asked = batches.take(kept).map(ask).cache().repeat().skip(skip_steps % kept)
    return asked.map(lambda images, said: (tf.cast(images, tf.float32), said)).prefetch(tf.data.AUTOTUNE)


def _said(teacher: Teacher, images: tf.Tensor, features: bool) -> tuple[tf.Tensor, ...]:
    """What a teacher says of images: logits and, if asked for, features."""
    return teacher.logits_and_features(images) if features else (teacher.logits(images),)


class Student(keras.Model):
    """A Keras model whose training loss has a teacher's part: see `Distillation`.

    It shares its layers with the network that it is made from. Labels may come with what the teacher says, from
    `lessons`; otherwise each training step asks the teacher. Validation does not ask it.
    """

    def __init__(self, model: keras.Model, teacher: Teacher, distillation: Distillation):
        """
        Args:
            model: Network to train; its classifier reads as many features as the teacher's if features are learned.
            teacher: Network to learn from; it does not become part of the student.
            distillation: Weights of the teacher's part.
        """
        super().__init__(model.inputs, model.outputs, name=model.name)
        features = bool(distillation.features)
        both = keras.Model(model.inputs, [model.output, features_of(model)]) if features else None
        # In functions, so that Keras does not take the teacher and the outputs of training for parts of this model.
        self._ask = lambda images: _said(teacher, images, features)
        self._forward = (lambda images: both(images, training=True)) if both else None
        self._distillation, self._own_features = distillation, None

    def call(self, inputs, training=None, mask=None):
        """Logits; in training, the features that they come from are kept for the loss of the same step."""
        if not training or not self._forward:
            return super().call(inputs, training=training, mask=mask)
        logits, self._own_features = self._forward(inputs)
        return logits

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The compiled loss and, in training, the teacher's part."""
        labels, *said = y if isinstance(y, tuple) else (y,)
        loss = super().compute_loss(x, labels, y_pred, sample_weight, training)
        if not training:
            return loss
        how, (taught, *hints) = self._distillation, said or self._ask(x)
        counts = image_weights(labels, how.class_weights)
        loss = (1.0 - how.weight) * loss + how.weight * distillation(taught, y_pred, how.temperature, counts)
        return loss + how.features * feature_distance(hints[0], self._own_features, counts) if hints else loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The compiled metrics, by the labels alone."""
        return super().compute_metrics(x, y[0] if isinstance(y, tuple) else y, y_pred, sample_weight)
