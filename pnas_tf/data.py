"""Data sets: `load(spec)` gives training, held-out and test images as `tf.data` pipelines.

A spec is a name of `DATASETS`, with an argument if it takes one: `fashion_mnist_small`, `npz:PATH`,
`folder:PATH`. To add a data set, write one function that returns `Labelled` images and enter it in `DATASETS`.
Nothing is ever downloaded, and no pickle is ever loaded.

Images that come as arrays stay in memory and are augmented by random crop and flip. Images that come as a
folder stay files and are augmented as for ImageNet: random resized crop, flip, colour jitter.
"""

import contextlib
import dataclasses
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from typing import Any

import numpy as np
import tensorflow as tf

from pnas_tf import augment
from pnas_tf.datasets import FASHION_MNIST_DIR, broken, readers
from pnas_tf.datasets import labelled as labelled_lib
from pnas_tf.datasets.labelled import Labelled
from pnas_tf.datasets.parts import ArrayPart, FilePart, Part
from pnas_tf.errors import InputError

FASHION_MNIST_CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
                         "ankle_boot")
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
IMAGENET_MEAN: tuple[float, ...] = (123.675, 116.28, 103.53)
IMAGENET_STD: tuple[float, ...] = (58.395, 57.12, 57.375)

CLASS_WEIGHTS = ("none", "balanced")
UNBALANCED = 5  # times as many images as the smallest class has: worth a word
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
FILE_IMAGE_SIZE = 224  # unless asked for another
MAX_IMAGE_SIZE = 8192
MAX_TFDS_BYTES = 8_000_000_000


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set, ready to train on.

    Attributes:
        name: the spec it was loaded by.
        image_shape: height, width, channels.
        class_names: by label.
        mean: by channel; a model's input is (pixel - mean) / std, with pixels 0..255.
        std: by channel.
        train: images that train weights.
        held_out: images split from the training images, to train the architecture on.
        test: images that no choice is made by.
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Part
    held_out: Part
    test: Part

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def class_weights(train: Part, kind: str) -> np.ndarray | None:
    """What an image of each class counts for in a loss.

    Args:
        train: training images.
        kind: of `CLASS_WEIGHTS`; `balanced`: every class counts alike in all, and the mean image 1.

    Returns:
        float32 [classes], or None where all images count 1.
    """
    if kind == "none":
        return None
    counts = train.class_counts()
    return (train.size / len(counts) / np.maximum(counts, 1)).astype(np.float32)


def imbalance(train: Part) -> str:
    """A line about classes of very different sizes; empty if they are not."""
    counts = train.class_counts()
    if counts.max() < UNBALANCED * counts.min():
        return ""
    return (f"Classes have {counts.min():,} to {counts.max():,} training images: with --class_weights=balanced they "
            "count alike.")


@dataclasses.dataclass(frozen=True)
class Request:
    """What a loader may look at.

    Attributes:
        argument: what follows the colon of the spec.
        image_size: wanted height and width, or None.
        seed: of what the loader draws.
        data_dir: the folder with the user's data, or None.
    """

    argument: str
    image_size: int | None
    seed: int
    data_dir: str | None


