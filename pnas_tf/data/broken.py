"""Finds image files that cannot be decoded, before a search of days stumbles over one.

To decode a million files takes hours. So the beginning and the end of each are looked at, and a file is decoded
only where these look wrong: cameras append what they like to a JPEG, so an odd end alone condemns nothing. What is
damaged in the middle alone is found when its turn comes.
"""

import os
from concurrent import futures

import numpy as np
import tensorflow as tf

from pnas_tf.data import augment
from pnas_tf.data.labelled import Labelled
from pnas_tf.errors import InputError
from pnas_tf.terminal import quiet

POLICIES = ("skip", "refuse")
_END_BYTES, _THREADS, _NAMED = 64, 16, 3


def dealt_with(labelled: Labelled, policy: str, spec: str) -> Labelled:
    """The same without the files that cannot be decoded; prints how many there were, and names some.

    Args:
        labelled: images in files.
        policy: one of `POLICIES`.
        spec: what to call the data set.

    Raises:
        InputError: if there are any and the policy is to refuse them, or a class has no other.
    """
    bad_train, bad_test = find(labelled.x_train), find(labelled.x_test)
    bad = [*labelled.x_train[bad_train], *labelled.x_test[bad_test]]
    if not bad:
        return labelled
    named = ", ".join(map(_short, bad[:_NAMED])) + (", ..." if len(bad) > _NAMED else "")
    total = len(bad_train) + len(bad_test)
    if policy == "refuse":
        raise InputError(f"{spec}: {len(bad):,} of {total:,} image files cannot be decoded ({named}). Remove them, or "
                         "leave them out: --broken_images=skip.")
    for part, labels, is_bad in (("train", labelled.y_train, bad_train), ("test", labelled.y_test, bad_test)):
        empty = sorted(set(labels[is_bad]) - set(labels[~is_bad]))
        if (empty and part == "train") or is_bad.all():
            raise InputError(f"{spec}: no image that can be decoded is left in the {part} part"
                             + (f" of class {labelled.class_names[empty[0]]!r}" if empty else "") + f" ({named}).")
    print(f"Left out: {len(bad):,} of {total:,} image files, which cannot be decoded ({named}).")
    return Labelled(labelled.x_train[~bad_train], labelled.y_train[~bad_train],
                    labelled.x_test[~bad_test], labelled.y_test[~bad_test], labelled.class_names)


def find(paths: np.ndarray) -> np.ndarray:
    """Which files cannot be decoded.

    Args:
        paths: bytes [images].

    Returns:
        bool [images].
    """
    with futures.ThreadPoolExecutor(_THREADS) as pool:
        verdicts = list(pool.map(_looks, paths))
    return np.array([verdict == "broken" or (verdict == "odd" and not _decodes(path))
                     for path, verdict in zip(paths, verdicts, strict=True)], bool)


def _short(path: bytes) -> str:
    """Class and file name, printable."""
    name = os.path.join(*os.fsdecode(path).split(os.sep)[-2:])
    return "".join(letter if letter.isprintable() else "?" for letter in name)[-80:]


def _looks(path: bytes) -> str:
    """`broken`: no image; `odd`: only decoding can tell; `whole`."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(26)
            file.seek(max(0, size - _END_BYTES))
            end = file.read(_END_BYTES).rstrip(b"\0")
    except OSError:
        return "broken"
    if not head.startswith(augment.MAGIC):
        return "broken"
    if head.startswith(b"BM"):
        whole = int.from_bytes(head[2:6], "little") <= size
    else:
        whole = end.endswith((b"\xff\xd9", b"IEND\xaeB`\x82", b"\x3b"))
    return "whole" if whole else "odd"


def _decodes(path: bytes) -> bool:
    try:
        with open(path, "rb") as file, quiet():  # libjpeg prints lines of its own
            augment.decode_all([file.read()])
    except (OSError, tf.errors.OpError):
        return False
    return True
