"""Digests of image files, which tell other contents under the same names apart.

Times of files are left out, as a copy of the data set has others.
"""

import hashlib
import io

from pnas_tf.data import file_ends
from pnas_tf.data.file_ends import Ends

# Larger files are told apart by their ends: other pixels change the end of a compressed image.
WHOLE_BYTES = 1 << 24


def of_contents(contents: bytes) -> bytes:
    """SHA-256 of the size and bytes of a file; of its ends, if it is large."""
    if len(contents) > WHOLE_BYTES:
        return of_ends(file_ends.read(io.BytesIO(contents)))
    return _of(len(contents), contents)


def of_ends(ends: Ends) -> bytes:
    """SHA-256 of the size and both ends of a file."""
    return _of(ends.size, ends.head, ends.tail)


def _of(size: int, *parts: bytes) -> bytes:
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    for part in parts:
        digest.update(part)
    return digest.digest()
