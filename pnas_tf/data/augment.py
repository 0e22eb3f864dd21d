"""Changes images at random, and normalises them.

Pixels are 0..255 until `normalise`, after which only `cutout` may follow. Every random function is stateless: the same
seed gives the same image in any step of any run, as an exact resume requires.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf


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
