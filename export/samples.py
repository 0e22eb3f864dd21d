"""Which images an export is checked on and calibrated with, and in which form the `.tflite` takes them."""

import dataclasses
from typing import Any

import numpy as np

from export import pixels

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
    whole = pixels.to_pixels(images, mean, std)
    normalised = (whole - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return Samples(np.repeat(whole, 3, -1) if form == "rgb" else whole, normalised, labels)
