"""The image files of a data set inside a graph, each read as it lies on the disk or from its small copy."""

import dataclasses
from typing import Self

import numpy as np
import tensorflow as tf

from pnas_tf.data import inspection
from pnas_tf.data.decoding import ImageFile
from pnas_tf.data.pictures import CROP_AREA, UPRIGHT, Rendering


@dataclasses.dataclass(frozen=True)
class Files:
    """Image files, and how to read them.

    Attributes:
        paths: Paths, bytes [images].
        readings: Way to read each file, as in `pictures.Header`, int32 [images].
        digests: SHA-256 of each file as it was when the data set was loaded (`fingerprint.py`), uint8 [images, 32].
        are_ends: Whether the digests are of the ends of files, as in large data sets.
        rendering: Background, and white of 16-bit images.
        ways: Values that occur in `readings`.
        copies: Small copies of large photos (`small_copies.py`), bytes [images], empty for other files; None if there
            is none.
        largest: Largest image size for which the copies were made.
    """

    paths: tf.Tensor
    readings: tf.Tensor
    digests: np.ndarray
    are_ends: bool
    rendering: Rendering
    ways: frozenset[int]
    copies: tf.Tensor | None = None
    largest: int = 0

    @classmethod
    def of(cls, paths: tf.Tensor, read: inspection.Readings, image_size: int) -> Self:
        """The files of one part of a data set, by what a look at them has found.

        Args:
            paths: Paths, bytes [images].
            read: How they are read.
            image_size: Image size for which the copies were made.
        """
        ways = [UPRIGHT if copy else way for way, copy in zip(read.ways.tolist(), read.copies, strict=True)]
        copies = tf.convert_to_tensor(list(read.copies)) if any(read.copies) else None
        return cls(paths, tf.convert_to_tensor(read.ways), read.digests, read.are_ends, read.rendering,
                   frozenset(ways), copies, image_size)

    def suiting(self, image_size: int, crop_area: float = CROP_AREA) -> Self:
        """The same files, without copies if these are too small.

        Args:
            image_size: Height and width of the network's images.
            crop_area: Smallest share of a photo's area that a crop covers.
        """
        if self.copies is None or (image_size <= self.largest and crop_area >= CROP_AREA):
            return self
        return dataclasses.replace(self, copies=None, ways=frozenset(self.readings.numpy().tolist()))

    def __getitem__(self, position: tf.Tensor) -> ImageFile:
        """A file or its small copy, read; `position` is a scalar."""
        path, reading = tf.gather(self.paths, position), tf.gather(self.readings, position)
        if self.copies is None:
            return ImageFile(tf.io.read_file(path), path, reading, self.rendering, self.ways)
        copy = tf.gather(self.copies, position)
        has_copy = tf.strings.length(copy) > 0
        contents = tf.cond(has_copy, lambda: copy, lambda: tf.io.read_file(path))
        return ImageFile(contents, path, tf.where(has_copy, UPRIGHT, reading), self.rendering, self.ways)
