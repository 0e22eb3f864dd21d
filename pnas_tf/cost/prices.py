"""Additive costs of a network: milliseconds, parameters, MACs, bytes of its file.

A price is the cost of one op at a block; a `Cost` holds the costs of all ops of all choices of a space. The cost of a
network is the sum over its blocks. To add a cost, write a function here that returns a price.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError
from pnas_tf.files import number
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import OpKey, Space, op_mask

# Prices one op at a block: (block name, key) -> cost.
Price = Callable[[str, OpKey], float]


@dataclasses.dataclass(frozen=True)
class Cost:
    """One additive cost of every network of a space.

        cost(path) = fixed + sum over choices of matrix[choice, path[choice]]

    Attributes:
        matrix: Cost of each op, float32 [choices, ops]; 0 for `zero` and for entries that a choice lacks.
        fixed: Cost of the blocks without a choice.
        mask: Entries of the matrix that are ops, bool [choices, ops].
    """

    matrix: np.ndarray
    fixed: float
    mask: np.ndarray

    def of_path(self, path: np.ndarray) -> float:
        """Cost of one network, given as op indices, int [choices]."""
        return self.fixed + float(np.sum(self.matrix[np.arange(len(path)), path]))

    def of_paths(self, paths: np.ndarray) -> np.ndarray:
        """Costs of networks, int [networks, choices] -> float64 [networks]."""
        ops = np.arange(paths.shape[1])
        return self.fixed + np.sum(self.matrix.astype(np.float64)[ops, paths], axis=1)

    @property
    def range(self) -> tuple[float, float]:
        """Costs of the cheapest and of the most expensive network."""
        low = np.where(self.mask, self.matrix, np.inf).min(1).sum()
        high = np.where(self.mask, self.matrix, -np.inf).max(1).sum()
        return self.fixed + float(low), self.fixed + float(high)


def matrix(space: Space, price: Price) -> Cost:
    """Prices every candidate op of a space.

    Raises:
        InputError: If the price of an op is not known.
    """
    rows = {name: row for row, name in enumerate(space.choices)}
    mask = op_mask(space)
    values = np.zeros(mask.shape, np.float32)
    fixed = 0.0
    for block, key in space.op_keys():
        if block.name in rows:
            values[rows[block.name], block.ops.index(key.op)] = price(block.name, key)
        else:
            fixed += price(block.name, key)
    return Cost(values, fixed, mask)


def of_arch(arch: Arch, price: Price) -> float:
    """Cost of a network: the sum over its blocks, stem and head included."""
    return sum(price(block.name, key) for block, key in arch.op_keys())


def milliseconds(table: LatencyTable) -> Price:
    """The price in milliseconds of a latency table."""
    return table.ms


def sram_bytes(table: LatencyTable) -> Price:
    """The price in bytes of SRAM, from the rows of a compiler's table. Not additive, see `limits.SRAM`."""
    def price(block_name: str, key: OpKey) -> float:
        row = table.row(block_name, key)
        if row is None:
            table.ms(block_name, key)  # raises the error of a missing row
            raise AssertionError
        value = number(row.get("sram_bytes"))
        if value is None:
            raise InputError(f"Table {table.target} ({table.path}) does not have the SRAM of {key}. A limit on "
                             "sram_bytes needs a table built with --measurer=vela.")
        return value

    return price


@functools.cache  # each op is built and counted once in a process
def params() -> Price:
    """The price in trainable parameters."""
    return _counted("count_params")


@functools.cache
def macs() -> Price:
    """The price in multiply-accumulates of one image."""
    return _counted("count_macs")


@functools.cache
def size_bytes(dtype: str) -> Price:
    """The price in bytes of the `.tflite`: weights, and the description of each layer; see `network.counts`."""
    return _counted("count_size_bytes", dtype=dtype)


@functools.cache
def peak_activation_bytes(dtype: str) -> Price:
    """The price in bytes of activations. Not additive: a network's peak is that of its most expensive block."""
    return _counted("peak_activation_bytes", dtype=dtype)


def _counted(name: str, **arguments: Any) -> Price:
    """A price that builds an op as a Keras model and counts what the model has. It loads TensorFlow."""
    counted: dict[OpKey, float] = {}

    def price(block_name: str, key: OpKey) -> float:
        if key not in counted:
            from pnas_tf import network

            counted[key] = float(getattr(network, name)(network.build_op(key), **arguments))
        return counted[key]

    return price
