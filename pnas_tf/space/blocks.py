"""A search space as data: blocks joined into a graph without cycles.

    Block    a position of the network, with the ops that it may hold, and perhaps several numbers of filters
    OpKey    one op at one input shape: what a measurement depends on, and a row of a latency table
    Space    stem, searchable blocks and head

Stem and head are blocks with a single op, so shapes, costs, layers and table rows follow one rule for all blocks.
"""

import dataclasses
import functools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import numpy as np

from pnas_tf.errors import InputError
from pnas_tf.space import checks, ops, widths
from pnas_tf.space.widths import Choice

Value = TypeVar("Value")


class ImageData(Protocol):
    """The facts about a data set that a space depends on; `pnas_tf.data.Data` has them."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Pixel mean by channel, by which the images are normalised."""

    @property
    def std(self) -> tuple[float, ...]:
        """Pixel deviation by channel, by which the images are normalised."""


@dataclasses.dataclass(frozen=True)
class Block:
    """A position in the network, and the ops that it may hold.

    Attributes:
        name: Name of the block, and of its choice if it has one: `b07`, or `b07/n3` inside a cell.
        ops: Candidate ops in the order of their alphas. A block with a single op is fixed.
        filters: Output channels; the largest number of `widths` if there are any.
        strides: Stride in height and width, 1 or 2.
        shortcut: Whether the block's input is added to the op's output.
        inputs: Names of earlier blocks; the sum of their outputs is the block's input. Empty if the block reads
            the block before it. In a block with the op `join`, the last input is the shortcut.
        widths: Output channels to choose from, in ascending order; empty if they are fixed. See `widths.py`.
    """

    name: str
    ops: tuple[str, ...]
    filters: int
    strides: int = 1
    shortcut: bool = False
    inputs: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()

    @property
    def prefix(self) -> str:
        """Prefix of the block's layer names, which may hold no slash: `b07`, `b07_n3`."""
        return self.name.replace("/", "_")

    def layer_name(self, op: str) -> str:
        """Prefix of the layer names of one op of this block: `b07_mb_k5_e6`, `b07_n3_sep_k5`."""
        return f"{self.prefix}_{op}"


@dataclasses.dataclass(frozen=True)
class OpKey:
    """What a measurement depends on besides the target: the key of one row of a latency table.

    Attributes:
        op: Op text.
        input: Height, width and channels of the input.
        filters: Output channels.
        strides: Stride of the op.
        shortcut: Whether the measurement includes the residual add.
        summed: Number of inputs whose sum the measurement includes; 1 for no sum.
    """

    op: str
    input: tuple[int, int, int]
    filters: int
    strides: int
    shortcut: bool
    summed: int = 1

    @property
    def is_free(self) -> bool:
        """Whether the op computes nothing: `zero`, or an op that passes on a single input."""
        return self.op == ops.ZERO or (self.op in ops.PASSED_ON and self.summed == 1 and not self.shortcut)

    def __str__(self) -> str:
        height, width, channels = self.input
        return (f"{self.op} on {height}x{width}x{channels} -> {self.filters}, stride {self.strides}"
                + (", shortcut" if self.shortcut else "") + (f", sum of {self.summed}" if self.summed > 1 else ""))


