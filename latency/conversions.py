"""Conversion of models that are timed, which keeps the last few."""

import functools
from collections.abc import Callable
from typing import Any

from export import convert

# Networks that show the pace of a device are timed with each group of finalists; a conversion takes about a second.
KEPT = 32


class Conversions:
    """Makes the `.tflite` of models. The last `KEPT` are not made again."""

    def __init__(self, dtype: str):
        """
        Args:
            dtype: Number format, one of `convert.MODES`.
        """
        self._last = functools.lru_cache(KEPT)(lambda build: convert.to_time(build(), dtype))

    def __call__(self, build: Callable[[], Any]) -> bytes:
        """Contents of the `.tflite` of a model.

        Args:
            build: Function that makes the Keras model; equal functions make equal models.
        """
        return self._last(build)
