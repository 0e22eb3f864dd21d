"""Whether image files end as their formats demand, and what stands behind their pixels."""

import os
from typing import IO

_PNG = b"\x89PNG\r\n\x1a\n"
_RAW_PROFILE = b"Raw profile"  # key of EXIF data in a chunk of text
_END_BYTES = 64


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


def is_whole(file: IO[bytes], form: str) -> bool:
    """Whether a file ends as its format demands."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(8)
    if form == "WEBP":
        return 8 + int.from_bytes(head[4:], "little") <= size
    if form == "BMP":
        return int.from_bytes(head[2:6], "little") <= size
    file.seek(max(0, size - _END_BYTES))
    end = file.read().rstrip(b"\0")
    return (form in ("JPEG", "MPO") and end.endswith(b"\xff\xd9")) or (form == "GIF" and end.endswith(b";"))
