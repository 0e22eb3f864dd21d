"""A network that also learns from a teacher when `fit` trains it, and the images with what the teacher says of them."""

import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from pnas_tf.data.parts import Part
from pnas_tf.errors import InputError
from pnas_tf.network.criterion import Teacher, check_teacher, distillation
from pnas_tf.space.blocks import Space
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
# The images of so many epochs are kept with the teacher's logits, if they fit into so many bytes. Then they repeat.
KEPT_EPOCHS = 12
KEPT_BYTES = 2**30


def kept_steps(image_shape: Sequence[int], batch_size: int, steps_per_epoch: int) -> int:
    """Number of batches that are kept in memory, those of `KEPT_EPOCHS`; 0 if they do not fit or there is a GPU.

    On a CPU, a teacher and the reading of images take longer than a step of a small network. A GPU asks the teacher in
    each step.

    Args:
        image_shape: Height, width and channels.
        batch_size: Images per batch.
        steps_per_epoch: Batches per epoch.
    """
    steps = KEPT_EPOCHS * steps_per_epoch
    # A bfloat16 has two bytes and the range of a float32, which a space's normalisation may need.
    fits = 2 * math.prod(image_shape) * batch_size * steps <= KEPT_BYTES
    return steps if fits and not tf.config.list_physical_devices("GPU") else 0


def lessons(batches: tf.data.Dataset, teacher: Teacher, kept: int, skip_steps: int) -> tf.data.Dataset:
    """Training batches with the teacher's logits; the first ones are kept and repeat.

    Args:
        batches: Endless batches of images and labels, from step 0.
        teacher: Teacher.
        kept: Number of batches to keep; images are kept as bfloat16.
        skip_steps: Number of steps that are done.

    Returns:
        Data set of (images, (labels, teacher's logits float32 [batch, classes])) from step `skip_steps` on.
    """
    def ask(images, labels):
        return tf.cast(images, tf.bfloat16), (labels, teacher.logits(images))

    asked = batches.take(kept).map(ask).cache().repeat().skip(skip_steps % kept)
    return asked.map(lambda images, said: (tf.cast(images, tf.float32), said)).prefetch(tf.data.AUTOTUNE)


class Student(keras.Model):
    """A Keras model whose training loss has a teacher's part: see `criterion.Criterion`.

    It shares its layers with the network that it is made from. Labels may come with the teacher's logits, from
    `lessons`; otherwise each training step asks the teacher. Validation does not ask it.
    """

    def __init__(self, model: keras.Model, teacher: Teacher, distill: float, temperature: float):
        """
        Args:
            model: Network to train.
            teacher: Network to learn from; it does not become part of the student.
            distill: Weight of the teacher's part of the loss.
            temperature: Temperature of the teacher's part.
        """
        super().__init__(model.inputs, model.outputs, name=model.name)
        # In a function, so that Keras does not take the teacher for a part of this model.
        self._taught = lambda images: teacher.logits(images)
        self._distill, self._temperature = distill, temperature

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The compiled loss and, in training, the teacher's part."""
        labels, said = y if isinstance(y, tuple) else (y, None)
        loss = super().compute_loss(x, labels, y_pred, sample_weight, training)
        if not training:
            return loss
        said = distillation(self._taught(x) if said is None else said, y_pred, self._temperature)
        return (1.0 - self._distill) * loss + self._distill * said

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The compiled metrics, by the labels alone."""
        return super().compute_metrics(x, y[0] if isinstance(y, tuple) else y, y_pred, sample_weight)
