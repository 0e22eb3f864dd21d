"""The loss with a teacher against NumPy, and what cannot teach."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnas_tf.errors import InputError
from pnas_tf.network.criterion import Criterion, Teacher, check_teacher, distillation
from pnas_tf.train.student import Student

LABELS = np.array([0, 2, 1, 2], np.int32)
LOGITS = np.array([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3], [-3.0, 2.0, 0.0], [1.0, 1.0, 4.0]], np.float32)
TAUGHT = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 5.0], [-1.0, 4.0, 0.0], [3.0, 1.0, 0.0]], np.float32)


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def divergence(taught, logits, temperature):
    p, q = softmax(taught / temperature), softmax(logits / temperature)
    return temperature**2 * np.mean(np.sum(p * np.log(p / q), axis=1))


def test_distillation_equals_numpy():
    for temperature in (1.0, 2.0, 5.0):
        assert float(distillation(tf.constant(TAUGHT), tf.constant(LOGITS), temperature)) == pytest.approx(
            divergence(TAUGHT, LOGITS, temperature), rel=1e-5)
    assert float(distillation(tf.constant(TAUGHT), tf.constant(TAUGHT), 2.0)) == pytest.approx(0, abs=1e-7)


def test_loss_equals_numpy():
    weights = np.array([1.0, 2.0, 0.5], np.float32)
    target = 0.9 * np.eye(3)[LABELS] + 0.1 / 3
    labels_part = np.mean(weights[LABELS] * -np.sum(target * np.log(softmax(LOGITS)), axis=1))
    criterion = Criterion(0.1, weights, None, 0.3, 2.0)
    assert float(criterion.loss(LABELS, LOGITS, None)) == pytest.approx(labels_part, rel=1e-5)
    assert float(criterion.loss(LABELS, LOGITS, tf.constant(TAUGHT))) == pytest.approx(
        0.7 * labels_part + 0.3 * divergence(TAUGHT, LOGITS, 2.0), rel=1e-5)


def dense(size=4, classes=3):
    inputs = keras.Input((size, size, 3))
    return keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.Flatten()(inputs)))


def test_a_teacher_sees_images_of_its_own_size():
    model = dense(2)
    images = np.random.default_rng(0).normal(size=(5, 4, 4, 3)).astype(np.float32)
    halves = images.reshape(5, 2, 2, 2, 2, 3).mean((2, 4))  # bilinear at half the size: means of 2 x 2 pixels
    np.testing.assert_allclose(Teacher(model).logits(tf.constant(images)), model(halves), atol=1e-5)


def test_what_cannot_teach_is_refused():
    check_teacher(dense(), "t.keras", 3, 3)
    for channels, classes in ((1, 3), (3, 4)):
        with pytest.raises(InputError, match=r"t\.keras: a teacher takes images of"):
            check_teacher(dense(), "t.keras", channels, classes)


def test_a_student_trains_on_both_parts_and_keeps_its_own_weights():
    random = np.random.default_rng(0)
    model, teacher = dense(), dense()
    images, labels = random.normal(size=(8, 4, 4, 3)).astype(np.float32), random.integers(0, 3, 8).astype(np.int32)
    student = Student(model, Teacher(teacher), 0.25, 2.0)
    assert len(student.weights) == len(model.weights)
    student.compile(optimizer=keras.optimizers.SGD(0.0), loss=keras.losses.SparseCategoricalCrossentropy(True))
    own = -np.mean(np.log(softmax(model(images).numpy()))[np.arange(8), labels])
    expected = 0.75 * own + 0.25 * divergence(teacher(images).numpy(), model(images).numpy(), 2.0)
    history = student.fit(images, labels, batch_size=8, verbose=0, validation_data=(images, labels)).history
    assert history["loss"][0] == pytest.approx(expected, rel=1e-4)
    assert history["val_loss"][0] == pytest.approx(own, rel=1e-4)