@dataclasses.dataclass(frozen=True)
class Space:
    """A search space: stem, blocks and head, with the images that enter and the classes that come out.

    Attributes:
        name: Name of the space.
        input_size: Height and width of the images, pixels.
        input_channels: Channels of the images.
        num_classes: Number of classes.
        stem: First blocks, each with a single op.
        blocks: Blocks to search, possibly with fixed blocks among them.
        head: Last blocks; the very last holds a classifier, see `ops.CLASSIFIERS`.
        normalisation: Pixel mean and deviation of all channels; None for those of the data set. Pretrained weights
            need those of their own training.
        pretrained: Name of a shipped network whose weights the blocks start from, or None.

    Raises:
        InputError: If the parts do not make a network (on construction).
    """

    name: str
    input_size: int
    input_channels: int
    num_classes: int
    stem: tuple[Block, ...]
    blocks: tuple[Block, ...]
    head: tuple[Block, ...]
    normalisation: tuple[float, float] | None = None
    pretrained: str | None = None

    def __post_init__(self):
        checks.check(self)

    @functools.cached_property
    def all_blocks(self) -> tuple[Block, ...]:
        """Every block, stem to head."""
        return self.stem + self.blocks + self.head

    @functools.cached_property
    def choices(self) -> dict[str, Choice]:
        """What a search decides, by name, in the order of the network: ops of blocks, filters of stages."""
        return widths.choices(self)

    @functools.cached_property
    def width_choices(self) -> dict[str, str]:
        """Name of the choice of a block's filters, by block name, for blocks whose filters are searched."""
        return widths.by_block(self)

    @property
    def size(self) -> int:
        """Number of archs in the space."""
        return math.prod(len(choice.ops) for choice in self.choices.values())

    @property
    def is_chain(self) -> bool:
        """Whether each block reads the block before it and no other."""
        return not any(block.inputs for block in self.all_blocks)

    @functools.cached_property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """Names of the blocks that each block reads; empty for the first block, which reads the image."""
        names = [block.name for block in self.all_blocks]
        return {block.name: block.inputs or before
                for block, before in zip(self.all_blocks, [(), *((name,) for name in names)], strict=False)}

    def input_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Height, width and channels of each block's input, by block name."""
        return dict(self._input_shapes)

    @functools.cached_property
    def _input_shapes(self):
        shapes: dict[str, tuple[int, int, int]] = {}

        def output_shape(block, inputs):
            shapes[block.name] = inputs[0]
            height, width, _ = inputs[0]
            return -(-height // block.strides), -(-width // block.strides), block.filters

        self.thread((self.input_size, self.input_size, self.input_channels), output_shape)
        return shapes

    def thread(self, image: Value, run: Callable[[Block, list[Value]], Value]) -> Value:
        """Passes a value through the network, block by block.

        Each output is released after the last block that reads it.

        Args:
            image: Value that enters the first block.
            run: Function `run(block, inputs)` that returns a block's output; `inputs` are the outputs of the blocks
                that it reads, not yet added up.

        Returns:
            The output of the last block.
        """
        outputs: dict[str, Value] = {}
        readers = Counter(name for names in self.sources.values() for name in names)
        value = image
        for block in self.all_blocks:
            sources = self.sources[block.name]
            value = run(block, [outputs[name] for name in sources] or [image])
            outputs[block.name] = value
            readers.subtract(sources)
            for name in sources:
                if not readers[name]:
                    outputs.pop(name, None)
        return value

    def op_key(self, block: Block, op: str) -> OpKey:
        """Key of the table row that prices an op of a block; of its row at the largest widths, if they are searched."""
        return OpKey(op, self._input_shapes[block.name], block.filters, block.strides, block.shortcut,
                     max(1, len(block.inputs)))

    def axes(self, block: Block) -> tuple[str, ...]:
        """Names of the choices that the table row of a block depends on: its op, its input's filters, its filters."""
        return widths.axes(self, block)

    def keys(self, block: Block) -> list[OpKey]:
        """Keys of all table rows that a block may need, `zero` included.

        They are in the order of an array whose axes are the choices `axes`, the last of which varies fastest. A block
        of fixed filters, behind another, has one key for each op.
        """
        return widths.keys(self, block)

    def count_keys(self, block: Block) -> int:
        """Length of `keys`."""
        return len(block.ops) * math.prod(len(self.choices[name].filters) for name in self.axes(block)
                                          if self.choices[name].filters)

    def op_keys(self) -> Iterator[tuple[Block, OpKey]]:
        """Pairs of a block and the key of a row that it may need, for every op that computes something."""
        for block in self.all_blocks:
            for key in self.keys(block):
                if not key.is_free:
                    yield block, key

    def scaled(self, width_mult: float) -> "Space":
        """The space with all widths multiplied and rounded by `make_divisible`.

        Widths of the head grow but never shrink, as in MobileNetV2. The classifier keeps its width. Pretrained weights
        fit the original widths only.

        Args:
            width_mult: Factor of the widths, 0.05 to 20.

        Raises:
            InputError: If the factor is out of bounds, or the space has cells, whose widths depend on each other.
        """
        if not 0.05 <= width_mult <= 20:
            raise InputError(f"width_mult must lie between 0.05 and 20, got {width_mult}.")
        if width_mult == 1:
            return self
        if not self.is_chain:
            raise InputError(f"{self.name} has cells, whose widths depend on each other: expected width_mult 1, got "
                             f"{width_mult}. Choose its widths by its name, such as cifar_tree_b2_f88.")

        def scale(block: Block) -> Block:
            factor = max(1.0, width_mult) if block in self.head else width_mult
            scaled = [make_divisible(filters * factor) for filters in block.widths or (block.filters,)]
            return widths.with_filters(block, scaled)

        head = (*(scale(block) for block in self.head[:-1]), self.head[-1])
        return dataclasses.replace(self, stem=tuple(map(scale, self.stem)),
                                   blocks=tuple(map(scale, self.blocks)), head=head, pretrained=None)

    def for_data(self, input_size: int, input_channels: int, num_classes: int) -> "Space":
        """The same space for other images and another number of classes."""
        head = (*self.head[:-1], dataclasses.replace(self.head[-1], filters=num_classes))
        return dataclasses.replace(self, input_size=input_size, input_channels=input_channels,
                                   num_classes=num_classes, head=head)

    def fitted_to(self, data: ImageData) -> "Space":
        """The same space for the images and classes of a data set.

        Raises:
            InputError: If the images are not normalised as the space needs.
        """
        self.check_normalised(data)
        height, _, channels = data.image_shape
        return self.for_data(height, channels, data.num_classes)

    def check_normalised(self, data: ImageData) -> None:
        """Raises InputError if the images of a data set are normalised otherwise than the space needs."""
        if self.normalisation and any((mean, std) != self.normalisation
                                      for mean, std in zip(data.mean, data.std, strict=True)):
            raise InputError(f"{self.name} needs images normalised by mean {self.normalisation[0]} and deviation "
                             f"{self.normalisation[1]}, got {data.mean} and {data.std}. Load them by "
                             f"data.load(..., normalisation={self.normalisation}).")

    def to_json(self) -> dict[str, Any]:
        """The space as JSON values; `spaces.from_json` reads them. Optional fields that are empty are left out."""
        data = json.loads(json.dumps(dataclasses.asdict(self)))
        for field in ("normalisation", "pretrained"):
            if data[field] is None:
                del data[field]
        for block in (*data["stem"], *data["blocks"], *data["head"]):
            if not block["inputs"]:
                del block["inputs"]
            if searched := block.pop("widths"):
                block["filters"] = searched
        return data


def make_divisible(value: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`; at least `divisor`, and at least 0.9 times the value."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def op_mask(space: Space) -> np.ndarray:
    """Mask of the alpha matrix: bool [choices, ops], False where a choice has fewer ops than the matrix has columns."""
    counts = np.array([len(choice.ops) for choice in space.choices.values()])
    return np.arange(max(counts)) < counts[:, None]


def uniform_probs(space: Space) -> np.ndarray:
    """Probabilities with every op of a choice equally likely: float64 [choices, ops], 0 outside the mask."""
    mask = op_mask(space)
    return mask / mask.sum(1, keepdims=True)
