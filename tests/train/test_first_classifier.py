"""The classifier with which a fine-tuning starts, against ridge regressions that really leave each image out."""

import keras
import numpy as np
import pytest

from pnas_tf import data
from pnas_tf.errors import InputError
from pnas_tf.train import first_classifier


@pytest.fixture(scope="module")
def images():
    """60 images of 4 classes that differ a little in colour."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 4
    pixels = np.clip(rng.normal(120, 40, (60, 3, 3, 3)) + 25 * np.eye(4)[labels][:, None, None, :3], 0, 255)
    return data.from_arrays((pixels.astype(np.uint8), labels), (pixels[:8].astype(np.uint8), labels[:8])).train


@pytest.fixture
def model():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((3, 3, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])


def ridge(features, targets, strength):
    """Answers to other features by a ridge regression with an intercept, solved as a system of equations."""
    mean, share = features.mean(0), targets.mean(0)
    centred = features - mean
    weights = np.linalg.solve(centred.T @ centred + strength * np.eye(centred.shape[1]),
                              centred.T @ (targets - share))
    return lambda others: (others - mean) @ weights + share


def test_leaving_out_in_closed_form_equals_leaving_out(images):
    rng = np.random.default_rng(3)
    features, targets = rng.normal(size=(25, 6)), np.eye(3)[rng.integers(0, 3, 25)]
    features -= features.mean(0)
    left, sizes, _ = np.linalg.svd(features, full_matrices=False)
    share = targets.mean(0)
    _, _, answers = first_classifier._left_out(left, sizes, left.T @ (targets - share), targets, share, np.ones(25),
                                               0.1)
    penalty = 0.1 * np.mean(sizes ** 2)
    others = np.array([np.arange(25) != image for image in range(25)])
    expected = [ridge(features[rest], targets[rest], penalty)(features[~rest])[0] for rest in others]
    np.testing.assert_allclose(answers, expected, atol=1e-9)


def test_images_of_weight_2_count_twice():
    """Against the regression on images that are there twice, of which both copies are left out."""
    rng = np.random.default_rng(5)
    features, labels = rng.normal(size=(20, 6)), rng.integers(0, 3, 20)
    targets, weights = np.eye(3)[labels], np.where(labels == 1, 2, 1)
    twice = np.repeat(np.arange(20), weights)
    mean, share = features[twice].mean(0), targets[twice].mean(0)
    root = np.sqrt(weights)[:, None]
    left, sizes, _ = np.linalg.svd(root * (features - mean), full_matrices=False)
    accuracy, _, answers = first_classifier._left_out(left, sizes, left.T @ (root * (targets - share)), targets, share,
                                                      weights.astype(float), 0.1)
    # A ridge that centres with the rest alone differs a little, so both centre here as with all images.
    penalty = 0.1 * np.mean(sizes ** 2)
    for image in range(20):
        rest = twice[twice != image]
        centred = np.c_[features[rest] - mean, np.ones(len(rest))]
        solved = np.linalg.solve(centred.T @ centred + penalty * np.diag([1.0] * 6 + [0.0]),
                                 centred.T @ (targets[rest] - share))
        np.testing.assert_allclose(answers[image], np.r_[features[image] - mean, 1] @ solved + share, atol=1e-9)
    right = answers.argmax(1) == labels
    assert accuracy == pytest.approx(right[twice].mean())


def test_balanced_classes_start_balanced(model):
    """Classes of 54 and 6 images that overlap: without weights, the small one is hardly ever answered."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2, 3], [27, 27, 3, 3])
    pixels = np.clip(rng.normal(120, 60, (60, 3, 3, 3)) + 15 * np.eye(4)[labels][:, None, None, :3], 0, 255)
    images = data.from_arrays((pixels.astype(np.uint8), labels), (pixels[:8].astype(np.uint8), labels[:8])).train
    batch, _ = next(iter(images.batches(60)))

    def share_of_small(weights):
        first_classifier.start(model, images, 0.1, seed=0, class_weights=weights)
        return np.mean(model(batch).numpy().argmax(1) >= 2)

    assert share_of_small(data.class_weights(images, "balanced")) > share_of_small(None)


