"""Loads a data set: reads it by its spec, checks it, splits it, and makes its three parts."""

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from pnas_tf.data import arrays, decoding, inspection, pictures, small_copies
from pnas_tf.data import labelled as labelled_lib
from pnas_tf.data.image_files import Files
from pnas_tf.data.labelled import Labelled
from pnas_tf.data.parts import ArrayPart, FilePart, Part
from pnas_tf.data.pictures import Rendering
from pnas_tf.data.sources import ARGUMENTS, DATASETS, FILE_IMAGE_SIZE, Request, specs
from pnas_tf.errors import InputError

IMAGENET_MEAN: tuple[float, ...] = (123.675, 116.28, 103.53)
IMAGENET_STD: tuple[float, ...] = (58.395, 57.12, 57.375)

CLASS_WEIGHTS = ("none", "balanced")
UNBALANCED = 5  # `imbalance` warns if the largest class has this many times the images of the smallest
MAX_IMAGE_SIZE = 8192


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set, ready to train on.

    A model's input is `(pixel - mean) / std`, with pixels 0..255.

    Attributes:
        name: Spec of the data set.
        image_shape: Height, width and channels of the images.
        class_names: Name of each class, by label.
        mean: Pixel mean by channel.
        std: Pixel standard deviation by channel.
        train: Images that train weights.
        held_out: Images split off the training images; they train the architecture.
        test: Images for the final score. No choice depends on them.
        rendering: Background and white of image files; None for arrays.
        central_part: Share of the shorter side of a photo that the network sees: its centre, resized to `image_shape`.
            It is 1 for arrays, which are shown whole.
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    train: Part
    held_out: Part
    test: Part
    rendering: Rendering | None = None
    central_part: float = 1.0

    @property
    def fingerprint(self) -> str:
        """The digests of the three parts, see `Part.fingerprint`."""
        return " ".join(part.fingerprint for part in (self.train, self.held_out, self.test))

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def at_size(self, image_size: int) -> "Data":
        """The same image files at another size; they are not looked at again.

        Args:
            image_size: Height and width.

        Raises:
            ValueError: If the images are in memory.
        """
        if self.rendering is None:
            raise ValueError("Images in memory have the size at which they were loaded.")
        parts = {name: getattr(self, name).at_size(image_size) for name in ("train", "held_out", "test")}
        return dataclasses.replace(self, image_shape=(image_size, image_size, self.image_shape[2]), **parts)


def class_weights(train: Part, kind: str) -> np.ndarray | None:
    """Weight of an image in the loss, for each class.

    Args:
        train: Training images.
        kind: One of `CLASS_WEIGHTS`. `balanced` weights add up to the same total for every class, `images / classes`.

    Returns:
        float32 [classes], or None if all images have weight 1.
    """
    if kind == "none":
        return None
    counts = train.class_counts()
    return (train.size / len(counts) / np.maximum(counts, 1)).astype(np.float32)


def imbalance(train: Part) -> str:
    """A warning for the user if classes differ much in size, otherwise "".

    Args:
        train: Training images.
    """
    counts = train.class_counts()
    if counts.max() < UNBALANCED * counts.min():
        return ""
    return (f"Classes have {counts.min():,} to {counts.max():,} training images: with --class_weights=balanced, all "
            "classes count the same.")


def load(spec: str, *, image_size: int | None = None, held_out_size: int | None = None, seed: int = 0,
         data_dir: str | None = None, broken_images: str = "skip", background: str = "white",
         normalisation: tuple[float, float] | None = None) -> Data:
    """Loads a data set.

    Args:
        spec: Name of the data set, with its argument: `fashion_mnist_small`, `folder:PATH`, ... (see the package).
        image_size: Height and width to resize images to. None resizes files to 224 and leaves arrays as they are.
        held_out_size: Number of training images to hold out. None for a fifth, but at most 5,000 or 50 for each class,
            whichever is larger. Classes keep their shares; a class of two or more images gives at least one.
        seed: Seed of the split.
        data_dir: Folder with the files of `cifar10`, `fashion_mnist` and `tfds:NAME`.
        broken_images: What to do with image files that cannot be read, one of `inspection.POLICIES`.
        background: Colour behind transparent parts of image files, such as `white` or `#ff8000`.
        normalisation: Pixel mean and deviation of all channels, such as `Space.normalisation`; None for ImageNet's for
            files, and those of the training images for arrays.

    Raises:
        InputError: If there is no such data set, or its files are missing or unusable.
    """
    name, _, argument = spec.partition(":")
    if name not in DATASETS or bool(argument) != (name in ARGUMENTS):
        hint = f" For the images in this folder: folder:{spec}" if os.path.isdir(spec) else ""
        raise InputError(f"Unknown data set {spec[:100]!r}. Known: {', '.join(specs())}.{hint}")
    _check_image_size(image_size)
    behind = pictures.colour(background)
    data_dir = os.path.expanduser(data_dir) if data_dir else None
    labelled = DATASETS[name](Request(argument, image_size, seed, data_dir, behind))
    is_cropped, readings = labelled.is_files or isinstance(labelled, labelled_lib.Cropped), None
    file_size = image_size or FILE_IMAGE_SIZE
    if labelled.is_files:
        labelled, readings = inspection.inspected(labelled, broken_images, behind, spec, small_copies.side(file_size))
    labelled = labelled_lib.checked(labelled, spec, image_size)
    held_out = labelled_lib.held_out(labelled.y_train, held_out_size, seed, spec)
    return _data(labelled, held_out, spec, file_size, normalisation, readings,
                 decoding.CENTRAL_PART if is_cropped else 1.0)


