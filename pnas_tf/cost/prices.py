"""Additive costs of a network (milliseconds, parameters, MACs), their expectation, and what they do to the loss."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from pnas_tf import network
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import OpKey, Space

# Prices one op at a block: (block name, key) -> cost.
Price = Callable[[str, OpKey], float]


@dataclasses.dataclass(frozen=True)
class Cost:
    """One additive cost of every network of a space.

    Attributes:
        matrix: float32 [choices, ops], cost of each op; 0 for `zero` and for entries that a choice lacks.
        fixed: cost of the blocks without a choice.
    """

    matrix: np.ndarray
    fixed: float

    def expected(self, probs: tf.Tensor) -> tf.Tensor:
        """Expected cost (paper section 3.3), fixed part included.

        Args:
            probs: float32 [choices, ops]; rows sum to 1.

        Returns:
            Scalar float32.
        """
        return self.fixed + tf.reduce_sum(probs * self.matrix)

    def of_ops(self, paths: tf.Tensor) -> tf.Tensor:
        """Cost of each op of some paths: int32 [paths, choices] -> float32 [paths, choices]; no fixed part."""
        return tf.gather_nd(self.matrix, tf.stack([tf.broadcast_to(tf.range(paths.shape[1]), tf.shape(paths)), paths],
                                                  axis=-1))

    def of_path(self, path: np.ndarray) -> float:
        """Cost of one network, op indices int [choices]."""
        return self.fixed + float(np.sum(self.matrix[np.arange(len(path)), path]))

    def range(self, mask: np.ndarray) -> tuple[float, float]:
        """Cheapest and dearest network; mask bool [choices, ops] as in the supernet."""
        low = np.where(mask, self.matrix, np.inf).min(1).sum()
        return self.fixed + float(low), self.fixed + float(np.where(mask, self.matrix, -np.inf).max(1).sum())


def matrix(space: Space, price: Price) -> Cost:
    """Prices every candidate of a space.

    Raises:
        InputError: if the price of one is not known.
    """
    rows = {name: row for row, name in enumerate(space.choices)}
    values = np.zeros((len(rows), max(len(block.ops) for block in space.choices.values())), np.float32)
    fixed = 0.0
    for block, key in space.op_keys():
        if block.name in rows:
            values[rows[block.name], block.ops.index(key.op)] = price(block.name, key)
        else:
            fixed += price(block.name, key)
    return Cost(values, fixed)


def of_arch(arch: Arch, price: Price) -> float:
    """The cost of a network: the plain sum over its blocks, stem and head included."""
    return sum(price(block.name, key) for block, key in arch.op_keys())


def milliseconds(table: LatencyTable) -> Price:
    """Prices by a latency table."""
    return table.ms


@functools.cache  # each op is built and counted once in a process
def params() -> Price:
    """Prices by trainable parameters."""
    return _counted(network.count_params)


@functools.cache
def macs() -> Price:
    """Prices by multiply-accumulates of one image."""
    return _counted(network.count_macs)


@functools.cache
def size_bytes(dtype: str) -> Price:
    """Prices by bytes of the `.tflite`: weights, and what describes each layer. See `network.count_size_bytes`."""
    return _counted(functools.partial(network.count_size_bytes, dtype=dtype))


@functools.cache
def peak_activation_bytes(dtype: str) -> Price:
    """Prices by activation memory. Not additive: a network's peak is that of its dearest block."""
    return _counted(functools.partial(network.peak_activation_bytes, dtype=dtype))


def _counted(count):
    known: dict[OpKey, float] = {}

    def price(block_name, key):
        if key not in known:
            known[key] = float(count(network.build_op(key)))
        return known[key]

    return price
