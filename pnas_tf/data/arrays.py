"""Images that a program holds in memory, as arrays or as a `tf.data.Dataset`, in the form of a loader's."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import tensorflow as tf

from pnas_tf.data import labelled as labelled_lib
from pnas_tf.data.labelled import Labelled
from pnas_tf.errors import InputError

NAME = "arrays"  # of the data set, in error messages and run folders
MAX_BYTES = 8_000_000_000

Images: TypeAlias = tuple[np.ndarray, np.ndarray] | tf.data.Dataset


def labelled(train: Images, test: Images | None, class_names: Sequence[str], seed: int) -> Labelled:
    """Images and labels as a loader returns them. Arguments are those of `loading.from_arrays`.

    Raises:
        InputError: If images or labels have another form.
    """
    names = list(class_names) or _names_of(train)
    x, y = _pair(train, "train")
    if test is not None:
        others = _names_of(test)
        if names and others and names != others:
            raise InputError(f"{NAME}: the classes of the test images are not those of the training images: expected "
                             f"{', '.join(names)[:200]}, got {', '.join(others)[:200]}.")
        return Labelled(x, y, *_pair(test, "test", _columns(train)), names)
    if y.ndim != 1 or y.dtype.kind not in "iu" or len(x) != len(y) or not len(y) or y.min() < 0:
        return Labelled(x, y, x, y, names)  # `labelled.checked` says what is wrong
    split = labelled_lib.split_off_test(x, y, names or [""] * (int(y.max()) + 1), seed)
    return Labelled(split.x_train, split.y_train, split.x_test, split.y_test, names)


def _names_of(images: Images) -> list[str]:
    """The names of the classes that Keras gives a `tf.data.Dataset` of a folder."""
    return list(getattr(images, "class_names", None) or ())


def _columns(images: Images) -> int:
    """Number of classes of one-hot labels in arrays; 0 for other labels."""
    shape = np.shape(images[1]) if isinstance(images, tuple | list) and len(images) == 2 else ()
    return shape[1] if len(shape) == 2 and shape[1] > 1 else 0


def _pair(images: Images, part: str, columns: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 and labels, integers [images]. One-hot labels have to have so many columns, if it is not 0."""
    if isinstance(images, tf.data.Dataset):
        x, y = _collected(images, part)
    elif isinstance(images, tuple | list) and len(images) == 2:
        x, y = map(np.asarray, images)
    else:
        raise InputError(f"{NAME}: expected arrays (images, labels) or a tf.data.Dataset of them for {part}, got a "
                         f"{type(images).__name__}.")
    if columns and y.ndim == 2 and y.shape[1] not in (1, columns):
        raise InputError(f"{NAME}: y_{part} has {y.shape[1]} columns, but y_train has {columns}.")
    return _rounded(x, part), _indices(y)


def _rounded(x: np.ndarray, part: str) -> np.ndarray:
    """Pixels as uint8, if they are fractions from 0 to 255."""
    if x.dtype.kind != "f" or not x.size:
        return x
    low, high = float(x.min()), float(x.max())
    if not (low >= 0 and 1 < high <= 255):  # also NaN
        raise InputError(f"{NAME}: x_{part} must hold pixels from 0 to 255, got {x.dtype} from {low:g} to {high:g}. "
                         + ("Multiply by 255." if 0 <= low <= high <= 1 else "Give the pixels as they were before "
                            "normalisation: the search normalises them itself."))
    return np.round(x).astype(np.uint8)


def _indices(y: np.ndarray) -> np.ndarray:
    """Labels as integers [images], from one-hot rows or a column."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2 and y.size and ((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all():
        return np.argmax(y, axis=1)
    if y.dtype.kind == "f" and y.ndim == 1 and y.size and (y == np.round(y)).all():
        return y.astype(np.int64)
    return y.astype(np.int64) if y.dtype.kind == "b" else y


def _collected(dataset: tf.data.Dataset, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Arrays of a data set of (image, label), in batches or not."""
    spec = dataset.element_spec
    if not (isinstance(spec, tuple) and len(spec) == 2 and all(isinstance(each, tf.TensorSpec) for each in spec)):
        raise InputError(f"{NAME}: the tf.data.Dataset for {part} must give (image, label), got {str(spec)[:100]}.")
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError(f"{NAME}: the tf.data.Dataset for {part} never ends. Leave out its repeat().")
    images, labels, total_bytes = [], [], 0
    is_batched = _is_batched(spec, part)
    for image, label in dataset.as_numpy_iterator():
        images.append(image if is_batched else image[None])
        labels.append(label if is_batched else label[None] if np.ndim(label) else np.array([label]))
        total_bytes += images[-1].nbytes
        if total_bytes > MAX_BYTES:
            raise InputError(f"{NAME}: the images for {part} take more than {MAX_BYTES / 1e9:g} GB in memory. Write "
                             "them to files, one folder for each class, and use folder:PATH.")
    shapes = {each.shape[1:] for each in images}
    if len(shapes) != 1:
        raise InputError(f"{NAME}: images of the tf.data.Dataset for {part} must have one size, got "
                         f"{', '.join(map(str, sorted(shapes)[:3])) or 'no images'}. Resize them in its map().")
    return np.concatenate(images), np.concatenate(labels)


def _is_batched(spec: tuple[tf.TensorSpec, tf.TensorSpec], part: str) -> bool:
    """Whether elements are batches: images of rank 4, or of rank 3 whose last dimension is no channel."""
    rank, label_rank = (each.shape.rank for each in spec)
    if rank == 4 or (rank == 3 and label_rank and spec[0].shape[-1] not in (1, 3)):
        return True
    if rank in (2, 3):
        return False
    raise InputError(f"{NAME}: the tf.data.Dataset for {part} must give images of shape [height, width, channels] or "
                     f"batches of them, got {spec[0].shape}.")
