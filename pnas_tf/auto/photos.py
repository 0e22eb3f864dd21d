"""The folder of pictures, as far as it is known before a long run: its classes, its size, and what it holds."""

import dataclasses
import hashlib
import os

import numpy as np

from pnas_tf.data import file_ends, fingerprint, folders
from pnas_tf.errors import InputError

# Fewest pictures of a class: one for the test, one held out for the search, and three to train on.
LEAST = 5
# Shares of the pictures that are trained on: a fifth is for the test, and a fifth of the rest is held out.
TRAINED, TESTED = 0.64, 0.2
TRAINED_OF_TRAIN = 0.8  # where a folder `test` holds the test pictures


@dataclasses.dataclass(frozen=True)
class Photos:
    """A folder of pictures.

    Attributes:
        path: Path of the folder, as the commands get it.
        counts: Number of pictures of each class, without those of a folder `test`.
        test: Number of pictures in a folder `test`; 0 if test pictures are split off.
        digest: SHA-256 of names, and of the sizes and ends of files.
    """

    path: str
    counts: tuple[int, ...]
    test: int
    digest: str

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.counts)

    @property
    def trained(self) -> int:
        """Number of pictures to train on, about: which pictures can be read is not known yet."""
        return max(1, round(sum(self.counts) * (TRAINED_OF_TRAIN if self.test else TRAINED)))

    @property
    def tested(self) -> int:
        """Number of pictures to test on, about."""
        return self.test or round(sum(self.counts) * TESTED)

    def __str__(self) -> str:
        test = f", and {self.test:,} for the test" if self.test else "; a fifth of them is for the test"
        least, most = min(self.counts), max(self.counts)
        each = f"{least:,} of each class" if least == most else f"{least:,} to {most:,} of a class"
        return f"{sum(self.counts):,} pictures of {self.classes:,} classes in {self.path}, {each}{test}."


def read(path: str) -> Photos:
    """Looks through a folder of pictures, without decoding them.

    Args:
        path: Folder with one folder for each class, or with `train` and `test` that have such folders.

    Raises:
        InputError: If there is no such folder, or it has fewer than two classes or `LEAST` pictures of a class.
    """
    path = os.path.normpath(os.path.expanduser(path))
    train, test, names = folders.listed(path)
    counts = np.bincount(train.labels, minlength=len(names))
    fewest = int(counts.argmin())
    if counts[fewest] < LEAST:
        raise InputError(f"{path}: class {names[fewest]!r} has {counts[fewest]} pictures, and {LEAST} of each class "
                         "are needed: some are for training, one is held out, one is for the test. Add pictures; some "
                         "dozens of each class are a good beginning.")
    paths = [*train.paths, *(test.paths if test else ())]
    digest = hashlib.sha256()
    for name in paths:
        digest.update(os.path.relpath(name, os.fsencode(path)) + b"\0" + _digest(name))
    return Photos(path, tuple(counts.tolist()), len(test.paths) if test else 0, digest.hexdigest())


def _digest(path: bytes) -> bytes:
    try:
        with open(path, "rb") as file:
            return fingerprint.of_ends(file_ends.read(file))
    except OSError as error:
        raise InputError(f"{os.fsdecode(path)}: cannot be read ({error.strerror}). Mend it or take it away.") from None
