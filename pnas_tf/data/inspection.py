"""Looks at every image file before the training: how to read it, and whether it can be read at all.

Decoding a million files takes hours. So both ends of each file are read, and data sets of up to `MAX_WHOLE` files are
read and decoded whole. In larger ones only those files are whose header or end is unusual: a file that is damaged only
in the middle is then noticed when training reads it.

On the way, large training photos get the small copies that training reads (`small_copies.py`).

What is read also tells other contents under the same names apart: each file gets a digest (`fingerprint.py`).
"""

import dataclasses
import os
from collections.abc import Sequence
from concurrent import futures
from typing import TypeVar

import numpy as np
import tensorflow as tf

from pnas_tf import machine, terminal
from pnas_tf.data import file_ends, fingerprint, pictures, small_copies
from pnas_tf.data.labelled import Labelled
from pnas_tf.data.pictures import BY_PILLOW, Header, Rendering
from pnas_tf.errors import InputError, printable

T = TypeVar("T")
POLICIES = ("skip", "refuse")
MAX_WHOLE = 10_000
_NAMED, _NAMED_IN_ERRORS = 100, 3
# Threads that read ends wait for a network's disk. So many files are looked at between two words about the progress,
# and between two looks at the memory of small copies.
_THREADS, _FILES = 16, 64


@dataclasses.dataclass(frozen=True)
class Readings:
    """How the files of a part of a data set are read, and what is in them.

    Attributes:
        ways: Way to read each image, as in `pictures.Header`, int32 [images].
        digests: SHA-256 of each file, or of its ends (`fingerprint.py`), uint8 [images, 32].
        are_ends: Whether the digests are of the ends of files, as in data sets of more than `MAX_WHOLE` files.
        rendering: Background, and white of 16-bit images.
        copies: Small copy of each image, a JPEG file; empty if it has none.
    """

    ways: np.ndarray
    digests: np.ndarray
    are_ends: bool
    rendering: Rendering
    copies: tuple[bytes, ...]


@dataclasses.dataclass(frozen=True)
class _Look:
    """What a look at a file found.

    Attributes:
        header: Its header; any if there is a reason.
        reason: Why the file cannot be read; "" if it can be.
        digest: SHA-256 of the file or of its ends.
        peak: Largest value of a 16-bit image, 0 of others.
        copy: Small copy of a large photo; empty for others.
    """

    header: Header
    reason: str = ""
    digest: bytes = b""
    peak: int = 0
    copy: bytes = b""


def inspected(labelled: Labelled, policy: str, background: tuple[int, int, int], spec: str, copy_side: int
              ) -> tuple[Labelled, tuple[Readings, Readings]]:
    """Finds out how to read each file. Leaves out the files that cannot be read, and prints their names.

    Args:
        labelled: Images in files.
        policy: `skip` to leave files out, `refuse` to raise an error.
        background: Colour behind transparent parts.
        spec: Name of the data set in error messages.
        copy_side: Shorter side of small copies of training images. Test images have none, so that they are tested as
            they are.

    Returns:
        Images that can be read, and how: the training and the test images.

    Raises:
        InputError: If the policy is to refuse such files and there are some, or a class has no other files.
    """
    paths = [*labelled.x_train, *labelled.x_test]
    looks = _looks(paths, len(labelled.x_train), background, copy_side)
    reasons = [look.reason for look in looks]
    bad = np.array([bool(reason) for reason in reasons])
    bad_train, bad_test = np.split(bad, [len(labelled.x_train)])
    if bad.any():
        _check_left_out(labelled, bad_train, bad_test, _named(paths, reasons, _NAMED_IN_ERRORS), policy, spec)
        terminal.say(f"Left out: {bad.sum():,} of {len(bad):,} image files: {_named(paths, reasons, _NAMED)}.")
    peaks = [look.peak for look in looks if look.header.is_wide and not look.reason]
    white = min(value for value in pictures.WHITES if max(peaks) <= value) if peaks else 0
    if white:
        terminal.say(f"Images of 16 bits: white is {white:,}, as the largest value of the data set fits in "
                     f"{white.bit_length()} bits.")

    def readings(looks: Sequence[_Look]) -> Readings:
        used = [look for look in looks if not look.reason]
        return Readings(np.array([look.header.reading for look in used], np.int32),
                        np.frombuffer(b"".join(look.digest for look in used), np.uint8).reshape(len(used), -1),
                        len(paths) > MAX_WHOLE, Rendering(background, white or pictures.WHITES[-1]),
                        tuple(look.copy for look in used))

    return (Labelled(labelled.x_train[~bad_train], labelled.y_train[~bad_train], labelled.x_test[~bad_test],
                     labelled.y_test[~bad_test], labelled.class_names),
            (readings(looks[:len(bad_train)]), readings(looks[len(bad_train):])))


