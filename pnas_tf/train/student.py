"""A network that also learns from a teacher when `fit` trains it."""

import keras

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


class Student(keras.Model):
    """A Keras model whose training loss has a teacher's part: see `criterion.Criterion`.

    It shares its layers with the network that it is made from. Validation does not ask the teacher.
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
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return loss
        said = distillation(self._taught(x), y_pred, self._temperature)
        return (1.0 - self._distill) * loss + self._distill * said
