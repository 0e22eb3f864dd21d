"""Finds image files that cannot be decoded, before a search of several days fails on such a file.

Decoding a million files takes hours. So only the first and last bytes of each file are read, and a file is decoded only
if these bytes are unusual: cameras append data of their own to a JPEG, so an unusual end alone does not mean that the
file is broken. A file that is damaged only in the middle is noticed when training reads it.
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


def without_broken(labelled: Labelled, policy: str, spec: str) -> Labelled:
    """Leaves out the files that cannot be decoded, and prints their number and some of their names.

    Args:
        labelled: Images in files.
        policy: `skip` to leave the files out, `refuse` to raise an error.
        spec: Name of the data set in error messages.

    Raises:
        InputError: If the policy is to refuse such files and there are some, or a class has no other files.
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
    """Finds the files that cannot be decoded.

    Args:
        paths: Paths, bytes [images].

    Returns:
        bool [images], True for a broken file.
    """
    with futures.ThreadPoolExecutor(_THREADS) as pool:
        verdicts = list(pool.map(_verdict, paths))
    return np.array([verdict == "broken" or (verdict == "unusual" and not _decodes(path))
                     for path, verdict in zip(paths, verdicts, strict=True)], bool)


def _short(path: bytes) -> str:
    """Class and file name of an image, made printable."""
    name = os.path.join(*os.fsdecode(path).split(os.sep)[-2:])
    return "".join(letter if letter.isprintable() else "?" for letter in name)[-80:]


def _verdict(path: bytes) -> str:
    """`broken` if the file is no image, `whole` if it begins and ends as one, `unusual` if only decoding can tell."""
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
    return "whole" if whole else "unusual"


def _decodes(path: bytes) -> bool:
    try:
        with open(path, "rb") as file, quiet():  # libjpeg prints warnings
            augment.decode_all([file.read()])
    except (OSError, tf.errors.OpError):
        return False
    return True
