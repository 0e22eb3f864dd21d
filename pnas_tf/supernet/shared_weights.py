"""One set of weights for the ops of a block (`--share=kernels`), of which each op is a slice.

A slice of a convolution's kernel is its centre and its first channels; of any other array, its first entries (see
`slicing.cut`):

    mb_k3_e3    the 3x3 centre of the depthwise filters, the first half of the channels
    mb_k5_e3    all taps, the first half of the channels
    mb_k5_e6    everything

Every step then trains what all of these ops use, and the supernet is as large as its largest ops. Single-Path NAS
(Stamoulis et al. 2019) and TuNAS (Bender et al. 2020) share weights in this way. Batch norm statistics are not shared:
each op observes its own inputs.

Where filters are searched, the widths of an op share its weights in the same way, whatever `--share` says: a width is
the first channels. Scales and offsets of batch norm are then separate for each number of channels (Yu et al. 2019,
"Slimmable neural networks"), since the sums over more channels are larger.

The arrays are cut into cells along the edges of all slices. Cells that the same ops use are kept in one flat variable,
so a step reads and updates a few variables as a whole, and leaves the rest of the block bitwise unchanged.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from pnas_tf.network import slicing
from pnas_tf.supernet.weights import Layout

Shape = tuple[int, ...]
# A cell: number of its array, and the bounds of the cell along each axis of the array as it is stored.
Cell = tuple[int, tuple[tuple[int, int], ...]]


def can_share(shapes: Sequence[Sequence[Shape]]) -> bool:
    """Whether ops with arrays of these shapes can be slices of one set.

    Args:
        shapes: For each op, the shapes of all its arrays, in order.
    """
    if len(shapes) < 2 or len({len(each) for each in shapes}) > 1:
        return False
    for arrays in zip(*shapes, strict=True):
        if len({len(shape) for shape in arrays}) > 1:
            return False
        if len(arrays[0]) == 4 and any(shape[0] != shape[1] or (shape[0] - arrays[0][0]) % 2 for shape in arrays):
            return False
    return True


class SharedWeights(keras.layers.Layer):
    """The weights that several ops of a block share.

    Attributes:
        kernels: Flat variables, float32. Each holds the cells that one set of ops uses.
        momenta: The optimizer's velocities, like `kernels`.
        slices: Weights of each op, by op.
        weights_count: Number of weights.
    """

    def __init__(self, name: str, initial: Mapping[str, Sequence[np.ndarray]], by_width: bool = False):
        """Creates the variables. Where the ops' initial values differ, the largest op's count.

        Args:
            name: Name of the layer.
            initial: Initial values of all arrays of each op, in order, by op; see `can_share`.
            by_width: Whether arrays of one axis, those of batch norm, are shared only by ops that need the same number
                of channels.
        """
        super().__init__(name=name)
        shapes = [[_stored_shape(value.shape) for value in values] for values in initial.values()]
        groups: dict[tuple[int, ...], list[Cell]] = {}
        for cell in _cells(shapes, by_width):
            groups.setdefault(_users(cell, shapes, by_width), []).append(cell)
        cells = list(groups.values())
        self.weights_count = sum(math.prod(_shape(cell)) for group in cells for cell in group)
        layouts = [Layout([_shape(cell) for cell in group]) for group in cells]
        stored = [_stored(array) for array in _painted(list(initial.values()))]
        packed = [layout.pack([_cell_of(stored, cell) for cell in group])
                  for layout, group in zip(layouts, cells, strict=True)]
        self.kernels = [self._variable(f"kernel_{number}", value, True) for number, value in enumerate(packed)]
        self.momenta = [self._variable(f"momentum_{number}", np.zeros_like(value)) for number, value in
                        enumerate(packed)]
        self.slices = {}
        for number, (op, values) in enumerate(initial.items()):
            used = [part for part, users in enumerate(groups) if number in users]
            self.slices[op] = SharedSlice([Part(self.kernels[part], self.momenta[part], layouts[part], cells[part])
                                           for part in used], [value.shape for value in values])
        self.built = True

    def _variable(self, name, value, trainable=False):
        return self.add_weight(name=name, shape=value.shape, initializer=lambda shape, dtype: value, dtype="float32",
                               trainable=trainable)


class Part(NamedTuple):
    """A variable of shared weights.

    Attributes:
        kernel: Weights, float32 [n].
        momentum: Their velocity, float32 [n].
        layout: Positions of the cells in both.
        cells: Cells that it holds, in order.
    """

    kernel: keras.Variable
    momentum: keras.Variable
    layout: Layout
    cells: list[Cell]


class SharedSlice:
    """The weights of one op in a set that it shares; see `weights.Weights`."""

    def __init__(self, parts: Sequence[Part], shapes: Sequence[Shape]):
        """
        Args:
            parts: Variables that the op uses, each as a whole.
            shapes: Shapes of the op's arrays, in order.
        """
        self._parts, self._shapes = parts, shapes
        self.kernels = tuple(part.kernel for part in parts)
        self.momenta = tuple(part.momentum for part in parts)
        self._cells = [cell for part in parts for cell in part.cells]
        self._layout = Layout([_shape(cell) for cell in self._cells])
        self.count = self._layout.used

    def tensors(self, flat: tf.Tensor, probe: tf.Tensor | None) -> list[tf.Tensor]:
        """See `weights.Weights.tensors`."""
        cells = dict(zip(self._cells, self._layout.unpack(flat, probe), strict=True))
        return [self._joined(number, shape, cells, tf.concat, _unstored_tensor)
                for number, shape in enumerate(self._shapes)]

    def values(self) -> list[np.ndarray]:
        """See `weights.Weights.values`."""
        cells = {cell: value for part in self._parts
                 for cell, value in zip(part.cells, part.layout.cut(np.asarray(part.kernel)), strict=True)}
        return [self._joined(number, shape, cells, np.concatenate, _unstored)
                for number, shape in enumerate(self._shapes)]

    def assign(self, values: Sequence[np.ndarray]) -> None:
        """See `weights.Weights.assign`. Other ops that use the same cells change, too."""
        stored = [_stored(value) for value in values]
        for part in self._parts:
            part.kernel.assign(part.layout.pack([_cell_of(stored, cell) for cell in part.cells]))

    def _joined(self, number, shape, cells, concat, unstored):
        """The array `number` of the op, put together from its cells along the axes that were cut."""
        pieces = {bounds: value for (array, bounds), value in cells.items() if array == number}
        for axis in reversed(range(len(_stored_shape(shape)))):
            rows: dict[tuple, list] = {}
            for bounds in sorted(pieces):
                rows.setdefault(bounds[:axis] + bounds[axis + 1:], []).append(pieces[bounds])
            # All cells of a row stand for one cell from here on.
            pieces = {key[:axis] + ((0, 0),) + key[axis:]: row[0] if len(row) == 1 else concat(row, axis)
                      for key, row in rows.items()}
        (value,) = pieces.values()
        return unstored(value, shape)


def _stored_shape(shape: Shape) -> Shape:
    """Shape of an array as it is stored: the taps of a convolution are one axis."""
    return (shape[0] * shape[1], *shape[2:]) if len(shape) == 4 else tuple(shape)


def _taps(side: int) -> np.ndarray:
    """Positions of the taps of a filter in raster order, sorted from the centre outwards, ring by ring, int [taps]."""
    rows, columns = np.divmod(np.arange(side * side), side)
    ring = np.maximum(np.abs(2 * rows - side + 1), np.abs(2 * columns - side + 1))
    return np.argsort(ring, kind="stable")


def _stored(value: np.ndarray) -> np.ndarray:
    value = np.asarray(value)
    return value.reshape(_stored_shape(value.shape))[_taps(value.shape[0])] if value.ndim == 4 else value


def _unstored(value: np.ndarray, shape: Shape) -> np.ndarray:
    return value[np.argsort(_taps(shape[0]))].reshape(shape) if len(shape) == 4 else value


def _unstored_tensor(value: tf.Tensor, shape: Shape) -> tf.Tensor:
    if len(shape) != 4 or shape[0] == 1:
        return tf.reshape(value, shape)
    order = _taps(shape[0])
    place = np.argsort(order)

    @tf.custom_gradient
    def sort(value):  # the gradient of a gather would be a slow sum of rows
        return tf.gather(value, place), lambda upstream: tf.gather(upstream, order)

    return tf.reshape(sort(value), shape)


def _cells(shapes: Sequence[Sequence[Shape]], by_width: bool) -> list[Cell]:
    """All cells that at least one op uses; `shapes` are as stored."""
    cells: list[Cell] = []
    for number, arrays in enumerate(zip(*shapes, strict=True)):
        if by_width and len(arrays[0]) == 1:
            cells += [(number, ((0, size),)) for (size,) in sorted(set(arrays))]
            continue
        axes = []
        for sizes in zip(*arrays, strict=True):
            edges = [0, *sorted(set(sizes))]
            axes.append(list(itertools.pairwise(edges)))
        cells += [(number, bounds) for bounds in itertools.product(*axes)]
    return [cell for cell in cells if _users(cell, shapes, by_width)]


def _users(cell: Cell, shapes: Sequence[Sequence[Shape]], by_width: bool) -> tuple[int, ...]:
    """Indices of the ops that use a cell."""
    number, bounds = cell
    if by_width and len(bounds) == 1:
        return tuple(op for op, arrays in enumerate(shapes) if arrays[number] == bounds[0][1:])
    return tuple(op for op, arrays in enumerate(shapes)
                 if all(end <= size for (_, end), size in zip(bounds, arrays[number], strict=True)))


def _shape(cell: Cell) -> Shape:
    return tuple(end - begin for begin, end in cell[1])


def _cell_of(stored: Sequence[np.ndarray], cell: Cell) -> np.ndarray:
    number, bounds = cell
    return stored[number][tuple(slice(*each) for each in bounds)]


def _painted(initial: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Initial values of the whole set: those of each op, the largest op's last."""
    arrays = []
    for values in zip(*initial, strict=True):
        whole = np.zeros(np.max([value.shape for value in values], axis=0), np.float32)
        for value in sorted(values, key=np.size):
            slicing.cut(whole, value.shape)[...] = value
        arrays.append(whole)
    return arrays
