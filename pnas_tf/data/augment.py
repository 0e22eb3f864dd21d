"""Decodes, crops, augments and normalises images: whole batches in memory, and files one by one.

Pixels are 0..255 until `normalise`, after which only `cutout` may follow. Every random function is stateless: the same
seed gives the same image in any step of any run, as an exact resume requires.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

# The original's recipe for ImageNet: area and aspect ratio of the random crop, and central part of the evaluation view.
CROP_AREA = (0.08, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)
CENTRAL_PART = 224 / 256


@dataclasses.dataclass(frozen=True)
class Jitter:
    """Largest random changes of colour.

    Attributes:
        brightness: Brightness is multiplied by a factor from 1 - brightness to 1 + brightness.
        contrast: Contrast is multiplied likewise.
        saturation: Saturation is multiplied likewise.
        hue: Hue is turned by up to this share of the colour circle in either direction.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0


# The original uses `normal` for the search and `strong` to train the derived network.
JITTERS = {"none": Jitter(), "normal": Jitter(brightness=32 / 255, saturation=0.5),
           "strong": Jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)}

# TensorFlow's default, INTEGER_FAST, is off by one grey level on average and shifts the mean of red and blue by as
# much. INTEGER_ACCURATE gives the same pixels as other libraries.
DCT_METHOD = "INTEGER_ACCURATE"

# First bytes of the kinds of files that TensorFlow can decode.
MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM")

# More pixels than any camera takes. TensorFlow allocates what an image's header claims, whatever follows the header.
MAX_PIXELS = 1 << 27


def normalise(images: tf.Tensor, mean: Sequence[float], std: Sequence[float]) -> tf.Tensor:
    """Normalises images: `(images - mean) / std`, channel by channel.

    Args:
        images: Pixels [..., height, width, channels].
        mean: Mean by channel.
        std: Standard deviation by channel.

    Returns:
        float32, in the shape of `images`.
    """
    # Mean and deviation are expanded to whole images first, because broadcasting three channels is four times slower.
    centre, scale = (tf.constant(np.broadcast_to(np.asarray(value, np.float32), images.shape[-3:]))
                     for value in (mean, std))
    return (tf.cast(images, tf.float32) - centre) / scale


def crop_and_flip(images: tf.Tensor, seed: tf.Tensor, places: tf.Tensor, batch_size: int) -> tf.Tensor:
    """Pads images with zeros, crops each at a random position, and flips each with probability 1/2.

    The padding is an eighth of the side: 4 pixels for 32x32, 3 for 28x28. Two gathers work on the whole batch, which is
    six times as fast as one image at a time.

    Args:
        images: Images of a batch, or some of them, [part, height, width, channels].
        seed: Seed of the whole batch, integers [2].
        places: Positions of these images in the batch, integers [part]. The change of an image does not depend
            on the other images that are present.
        batch_size: Number of images in the whole batch.

    Returns:
        Changed images, like `images`.
    """
    height, width = images.shape[1], images.shape[2]
    pad_rows, pad_columns = height // 8, width // 8
    row_seed, column_seed, flip_seed = tf.unstack(tf.random.split(seed, 3))

    def draw(seed, **kwargs):
        return tf.gather(tf.random.stateless_uniform([batch_size, 1], seed, **kwargs), places)

    top = draw(row_seed, maxval=2 * pad_rows + 1, dtype=tf.int32)
    left = draw(column_seed, maxval=2 * pad_columns + 1, dtype=tf.int32)
    flip = draw(flip_seed) < 0.5
    rows = top + tf.range(height)
    columns = left + tf.where(flip, tf.range(width - 1, -1, -1), tf.range(width))
    padded = tf.pad(images, [[0, 0], [pad_rows, pad_rows], [pad_columns, pad_columns], [0, 0]])
    cropped = tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
    return tf.ensure_shape(cropped, images.shape)