def first_unreadable(paths: Sequence[bytes], ways: Sequence[int]) -> tuple[str, str] | None:
    """Decodes files, to find one that cannot be decoded.

    Args:
        paths: Paths of the files.
        ways: Way to read each file.

    Returns:
        Path and reason of the first such file; None if there is none.
    """
    looks = _decoded(paths, [_Look(Header(way, False, True)) for way in ways], [0] * len(paths))
    return next(((os.fsdecode(path), look.reason) for path, look in zip(paths, looks, strict=True) if look.reason),
                None)


def _looks(paths: Sequence[bytes], train: int, background: tuple[int, int, int], copy_side: int) -> list[_Look]:
    """Looks at each file as closely as the size of the data set allows; the first `train` are training images."""
    groups = _groups(paths)
    with futures.ThreadPoolExecutor(_THREADS) as pool:
        seen = pool.map(lambda group: [_at_ends(path) for path in group], groups)
        looks = [look for group in terminal.countdown(seen, "Looking at image files", len(groups)) for look in group]
    is_small = len(paths) <= MAX_WHOLE
    close = [index for index, look in enumerate(looks)
             if not look.reason and (is_small or look.header.is_wide or not look.header.is_whole)]
    sides = [copy_side if is_small and index < train and small_copies.is_large(looks[index].header, copy_side) else 0
             for index in close]
    # In an order that has nothing to do with classes: if copies fill their memory, all classes have as many.
    order = np.random.default_rng(0).permutation(len(close))
    decoded = _decoded([paths[close[place]] for place in order], [looks[close[place]] for place in order],
                       [sides[place] for place in order], background)
    for place, look in zip(order, decoded, strict=True):
        index = close[place]
        looks[index] = look if is_small else dataclasses.replace(look, digest=looks[index].digest)
    if sum(len(look.copy) for look in looks) >= small_copies.MAX_BYTES:
        terminal.say(f"Small copies of large photos fill their memory: {sum(bool(look.copy) for look in looks):,} of "
                     f"{sum(map(bool, sides)):,} are read from one, the others as they are, which takes longer. Make "
                     "the photos smaller to save that time.")
    return looks


def _groups(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[begin:begin + _FILES] for begin in range(0, len(items), _FILES)]


def _at_ends(path: bytes) -> _Look:
    """Looks at the ends of a file."""
    try:
        with open(path, "rb") as file:
            ends = file_ends.read(file)
            return _Look(pictures.header(file, ends), digest=fingerprint.of_ends(ends))
    except (OSError, pictures.Unreadable) as error:
        return _Look(Header(BY_PILLOW, False, True), _text(error))


def _decoded(paths: Sequence[bytes], looks: Sequence[_Look], sides: Sequence[int],
             background: tuple[int, int, int] = (255, 255, 255)) -> list[_Look]:
    """Looks at whole files.

    Args:
        paths: Paths of the files.
        looks: A look at the ends of each.
        sides: Shorter side of the small copy of each; 0 for no copy. Once copies fill their memory, no more are made.
        background: Colour behind transparent parts of copies.
    """
    groups, found, taken = _groups(list(zip(paths, looks, sides, strict=True))), list[_Look](), 0
    with futures.ThreadPoolExecutor(machine.cores()) as pool:
        for group in terminal.countdown(groups, f"Reading image files, {_FILES} at a time", len(groups)):
            with terminal.quiet():  # libjpeg prints warnings
                has_room = taken < small_copies.MAX_BYTES
                jobs = [pool.submit(_whole, path, look, side if has_room else 0, background)
                        for path, look, side in group]
                found += [job.result() for job in jobs]
                taken += sum(len(look.copy) for look in found[-len(group):])
    return found


def _whole(path: bytes, look: _Look, side: int, background: tuple[int, int, int]) -> _Look:
    """Reads a file, and decodes it the way that training does."""
    try:
        with open(path, "rb") as file:
            contents = file.read()
        peak = pictures.brightest(contents) if look.header.is_wide else 0
        copy = b""
        with tf.device("CPU"):
            if side:
                copy = small_copies.of_file(contents, look.header, background, side)
            elif look.header.reading != BY_PILLOW:
                _decode_by_tensorflow(contents)
            elif not look.header.is_wide:
                pictures.decode(contents, Rendering())
    except tf.errors.OpError:
        return dataclasses.replace(look, reason=pictures.DAMAGED)
    except (OSError, pictures.Unreadable) as error:
        return dataclasses.replace(look, reason=_text(error))
    return dataclasses.replace(look, digest=fingerprint.of_contents(contents), peak=peak, copy=copy)


def _decode_by_tensorflow(contents: bytes) -> None:
    """Decodes a JPEG or PNG file as TensorFlow does, which raises an OpError if it cannot."""
    if tf.io.is_jpeg(contents):
        # An eighth of a JPEG's size: all of the file is read, but few pixels are computed.
        tf.io.decode_jpeg(contents, channels=3, ratio=8)
    else:
        tf.io.decode_png(contents)


def _text(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


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


