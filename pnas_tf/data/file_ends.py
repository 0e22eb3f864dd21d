"""First and last bytes of image files: whether a file ends as its format demands, and what stands behind its pixels."""

import dataclasses
import os
from typing import IO

END_BYTES = 1 << 12
_PNG = b"\x89PNG\r\n\x1a\n"
_RAW_PROFILE = b"Raw profile"  # key of EXIF data in a chunk of text


@dataclasses.dataclass(frozen=True)
class Ends:
    """Both ends of a file.

    Attributes:
        size: Bytes of the file.
        head: The first `END_BYTES` bytes; of a file of up to twice as many, all.
        tail: The last `END_BYTES` bytes; b"" if `head` is the whole file.
    """

    size: int
    head: bytes
    tail: bytes


def read(file: IO[bytes]) -> Ends:
    """Reads both ends of an open file, or of bytes as one."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size <= 2 * END_BYTES:
        return Ends(size, file.read(size), b"")
    head = file.read(END_BYTES)
    file.seek(-END_BYTES, os.SEEK_END)
    return Ends(size, head, file.read(END_BYTES))


def of_png(file: IO[bytes]) -> tuple[bool, bool]:
    """Whether a PNG file has EXIF or XMP data behind its pixels, which Pillow finds late, and whether it is whole."""
    at, size, seen_pixels, late = len(_PNG), file.seek(0, os.SEEK_END), False, False
    while at + 12 <= size:
        file.seek(at)
        head = file.read(8 + len(_RAW_PROFILE))
        at += 12 + int.from_bytes(head[:4], "big")
        name = head[4:8]
        if name == b"IEND":
            return late, at <= size
        seen_pixels = seen_pixels or name == b"IDAT"
        late = late or (seen_pixels and (name in (b"eXIf", b"iTXt") or head[8:] == _RAW_PROFILE))
    return late, False


def is_whole(ends: Ends, form: str) -> bool:
    """Whether a file ends as its format demands."""
    if form == "WEBP":
        return 8 + int.from_bytes(ends.head[4:8], "little") <= ends.size
    if form == "BMP":
        return int.from_bytes(ends.head[2:6], "little") <= ends.size
    end = (ends.tail or ends.head).rstrip(b"\0")
    return (form in ("JPEG", "MPO") and end.endswith(b"\xff\xd9")) or (form == "GIF" and end.endswith(b";"))
