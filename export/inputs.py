"""Images for an exported network: normalisation as its first layer, and samples of a data set in its input form."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

# Forms in which a `.tflite` takes images: pixels 0..255; colour pixels that a network of grey images
# converts to grey; images that the app has normalised.
FORMS = ("pixels", "rgb", "normalised")
# Number of images per batch, for Keras and for data sets.
BATCH = 50
LAYER_NAME = "pixels_normalise"
# Grey from red, green and blue by ITU-R BT.601, as image libraries compute it.
LUMA = (0.299, 0.587, 0.114)


def with_pixel_input(model: Any, mean: Sequence[float], std: Sequence[float], *, rgb: bool = False) -> Any:
    """Puts normalisation in front of a network, so that an app feeds it pixels 0..255 as a camera gives them.

    `(pixel - mean) / std` is a 1x1 convolution with a diagonal kernel. That is one op, which int8 represents exactly,
    because its weights have a scale for each channel, and the first layer pads after it. Folding it into the first
    convolution would cost nothing, but it would be wrong at the border, where the network pads normalised zeros.

    Args:
        model: Keras model from float32 [batch, height, width, channels] to logits.
        mean: Mean of each channel.
        std: Standard deviation of each channel.
        rgb: Whether a network of grey images gets colour images and converts them to grey.

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


def normalising_convolution(mean: Sequence[float], std: Sequence[float], *, rgb: bool = False
                            ) -> tuple[np.ndarray, np.ndarray]:
    """Expresses `(pixel - mean) / std` as a 1x1 convolution.

    Args:
        mean: Mean of each channel.
        std: Standard deviation of each channel.
        rgb: Whether the only channel is the grey of red, green and blue pixels.

    Returns:
        Kernel float32 [1, 1, 3 if rgb else channels, channels] and bias float32 [channels].
    """
    scale = 1 / np.asarray(std, np.float64)
    kernel = np.array(LUMA)[:, None] * scale if rgb else np.diag(scale)
    return kernel.astype(np.float32)[None, None], (-np.asarray(mean, np.float64) * scale).astype(np.float32)


def to_pixels(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Recovers pixels from normalised images, rounded to whole grey levels as an app has them.

    Args:
        images: Normalised images, float32 [..., channels]; if they were resized, their levels need not be whole.
        mean: Mean of each channel.
        std: Standard deviation of each channel.

    Returns:
        float32 [..., channels], whole numbers from 0 to 255.
    """
    pixels = np.asarray(images, np.float32) * np.asarray(std, np.float32) + np.asarray(mean, np.float32)
    return np.clip(np.round(pixels), 0, 255).astype(np.float32)


def full_range(images: np.ndarray) -> np.ndarray:
    """Copies pixel images and gives the first a black and a white point.

    If they are among the calibration images, int8 quantises its input with scale 1 from 0 to 255 for any range of the
    other images, so that a byte from the camera is a byte of the input.
    """
    images = images.copy()
    images[0, 0, 0], images[0, -1, -1] = 0.0, 255.0
    return images


@dataclasses.dataclass(frozen=True)
class Samples:
    """Images of a data set, ready to feed.

    Attributes:
        inputs: Images as the `.tflite` takes them, float32 [images, height, width, channels].
        normalised: The same images as the Keras model takes them, of the same shape unless the form is `rgb`.
        labels: Classes of the images, int [images].
    """

    inputs: np.ndarray
    normalised: np.ndarray
    labels: np.ndarray


def draw(part: Any, count: int, seed: int, *, form: str, mean: tuple[float, ...], std: tuple[float, ...]) -> Samples:
    """Draws images without augmentation, at random so that a sorted data set gives images of every class.

    For `pixels` and `rgb`, levels are rounded to whole numbers, and Keras gets the rounded images too, so that both
    models get the same images.

    Args:
        part: Part of a data set, such as `data.test`.
        count: Smallest number of images, rounded up to full batches; the whole part if it has fewer.
        seed: Seed of the random images.
        form: One of `FORMS`; for `rgb`, the grey images of the part get three equal channels.
        mean: Mean of each channel.
        std: Standard deviation of each channel.
    """
    if count >= part.size:
        batches = part.batches(BATCH)
    else:
        size = min(BATCH, count)
        batches = part.batches(size, seed=seed).take(-(-count // size))
    images, labels = (np.concatenate(arrays) for arrays in zip(*batches.as_numpy_iterator(), strict=True))
    if form == "normalised":
        return Samples(images, images, labels)
    pixels = to_pixels(images, mean, std)
    normalised = (pixels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return Samples(np.repeat(pixels, 3, -1) if form == "rgb" else pixels, normalised, labels)
