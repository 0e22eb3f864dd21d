"""Small copies of large photos, which training and search read in their place.

A random crop of a photo of 12 megapixels takes 27 ms of CPU time in every epoch, longer than a step of training on it.
From a copy, whose smallest random crop still has the network's resolution, it takes 1.3 ms. Copies are kept in memory,
as JPEG files.
"""

from collections.abc import Sequence

import numpy as np
import PIL.Image
import tensorflow as tf

from pnas_tf.data import decoding, pictures
from pnas_tf.data.pictures import BY_PILLOW, Header, Rendering

# Shorter side of a copy, as a multiple of the network's image. Crops cover 8 % of a photo's area or more, and are up to
# 4/3 times as high as wide, so they are at least a quarter of the photo's shorter side wide.
MARGIN = 4
# Copies are made of photos with at least so many times the pixels of a square of this side.
WORTH = 4
# Memory for all copies. A pixel of a photo takes up to a byte at this quality, and half of that on average.
MAX_BYTES, BYTES_PER_PIXEL = 1 << 30, 1.0
QUALITY = 95


def side(image_size: int) -> int:
    """Shorter side of a copy.

    Args:
        image_size: Height and width of the network's images.
    """
    return MARGIN * image_size


def chosen(headers: Sequence[Header], side: int) -> list[bool]:
    """Which photos get a copy: large ones, the first of them if there is no memory for all.

    Args:
        headers: Headers of the files, in order.
        side: Shorter side of a copy.
    """
    large = np.array([not header.is_wide and header.pixels >= WORTH * side ** 2 for header in headers], bool)
    return (large & (large.cumsum() * side ** 2 * BYTES_PER_PIXEL <= MAX_BYTES)).tolist()


def of_file(contents: bytes, reading: int, background: tuple[int, int, int], side: int) -> bytes:
    """A small copy of a photo, upright, on its background.

    Args:
        contents: Bytes of the file, whose pixels have 8 bits.
        reading: Way to read it, as in `pictures.Header`.
        background: Colour behind transparent parts.
        side: Shorter side of the copy.

    Returns:
        Bytes of a JPEG file; none if the photo's shorter side is no longer than that.

    Raises:
        tf.errors.OpError: If TensorFlow cannot decode the file.
        Unreadable: If Pillow cannot.
    """
    if reading == BY_PILLOW:
        image = pictures.decode(contents, Rendering(background))
    elif tf.io.is_jpeg(contents):
        shorter = int(tf.reduce_min(tf.io.extract_jpeg_shape(contents)[:2]))
        # Blocks of pixels that become one are never computed.
        ratio = max(ratio for ratio in (1, 2, 4, 8) if ratio == 1 or shorter // ratio >= side)
        image = pictures.turned(tf.io.decode_jpeg(contents, channels=3, ratio=ratio,
                                                  dct_method=decoding.DCT_METHOD).numpy(), reading)
    else:
        image = decoding.whole(decoding.ImageFile(tf.constant(contents), tf.constant("An image"), tf.constant(reading),
                                                  Rendering(background))).numpy()
    height, width = image.shape[:2]
    if min(height, width) <= side:
        return b""
    scale = side / min(height, width)
    small = PIL.Image.fromarray(image).resize((round(width * scale), round(height * scale)),
                                              PIL.Image.Resampling.BILINEAR, reducing_gap=2.0)
    return tf.io.encode_jpeg(np.asarray(small), quality=QUALITY, chroma_downsampling=False).numpy()