def test_it_is_the_ridge_regression_scaled_to_the_least_loss(images, model):
    accuracy = first_classifier.start(model, images, 0.1, seed=0)
    batch, labels = next(iter(images.batches(60)))
    logits, features = model(batch).numpy(), batch.numpy().reshape(len(labels), -1).astype(np.float64)
    step = np.ptp(features) / 255
    standard = (features - features.mean(0)) / np.sqrt(features.std(0) ** 2 + step ** 2 / 12)
    sizes = np.linalg.svd(standard, compute_uv=False)
    # Logits are the answers of one of the ridges, times one positive number.
    answers = [ridge(standard, np.eye(4)[labels], strength * np.mean(sizes ** 2))(standard)
               for strength in first_classifier.STRENGTHS]
    scales = [np.sum(logits * each) / np.sum(each * each) for each in answers]
    errors = [np.abs(logits - scale * each).max() for scale, each in zip(scales, answers, strict=True)]
    best = int(np.argmin(errors))
    assert errors[best] < 1e-4 and scales[best] > 0
    # The share of right answers is that of really leaving out, up to the standardisation, which is not done again.
    rest = ~np.eye(len(labels), dtype=bool)
    right = [ridge(standard[others], np.eye(4)[labels[others]], first_classifier.STRENGTHS[best] * np.mean(sizes ** 2))(
        standard[~others]).argmax() == labels[~others][0] for others in rest]
    assert accuracy == pytest.approx(np.mean(right)) and accuracy > 0.4


def test_the_scale_has_the_least_loss():
    rng = np.random.default_rng(4)
    targets = np.eye(5)[rng.integers(0, 5, 200)]
    answers = 0.3 * targets + rng.normal(0, 0.1, targets.shape)

    def loss(scale):
        chances = np.exp(scale * answers) / np.exp(scale * answers).sum(1, keepdims=True)
        return -np.mean(np.sum((0.9 * targets + 0.1 / 5) * np.log(chances), 1))

    scales = np.linspace(1, 64, 64_000)
    best = scales[np.argmin([loss(scale) for scale in scales[::40]]) * 40]
    assert first_classifier._scale(answers, targets, np.ones(len(targets)), 0.1) == pytest.approx(best, abs=0.05)


def test_a_sample_of_many_images_is_the_same_for_a_seed(images, model, monkeypatch):
    monkeypatch.setattr(first_classifier, "MOST_IMAGES", 50)
    weights = []
    for _ in range(2):
        first_classifier.start(model, images, 0.1, seed=5)
        weights.append(model.layers[-1].get_weights()[0])
    np.testing.assert_array_equal(*weights)


def test_answers_survive_that_features_are_rounded_to_int8(images):
    """The third colour varies by a thousandth of a step of int8. With weights as large as its values are small, the
    answers would depend on it, and all would be lost with it (44 % of the images were left of 72 % in one network)."""
    model = keras.Sequential([keras.Input((3, 3, 3)), keras.layers.Rescaling([1.0, 1.0, 1e-5]), keras.layers.Flatten(),
                              keras.layers.Dense(4)])
    accuracy = first_classifier.start(model, images, 0.1, seed=0)
    batch, labels = next(iter(images.batches(60)))
    features = keras.Model(model.inputs, model.layers[-1].input)(batch).numpy()
    step = np.ptp(features) / 255
    exact, rounded = (model.layers[-1](each).numpy() for each in (features, np.round(features / step) * step))
    assert np.abs(exact - rounded).max() < 0.1 * np.abs(exact).max()
    assert accuracy > 0.4 and np.mean(rounded.argmax(1) == labels) > 0.6


def test_features_that_are_not_finite_are_refused(images):
    model = keras.Sequential([keras.Input((3, 3, 3)), keras.layers.Rescaling(1e39), keras.layers.Flatten(),
                              keras.layers.Dense(4)])
    with pytest.raises(InputError, match="features that are not finite on training images"):
        first_classifier.start(model, images, 0.1, seed=0)


def test_features_that_do_not_vary_leave_the_shares_of_the_classes(images):
    model = keras.Sequential([keras.Input((3, 3, 3)), keras.layers.Rescaling(0.0), keras.layers.Flatten(),
                              keras.layers.Dense(4)])
    assert first_classifier.start(model, images, 0.1, seed=0) < 0.5
    batch, _ = next(iter(images.batches(60)))
    logits = model(batch).numpy()
    assert np.all(np.isfinite(logits)) and np.ptp(logits) < 1e-6
