"""The loss with a teacher against NumPy, and what cannot teach."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnas_tf.errors import InputError
from pnas_tf.network.criterion import Criterion, Teacher, check_teacher, distillation, feature_distance, image_weights
from pnas_tf.train.student import Distillation, Student

LABELS = np.array([0, 2, 1, 2], np.int32)
LOGITS = np.array([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3], [-3.0, 2.0, 0.0], [1.0, 1.0, 4.0]], np.float32)
TAUGHT = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 5.0], [-1.0, 4.0, 0.0], [3.0, 1.0, 0.0]], np.float32)


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def divergence(taught, logits, temperature, weights=1.0):
    p, q = softmax(taught / temperature), softmax(logits / temperature)
    return temperature**2 * np.mean(weights * np.sum(p * np.log(p / q), axis=1))


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
        0.7 * labels_part + 0.3 * divergence(TAUGHT, LOGITS, 2.0, weights[LABELS]), rel=1e-5)
    shares = np.eye(3, dtype=np.float32)[LABELS]
    np.testing.assert_allclose(image_weights(tf.constant(shares), weights), weights[LABELS])  # as of mixed images


def dense(size=4, classes=3):
    inputs = keras.Input((size, size, 3))
    return keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.Flatten()(inputs)))


def hidden():
    """A network whose classifier reads features that are computed."""
    inputs = keras.Input((4, 4, 3))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(5)(keras.layers.Flatten()(inputs))))


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


def distance(taught, features):
    """The feature distance in NumPy."""
    return np.mean((features - taught) ** 2) / np.mean((taught - taught.mean(0)) ** 2)


def test_the_feature_distance_is_a_share_of_how_much_the_teacher_varies():
    taught, features = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    assert float(feature_distance(taught, features)) == pytest.approx(distance(taught, features), rel=1e-5)
    counts = np.array([1, 1, 1, 1, 1, 7], np.float32) / 2  # one image of a rare class counts as much as the others
    assert float(feature_distance(taught, features, counts)) == pytest.approx(
        np.mean(counts[:, None] * (features - taught) ** 2) / np.mean((taught - taught.mean(0)) ** 2), rel=1e-5)
    assert float(feature_distance(taught, taught)) == 0
    assert float(feature_distance(taught, np.tile(taught.mean(0), (6, 1)))) == pytest.approx(1, rel=1e-5)
    assert float(feature_distance(np.ones((6, 4), np.float32), np.ones((6, 4), np.float32))) == 0  # nothing varies
    ones, zeros = np.ones((6, 4), np.float32), np.zeros((6, 4), np.float32)
    for taught, features in ((ones, 3 * ones), (zeros, ones), (ones, zeros), (1e-4 * ones, ones)):
        assert 0 < float(feature_distance(taught, features)) <= 10  # a step as large as that of any other batch


def test_features_are_what_the_classifier_reads():
    model = dense()
    teacher, images = Teacher(model), np.random.default_rng(0).normal(size=(5, 4, 4, 3)).astype(np.float32)
    logits, features = teacher.logits_and_features(tf.constant(images))
    assert teacher.num_features == 4 * 4 * 3
    np.testing.assert_allclose(logits, model(images), atol=1e-6)
    np.testing.assert_array_equal(features, images.reshape(5, -1))
    kernel, bias = model.layers[-1].get_weights()
    np.testing.assert_allclose(features @ kernel + bias, logits, atol=1e-5)


@pytest.mark.parametrize("outer", [
    lambda inner: keras.Sequential([keras.Input((4, 4, 3)), inner]),  # the classifier is in a model in the model
    lambda inner: keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(3, 4), keras.layers.Flatten()])])
def test_a_teacher_whose_features_are_not_found_has_logits(outer):
    model = outer(dense())
    teacher, images = Teacher(model), tf.ones((2, 4, 4, 3))
    assert teacher.num_features == 0
    np.testing.assert_allclose(teacher.logits(images), model(images), atol=1e-6)


@pytest.mark.parametrize("features", [0.0, 3.0])
def test_a_student_trains_on_all_parts_and_keeps_its_own_weights(features):
    random = np.random.default_rng(0)
    model, teacher = hidden(), hidden()
    images, labels = random.normal(size=(8, 4, 4, 3)).astype(np.float32), random.integers(0, 3, 8).astype(np.int32)
    student = Student(model, Teacher(teacher), Distillation(0.25, 2.0, features))
    assert len(student.weights) == len(model.weights)
    student.compile(optimizer=keras.optimizers.SGD(0.0), loss=keras.losses.SparseCategoricalCrossentropy(True))
    own = -np.mean(np.log(softmax(model(images).numpy()))[np.arange(8), labels])
    expected = 0.75 * own + 0.25 * divergence(teacher(images).numpy(), model(images).numpy(), 2.0)
    expected += features * distance(*(keras.Model(each.inputs, each.layers[-1].input)(images).numpy()
                                      for each in (teacher, model)))
    history = student.fit(images, labels, batch_size=8, verbose=0, validation_data=(images, labels)).history
    assert history["loss"][0] == pytest.approx(expected, rel=1e-4)
    assert history["val_loss"][0] == pytest.approx(own, rel=1e-4)
