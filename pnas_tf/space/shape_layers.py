"""A namespace of layers that counts weights, activations and multiply-accumulates by shapes, without TensorFlow.

`ops.build` builds an op from any namespace of layers. Building it from this namespace takes only arithmetic, so a limit
that no network keeps, or a network that no memory holds, is refused before TensorFlow loads. The namespace has the
layers of the ops in `ops.py`; a user's op may need others, and is then counted as a Keras model.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from pnas_tf.space import op_language, ops
from pnas_tf.space.blocks import OpKey


class Traced:
    """A tensor without values.

    Attributes:
        shape: Batch (1), height, width, channels; or batch and features.
    """

    def __init__(self, shape: Sequence[int]):
        """Makes a tensor of a shape."""
        self.shape = tuple(shape)


class ShapeLayers:
    """Namespace of layers. Pass an instance as `layers=` to `ops.build`, then read the counts.

    Attributes:
        params: Trainable weights of the layers that were built.
        macs: Multiply-accumulates of one image; no bias, batch norm, pooling or add, as in `network.count_macs`.
        layers: Number of layers.
        spatial: Number of convolutions larger than 1x1.
        statistics: Weights that are not trained, the moving statistics of batch norm.
        kept: Activations of one image that a backward pass needs: the outputs of convolutions.
        peak: Largest sum of the input and the output of a layer, in activations of one image.
    """

    def __init__(self):
        """Starts at 0."""
        self.params = self.macs = self.layers = self.spatial = self.statistics = self.kept = self.peak = 0

    def Conv2D(self, filters: int, kernel_size: int, *, strides: int = 1, use_bias: bool = True, groups: int = 1,
               **_: Any) -> Callable[[Traced], Traced]:
        """Convolution, SAME padding."""
        def apply(x):
            kernel = kernel_size * kernel_size * x.shape[3] // groups * filters
            self.spatial += kernel_size > 1
            return self._positions(x, strides, filters, kernel, filters if use_bias else 0)

        return apply

    def DepthwiseConv2D(self, kernel_size: int, *, strides: int = 1, use_bias: bool = True, **_: Any
                        ) -> Callable[[Traced], Traced]:
        """Depthwise convolution, SAME padding."""
        def apply(x):
            channels = x.shape[3]
            self.spatial += kernel_size > 1
            return self._positions(x, strides, channels, kernel_size * kernel_size * channels,
                                   channels if use_bias else 0)

        return apply

    def Dense(self, units: int, **_: Any) -> Callable[[Traced], Traced]:
        """Dense layer with a bias."""
        def apply(x):
            kernel = x.shape[-1] * units
            self.params += kernel + units
            self.macs += kernel
            return self._layer(x, Traced((*x.shape[:-1], units)))

        return apply

    def BatchNormalization(self, **_: Any) -> Callable[[Traced], Traced]:
        """Batch norm: scale and offset are trainable."""
        def apply(x):
            self.params += 2 * x.shape[-1]
            self.statistics += 2 * x.shape[-1]
            return self._layer(x, x)

        return apply

    def ReLU(self, *_: Any, **__: Any) -> Callable[[Traced], Traced]:
        """Activation."""
        return lambda x: self._layer(x, x)

    def Multiply(self, **_: Any) -> Callable[[Sequence[Traced]], Traced]:
        """Product, broadcast to the first tensor's shape."""
        return lambda values: self._layer(values[0], values[0])

    def GlobalAveragePooling2D(self, *, keepdims: bool = False, **_: Any) -> Callable[[Traced], Traced]:
        """Mean over all positions."""
        return lambda x: self._layer(x, Traced((x.shape[0], 1, 1, x.shape[3]) if keepdims
                                               else (x.shape[0], x.shape[3])))

    def Flatten(self, **_: Any) -> Callable[[Traced], Traced]:
        """All axes but the batch as one."""
        return lambda x: self._layer(x, Traced((x.shape[0], math.prod(x.shape[1:]))))

    def AveragePooling2D(self, size: int, *, strides: int, **_: Any) -> Callable[[Traced], Traced]:
        """Pooling, SAME padding."""
        return lambda x: self._layer(x, Traced((x.shape[0], *_strided(x, strides), x.shape[3])))

    MaxPooling2D = AveragePooling2D

    def ZeroPadding2D(self, padding: tuple[tuple[int, int], tuple[int, int]], *, data_format: str, **_: Any
                      ) -> Callable[[Traced], Traced]:
        """Zeros at the end of the last two axes, as `widen` adds channels."""
        if data_format != "channels_first":
            raise AttributeError("ZeroPadding2D of positions")
        return lambda x: self._layer(x, Traced((*x.shape[:2], x.shape[2] + sum(padding[0]),
                                                x.shape[3] + sum(padding[1]))))

    def _positions(self, x: Traced, strides: int, filters: int, kernel: int, bias: int) -> Traced:
        """Counts a kernel that is applied at each position of its output."""
        sides = _strided(x, strides)
        self.params += kernel + bias
        self.macs += kernel * math.prod(sides)
        self.kept += filters * math.prod(sides)
        return self._layer(x, Traced((x.shape[0], *sides, filters)))

    def _layer(self, x: Traced, y: Traced) -> Traced:
        """Counts a layer from one tensor to another."""
        self.layers += 1
        self.peak = max(self.peak, math.prod(x.shape) + math.prod(y.shape))
        return y


def _strided(x: Traced, strides: int) -> tuple[int, int]:
    return -(-x.shape[1] // strides), -(-x.shape[2] // strides)


@functools.lru_cache(maxsize=10_000)
def count(key: OpKey) -> ShapeLayers | None:
    """Counts an op at a block; None for an op of the user's, whose layers may be used in ways that are not counted."""
    if op_language.module_of(key.op) != ops.__name__:
        return None
    layers = ShapeLayers()
    ops.build(key.op, Traced((1, *key.input)), layers=layers, name="op", filters=key.filters, strides=key.strides,
              shortcut=key.shortcut)
    return layers
