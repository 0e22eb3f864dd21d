"""What a left-out block would have added, as far as it is linear: a better start for a part of a trained network.

A block with a shortcut turns its input x into x + f(x). Without it, the next block reads x, which is not what it has
learned to read. Most of what is missing is linear in x:

    x + f(x) ~ x @ A + b

The next block begins with a 1x1 convolution and batch norm, which are linear, too: the convolution takes up A, and
the moving mean takes up b. So the map costs nothing. A and b are fitted on a few images, from the first block on, since
each map changes what later blocks read. "Channel Pruning" (He et al., ICCV 2017) fits the same regression where
channels are left out.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import keras
import numpy as np

from pnas_tf.errors import InputError

# Strength of the ridge towards passing the input on, in units of its mean variance.
STRENGTH = 0.01
# Positions of feature maps that a map is fitted to, over all images.
POSITIONS = 60_000
# Least ridge, and least variance of what a share is taken of.
_LEAST = 1e-12


class LinearMap(NamedTuple):
    """What a block reads in place of what it has learned to read.

    Attributes:
        block: Name of the block.
        before: Variance of what it has learned to read that its input does not explain as it is, as a share.
        after: The same share with the map.
    """

    block: str
    before: float
    after: float


def fit(model: keras.Model, whole: keras.Model, images: Iterable[np.ndarray], seed: int) -> list[LinearMap]:
    """Fits the maps, and puts them into the blocks that read them.

    Args:
        model: Network of blocks of `whole`, with their weights; some are left out.
        whole: Network with all blocks, for images of the same size, with the same names of layers.
        images: Batches of images, float32 [batch, height, width, channels].
        seed: Seed of the positions.

    Returns:
        The maps of all blocks that read something else than in `whole`, in order.

    Raises:
        InputError: If values in the networks are not finite.
    """
    readers, batches = _readers(model, whole), list(images)
    if not readers:
        return []
    learned = _inputs(whole, [conv for conv, _ in readers], batches, seed)
    result = []
    for number, (conv, norm) in enumerate(readers):
        read, = _inputs(model, [conv], batches, seed + number)
        target = learned[number]
        if not (np.isfinite(read).all() and np.isfinite(target).all()):
            raise InputError(f"The initial weights give numbers that are not finite in front of {conv}, on training "
                             "images. Take other --init_weights, or another --teacher.")
        if np.allclose(read, target, atol=1e-3 * np.abs(target).max()):
            continue
        matrix, offset = regression(read, target)
        kernel = model.get_layer(conv).get_weights()[0]
        gamma, beta, mean, variance = model.get_layer(norm).get_weights()
        model.get_layer(conv).set_weights([(matrix @ kernel[0, 0])[None, None].astype(np.float32)])
        model.get_layer(norm).set_weights([gamma, beta, (mean - offset @ kernel[0, 0]).astype(np.float32), variance])
        result.append(LinearMap(conv.partition("_")[0], _unexplained(read, target),
                                _unexplained(read @ matrix + offset, target)))
    return result


def regression(read: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The linear map between two sets of values, by ridge regression towards the identity.

        min over A, b:  mean(|read @ A + b - target|^2) + strength * mean variance of read * |A - I|^2

    Args:
        read: Values that are there, float [positions, channels].
        target: Values that should be, float [positions, channels].

    Returns:
        A, float64 [channels, channels], and b, float64 [channels].
    """
    read_mean, target_mean = read.mean(0), target.mean(0)
    read, target = read - read_mean, target - target_mean
    covariance = read.T @ read / len(read)
    # Values that do not vary are passed on.
    ridge = max(STRENGTH * np.trace(covariance) / len(covariance), _LEAST) * np.eye(len(covariance))
    matrix = np.linalg.solve(covariance + ridge, read.T @ target / len(read) + ridge)
    return matrix, target_mean - read_mean @ matrix


def _readers(model: keras.Model, whole: keras.Model) -> list[tuple[str, str]]:
    """Blocks behind the first one that is left out: name of the first convolution, which is 1x1, and of its batch norm.

    A block that begins otherwise has no place for a map.
    """
    here = {layer.name: layer for layer in model.layers}
    names = [layer.name for layer in whole.layers if layer.weights]
    first = next((number for number, name in enumerate(names) if name not in here), len(names))
    pairs = [(name, f"{name}_bn" if name.endswith("_expand") else f"{name.removesuffix('_conv')}_bn")
             for name in names[first:] if name.endswith(("_expand", "_conv"))]
    return [(conv, norm) for conv, norm in pairs if conv in here and norm in here
            and here[conv].kernel_size == (1, 1)]


def _inputs(model: keras.Model, layers: Sequence[str], batches: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """What some layers read at random positions, float64 [positions, channels] each.

    The positions of a layer depend on the seed, its place in the list, and the size of its maps.
    """
    reads = keras.Model(model.inputs, [model.get_layer(name).input for name in layers])
    found: list[list[np.ndarray]] = [[] for _ in layers]
    for batch_number, batch in enumerate(batches):
        maps = reads(batch, training=False)
        for number, values in enumerate(maps if len(layers) > 1 else [maps]):
            values = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
            count = min(len(values), POSITIONS // len(batches))
            rng = np.random.default_rng((seed + number, batch_number))
            found[number].append(values[rng.choice(len(values), count, replace=False)])
    return [np.concatenate(each) for each in found]


def _unexplained(read: np.ndarray, target: np.ndarray) -> float:
    return float(np.sum((read - target) ** 2) / max(np.sum((target - target.mean(0)) ** 2), _LEAST))