def from_arrays(train: arrays.Images, test: arrays.Images | None = None, *, image_size: int | None = None,
                held_out_size: int | None = None, seed: int = 0, class_names: Sequence[str] = (),
                normalisation: tuple[float, float] | None = None) -> Data:
    """Makes a data set of images in memory.

        data = from_arrays((x, y))
        data = from_arrays(keras.utils.image_dataset_from_directory("photos"))

    Args:
        train: Training images: arrays (images, labels), or a finite `tf.data.Dataset` of them, in batches or not.
            Images have pixels from 0 to 255 and shape [images, height, width] or [images, height, width, 1 or 3];
            fractions are rounded. Labels are integers [images] or [images, 1], or one-hot [images, classes].
        test: Test images, likewise; None for a fifth of the training images.
        image_size: Height and width to resize images to; None for no resizing.
        held_out_size: Number of training images to hold out, as for `load`.
        seed: Seed of the splits.
        class_names: Name of each class, by label; those of a `tf.data.Dataset` of Keras are found by themselves.
        normalisation: Pixel mean and deviation of all channels; None for those of the training images.

    Raises:
        InputError: If images and labels do not make a data set for classification.
    """
    _check_image_size(image_size)
    labelled = labelled_lib.checked(arrays.labelled(train, test, class_names, seed), arrays.NAME, image_size)
    held_out = labelled_lib.held_out(labelled.y_train, held_out_size, seed, arrays.NAME)
    return _data(labelled, held_out, arrays.NAME, 0, normalisation)


def _check_image_size(image_size: int | None) -> None:
    if image_size is not None and not 1 <= image_size <= MAX_IMAGE_SIZE:
        raise InputError(f"image_size must be from 1 to {MAX_IMAGE_SIZE}, got {image_size}.")


def _data(labelled: Labelled, held_out: np.ndarray, spec: str, file_size: int,
          normalisation: tuple[float, float] | None,
          readings: tuple[inspection.Readings, inspection.Readings] | None = None, central_part: float = 1.0) -> Data:
    """The three parts of a data set.

    Args:
        labelled: Checked images and labels.
        held_out: Positions of the training images to hold out, integers.
        spec: Name of the data set.
        file_size: Height and width of images in files.
        normalisation: As for `load`.
        readings: How to read the files of training and test images; None for arrays.
        central_part: As in `Data`.
    """
    height, width, channels = (file_size, file_size, 3) if readings else labelled.x_train.shape[1:]
    if normalisation:
        mean, std = ((float(value),) * channels for value in normalisation)
    else:
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if readings else labelled_lib.pixel_statistics(labelled.x_train)
    with tf.device("CPU"):
        # Converted once, so that the training and the held-out part share one copy.
        x_train, x_test = tf.convert_to_tensor(labelled.x_train), tf.convert_to_tensor(labelled.x_test)
        if readings:
            x_train, x_test = (Files.of(paths, read, height)
                               for paths, read in zip((x_train, x_test), readings, strict=True))
    part = FilePart if readings else ArrayPart

    def make(images, labels, members):
        return part(images, labels, members, height, mean, std)

    train = np.setdiff1d(np.arange(len(labelled.y_train)), held_out)
    # Files come class by class, but whoever looks at a few batches of a pass shall see all classes, as in `held_out`.
    return Data(spec, (height, width, channels), tuple(labelled.class_names), mean, std,
                train=make(x_train, labelled.y_train, train).mixed(),
                held_out=make(x_train, labelled.y_train, held_out),
                test=make(x_test, labelled.y_test, np.arange(len(labelled.y_test))),
                rendering=readings[0].rendering if readings else None, central_part=central_part)


@contextlib.contextmanager
def naming_broken_images(data: Data | None = None) -> Iterator[None]:
    """Turns TensorFlow's error about an image that cannot be decoded into one line. Other errors pass unchanged.

    Args:
        data: Data set, whose files are searched for the broken one where TensorFlow does not name it.

    Raises:
        InputError: If an image cannot be decoded.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        text = " ".join(str(error).split())
        if named := re.search(r"Unreadable: \[([^]]*)\] ([^{]*?)(?= Traceback| \[\[|\s*$)", text):
            raise InputError(f"{named[1]}: {named[2]}. Remove it, or save it again.") from None
        if named := re.search(r"\[((?:Not a JPEG|More than)[^]]*:)\] ?\[(?:b?['\"])?([^]'\"]*)", text):
            raise InputError(f"{named[2]}: {named[1].rstrip(':')}.") from None
        if re.search(r"jpe?g|png|image", text, flags=re.IGNORECASE):
            for part in (data.train, data.held_out, data.test) if data else ():
                if unreadable := part.first_unreadable():
                    raise InputError(f"{unreadable[0]}: {unreadable[1]}. Remove it, or save it again.") from None
            reason = text.partition("[[")[0].strip()[:200]
            raise InputError(f"An image of the data set is broken: {reason}. Remove such files, or save them again."
                             ) from None
        raise
