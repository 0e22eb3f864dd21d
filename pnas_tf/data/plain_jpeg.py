"""Tells plain JPEG files from their first bytes, many times faster than Pillow.

Nearly all files of large data sets are plain: 8 bits, grey or three channels, one scan, and no metadata that could turn
the image. Whatever is unusual, Pillow looks at.
"""

from pnas_tf.data.file_ends import Ends

_START, _START_OF_SCAN, _TABLES = b"\xff\xd8", 0xda, 0xdb
# Frames whose first scan may hold all channels.
_SEQUENTIAL = (0xc0, 0xc1)
# Huffman tables, restart interval, comment, and applications' data but those of APP1, which may hold an orientation.
_WITHOUT_EFFECT = (0xc4, 0xdd, 0xfe, 0xe0, *range(0xe2, 0xf0))
_TABLE_BYTES = 65


def pixels(ends: Ends) -> int:
    """Width times height of a plain file; 0 if the file is not plain, or not JPEG.

    Args:
        ends: Both ends of the file.
    """
    head, at, channels, area = ends.head, 2, 0, 0
    if not head.startswith(_START):
        return 0
    while at + 4 <= len(head) and head[at] == 0xff:
        marker, length = head[at + 1], int.from_bytes(head[at + 2:at + 4])
        body = head[at + 4:at + 2 + length]
        at += 2 + length
        if len(body) != length - 2:
            return 0
        if marker == _START_OF_SCAN:
            return area if body[:1] == bytes([channels]) else 0
        if marker in _SEQUENTIAL and not channels:
            if len(body) < 6 or body[0] != 8 or body[5] not in (1, 3) or len(body) != 6 + 3 * body[5]:
                return 0
            channels, area = body[5], int.from_bytes(body[1:3]) * int.from_bytes(body[3:5])
        elif marker == _TABLES:
            if len(body) % _TABLE_BYTES or any(byte > 3 for byte in body[::_TABLE_BYTES]):
                return 0
        elif marker not in _WITHOUT_EFFECT:
            return 0
    return 0