def cutout(images: tf.Tensor, seed: tf.Tensor, places: tf.Tensor, batch_size: int, side: int) -> tf.Tensor:
    """Sets a square at a random position of each image to zero (cutout, DeVries and Taylor 2017).

    Args:
        images: Normalised images, whose mean is zero, float32 [part, height, width, channels].
        seed: Seed of the whole batch, integers [2]. Squares are independent of the crops of `crop_and_flip`.
        places: Positions of these images in the batch, integers [part].
        batch_size: Number of images in the whole batch.
        side: Side of the square, pixels. Its centre may be any pixel, so part of the square may lie outside.

    Returns:
        Changed images, like `images`.
    """
    seeds = tf.random.split(tf.random.fold_in(seed, 1), 2)

    def band(size, seed):
        centres = tf.random.stateless_uniform([batch_size, 1], seed, maxval=size, dtype=tf.int32)
        offset = tf.range(size)[None] - (tf.gather(centres, places) - side // 2)
        return (offset >= 0) & (offset < side)

    rows, columns = band(images.shape[1], seeds[0]), band(images.shape[2], seeds[1])
    return tf.where((rows[:, :, None] & columns[:, None, :])[..., None], 0.0, images)


def random_crop_of_file(contents: tf.Tensor, image_size: int, seed: tf.Tensor) -> tf.Tensor:
    """Decodes a random part of an image file, resizes it, and flips it with probability 1/2.

    Args:
        contents: Bytes of a JPEG, PNG, BMP or GIF file, scalar.
        image_size: Height and width of the result.
        seed: Seed, integers [2].

    Returns:
        float32 [image_size, image_size, 3].
    """
    crop_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))

    def window(shape):
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape, tf.constant([[[0.0, 0.0, 1.0, 1.0]]]), crop_seed, min_object_covered=0.0,
            aspect_ratio_range=CROP_RATIO, area_range=CROP_AREA, max_attempts=10)
        return tf.concat([begin[:2], size[:2]], 0)

    return tf.image.stateless_random_flip_left_right(_resized_part(contents, window, image_size), flip_seed)


