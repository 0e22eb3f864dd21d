"""Counts the scans of a JPEG file: each is a pass over all pixels, so thousands of them take minutes to decode."""

import os
from typing import IO

# More scans than encoders write: progressive files have about 10.
MAX_SCANS = 64
_CHUNK_BYTES = 1 << 20
_START_OF_SCAN, _SCAN = 0xda, b"\xff\xda"
# Frames whose first scan may hold all channels; of these files, decoders then read no other scan.
_SEQUENTIAL = (0xc0, 0xc1)
_WITHOUT_LENGTH = (0x01, *range(0xd0, 0xd9))


def count(file: IO[bytes]) -> int:
    """Number of scans that a decoder may read; at least that many, since metadata behind the first scan can look alike.

    Args:
        file: An open JPEG file, or bytes as one.
    """
    if _is_single(file):
        return 1
    scans, before = 1, b""
    while part := file.read(_CHUNK_BYTES):
        scans += (before + part).count(_SCAN)
        before = part[-1:]
    return scans


def _is_single(file: IO[bytes]) -> bool:
    """Whether the first scan is the only one; the position is then behind the head of that scan."""
    file.seek(2)
    channels, is_sequential = 0, False
    while True:
        byte = file.read(1)
        if not byte:
            return True
        if byte != b"\xff":
            continue
        while (byte := file.read(1)) == b"\xff":
            pass
        if not byte:
            return True
        marker = byte[0]
        if marker in _WITHOUT_LENGTH or not marker:
            continue
        length = int.from_bytes(file.read(2))
        if marker == _START_OF_SCAN:
            return is_sequential and file.read(1) == bytes([channels])
        if 0xc0 <= marker <= 0xcf and marker not in (0xc4, 0xc8, 0xcc):
            frame = file.read(6)
            channels, is_sequential = (frame[5] if len(frame) == 6 else 0), marker in _SEQUENTIAL
            length -= len(frame)
        file.seek(max(0, length - 2), os.SEEK_CUR)
