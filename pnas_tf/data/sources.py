"""The data sets: for each of them, one function reads its files into `Labelled` images.

To add a data set, write such a function and enter it in `DATASETS`. If its spec takes an argument after a colon, name
the argument in `ARGUMENTS`. If files are missing, raise an InputError that says how to get them. The same code checks,
splits and batches the images of all data sets.
"""

import dataclasses
import io
import math
import os
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import numpy as np
import tensorflow as tf

from pnas_tf import extras
from pnas_tf.data import decoding, folders, pictures, readers
from pnas_tf.data import labelled as labelled_lib
from pnas_tf.data.labelled import Labelled
from pnas_tf.errors import InputError
from pnas_tf.machine import memory_bytes

FASHION_MNIST_CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
                         "ankle_boot")
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
FILE_IMAGE_SIZE = 224  # height and width to which image files are resized by default
MAX_TFDS_BYTES = 8_000_000_000


@dataclasses.dataclass(frozen=True)
class Request:
    """Arguments of a loader.

    Attributes:
        argument: Text after the colon of the spec; "" if it has none.
        image_size: Height and width that images will be resized to, or None.
        seed: Seed of random splits and orders.
        data_dir: Folder with the user's data, or None.
        background: Colour behind transparent parts of encoded images.
    """

    argument: str
    image_size: int | None
    seed: int
    data_dir: str | None
    background: tuple[int, int, int] = (255, 255, 255)


def specs() -> list[str]:
    """All forms of a spec, for help texts and error messages."""
    return [f"{name}:{ARGUMENTS[name]}" if name in ARGUMENTS else name for name in DATASETS]


def _fashion_mnist_small(request: Request) -> Labelled:
    """6,000 + 2,000 images of Fashion-MNIST, part of the package."""
    name = "fashion_mnist_small.npz"
    with resources.files("pnas_tf.datasets").joinpath(name).open("rb") as file:
        return Labelled(**readers.read_npz(file, ARRAYS, name=name), class_names=FASHION_MNIST_CLASSES)


def _fashion_mnist(request: Request) -> Labelled:
    """60,000 + 10,000 grey images 28x28 of clothes, from the four IDX .gz files."""
    folder = request.data_dir or readers.FASHION_MNIST_DIR
    paths = [os.path.join(folder, f"{part}-{kind}-ubyte.gz") for part in ("train", "t10k")
             for kind in ("images-idx3", "labels-idx1")]
    for path in paths:
        if not os.path.isfile(path):
            raise InputError(f"fashion_mnist: no file {path}. Get it: apt-get install dataset-fashion-mnist, or get "
                             "the four .gz files of github.com/zalandoresearch/fashion-mnist and name their folder "
                             "by --data_dir.")
    x_train, y_train, x_test, y_test = map(readers.read_idx, paths)
    return Labelled(x_train, y_train, x_test, y_test, FASHION_MNIST_CLASSES)


def _cifar10(request: Request) -> Labelled:
    """50,000 + 10,000 colour images 32x32: the binary version, or one .npz of arrays or of JPEG files."""
    folder = request.data_dir or "."
    for batches in (os.path.join(folder, "cifar-10-batches-bin"), folder):
        if os.path.isfile(os.path.join(batches, "data_batch_1.bin")):
            return Labelled(*readers.read_cifar10_binary(batches), class_names=CIFAR10_CLASSES)
    path = os.path.join(folder, "cifar10.npz")
    if os.path.isfile(path):
        return Labelled(**readers.read_npz(path, ARRAYS), class_names=CIFAR10_CLASSES)
    path = os.path.join(folder, "cifar10_jpeg.npz")
    if os.path.isfile(path):
        return _jpeg_archive(path, CIFAR10_CLASSES)
    raise InputError(f"cifar10: none of its files is in {folder}. Get cifar-10-binary.tar.gz from "
                     "www.cs.toronto.edu/~kriz/cifar.html (the python version is a pickle, which is never loaded), "
                     "unpack it, and name the folder by --data_dir; or save cifar10.npz with "
                     f"{', '.join(ARRAYS)}.")


def _jpeg_archive(path: str, class_names: Sequence[str]) -> Labelled:
    """Reads a .npz that holds the bytes of JPEG files one after the other, with their offsets and labels."""
    names = [f"{part}_{kind}" for part in ("train", "test") for kind in ("jpeg", "offsets", "labels")]
    arrays = readers.read_npz(path, names)
    images = {}
    for part in ("train", "test"):
        files = readers.cut(arrays[f"{part}_jpeg"], arrays[f"{part}_offsets"], f"{path}: {part}")
        _check_decoded_bytes(files, f"{path}: {part}_jpeg")
        try:
            images[part] = decoding.decode_all(files)
        except tf.errors.InvalidArgumentError:
            raise InputError(f"{path}: {part}_jpeg must hold JPEG images of one size and nothing else. Write the "
                             "archive again.") from None
    return Labelled(images["train"], arrays["train_labels"], images["test"], arrays["test_labels"], class_names)


