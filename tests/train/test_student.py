"""The images of a training with what the teacher says of them."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnas_tf.network.criterion import Teacher
from pnas_tf.train import recipe
from pnas_tf.train.student import Distillation, Student, kept_steps, lessons


def batches(count):
    """Endless batches, each with its number in all pixels and labels."""
    numbers = tf.data.Dataset.counter().map(lambda number: (tf.fill([2, 4, 4, 1], tf.cast(number, tf.float32) / 8),
                                                            tf.fill([2], tf.cast(number, tf.int32))))
    return numbers.take(count) if count else numbers


def dense(seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4, 4, 1))
    features = keras.layers.Dense(5, activation="relu")(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(3)(features))


def test_lessons_repeat_with_the_teachers_logits():
    """The first five batches repeat, and a training that stopped after seven steps goes on with the eighth."""
    model = dense(0)
    for done in (0, 7):
        for step, (images, (labels, said)) in enumerate(itertools.islice(
                lessons(batches(0), Teacher(model), 5, done), 12), start=done):
            assert images.dtype == tf.float32
            np.testing.assert_array_equal(images, np.full((2, 4, 4, 1), step % 5 / 8, np.float32))
            np.testing.assert_array_equal(labels, [step % 5] * 2)
            np.testing.assert_allclose(said, model(images), atol=1e-5)


@pytest.mark.parametrize("features", [0.0, 3.0])
def test_a_student_learns_the_same_from_lessons_as_from_the_teacher(features):
    teacher, results = dense(1), []
    for taught in (False, True):
        learner = Student(dense(2), Teacher(teacher), Distillation(0.7, 2.0, features))
        learner.compile(optimizer=keras.optimizers.SGD(0.5), metrics=["accuracy"],
                        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        images = batches(4).map(lambda images, labels: (images, labels % 3))
        data = lessons(images, Teacher(teacher), 4, 0, features > 0) if taught else images.repeat()
        history = learner.fit(data, steps_per_epoch=4, epochs=2, verbose=0, validation_data=images).history
        results.append((history, learner.get_weights()))
    for name, values in results[0][0].items():
        np.testing.assert_allclose(results[1][0][name], values, rtol=1e-5, err_msg=name)
    for one, other in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


def test_pixels_of_any_normalisation_are_kept():
    """Normalised pixels may be as large or as small as a space's deviation makes them: 1e-6 to 1e6."""
    pixels = np.array([-1e6, -3.1e-5, 0.0, 2e-6, 255.0, 2.5e8], np.float32)
    images = np.broadcast_to(pixels[:, None, None, None], (6, 4, 4, 1)).astype(np.float32)
    data = tf.data.Dataset.from_tensors((images, np.zeros(6, np.int32))).repeat()
    kept, _ = next(iter(lessons(data, Teacher(dense(0)), 1, 0)))
    np.testing.assert_allclose(kept, images, rtol=2**-8)


def test_what_does_not_fit_is_not_kept(monkeypatch):
    assert kept_steps((8, 8, 3), 32, 10) == 120
    monkeypatch.setattr(recipe, "KEPT_BYTES", 2 * 8 * 8 * 3 * 32 * 120)
    assert kept_steps((8, 8, 3), 32, 10) == 120
    assert kept_steps((8, 8, 3), 32, 11) == 0
    monkeypatch.setattr(recipe, "KEPT_BYTES", (2 * 8 * 8 * 3 + 4 * 7) * 32 * 120)
    assert kept_steps((8, 8, 3), 32, 10, num_features=7) == 120
    assert kept_steps((8, 8, 3), 32, 10, num_features=8) == 0
