"""Labelled images as a loader returns them, their checks and their splits."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from pnas_tf.data import decoding
from pnas_tf.errors import InputError
from pnas_tf.machine import memory_bytes

TEST_SHARE = 0.2  # share of the images that become the test part, if a data set has none


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Images and labels of a data set, as a loader returns them.

    Attributes:
        x_train: Training images: uint8 [images, height, width] or [images, height, width, 1 or 3]; or paths, bytes
            [images].
        y_train: Training labels: integers [images] or [images, 1], from 0 to classes - 1.
        x_test: Test images, like x_train.
        y_test: Test labels, like y_train.
        class_names: Name of each class, by label; empty if unknown.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: Sequence[str] = ()

    @property
    def is_files(self) -> bool:
        """Whether the images are paths of files."""
        return self.x_train.dtype.kind == "S"


class Cropped(Labelled):
    """Images in memory that a loader has cropped from files: their evaluation views."""


def checked(labelled: Labelled, spec: str, image_size: int | None) -> Labelled:
    """Checks images and labels, and brings them into one form.

    Args:
        labelled: Images and labels from a loader, untrusted.
        spec: Name of the data set in error messages.
        image_size: Height and width to resize arrays to; None for no resizing.

    Returns:
        Labels int32 [images]; arrays uint8 [images, side, side, channels], or paths as they were; class names.

    Raises:
        InputError: If images and labels do not make a data set for classification.
    """
    y_train, y_test = _check_labels(labelled, spec)
    names = tuple(map(str, labelled.class_names)) or tuple(str(label) for label in range(int(y_train.max()) + 1))
    if len(names) != y_train.max() + 1:
        raise InputError(f"{spec}: {len(names)} class names for {y_train.max() + 1} classes.")
    x_train, x_test = labelled.x_train, labelled.x_test
    if not labelled.is_files:
        x_train, x_test = _check_pixels(x_train, f"{spec}: x_train"), _check_pixels(x_test, f"{spec}: x_test")
        x_train, x_test = _same_size(x_train, x_test, image_size, spec)
    return Labelled(x_train, y_train, x_test, y_test, names)


def pixel_statistics(x: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel. The latter is at least 1, since constant images would give 0.

    Args:
        x: Images, uint8 [images, height, width, channels].
    """
    counts = np.zeros([x.shape[-1], 256])
    for images in np.array_split(x, -(-x.size // 10_000_000)):  # bincount converts to int64
        for channel, count in enumerate(counts):
            count += np.bincount(images[..., channel].ravel(), minlength=256)
    shares, values = counts / counts.sum(axis=1, keepdims=True), np.arange(256)
    mean = shares @ values
    std = np.maximum(1.0, np.sqrt(np.maximum(0.0, shares @ values**2 - mean**2)))
    return tuple(np.round(mean, 3).tolist()), tuple(np.round(std, 3).tolist())


def stratified(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Draws images in proportion to the sizes of classes, at least one of a class that has two if `size` allows.

    Args:
        labels: Labels, int [images].
        size: Number of images to draw, at most images - classes: one image of each class is never drawn.
        seed: Seed of the draw.

    Returns:
        Positions, int64 [size]. Classes are mixed: any slice has nearly the same shares of classes as the whole.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    last = np.cumsum(counts) - 1
    rank = np.arange(len(labels)) - np.repeat(last + 1 - counts, counts)
    # Images are drawn by ascending (rank + 0.5) / class size, but the first of each class before all others, and the
    # last of each class never.
    share = np.where(rank == 0, 0.0, (rank + 0.5) / np.repeat(counts, counts))
    share[last] = np.inf
    return order[np.lexsort([random.random(len(labels)), share])[:size]]


def held_out(labels: np.ndarray, size: int | None, seed: int, spec: str) -> np.ndarray:
    """Draws the training images to hold out, stratified by class.

    Args:
        labels: Labels, int32 [images]; every class occurs.
        size: Number of images to hold out. None for a fifth, but at most 5,000 or 50 for each class, whichever is
            larger.
        seed: Seed of the draw.
        spec: Name of the data set in error messages.

    Returns:
        Positions, int64 [size].

    Raises:
        InputError: If the size is out of bounds, or every class has a single image.
    """
    images, classes = len(labels), int(labels.max()) + 1
    most = images - classes
    if most < 1:
        raise InputError(f"{spec}: one training image for each class is too few, as some are held out to train the "
                         "architecture. Add images.")
    if size is None:
        size = _between(min(max(5000, 50 * classes), images // 5), min(classes, most), most)
    if not 1 <= size <= most:
        raise InputError(f"{spec}: held_out_size must be from 1 to {most} ({images} training images, of which one "
                         f"stays for each of {classes} classes), got {size}.")
    return stratified(labels, size, seed)


def split_off_test(x: np.ndarray, y: np.ndarray, class_names: Sequence[str], seed: int) -> Labelled:
    """Splits off a fifth of the images as the test part, stratified by class.

    Args:
        x: Images, arrays or paths.
        y: Labels [images].
        class_names: Name of each class, by label.
        seed: Seed of the draw.

    Raises:
        InputError: If no class has an image to spare.
    """
    classes = len(class_names)
    most = len(y) - classes
    if most < 1:
        raise InputError(f"{len(y)} images of {classes} classes are too few to split into a training and a test part. "
                         "Add images.")
    test = stratified(y, _between(round(len(y) * TEST_SHARE), min(classes, most), most), seed)
    train = np.setdiff1d(np.arange(len(y)), test)
    return Labelled(x[train], y[train], x[test], y[test], class_names)


def _between(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def _check_labels(labelled: Labelled, spec: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the training and of the test part, int32 [images] each."""
    parts = []
    for part, x, y in (("train", labelled.x_train, labelled.y_train), ("test", labelled.x_test, labelled.y_test)):
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if y.ndim != 1 or y.dtype.kind not in "iu":
            raise InputError(f"{spec}: y_{part} must hold one whole number for each image, got {y.dtype} of shape "
                             f"{y.shape}.")
        if x.ndim < 1 or len(y) != len(x) or not len(y):
            raise InputError(f"{spec}: y_{part} has {len(y)} labels for x_{part} of shape {x.shape}.")
        parts.append(y)
    y_train, y_test = parts
    if y_train.min() < 0 or y_train.max() >= len(y_train):
        raise InputError(f"{spec}: labels must run from 0 to classes - 1, got {y_train.min()} to {y_train.max()} for "
                         f"{len(y_train)} training images.")
    counts = np.bincount(y_train.astype(np.int64))
    if len(counts) < 2:
        raise InputError(f"{spec}: only one class; a classifier needs at least two.")
    if not counts.all():
        raise InputError(f"{spec}: labels must run from 0 to classes - 1 without a gap; the largest is "
                         f"{len(counts) - 1}, but no training image has {int(np.argmin(counts))}.")
    if y_test.min() < 0 or y_test.max() >= len(counts):
        raise InputError(f"{spec}: y_test has labels from {y_test.min()} to {y_test.max()}, but the training labels "
                         f"run from 0 to {len(counts) - 1}.")
    return y_train.astype(np.int32), y_test.astype(np.int32)


def _check_pixels(x: np.ndarray, where: str) -> np.ndarray:
    """Checks an array of images and returns it as uint8 [images, height, width, channels]."""
    if x.ndim == 3:
        x = x[..., np.newaxis]
    if x.ndim != 4 or x.shape[3] not in (1, 3) or 0 in x.shape:
        raise InputError(f"{where} must have shape [images, height, width] or [images, height, width, 1 or 3], got "
                         f"{x.shape}.")
    if x.dtype.kind not in "iu" or not (x.dtype == np.uint8 or 0 <= x.min() <= x.max() <= 255):
        raise InputError(f"{where} must hold pixels from 0 to 255 as uint8, got {x.dtype}"
                         + (f" from {x.min()} to {x.max()}." if x.dtype.kind in "iuf" else "."))
    return x.astype(np.uint8, copy=False)


def _same_size(x_train: np.ndarray, x_test: np.ndarray, image_size: int | None,
               spec: str) -> tuple[np.ndarray, np.ndarray]:
    """Checks that both parts have square images of one size, or resizes them to `image_size`."""
    if x_train.shape[3] != x_test.shape[3]:
        raise InputError(f"{spec}: x_train and x_test must have the same channels, got {x_train.shape[3]} and "
                         f"{x_test.shape[3]}.")
    if image_size is None and not (x_train.shape[1:] == x_test.shape[1:] and x_train.shape[1] == x_train.shape[2]):
        raise InputError(f"{spec}: images must be square and of one size, got {x_train.shape[1:3]} and "
                         f"{x_test.shape[1:3]}. Resize them: --image_size=N.")
    side = image_size or x_train.shape[1]
    _check_fits(sum(len(x) for x in (x_train, x_test) if x.shape[1:3] != (side, side)), side, x_train.shape[-1], spec)
    train, test = (x if x.shape[1:3] == (side, side) else decoding.resize_all(x, side) for x in (x_train, x_test))
    return train, test


def _check_fits(images: int, side: int, channels: int, spec: str) -> None:
    """Raises InputError if images that are resized do not fit in memory."""
    needed_bytes = images * side * side * channels
    if needed_bytes > memory_bytes() // 2:
        raise InputError(f"{spec}: {images:,} images of {side} x {side} pixels take {needed_bytes / 1e9:,.1f} GB, and "
                         f"there are {memory_bytes() / 1e9:,.1f} GB of memory here. Choose a smaller --image_size, or "
                         "write the images to files, one folder for each class, and use folder:PATH.")
