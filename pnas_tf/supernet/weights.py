"""The trainable weights of a candidate op as flat variables, which branches of a step read and update as a whole."""

import math
from collections.abc import Sequence
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

# Each weight starts at a multiple of this many floats, 64 bytes: TensorFlow splits such rows without copying them.
ALIGNED = 16

# Variables as resources on this replica.
Resources = tuple[tf.Tensor, ...]


class Weights(Protocol):
    """What a candidate needs of its weights, whether it owns them (`OwnWeights`) or shares them (`SharedSlice`).

    Attributes:
        kernels: Flat variables that together hold the weights, float32.
        momenta: The optimizer's velocities, one variable for each kernel.
        count: Number of weights.
    """

    kernels: tuple[keras.Variable, ...]
    momenta: tuple[keras.Variable, ...]
    count: int

    def tensors(self, flat: tf.Tensor, probe: tf.Tensor | None) -> list[tf.Tensor]:
        """Weights of all layers, in order, cut from all kernels one after the other; see `Layout.unpack`."""

    def values(self) -> list[np.ndarray]:
        """Weights of all layers, in order."""

    def assign(self, values: Sequence[np.ndarray]) -> None:
        """Sets the weights of all layers, given in order."""


class OwnWeights:
    """Weights that no other op has, in one variable; no variable if the op has no weights. See `Weights`."""

    def __init__(self, layout: "Layout", kernel: keras.Variable | None, momentum: keras.Variable | None):
        """
        Args:
            layout: Positions of the weights in the kernel.
            kernel: All weights, float32 [n], or None.
            momentum: Their velocities, float32 [n], or None.
        """
        self._layout = layout
        self.kernels = () if kernel is None else (kernel,)
        self.momenta = () if momentum is None else (momentum,)
        self.count = layout.used

    def tensors(self, flat: tf.Tensor, probe: tf.Tensor | None) -> list[tf.Tensor]:
        """See `Weights.tensors`."""
        return self._layout.unpack(flat, probe)

    def values(self) -> list[np.ndarray]:
        """See `Weights.values`."""
        return self._layout.cut(np.asarray(self.kernels[0])) if self.kernels else []

    def assign(self, values: Sequence[np.ndarray]) -> None:
        """See `Weights.assign`."""
        if self.kernels:
            self.kernels[0].assign(self._layout.pack(values))


def update(kernels: Resources, momenta: Resources, gradient: tf.Tensor, sizes: Sequence[int], *,
           learning_rate: tf.Tensor, momentum: float, weight_decay: float) -> None:
    """Takes one step of SGD with Nesterov momentum and coupled weight decay, as `torch.optim.SGD` defines it.

        g = gradient + weight_decay * kernel
        v = momentum * v + g                    # v: the variable `momentum`
        kernel = kernel - learning_rate * (g + momentum * v)

    Args:
        kernels: Kernels to update.
        momenta: Velocity of each kernel.
        gradient: Gradient of the loss with respect to all kernels, one after the other, float32 [n], with anything
            behind it; without kernels, anything or None.
        sizes: Number of floats in each kernel.
        learning_rate: Learning rate, scalar.
        momentum: Decay of the velocity.
        weight_decay: Factor of the weights in the gradient.
    """
    if not sizes:
        return
    gradient = gradient[:sum(sizes)]
    gradients = tf.split(tf.ensure_shape(gradient, [sum(sizes)]), sizes) if len(sizes) > 1 else [gradient]
    for kernel, slot, part, size in zip(kernels, momenta, gradients, sizes, strict=True):
        tf.raw_ops.ResourceApplyMomentum(
            var=kernel, accum=slot, lr=learning_rate, momentum=momentum, use_nesterov=True,
            grad=tf.ensure_shape(part, [size]) + weight_decay * read(kernel, [size]))


def read(handle: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """The current value of a float32 resource, also inside a branch."""
    return tf.ensure_shape(tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32), shape)


class Layout:
    """Positions of arrays in a flat vector: one after the other, each at a multiple of `ALIGNED`.

    Attributes:
        used: Number of values, without the padding.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]]):
        """
        Args:
            shapes: Shape of each array, in order.
        """
        self._shapes = list(shapes)
        self._sizes = [math.prod(shape) for shape in shapes]
        self._rows = [-(-size // ALIGNED) for size in self._sizes]
        self.used = sum(self._sizes)

    def pack(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Puts values, given in the order of the shapes, into one vector."""
        padded = [np.pad(np.ravel(value), (0, -np.size(value) % ALIGNED)) for value in values]
        return np.concatenate([np.zeros(0), *padded]).astype(np.float32)

    def cut(self, flat: np.ndarray) -> list[np.ndarray]:
        """Cuts a vector into values, in the order of the shapes."""
        parts = np.split(flat, np.cumsum(self._rows)[:-1] * ALIGNED)
        return [part[:size].reshape(shape)
                for part, size, shape in zip(parts, self._sizes, self._shapes, strict=True)]

    def unpack(self, flat: tf.Tensor, probe: tf.Tensor | None) -> list[tf.Tensor]:
        """Does what `cut` does for tensors, and sends the gradient of all weights to the probe in one concatenation."""
        if probe is None:
            # Otherwise TensorFlow would compute gradients of the variables that a branch reads, only to discard them.
            return self._slices(tf.stop_gradient(flat))

        @tf.custom_gradient
        def route(probe):
            def gradient(*upstream):
                parts = []
                for value, size in zip(upstream, self._sizes, strict=True):
                    parts += [tf.reshape(value, [-1]), *self._zeros(-size % ALIGNED)]
                return tf.concat(parts, 0)

            return self._slices(flat), gradient

        return route(probe)

    def _slices(self, flat):
        slices = []
        for part, size, shape in zip(tf.split(tf.reshape(flat, [-1, ALIGNED]), self._rows), self._sizes, self._shapes,
                                     strict=True):
            if size % ALIGNED:
                part = tf.reshape(part, [-1])[:size]
            slices.append(part if part.shape == shape else tf.reshape(part, shape))
        return slices

    @staticmethod
    def _zeros(count):
        return [tf.zeros([count])] if count else []
