"""Looks at every image file before the training: how to read it, and whether it can be read at all.

Decoding a million files takes hours. So each file's header is read, and in data sets of up to `MAX_DECODED` files every
file is decoded. In larger ones only those are whose header or end is unusual: a file that is damaged only in the
middle is then noticed when training reads it.
"""

import dataclasses
import os
from collections.abc import Sequence
from concurrent import futures

import numpy as np
import tensorflow as tf

from pnas_tf import terminal
from pnas_tf.data import pictures
from pnas_tf.data.labelled import Labelled
from pnas_tf.data.pictures import BY_PILLOW, Rendering
from pnas_tf.errors import InputError, printable

POLICIES = ("skip", "refuse")
MAX_DECODED = 10_000
_THREADS, _NAMED, _NAMED_IN_ERRORS = 16, 100, 3


@dataclasses.dataclass(frozen=True)
class Readings:
    """How the files of a data set are read.

    Attributes:
        train: Way to read each training image, as in `pictures.Header`, int32 [images].
        test: Way to read each test image, int32 [images].
        rendering: Background, and white of 16-bit images.
    """

    train: np.ndarray
    test: np.ndarray
    rendering: Rendering


def inspected(labelled: Labelled, policy: str, background: tuple[int, int, int], spec: str
              ) -> tuple[Labelled, Readings]:
    """Finds out how to read each file. Leaves out the files that cannot be read, and prints their names.

    Args:
        labelled: Images in files.
        policy: `skip` to leave files out, `refuse` to raise an error.
        background: Colour behind transparent parts.
        spec: Name of the data set in error messages.

    Raises:
        InputError: If the policy is to refuse such files and there are some, or a class has no other files.
    """
    paths = [*labelled.x_train, *labelled.x_test]
    readings, reasons, white = _examine(paths)
    bad = np.array([bool(reason) for reason in reasons])
    bad_train, bad_test = np.split(bad, [len(labelled.x_train)])
    if bad.any():
        _check_left_out(labelled, bad_train, bad_test, _named(paths, reasons, _NAMED_IN_ERRORS), policy, spec)
        print(f"Left out: {bad.sum():,} of {len(bad):,} image files: {_named(paths, reasons, _NAMED)}.")
    if white:
        print(f"Images of 16 bits: white is {white:,}, as the largest value of the data set fits in "
              f"{white.bit_length()} bits.")
    train, test = np.split(readings, [len(labelled.x_train)])
    return (Labelled(labelled.x_train[~bad_train], labelled.y_train[~bad_train], labelled.x_test[~bad_test],
                     labelled.y_test[~bad_test], labelled.class_names),
            Readings(train[~bad_train], test[~bad_test], Rendering(background, white or pictures.WHITES[-1])))


def first_unreadable(paths: Sequence[bytes], readings: np.ndarray) -> tuple[str, str] | None:
    """Decodes files until one fails.

    Args:
        paths: Paths of the files.
        readings: Way to read each file.

    Returns:
        Path and reason of a file that cannot be decoded; None if all can be.
    """
    reasons = [""] * len(paths)
    _decode(paths, readings, np.ones(len(paths), bool), reasons)
    return next(((os.fsdecode(path), reason) for path, reason in zip(paths, reasons, strict=True) if reason), None)


def _examine(paths: Sequence[bytes]) -> tuple[np.ndarray, list[str], int]:
    """For each file how to read it, int32 [files], and why it cannot be read or ""; white of 16-bit images or 0."""
    with futures.ThreadPoolExecutor(_THREADS) as pool:
        headers = list(terminal.countdown(pool.map(_header, paths), "Looking at image files", len(paths)))
    reasons = [header if isinstance(header, str) else "" for header in headers]
    found = [pictures.Header(BY_PILLOW, False, True) if isinstance(header, str) else header for header in headers]
    readings = np.array([header.reading for header in found], np.int32)
    doubtful = np.array([len(paths) <= MAX_DECODED or not header.is_whole for header in found], bool)
    _decode(paths, readings, doubtful & ~np.array([bool(reason) for reason in reasons]), reasons)
    white = 0
    for path, header, index in zip(paths, found, range(len(paths)), strict=True):
        if header.is_wide and not reasons[index]:
            try:
                with open(path, "rb") as file:
                    peak = pictures.brightest(file.read())
                white = max(white, min(value for value in pictures.WHITES if peak <= value))
            except (OSError, pictures.Unreadable) as error:
                reasons[index] = str(error)
    return readings, reasons, white