def load(spec: str, *, image_size: int | None = None, held_out_size: int | None = None, seed: int = 0,
         data_dir: str | None = None, broken_images: str = "skip") -> Data:
    """Loads a data set.

    Args:
        spec: `fashion_mnist_small`, `fashion_mnist`, `cifar10`, `npz:PATH`, `folder:PATH` or `tfds:NAME`.
        image_size: height and width to resize images to; by default 224 for files, and arrays stay as they are.
        held_out_size: number of training images to hold out; by default a fifth, at most 5,000 or 50 a class.
            They are drawn class by class in proportion, at least one of every class that has two.
        seed: of the split.
        data_dir: where to look for the files of `cifar10`, `fashion_mnist` and `tfds:NAME`.
        broken_images: what to do about image files that cannot be decoded, one of `broken.POLICIES`.

    Raises:
        InputError: if there is no such data set, or its files are missing or not usable.
    """
    name, _, argument = spec.partition(":")
    if name not in DATASETS or bool(argument) != (name in ARGUMENTS):
        raise InputError(f"Unknown data set {spec[:100]!r}. Known: {', '.join(specs())}.")
    if image_size is not None and not 1 <= image_size <= MAX_IMAGE_SIZE:
        raise InputError(f"image_size must be from 1 to {MAX_IMAGE_SIZE}, got {image_size}.")
    data_dir = os.path.expanduser(data_dir) if data_dir else None
    labelled = DATASETS[name](Request(argument, image_size, seed, data_dir))
    if labelled.is_files:
        labelled = broken.dealt_with(labelled, broken_images, spec)
    labelled = labelled_lib.checked(labelled, spec, image_size)
    if labelled.is_files:
        side = image_size or FILE_IMAGE_SIZE
        shape, mean, std = (side, side, 3), IMAGENET_MEAN, IMAGENET_STD
    else:
        height, width, channels = labelled.x_train.shape[1:]
        shape = height, width, channels
        mean, std = labelled_lib.pixel_statistics(labelled.x_train)
    part = FilePart if labelled.is_files else ArrayPart
    held_out = labelled_lib.held_out(labelled.y_train, held_out_size, seed, spec)
    train = np.setdiff1d(np.arange(len(labelled.y_train)), held_out)
    with tf.device("CPU"):
        # Converted here, so that two parts share one copy.
        x_train, x_test = tf.convert_to_tensor(labelled.x_train), tf.convert_to_tensor(labelled.x_test)

    def make(images, labels, members):
        return part(images, labels, members, shape[0], mean, std)

    return Data(spec, shape, tuple(labelled.class_names), mean, std,
                train=make(x_train, labelled.y_train, train), held_out=make(x_train, labelled.y_train, held_out),
                test=make(x_test, labelled.y_test, np.arange(len(labelled.y_test))))


def specs() -> list[str]:
    """The forms that a spec can take, for help texts and errors."""
    return [f"{name}:{ARGUMENTS[name]}" if name in ARGUMENTS else name for name in DATASETS]


def _fashion_mnist_small(request: Request) -> Labelled:
    """6,000 + 2,000 images of Fashion-MNIST; part of the package."""
    name = "fashion_mnist_small.npz"
    with resources.files("pnas_tf.datasets").joinpath(name).open("rb") as file:
        return Labelled(**readers.read_npz(file, ARRAYS, name=name), class_names=FASHION_MNIST_CLASSES)


