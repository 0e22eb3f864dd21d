"""Images that a program holds in memory: arrays and `tf.data` become the same data set as their .npz file."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnas_tf import data
from pnas_tf.errors import InputError

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.integers(0, 256, (30, 8, 8, 3), np.uint8), np.arange(30) % 3
X_TEST, Y_TEST = RANDOM.integers(0, 256, (6, 8, 8, 3), np.uint8), np.arange(6) % 3
UNBATCHED = tf.data.Dataset.from_tensor_slices((X, Y))


def pixels(loaded):
    """All pixels and labels, part by part."""
    return [(images.numpy(), labels.numpy()) for part in (loaded.train, loaded.held_out, loaded.test)
            for images, labels in part.batches(100)]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The data set as `data.load` reads it from a file."""
    path = tmp_path_factory.mktemp("arrays") / "arrays.npz"
    np.savez(path, x_train=X, y_train=Y, x_test=X_TEST, y_test=Y_TEST)
    return data.load(f"npz:{path}")


@pytest.mark.parametrize("train, test", [
    ((X, Y), (X_TEST, Y_TEST)), ([X, Y[:, None]], [X_TEST, Y_TEST[:, None]]),
    ((X - np.float32(0.3) * (X > 0), np.eye(3)[Y]), (X_TEST.astype(np.int64), Y_TEST.astype(np.float32))),
    (UNBATCHED, (X_TEST, Y_TEST)), (UNBATCHED.batch(7), tf.data.Dataset.from_tensor_slices((X_TEST, Y_TEST)).batch(4)),
    (UNBATCHED.map(lambda x, y: (tf.cast(x, tf.float32), tf.one_hot(y, 3))), (X_TEST, Y_TEST)),
], ids=["arrays", "lists", "floats and one-hot", "tf.data", "batches", "tf.data of one-hot"])
def test_arrays_and_tf_data_give_the_data_set_of_their_file(expected, train, test):
    loaded = data.from_arrays(train, test)
    assert (loaded.image_shape, loaded.num_classes, loaded.mean) == (expected.image_shape, 3, expected.mean)
    for (x, y), (x_expected, y_expected) in zip(pixels(loaded), pixels(expected), strict=True):
        np.testing.assert_array_equal(x, x_expected)
        np.testing.assert_array_equal(y, y_expected)


def test_grey_arrays_without_test_images_are_split_and_named():
    loaded = data.from_arrays((X[..., 0], Y), class_names=["cat", "dog", "owl"], image_size=12, seed=3)
    assert loaded.image_shape == (12, 12, 1) and loaded.class_names == ("cat", "dog", "owl")
    assert [part.size for part in (loaded.train, loaded.held_out, loaded.test)] == [20, 4, 6]
    assert data.from_arrays(UNBATCHED.map(lambda x, y: (x[..., 0], y)).batch(5)).image_shape == (8, 8, 1)


def test_keras_own_loader_keeps_its_class_names(tmp_path):
    for kind in ("cat", "dog"):
        (tmp_path / kind).mkdir()
        for number in range(6):
            keras.utils.save_img(tmp_path / kind / f"{number}.png", X[number])
    photos = keras.utils.image_dataset_from_directory(tmp_path, image_size=(8, 8), batch_size=5, verbose=False)
    loaded = data.from_arrays(photos)
    assert loaded.class_names == ("cat", "dog") and loaded.image_shape == (8, 8, 3)


def test_test_images_have_the_classes_of_the_training_images(tmp_path):
    """Keras numbers the folders that are there, so that each label behind a missing one would be another class."""
    def photos(*kinds):
        folder = tmp_path / "-".join(kinds)
        for kind in kinds:
            (folder / kind).mkdir(parents=True)
            for number in range(6):
                keras.utils.save_img(folder / kind / f"{number}.png", X[number])
        return keras.utils.image_dataset_from_directory(folder, image_size=(8, 8), batch_size=5, verbose=False)

    with pytest.raises(InputError, match="expected cat, dog, owl, got cat, owl"):
        data.from_arrays(photos("cat", "dog", "owl"), photos("cat", "owl"))
    with pytest.raises(InputError, match="y_test has 2 columns, but y_train has 3"):
        data.from_arrays((X, np.eye(3)[Y]), (X[Y < 2], np.eye(2)[Y[Y < 2]]))
    assert data.from_arrays((X, np.eye(3)[Y]), (X, Y)).test.size == 30


@pytest.mark.parametrize("train, message", [
    ((X / 255, Y), "from 0 to 1. Multiply by 255"), ((X / 127.5 - 1, Y), "from -1 to 1. Give the pixels as they were"),
    ((X.astype(np.float32) * np.nan, Y), "pixels from 0 to 255"), ((X, Y[:5]), "5 labels"), (X, "got a ndarray"),
    ((X, np.full(30, 0.5)), "whole number"), ((X, Y - 1), "0 to classes - 1"), ((X[:0], Y[:0]), "0 labels"),
    (UNBATCHED.repeat(), "never ends"), (tf.data.Dataset.range(3), "must give"),
    (UNBATCHED.map(lambda x, y: (x[0, 0], y)), "of shape"), (UNBATCHED.take(0), "no images"),
    (tf.data.Dataset.from_generator(lambda: ((X[n, :n + 1], n) for n in range(3)), output_signature=(
        tf.TensorSpec([None, 8, 3], tf.uint8), tf.TensorSpec([], tf.int64))), "must have one size"),
])
def test_what_is_no_data_set_is_one_line(train, message):
    with pytest.raises(InputError) as caught:
        data.from_arrays(train)
    assert message in str(caught.value) and "\n" not in str(caught.value)
