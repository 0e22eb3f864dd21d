"""A namespace of layers that pads as PyTorch does, for weights that were trained there.

PyTorch pads k // 2 on both sides also at stride 2; SAME pads only what is needed, which at stride 2 and even sizes is
one less at the top and left, and shifts ported weights by a pixel. At stride 1 both agree.
"""

from collections.abc import Callable
from typing import Any

SUFFIX = "_pad"


class Layers:
    """Pass it as `layers=`: strided convolutions become explicit padding and a convolution without."""

    def __init__(self, layers: Any):
        """Wraps a namespace such as `keras.layers`."""
        self._layers = layers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layers, name)

    def Conv2D(self, filters: int, kernel_size: int, *, strides: int = 1, name: str, **arguments: Any) -> Callable:
        """As the layer of that name, SAME padding at stride 1 and k // 2 at others."""
        return self._padded(self._layers.Conv2D, (filters, kernel_size), kernel_size, strides, name, arguments)

    def DepthwiseConv2D(self, kernel_size: int, *, strides: int = 1, name: str, **arguments: Any) -> Callable:
        """As the layer of that name, SAME padding at stride 1 and k // 2 at others."""
        return self._padded(self._layers.DepthwiseConv2D, (kernel_size,), kernel_size, strides, name, arguments)

    def _padded(self, layer, positional, kernel_size, strides, name, arguments):
        if strides == 1 or kernel_size == 1:
            return layer(*positional, strides=strides, name=name, **arguments)
        pad = self._layers.ZeroPadding2D(kernel_size // 2, name=name + SUFFIX)
        convolution = layer(*positional, strides=strides, name=name, **{**arguments, "padding": "valid"})
        return lambda x: convolution(pad(x))


def is_used(model: Any) -> bool:
    """Whether a model was built with these layers."""
    return any(layer.name.endswith(SUFFIX) for layer in model.layers)