def _fashion_mnist(request: Request) -> Labelled:
    """60,000 + 10,000 grey images 28x28 of clothes, from the four IDX .gz files."""
    folder = request.data_dir or FASHION_MNIST_DIR
    paths = [os.path.join(folder, f"{part}-{kind}-ubyte.gz") for part in ("train", "t10k")
             for kind in ("images-idx3", "labels-idx1")]
    for path in paths:
        if not os.path.isfile(path):
            raise InputError(f"fashion_mnist: no file {path}. Get it: apt-get install dataset-fashion-mnist, or take "
                             "the four .gz files of github.com/zalandoresearch/fashion-mnist and give their folder "
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
    raise InputError(f"cifar10: nothing found in {folder}. Get cifar-10-binary.tar.gz from www.cs.toronto.edu/~kriz/"
                     "cifar.html (the python version is a pickle, which is never loaded), unpack it, and give the "
                     "folder by --data_dir; or save cifar10.npz with " + ", ".join(ARRAYS) + ".")


def _jpeg_archive(path: str, class_names: Sequence[str]) -> Labelled:
    """A .npz that holds the bytes of JPEG files one after the other, with offsets and labels."""
    names = [f"{part}_{kind}" for part in ("train", "test") for kind in ("jpeg", "offsets", "labels")]
    arrays = readers.read_npz(path, names)
    images = {}
    for part in ("train", "test"):
        files = readers.cut(arrays[f"{part}_jpeg"], arrays[f"{part}_offsets"], f"{path}: {part}")
        try:
            images[part] = augment.decode_all(files)
        except tf.errors.InvalidArgumentError:
            raise InputError(f"{path}: holds something else than JPEG images of one size in {part}_jpeg. "
                             "Write the archive again.") from None
    return Labelled(images["train"], arrays["train_labels"], images["test"], arrays["test_labels"], class_names)


def _npz(request: Request) -> Labelled:
    """The user's own arrays; `class_names` may stand beside them."""
    arrays = readers.read_npz(os.path.expanduser(request.argument), ARRAYS, optional=("class_names",))
    names = arrays.pop("class_names", np.array([]))
    return Labelled(**arrays, class_names=names.ravel().tolist())


def _folder(request: Request) -> Labelled:
    """Image files, a folder for each class: PATH/train and PATH/test (or val), or PATH to be split."""
    path = os.path.expanduser(request.argument)
    parts = readers.subfolders(path)
    # A folder called train without folders in it is a class.
    has_train = "train" in parts and bool(readers.subfolders(os.path.join(path, "train")))
    root = os.path.join(path, "train") if has_train else path
    test = next((part for part in ("test", "val", "validation") if has_train and part in parts), None)
    class_names = readers.subfolders(root)
    if len(class_names) < 2:
        raise InputError(f"{root}: expected at least two folders, one for each class, with images in them; got "
                         f"{', '.join(class_names) or 'none'}.")
    x, y = readers.list_class_folders(root, class_names)
    if test is None:
        return labelled_lib.split_off_test(x, y, class_names, request.seed)
    x_test, y_test = readers.list_class_folders(os.path.join(path, test), class_names)
    # Mixed, because batches of one class upset batch norm that uses the statistics of the batch.
    mixed = np.random.default_rng(request.seed).permutation(len(y_test))
    return Labelled(x, y, x_test[mixed], y_test[mixed], class_names)


def _tfds(request: Request) -> Labelled:
    """A data set that TensorFlow Datasets has prepared on this machine, read into memory."""
    name, where = request.argument, f"tfds:{request.argument}"
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise InputError(f"{where} needs TensorFlow Datasets: pip install tensorflow-datasets.") from None
    try:
        builder = tfds.builder(name, data_dir=request.data_dir)
        splits, features = dict(builder.info.splits), builder.info.features
    except Exception as error:  # What it raises is not documented, and depends on the data set.
        raise InputError(f"{where}: {' '.join(str(error).split())[:150]}") from None
    if not splits:
        raise InputError(f"{where}: not prepared on this machine, and nothing is downloaded here. Prepare it: "
                         f"tfds build {name}, and give its folder by --data_dir if it is not ~/tensorflow_datasets.")
    if "train" not in splits or not {"image", "label"} <= set(features):
        raise InputError(f"{where}: not a set for classification: it needs a split train and features image and label.")
    return _read_tfds(tfds, builder, request, where)


def _read_tfds(tfds: Any, builder: Any, request: Request, where: str) -> Labelled:
    features, splits = builder.info.features, builder.info.splits
    test = next((split for split in ("test", "validation") if split in splits), None)
    image_size, encoded = request.image_size, None in features["image"].shape
    if encoded:
        image_size = image_size or FILE_IMAGE_SIZE
    shape = (image_size, image_size, 3) if encoded else features["image"].shape
    needed_bytes = math.prod(shape) * sum(splits[split].num_examples for split in ("train", test) if split)
    if needed_bytes > MAX_TFDS_BYTES:
        raise InputError(f"{where}: {needed_bytes / 1e9:.0f} GB of pixels do not fit in memory; write the images to "
                         "files, a folder for each class, and use folder:PATH.")

    def example(entry):
        image = entry["image"]
        if encoded:
            image = tf.cast(tf.round(augment.central_crop_of_file(image, image_size)), tf.uint8)
        return image, entry["label"]

    def read(split):
        decoders = {"image": tfds.decode.SkipDecoding()} if encoded else None
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

# What follows the colon of a spec, for the data sets that take something there.
ARGUMENTS = {"npz": "PATH", "folder": "PATH", "tfds": "NAME"}


@contextlib.contextmanager
def naming_broken_images() -> Iterator[None]:
    """Turns TensorFlow's error about an image file that cannot be decoded into one line.

    Raises:
        InputError: in place of that error; others pass.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        text = " ".join(str(error).split())
        named = re.search(r"\[((?:Not a JPEG|More than)[^]]*:)\] ?\[(?:b?['\"])?([^]'\"]*)", text)
        if named:
            raise InputError(f"{named[2]}: {named[1].rstrip(':')}.") from None
        if re.search(r"jpe?g|png|bmp|gif|image", text, flags=re.IGNORECASE):
            reason = text.partition("[[")[0].strip()[:200]
            raise InputError(f"An image of the data set is broken: {reason}. Remove or save again such files.") \
                from None
        raise
