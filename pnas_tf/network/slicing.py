"""Smaller ops cut out of a trained one: the centre of its filters and its most important channels."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pnas_tf.errors import InputError
from pnas_tf.space import ops
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Block

Layers = Mapping[str, Sequence[np.ndarray]]


def cut(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The slice of an array that an op with an array of this shape uses.

    Args:
        values: Array of the largest op. An array of four axes is the kernel of a convolution.
        shape: Shape of the slice, along no axis longer than the array.

    Returns:
        The centre of a kernel and its first channels; the first entries of any other array.
    """
    if len(shape) == 4:
        offsets = [(long - short) // 2 for long, short in zip(values.shape[:2], shape[:2], strict=True)]
        return values[offsets[0]:offsets[0] + shape[0], offsets[1]:offsets[1] + shape[1], :shape[2], :shape[3]]
    return values[tuple(slice(size) for size in shape)]


def sorted_by_importance(layers: Layers, arch: Arch) -> dict[str, list[np.ndarray]]:
    """Sorts the expanded channels of each MBConv, the most important first. The network's outputs do not change.

    A channel leaves the depthwise convolution as `a = relu6(gamma * z + beta)`, with z close to a standard normal
    after batch norm. Its importance is what the block's output loses without it, apart from a constant:

        importance = deviation(a) * norm(row of the projection)

    Args:
        layers: Weights by layer name, in the order of `layer.get_weights`.
        arch: Network that the weights belong to.

    Returns:
        Weights of every layer, like `layers`.
    """
    result = {name: [np.asarray(value) for value in values] for name, values in layers.items()}
    for block, op in arch.blocks():
        prefix = block.layer_name(op)
        if ops.parse(op)[0] != "mb" or f"{prefix}_expand" not in result:
            continue
        gamma, beta = result[f"{prefix}_depthwise_bn"][:2]
        rows = result[f"{prefix}_project"][0][0, 0]
        order = np.argsort(-_deviation(gamma, beta) * np.linalg.norm(rows, axis=1), kind="stable")
        for name, axis in (("expand", 3), ("expand_bn", 0), ("depthwise", 2), ("depthwise_bn", 0), ("project", 2)):
            key = f"{prefix}_{name}"
            result[key] = [np.take(value, order, axis=axis) for value in result[key]]
    return result


class FullNetwork:
    """A trained network out of whose blocks smaller ops are cut.

    Attributes:
        arch: The network.
    """

    def __init__(self, arch: Arch, layers: Layers):
        """
        Args:
            arch: The network.
            layers: Its weights by layer name, in the order of `layer.get_weights`.
        """
        self.arch = arch
        self._layers = sorted_by_importance(layers, arch)
        self._prefixes = {block.name: block.layer_name(op) for block, op in arch.blocks()}

    def layers_of(self, block: Block, op: str, shapes: Mapping[str, Sequence[tuple[int, ...]]]
                  ) -> dict[str, list[np.ndarray]]:
        """Weights of an op, cut out of the full op of the block of this name.

        Args:
            block: Block of the op.
            op: Op text.
            shapes: Shapes of the weights that the op needs, by layer name.

        Returns:
            Weights by layer name; empty for a classifier of other classes, which starts from scratch.

        Raises:
            InputError: If the full op lacks a layer, or has a smaller one.
        """
        prefix, full_prefix = block.layer_name(op), self._prefixes.get(block.name, "")
        result = {}
        for name, needed in shapes.items():
            given = self._layers.get(full_prefix + name.removeprefix(prefix), [])
            if ops.is_classifier(op) and [value.shape for value in given] != [tuple(shape) for shape in needed]:
                return {}
            if len(given) != len(needed) or any(
                    value.ndim != len(shape) or any(have < need for have, need in zip(value.shape, shape, strict=True))
                    for value, shape in zip(given, needed, strict=True)):
                raise InputError(f"{name}: cannot be cut out of {full_prefix or 'any block'} of the network "
                                 f"{self.arch.space.name}. Expected an op that is part of it, at its own width.")
            result[name] = [cut(value, tuple(shape)) for value, shape in zip(given, needed, strict=True)]
        return result


def _deviation(gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Standard deviation of `relu6(gamma * z + beta)` for a standard normal z, by summation over z."""
    z = np.linspace(-5, 5, 201)
    weight = np.exp(-z**2 / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    a = np.clip(gamma[:, None] * z + beta[:, None], 0, 6)
    mean = a @ weight
    return np.sqrt(np.maximum(a**2 @ weight - mean**2, 0))
