"""Digests of image files, which tell other contents under the same names apart.

Times of files are left out, as a copy of the data set has others.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent import futures

from pnas_tf.errors import InputError

# Files of up to so many bytes are read whole. Among more than so many files, only so many bytes at both ends of each
# are read: other pixels change the end of a compressed image.
WHOLE_BYTES, MANY_FILES, END_BYTES = 2**24, 10_000, 2**12
# Threads wait for a network's disk; each takes so many files at once.
_THREADS, _FILES = 16, 256


def of_files(paths: Sequence[bytes]) -> Iterator[bytes]:
    """SHA-256 of the size and contents of each file.

    Args:
        paths: Paths of the files.

    Raises:
        InputError: If a file cannot be read.
    """
    whole_bytes = WHOLE_BYTES if len(paths) <= MANY_FILES else 2 * END_BYTES
    with futures.ThreadPoolExecutor(_THREADS) as pool:
        groups = [paths[begin:begin + _FILES] for begin in range(0, len(paths), _FILES)]
        for digests in pool.map(lambda group: [_of_file(path, whole_bytes) for path in group], groups):
            yield from digests


def _of_file(path: bytes, whole_bytes: int) -> bytes:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.sha256(size.to_bytes(8, "little"))
            if size <= whole_bytes:
                digest.update(file.read(size))
            else:
                digest.update(file.read(END_BYTES))
                file.seek(-END_BYTES, os.SEEK_END)
                digest.update(file.read(END_BYTES))
    except OSError as error:
        raise InputError(f"{os.fsdecode(path)}: cannot be read ({error.strerror}). Keep the data set as it is until "
                         "the run ends.") from None
    return digest.digest()
