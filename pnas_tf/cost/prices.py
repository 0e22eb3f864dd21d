"""Additive costs of a network: milliseconds, parameters, MACs, bytes of its file.

A price is the cost of one op at a block; a `Cost` holds the costs of all ops of all choices of a space. The cost of a
network is the sum over its blocks. To add a cost, write a function here that returns a price.

The cost of a block depends on its op and, where filters are searched, on the filters of its input and its own. It is
then a `Term` over these choices.
"""

import dataclasses
import functools
import string
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError
from pnas_tf.files import number
from pnas_tf.space import shape_layers
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import OpKey, Space, op_mask

# Prices one op at a block: (block name, key) -> cost.
Price = Callable[[str, OpKey], float]


class Term(NamedTuple):
    """Costs of a block that depend on several choices at once.

    Attributes:
        choices: Indices of two or more different choices, in the order of the axes.
        values: Cost of each combination, float32 [ops of the first choice, ops of the second, ...].
    """

    choices: tuple[int, ...]
    values: np.ndarray

    @property
    def letters(self) -> str:
        """Letters of the axes for `einsum`."""
        return string.ascii_letters[:len(self.choices)]

    @property
    def expectation(self) -> str:
        """Formula of `einsum` for the expected value, from the values and the probabilities of each choice."""
        return ",".join([self.letters, *self.letters]) + "->"


@dataclasses.dataclass(frozen=True)
class Cost:
    """One additive cost of every network of a space.

        cost(path) = fixed + sum over choices of matrix[choice, path[choice]]
                     + sum over terms of values[path[first choice], path[second choice], ...]

    Attributes:
        matrix: Cost of each op, float32 [choices, ops]; 0 for `zero` and for entries that a choice lacks.
        fixed: Cost of the blocks without a choice.
        mask: Entries of the matrix that are ops, bool [choices, ops].
        terms: Costs that depend on several choices; none if all filters of the space are fixed.
    """

    matrix: np.ndarray
    fixed: float
    mask: np.ndarray
    terms: tuple[Term, ...] = ()

    def of_path(self, path: np.ndarray) -> float:
        """Cost of one network, given as op indices, int [choices]."""
        alone = self.fixed + float(np.sum(self.matrix[np.arange(len(path)), path]))
        return alone + sum(float(values[tuple(path[choice] for choice in choices)]) for choices, values in self.terms)

    def of_paths(self, paths: np.ndarray) -> np.ndarray:
        """Costs of networks, int [networks, choices] -> float64 [networks]."""
        ops = np.arange(paths.shape[1])
        alone = self.fixed + np.sum(self.matrix.astype(np.float64)[ops, paths], axis=1)
        return alone + sum(values.astype(np.float64)[tuple(paths[:, choices].T)] for choices, values in self.terms)

    def expected(self, probs: np.ndarray) -> float:
        """Expected cost if every choice is drawn by its probabilities, float [choices, ops]."""
        total = self.fixed + float(np.sum(probs * self.matrix))
        return total + sum(float(np.einsum(term.expectation, term.values, *self._rows(term, probs)))
                           for term in self.terms)

    def around(self, probs: np.ndarray) -> "Cost":
        """The cost without terms that is nearest to this one for networks drawn by their probabilities.

            matrix'[choice, op] = expected cost of all that depends on the choice, if it has the op

        A part of a term counts fully at each of its choices, and `fixed` is less by what is counted too often, so that
        the expected cost stays what it is.

        Args:
            probs: Probabilities, float [choices, ops]; rows sum to 1.
        """
        if not self.terms:
            return self
        matrix = self.matrix.astype(np.float64)
        for term in self.terms:
            rows = self._rows(term, probs)
            for axis, choice in enumerate(term.choices):
                others = [number for number in range(len(rows)) if number != axis]
                formula = ",".join([term.letters, *(term.letters[number] for number in others)])
                matrix[choice, :len(rows[axis])] += np.einsum(f"{formula}->{term.letters[axis]}", term.values,
                                                              *(rows[number] for number in others))
        fixed = self.expected(probs) - float(np.sum(probs * matrix))
        return Cost(matrix.astype(np.float32), fixed, self.mask)

    @property
    def range(self) -> tuple[float, float]:
        """Costs of the cheapest and of the most expensive network."""
        return self.fixed + self._least(1.0), self.fixed - self._least(-1.0)

    def _least(self, sign: float) -> float:
        """The least sum over choices and terms, of costs times `sign`.

        Choices are eliminated one after the other: the sum of all that depends on a choice, minimised over its ops, is
        a term of the choices beside it. Those with the fewest neighbours come first, so terms stay small.
        """
        sizes = {choice: size for choices, values in self.terms
                 for choice, size in zip(choices, values.shape, strict=True)}
        alone = np.where(self.mask, sign * self.matrix.astype(float), np.inf)
        parts = [Term((row,), values[:sizes.get(row)]) for row, values in enumerate(alone)]
        parts += [Term(choices, sign * values.astype(float)) for choices, values in self.terms]

        def around(choice: int) -> list[int]:
            return sorted({other for part in parts if choice in part.choices for other in part.choices} - {choice})

        left, total = set(range(len(self.matrix))), 0.0
        while left:
            choice = min(left, key=lambda each: len(around(each)))
            axes = [choice, *around(choice)]
            joined: Any = sum(_spread(part, axes) for part in parts if choice in part.choices)
            parts = [part for part in parts if choice not in part.choices]
            left.remove(choice)
            if len(axes) > 1:
                parts.append(Term(tuple(axes[1:]), joined.min(axis=0)))
            else:
                total += float(joined.min())
        return total

    @staticmethod
    def _rows(term: Term, probs: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(probs[choice, :size], np.float64)
                for choice, size in zip(term.choices, term.values.shape, strict=True)]


def _spread(term: Term, axes: list[int]) -> np.ndarray:
    """The values of a term as an array whose axes are these choices, of length 1 for those that it lacks."""
    sizes = dict(zip(term.choices, term.values.shape, strict=True))
    order = sorted(range(len(term.choices)), key=lambda number: axes.index(term.choices[number]))
    return term.values.transpose(order).reshape([sizes.get(axis, 1) for axis in axes])


def matrix(space: Space, price: Price) -> Cost:
    """Prices every candidate op of a space, at all widths.

    Raises:
        InputError: If the price of an op is not known.
    """
    rows = {name: row for row, name in enumerate(space.choices)}
    mask = op_mask(space)
    values = np.zeros(mask.shape, np.float32)
    fixed, terms = 0.0, []
    for block in space.all_blocks:
        axes = [rows[name] for name in space.axes(block)]
        costs = [0.0 if key.is_free else price(block.name, key) for key in space.keys(block)]
        if not axes:
            fixed += costs[0]
        elif len(axes) == 1:
            values[axes[0], :len(costs)] += costs
        else:
            shape = [int(mask[row].sum()) for row in axes]
            terms.append(Term(tuple(axes), np.reshape(np.array(costs, np.float32), shape)))
    return Cost(values, fixed, mask, tuple(terms))


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


def depth() -> Price:
    """The price in convolutions larger than 1x1; an op of the user's, whose layers are not known, counts as one."""
    def price(block_name: str, key: OpKey) -> float:
        counts = shape_layers.count(key)
        return float(counts.spatial) if counts else 1.0

    return price


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