def _check_decoded_bytes(files: Sequence[bytes], where: str) -> None:
    """Raises InputError if a header is that of no JPEG file, or the images do not fit in memory."""
    pixels = 0
    for contents in files:
        try:
            pixels += pictures.header(io.BytesIO(contents)).pixels
        except pictures.Unreadable as error:
            raise InputError(f"{where} must hold JPEG images; one of them is {error}. Write the archive again."
                             ) from None
        if 3 * pixels > min(readers.MAX_NPZ_BYTES, memory_bytes() // 4):
            raise InputError(f"{where}: the images unpack to more than {3 * pixels / 1e9:.1f} GB, which does not fit "
                             "in memory. Write them to files, one folder for each class, and use folder:PATH.")


def _npz(request: Request) -> Labelled:
    """The user's own arrays; an array `class_names` is optional."""
    arrays = readers.read_npz(os.path.expanduser(request.argument), ARRAYS, optional=("class_names",))
    names = arrays.pop("class_names", np.array([]))
    return Labelled(**arrays, class_names=names.ravel().tolist())


def _folder(request: Request) -> Labelled:
    """Image files with one folder for each class, in PATH/train and PATH/test (or PATH/val), or in PATH alone."""
    train, test, class_names = folders.listed(os.path.expanduser(request.argument))
    if test is None:
        return labelled_lib.split_off_test(train.paths, train.labels, class_names, request.seed)
    # Shuffled, because batches of a single class distort batch norm where it uses the statistics of the batch. With
    # every seed alike, so that the fingerprint of the part stays the same.
    order = np.random.default_rng(0).permutation(len(test.labels))
    return Labelled(train.paths, train.labels, test.paths[order], test.labels[order], class_names)


def _tfds(request: Request) -> Labelled:
    """A data set that TensorFlow Datasets has prepared on this machine, read into memory."""
    name, where = request.argument, f"tfds:{request.argument}"
    extras.check("tfds", where)
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=request.data_dir)
        splits, features = dict(builder.info.splits), builder.info.features
    except Exception as error:  # TensorFlow Datasets does not document its errors, and they depend on the data set.
        raise InputError(f"{where}: {' '.join(str(error).split())[:150]}") from None
    if not splits:
        raise InputError(f"{where}: not prepared on this machine, and this command downloads nothing. Prepare it: "
                         f"tfds build {name}, and name its folder by --data_dir if it is not ~/tensorflow_datasets.")
    if "train" not in splits or not {"image", "label"} <= set(features):
        raise InputError(f"{where}: not a data set for classification: expected a split train, and the features image "
                         "and label.")
    labelled = _read_tfds(tfds, builder, request, where)
    # Images of different sizes are cropped as files are.
    return labelled_lib.Cropped(**vars(labelled)) if None in features["image"].shape else labelled


def _read_tfds(tfds: Any, builder: Any, request: Request, where: str) -> Labelled:
    """Reads a prepared data set. Images of different sizes become the evaluation view of one size."""
    features, splits = builder.info.features, builder.info.splits
    test = next((split for split in ("test", "validation") if split in splits), None)
    image_size, is_encoded = request.image_size, None in features["image"].shape
    if is_encoded:
        image_size = image_size or FILE_IMAGE_SIZE
    shape = (image_size, image_size, 3) if is_encoded else features["image"].shape
    needed_bytes = math.prod(shape) * sum(splits[split].num_examples for split in ("train", test) if split)
    if needed_bytes > MAX_TFDS_BYTES:
        raise InputError(f"{where}: {needed_bytes / 1e9:.0f} GB of pixels do not fit in memory. Write the images to "
                         "files, one folder for each class, and use folder:PATH.")

    def example(entry):
        image = entry["image"]
        if is_encoded:
            view = decoding.central_crop(decoding.of_contents(image, request.background), image_size)
            image = tf.cast(tf.round(view), tf.uint8)
        return image, entry["label"]

    def read(split):
        decoders = {"image": tfds.decode.SkipDecoding()} if is_encoded else None
        batches = builder.as_dataset(split=split, decoders=decoders).map(example, tf.data.AUTOTUNE).batch(500)
        images, labels = zip(*batches.as_numpy_iterator(), strict=True)
        return np.concatenate(images), np.concatenate(labels)

    with tf.device("CPU"):
        class_names = features["label"].names
        x_train, y_train = read("train")
        if test is None:
            return labelled_lib.split_off_test(x_train, y_train, class_names, request.seed)
        x_test, y_test = read(test)
        return Labelled(x_train, y_train, x_test, y_test, class_names)


Loader = Callable[[Request], Labelled]

DATASETS: dict[str, Loader] = {
    "fashion_mnist_small": _fashion_mnist_small,
    "fashion_mnist": _fashion_mnist,
    "cifar10": _cifar10,
    "npz": _npz,
    "folder": _folder,
    "tfds": _tfds,
}

# Argument of a spec, the text after its colon, for data sets that take one.
ARGUMENTS = {"npz": "PATH", "folder": "PATH", "tfds": "NAME"}