def central_crop_of_file(contents: tf.Tensor, image_size: int) -> tf.Tensor:
    """Decodes the evaluation view: the shorter side resized to `image_size * 256 / 224`, then the central square.

    The central square, 7/8 of the shorter side, is cut out first and then resized: the same view from fewer pixels.

    Args:
        contents: Bytes of an image file, scalar.
        image_size: Height and width of the result.

    Returns:
        float32 [image_size, image_size, 3].
    """
    def window(shape):
        side = tf.cast(tf.reduce_min(shape[:2]), tf.float32) * CENTRAL_PART
        side = tf.maximum(1, tf.cast(tf.round(side), tf.int32))
        return tf.concat([(shape[:2] - side) // 2, [side, side]], 0)

    return _resized_part(contents, window, image_size)


def colour_jitter(image: tf.Tensor, seed: tf.Tensor, jitter: Jitter = JITTERS["normal"]) -> tf.Tensor:
    """Changes brightness, contrast, saturation and hue at random, always in this order.

    Brightness scales the image, contrast scales its distance from its mean grey, and saturation its distance from grey.

    Args:
        image: Pixels, float32 [height, width, 3].
        seed: Seed, integers [2].
        jitter: Largest changes.

    Returns:
        Changed pixels, float32 [height, width, 3].
    """
    draw = tf.random.stateless_uniform([4], seed, -1.0, 1.0)
    if jitter.brightness:
        image = _blend(tf.zeros_like(image), image, 1.0 + jitter.brightness * draw[0])
    if jitter.contrast:
        image = _blend(tf.reduce_mean(tf.image.rgb_to_grayscale(image)), image, 1.0 + jitter.contrast * draw[2])
    if jitter.saturation:
        image = _blend(tf.image.rgb_to_grayscale(image), image, 1.0 + jitter.saturation * draw[1])
    if jitter.hue:
        image = tf.clip_by_value(tf.image.adjust_hue(image, jitter.hue * draw[3]), 0.0, 255.0)
    return image


def _blend(start: tf.Tensor, image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(start + (image - start) * factor, 0.0, 255.0)


def checked_image(contents: tf.Tensor, path: tf.Tensor) -> tf.Tensor:
    """Checks the first bytes and the claimed size of an image file.

    Args:
        contents: Bytes of the file, scalar.
        path: Path for the error message, scalar.

    Returns:
        The contents. If the check fails, TensorFlow raises an InvalidArgumentError that names the file.
    """
    begins_as = [tf.strings.substr(contents, 0, len(magic)) == magic for magic in MAGIC]
    is_image = tf.debugging.Assert(tf.reduce_any(begins_as),
                                   ["Not a JPEG, PNG, BMP or GIF image; remove it or save it again:", path])
    with tf.control_dependencies([is_image]):
        pixels = _claimed_pixels(tf.identity(contents))
        is_sane = tf.debugging.Assert(pixels <= MAX_PIXELS,
                                      [f"More than {MAX_PIXELS:,} pixels; remove it or make it smaller:", path])
    with tf.control_dependencies([is_sane]):
        return tf.identity(contents)


def _claimed_pixels(contents: tf.Tensor) -> tf.Tensor:
    """Width times height according to the header of an image file, float32. Missing bytes count as 0."""
    head = tf.strings.substr(contents, 0, 26) + b"\0" * 26

    def product(first, end, dtype, little_endian):
        sizes = tf.io.decode_raw(tf.strings.substr(head, first, end - first), dtype, little_endian=little_endian)
        return tf.reduce_prod(tf.abs(tf.cast(sizes, tf.float32)))

    kinds = [(tf.io.is_jpeg(contents),
              lambda: tf.reduce_prod(tf.cast(tf.io.extract_jpeg_shape(contents)[:2], tf.float32)))]
    kinds += [(tf.strings.substr(contents, 0, len(magic)) == magic, functools.partial(product, *where))
              for magic, where in ((b"\x89PNG", (16, 24, tf.int32, False)), (b"GIF8", (6, 10, tf.uint16, True)),
                                   (b"BM", (18, 26, tf.int32, True)))]
    return tf.case(kinds, default=lambda: tf.constant(0.0))


def decode_all(files: Sequence[bytes], image_size: int | None = None) -> np.ndarray:
    """Decodes image files into memory.

    Args:
        files: Bytes of each file. Without `image_size`, all images must have one size.
        image_size: Size of the evaluation view to return; None for the whole images.

    Returns:
        uint8 [images, height, width, 3].
    """
    def decode(contents):
        contents = checked_image(contents, "")
        if image_size is None:
            return _rgb(contents)
        return tf.cast(tf.round(central_crop_of_file(contents, image_size)), tf.uint8)

    with tf.device("CPU"):
        decoded = tf.data.Dataset.from_tensor_slices(list(files)).map(decode, tf.data.AUTOTUNE).batch(500)
        return np.concatenate(list(decoded.as_numpy_iterator()))


def resize_all(images: np.ndarray, image_size: int) -> np.ndarray:
    """Resizes images in memory.

    Args:
        images: Images, uint8 [images, height, width, channels].
        image_size: New height and width.

    Returns:
        uint8 [images, image_size, image_size, channels].
    """
    resized = np.empty((len(images), image_size, image_size, images.shape[-1]), np.uint8)
    with tf.device("CPU"):
        for first in range(0, len(images), 500):
            part = _resize(images[first:first + 500], image_size, True)
            resized[first:first + 500] = tf.cast(tf.round(part), tf.uint8).numpy()
    return resized


def _resized_part(contents: tf.Tensor, window: Callable, image_size: int) -> tf.Tensor:
    """Decodes a part of an image and resizes it; `window(shape)` returns its [top, left, height, width]."""
    def decode_jpeg():
        return tf.io.decode_and_crop_jpeg(contents, window(tf.io.extract_jpeg_shape(contents)), channels=3,
                                          dct_method=DCT_METHOD)

    def decode_other():
        image = _rgb(contents)
        top, left, height, width = tf.unstack(window(tf.shape(image)))
        return image[top:top + height, left:left + width]

    part = tf.cond(tf.io.is_jpeg(contents), decode_jpeg, decode_other)
    # Antialiasing halves the speed of the whole pipeline, and bilinear weights cover two pixels without it.
    shrinks = tf.reduce_max(tf.shape(part)[:2]) > 2 * image_size
    resized = tf.cond(shrinks, lambda: _resize(part, image_size, True), lambda: _resize(part, image_size, False))
    return tf.ensure_shape(resized, [image_size, image_size, 3])


def _resize(images: tf.Tensor, image_size: int, antialias: bool) -> tf.Tensor:
    return tf.clip_by_value(tf.image.resize(images, [image_size, image_size], antialias=antialias), 0.0, 255.0)


def _rgb(contents: tf.Tensor) -> tf.Tensor:
    """Decodes any image file to uint8 [height, width, 3].

    Grey is repeated, alpha is dropped, and a GIF gives its first frame. Except for JPEG, this does not use
    `channels=3`, which is an error for some BMP files.
    """
    def decode_other():
        image = tf.io.decode_image(contents, expand_animations=False)
        return tf.gather(image, tf.where(tf.shape(image)[-1] >= 3, [0, 1, 2], [0, 0, 0]), axis=-1)

    def decode_jpeg():
        return tf.io.decode_jpeg(contents, channels=3, dct_method=DCT_METHOD)

    image = tf.cond(tf.io.is_jpeg(contents), decode_jpeg, decode_other)
    return tf.ensure_shape(image, [None, None, 3])