def _header(path: bytes) -> pictures.Header | str:
    """The header of a file, or why it cannot be read."""
    try:
        with open(path, "rb") as file:
            return pictures.header(file)
    except (OSError, pictures.Unreadable) as error:
        return getattr(error, "strerror", None) or str(error)


def _decode(paths: Sequence[bytes], readings: np.ndarray, chosen: np.ndarray, reasons: list[str]) -> None:
    """Decodes some files, and enters a reason for each that cannot be decoded.

    Args:
        paths: Paths of all files.
        readings: Way to read each file.
        chosen: Whether to decode a file, bool [files].
        reasons: Reason of each file; changed in place.
    """
    by_tensorflow = np.flatnonzero(chosen & (readings != BY_PILLOW))
    if len(by_tensorflow):
        decoded = _decoded_by_tensorflow([paths[index] for index in by_tensorflow])
        for index in by_tensorflow[~decoded]:
            reasons[index] = pictures.DAMAGED
    by_pillow = np.flatnonzero(chosen & (readings == BY_PILLOW))
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for index, reason in zip(by_pillow, pool.map(lambda index: _reason(paths[index]), by_pillow), strict=True):
            reasons[index] = reason


def _decoded_by_tensorflow(paths: Sequence[bytes]) -> np.ndarray:
    """Whether TensorFlow can decode each JPEG or PNG file, bool [files]."""
    def decode(index, path):
        contents = tf.io.read_file(path)
        # An eighth of a JPEG's size: all of the file is read, but few pixels are computed.
        image = tf.cond(tf.io.is_jpeg(contents), lambda: tf.io.decode_jpeg(contents, channels=3, ratio=8),
                        lambda: tf.io.decode_png(contents))
        return index, tf.size(image)

    decoded = np.zeros(len(paths), bool)
    with tf.device("CPU"), terminal.quiet():  # libjpeg prints warnings
        images = tf.data.Dataset.from_tensor_slices(list(paths)).enumerate().map(
            decode, tf.data.AUTOTUNE, deterministic=False).ignore_errors()
        for index, _ in images.as_numpy_iterator():
            decoded[index] = True
    return decoded


def _reason(path: bytes) -> str:
    """Why Pillow cannot decode a file; "" if it can."""
    try:
        with open(path, "rb") as file:
            pictures.decode(file.read(), Rendering())
    except (OSError, pictures.Unreadable) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


def _named(paths: Sequence[bytes], reasons: Sequence[str], most: int) -> str:
    """Names of the files that cannot be read, each reason once."""
    by_reason: dict[str, list[str]] = {}
    for path, reason in zip(paths, reasons, strict=True):
        if reason:
            by_reason.setdefault(reason, []).append(_short(path))
    return "; ".join(f"{reason} ({', '.join(names[:most])}{', ...' if len(names) > most else ''})"
                     for reason, names in by_reason.items())


def _short(path: bytes) -> str:
    """Class and file name of an image, made printable."""
    return printable(os.path.join(*os.fsdecode(path).split(os.sep)[-2:]))[-80:]


def _check_left_out(labelled: Labelled, bad_train: np.ndarray, bad_test: np.ndarray, named: str, policy: str, spec: str
                    ) -> None:
    """Raises InputError if the policy is to refuse broken files, or a class has no other files."""
    if policy == "refuse":
        raise InputError(f"{spec}: {bad_train.sum() + bad_test.sum():,} of {len(bad_train) + len(bad_test):,} image "
                         f"files cannot be read: {named}. Remove them, or leave them out: --broken_images=skip.")
    for part, labels, is_bad in (("train", labelled.y_train, bad_train), ("test", labelled.y_test, bad_test)):
        empty = sorted(set(labels[is_bad]) - set(labels[~is_bad]))
        if (empty and part == "train") or is_bad.all():
            raise InputError(f"{spec}: no image that can be read is left in the {part} part"
                             + (f" of class {labelled.class_names[empty[0]]!r}" if empty else "") + f": {named}.")


