"""Small copies of large photos, which training and search read in their place.

A random crop of a photo of 12 megapixels takes some 20 ms of CPU time in every epoch, longer than a step of training on
it. From a copy, whose smallest random crop still has the network's resolution, it takes 1 ms for images of 96 pixels
and 4 ms for 224. Copies are kept in memory, as JPEG files.
"""

import numpy as np
import PIL.Image
import tensorflow as tf

from pnas_tf.data import decoding, pictures
from pnas_tf.data.pictures import BY_PILLOW, Header, Rendering

# Shorter side of a copy, as a multiple of the network's image. Crops cover 8 % of a photo's area or more, and are up to
# 4/3 times as high as wide, so they are at least a quarter of the photo's shorter side wide.
MARGIN = 4
# Photos have at least so many times the pixels of their copy, and a longer side at most so many times the shorter.
WORTH, LONGEST = 4, 4
# Memory for all copies of a data set. A copy of four megapixels takes one to two megabytes.
MAX_BYTES = 1 << 30
QUALITY = 95


def side(image_size: int) -> int:
    """Shorter side of a copy.

    Args:
        image_size: Height and width of the network's images.
    """
    return MARGIN * image_size


def is_large(header: Header, side: int) -> bool:
    """Whether a photo may be large enough for a copy, by its header; `of_file` looks more closely.

    Args:
        header: Header of the file.
        side: Shorter side of a copy.
    """
    return not header.is_wide and header.pixels >= WORTH * side ** 2


def of_file(contents: bytes, header: Header, background: tuple[int, int, int], side: int) -> bytes:
    """A small copy of a photo, upright, on its background.

    Args:
        contents: Bytes of the file, whose pixels have 8 bits.
        header: Its header.
        background: Colour behind transparent parts.
        side: Shorter side of the copy.

    Returns:
        Bytes of a JPEG file; none if the photo is not large enough, or too long.

    Raises:
        tf.errors.OpError: If TensorFlow cannot decode the file.
        Unreadable: If Pillow cannot.
    """
    reading = header.reading
    if reading != BY_PILLOW and tf.io.is_jpeg(contents):
        return _encoded(_scaled(contents, reading, side), side)
    with pictures.one_at_a_time(header.pixels):
        image = pictures.decode(contents, Rendering(background)) if reading == BY_PILLOW else decoding.whole(
            decoding.ImageFile(tf.constant(contents), tf.constant("An image"), tf.constant(reading),
                               Rendering(background))).numpy()
        return _encoded(image, side)


def _encoded(image: np.ndarray, side: int) -> bytes:
    """The copy as a JPEG file; none if the photo is not large enough."""
    height, width = image.shape[:2]
    if not _is_worth(height, width, side):
        return b""
    scale = side / min(height, width)
    small = PIL.Image.fromarray(image).resize((round(width * scale), round(height * scale)),
                                              PIL.Image.Resampling.BILINEAR, reducing_gap=2.0)
    return tf.io.encode_jpeg(np.asarray(small), quality=QUALITY, chroma_downsampling=False).numpy()


def _is_worth(height: int, width: int, side: int) -> bool:
    """Whether a photo is large enough for a copy, and not too long."""
    shorter, longer = sorted((height, width))
    return shorter ** 2 >= WORTH * side ** 2 and longer <= LONGEST * shorter


def _scaled(contents: bytes, reading: int, side: int) -> np.ndarray:
    """The pixels of a JPEG file, upright, uint8 [height, width, 3], at the smallest size that tells the rest.

    Where several pixels become one, only their mean is computed. A photo that is large enough for a copy stays so.
    """
    shorter = min(tf.io.extract_jpeg_shape(contents).numpy()[:2])
    scale = max((each for each in decoding.JPEG_SCALES if shorter // each >= WORTH ** 0.5 * side), default=1)
    return pictures.turned(tf.io.decode_jpeg(contents, channels=3, ratio=scale,
                                             dct_method=decoding.DCT_METHOD).numpy(), reading)
