"""Puts the normalisation of images into the network, so that an app feeds it pixels as a camera gives them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

LAYER_NAME = "pixels_normalise"
# Grey of red, green and blue by ITU-R BT.601, as image libraries compute it.
LUMA = (0.299, 0.587, 0.114)


def with_pixel_input(model: Any, mean: Sequence[float], std: Sequence[float], *, rgb: bool = False) -> Any:
    """The same network on pixels 0..255 instead of normalised images.

    (pixel - mean) / std is a 1x1 convolution with a diagonal kernel: one op, which int8 represents exactly (its
    weights are scaled by channel), and which the padding of the first layer comes after. Folding it into the first
    convolution would be free but wrong at the border, where the network pads normalised zeros.

    Args:
        model: Keras model from float32 [batch, height, width, channels] to logits.
        mean: by channel.
        std: by channel.
        rgb: whether a network of grey images gets colour images, and makes them grey itself.

    Returns:
        A model that shares the weights.
    """
    import keras

    kernel, bias = normalising_convolution(mean, std, rgb=rgb)
    pixels = keras.layers.Input((*model.input_shape[1:3], kernel.shape[2]), name="pixels")
    normalise = keras.layers.Conv2D(kernel.shape[3], 1, name=LAYER_NAME)
    outputs = model(normalise(pixels))
    normalise.set_weights([kernel, bias])
    return keras.Model(pixels, outputs, name=model.name)


def normalising_convolution(mean: Sequence[float], std: Sequence[float], *, rgb: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(pixel - mean) / std as a 1x1 convolution.

    Args:
        mean: by channel.
        std: by channel.
        rgb: whether the one channel is the grey of red, green and blue pixels.

    Returns:
        Kernel float32 [1, 1, channels or 3, channels] and bias float32 [channels].
    """
    scale = 1 / np.asarray(std, np.float64)
    kernel = np.array(LUMA)[:, None] * scale if rgb else np.diag(scale)
    return kernel.astype(np.float32)[None, None], (-np.asarray(mean, np.float64) * scale).astype(np.float32)


def to_pixels(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """The pixels that normalised images came from, float32 [..., channels], 0 to 255.

    Rounded to whole grey levels, which resized images need not have been: it is what an app has.
    """
    pixels = np.asarray(images, np.float32) * np.asarray(std, np.float32) + np.asarray(mean, np.float32)
    return np.clip(np.round(pixels), 0, 255).astype(np.float32)


def full_range(images: np.ndarray) -> np.ndarray:
    """Pixel images of which the first has one black and one white point.

    int8 then quantises its input with scale 1 from 0 to 255, whatever the other images hold, so that a byte of the
    camera is a byte of the input.
    """
    images = images.copy()
    images[0, 0, 0], images[0, -1, -1] = 0.0, 255.0
    return images

FORMS = ("pixels", "rgb", "normalised")
BATCH = 50


@dataclasses.dataclass(frozen=True)
class Samples:
    """Images of a data set, ready to feed.

    Attributes:
        inputs: float32 [images, height, width, channels], as the `.tflite` takes them.
        normalised: the same images as the Keras model takes them.
        labels: int [images].
    """

    inputs: np.ndarray
    normalised: np.ndarray
    labels: np.ndarray


def draw(part: Any, count: int, seed: int, *, form: str, mean: tuple[float, ...], std: tuple[float, ...]) -> Samples:
    """About `count` images of a part of a data set, all if there are fewer; the same for the same seed.

    Drawn at random, so that a sorted data set gives every class. Not augmented. For `pixels` and `rgb`, levels are
    whole numbers, as an app has them, and both models see just those; for `rgb`, grey images have three channels.
    """
    if count >= part.size:
        batches = part.batches(BATCH)
    else:
        size = min(BATCH, count)
        batches = part.batches(size, seed=seed).take(-(-count // size))
    images, labels = (np.concatenate(arrays) for arrays in zip(*batches.as_numpy_iterator(), strict=True))
    if form == "normalised":
        return Samples(images, images, labels)
    whole = to_pixels(images, mean, std)
    normalised = (whole - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return Samples(np.repeat(whole, 3, -1) if form == "rgb" else whole, normalised, labels)
