"""Data sets: `load(spec)` gives training, held-out and test images as `tf.data` pipelines.

A spec is a name of `DATASETS`, with an argument if it takes one: `fashion_mnist_small`, `npz:PATH`,
`folder:PATH`. To add a data set, write one function that returns `Labelled` images and enter it in `DATASETS`.
Nothing is ever downloaded, and no pickle is ever loaded.

Images that come as arrays stay in memory and are augmented by random crop and flip. Images that come as a
folder stay files and are augmented as for ImageNet: random resized crop, flip, colour jitter.
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from pnas_tf.data import broken
from pnas_tf.data import labelled as labelled_lib
from pnas_tf.data.parts import ArrayPart, FilePart, Part
from pnas_tf.data.sources import ARGUMENTS, DATASETS, FILE_IMAGE_SIZE, Request, specs
from pnas_tf.errors import InputError

IMAGENET_MEAN: tuple[float, ...] = (123.675, 116.28, 103.53)
IMAGENET_STD: tuple[float, ...] = (58.395, 57.12, 57.375)

CLASS_WEIGHTS = ("none", "balanced")
UNBALANCED = 5  # times as many images as the smallest class has: worth a word
MAX_IMAGE_SIZE = 8192


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
