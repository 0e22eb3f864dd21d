"""What a network consists of, as data: places joined into a graph without cycles, and a space of such networks.

The stem and the head are places with a single op, so one rule serves for shapes, costs, layers and table rows.
"""

import dataclasses
import functools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from pnas_tf.errors import InputError, shown
from pnas_tf.space import ops as ops_lib

MAX_BLOCKS = 3000
MAX_OPS = 100
MAX_INPUTS = 16
MAX_SIDE = 8192

# `b07`, or `b07/n3` for a place inside a cell.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)?", flags=re.ASCII)

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True)
class Block:
    """A place in the network.

    Attributes:
        name: prefix of its layers, `b07` or `b07/n3`; the name of its choice.
        ops: candidate ops in the order of their alphas; a single one means that the block is fixed.
        filters: output channels.
        strides: 1 or 2.
        shortcut: whether the input is added to the op's output.
        inputs: names of earlier places whose outputs are added up to what enters here; none for the place just before.
            At a place with the op `join` the last of them is the shortcut.
    """

    name: str
    ops: tuple[str, ...]
    filters: int
    strides: int = 1
    shortcut: bool = False
    inputs: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        """The name as it stands in names of layers, which may hold no slash: `b07`, `b07_n3`."""
        return self.name.replace("/", "_")

    def layer_name(self, op: str) -> str:
        """Prefix of the layers of an op here: `b07_mb_k5_e6`, `b07_n3_sep_k5`."""
        return f"{self.prefix}_{op}"


@dataclasses.dataclass(frozen=True)
class OpKey:
    """What a measurement depends on besides the target: one row of a table.

    Attributes:
        op: op text.
        input: height, width, channels.
        filters: output channels.
        strides: of the op.
        shortcut: whether the residual add is part of it.
        summed: number of inputs whose sum is part of it; 1 for none.
    """

    op: str
    input: tuple[int, int, int]
    filters: int
    strides: int
    shortcut: bool
    summed: int = 1

    @property
    def is_free(self) -> bool:
        """Whether nothing is computed: `zero`, and what passes a single input on."""
        return self.op == ops_lib.ZERO or (self.op in ops_lib.PASSED_ON and self.summed == 1 and not self.shortcut)

    def __str__(self) -> str:
        height, width, channels = self.input
        return (f"{self.op} on {height}x{width}x{channels} -> {self.filters}, stride {self.strides}"
                + (", shortcut" if self.shortcut else "") + (f", sum of {self.summed}" if self.summed > 1 else ""))


@dataclasses.dataclass(frozen=True)
class Space:
    """Stem + blocks + head + input size.

    Raises:
        InputError: on construction, if the parts do not make a network.
    """

    name: str
    input_size: int
    input_channels: int
    num_classes: int
    stem: tuple[Block, ...]
    blocks: tuple[Block, ...]
    head: tuple[Block, ...]

    def __post_init__(self):
        _check(self)

    @functools.cached_property
    def all_blocks(self) -> tuple[Block, ...]:
        """Every block, stem to head."""
        return self.stem + self.blocks + self.head

    @functools.cached_property
    def choices(self) -> dict[str, Block]:
        """The searchable blocks by name, in order."""
        return {block.name: block for block in self.all_blocks if len(block.ops) > 1}

    @property
    def size(self) -> int:
        """Number of archs."""
        return math.prod(len(block.ops) for block in self.choices.values())

    @property
    def is_chain(self) -> bool:
        """Whether each place reads the one before it, and nothing else."""
        return not any(block.inputs for block in self.all_blocks)

    @functools.cached_property
    def _sources(self) -> dict[str, tuple[str, ...]]:
        """What each place reads; the first one the image, which has no name."""
        names = [block.name for block in self.all_blocks]
        return {block.name: block.inputs or before
                for block, before in zip(self.all_blocks, [(), *((name,) for name in names)], strict=False)}

    def input_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Height, width and channels that enter each block, by block name."""
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
        """Takes a value through the network.

        Args:
            image: what enters the first place.
            run: from a place and the outputs of the places that it reads, whose sum enters it, to its output.

        Returns:
            The output of the last place. An output is held no longer than until the last place that reads it.
        """
        outputs: dict[str, Value] = {}
        readers = Counter(name for names in self._sources.values() for name in names)
        value = image
        for block in self.all_blocks:
            sources = self._sources[block.name]
            value = run(block, [outputs[name] for name in sources] or [image])
            outputs[block.name] = value
            readers.subtract(sources)
            for name in sources:
                if not readers[name]:
                    outputs.pop(name, None)
        return value

    def op_key(self, block: Block, op: str) -> OpKey:
        """The row that prices an op at a place."""
        return OpKey(op, self._input_shapes[block.name], block.filters, block.strides, block.shortcut,
                     max(1, len(block.inputs)))

    def op_keys(self) -> Iterator[tuple[Block, OpKey]]:
        """Every (block, key of one candidate op) but of those that cost nothing."""
        for block in self.all_blocks:
            for key in (self.op_key(block, op) for op in block.ops):
                if not key.is_free:
                    yield block, key

    def scaled(self, width_mult: float) -> "Space":
        """All widths times `width_mult`, by `make_divisible`; the feature mix grows but never shrinks.

        Raises:
            InputError: if the places do not fit together then, as those of a tree of cells.
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
            return dataclasses.replace(block, filters=make_divisible(block.filters * factor))

        head = (*(scale(block) for block in self.head[:-1]), self.head[-1])
        return dataclasses.replace(self, stem=tuple(map(scale, self.stem)),
                                   blocks=tuple(map(scale, self.blocks)), head=head)

    def for_data(self, input_size: int, input_channels: int, num_classes: int) -> "Space":
        """The same space for other images and classes."""
        head = (*self.head[:-1], dataclasses.replace(self.head[-1], filters=num_classes))
        return dataclasses.replace(self, input_size=input_size, input_channels=input_channels,
                                   num_classes=num_classes, head=head)

    def to_json(self) -> dict[str, Any]:
        """Everything needed to rebuild the space, as JSON values; `inputs` only of places that have some."""
        data = json.loads(json.dumps(dataclasses.asdict(self)))
        for block in (*data["stem"], *data["blocks"], *data["head"]):
            if not block["inputs"]:
                del block["inputs"]
        return data


def make_divisible(value: float, divisor: int = 8) -> int:
    """Nearest multiple of `divisor`, at least `divisor`, and not below 0.9 of the value."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _check(space: Space) -> None:
    if not isinstance(space.name, str) or not 0 < len(space.name) <= 100 or not space.name.isprintable():
        raise InputError(f"A space needs a name of at most 100 printable characters, got {shown(space.name)}.")
    for field, low, high in (("input_size", 1, MAX_SIDE), ("input_channels", 1, 1024), ("num_classes", 2, 1_000_000)):
        value = getattr(space, field)
        if not _whole(value, low, high):
            raise InputError(f"{field} must be a whole number from {low} to {high}, got {shown(value)}.")
    if not space.stem or not space.head:
        raise InputError("A space needs a stem and a head.")
    if len(space.all_blocks) > MAX_BLOCKS:
        raise InputError(f"A space has at most {MAX_BLOCKS} blocks, got {len(space.all_blocks)}.")
    shapes: dict[str, tuple[int, int]] = {}  # height (as wide as high) and channels of each output
    layer_names: set[str] = set()
    before = (space.input_size, space.input_channels)
    for block in space.all_blocks:
        _check_fields(block)
        where = f"block {block.name!r}"
        if block.prefix in layer_names:
            raise InputError(f"{where} occurs twice ({block.prefix} in names of layers).")
        layer_names.add(block.prefix)
        side, channels = _entering(block, where, shapes, before)
        if block.shortcut and (block.strides != 1 or channels != block.filters):
            raise InputError(f"{where}: a shortcut needs stride 1 and as many filters as input channels "
                             f"({channels}), got stride {block.strides} and {block.filters} filters.")
        if ops_lib.ZERO in block.ops and (not block.shortcut or len(block.inputs) > 1):
            raise InputError(f"{where}: zero needs a shortcut, or nothing would pass, and a single input.")
        for op in block.ops:
            ops_lib.check(op, where, channels, block.filters, block.strides)
        if (block is space.head[-1]) != (block.ops == ("classifier",)):
            raise InputError(f"{where}: the last block of the head, and only it, holds the op classifier.")
        before = shapes[block.name] = (-(-side // block.strides), block.filters)
    if space.head[-1].filters != space.num_classes:
        raise InputError(f"The classifier has {space.head[-1].filters} filters for {space.num_classes} classes.")
    read = {name for names in space._sources.values() for name in names}
    for block in space.all_blocks[:-1]:
        if block.name not in read:
            raise InputError(f"block {block.name!r}: no later place reads its output. Name it in their inputs, or "
                             "leave it out.")


def _check_fields(block: Block) -> None:
    """What can be said of a place alone."""
    if not isinstance(block.name, str) or len(block.name) > 60 or not _NAME.fullmatch(block.name):
        raise InputError("A block's name is a short identifier such as b07, or two with / between, got "
                         f"{shown(block.name)}.")
    where = f"block {block.name!r}"
    if not _whole(block.filters, 1, 1_000_000) or not _whole(block.strides, 1, 2):
        raise InputError(f"{where}: filters must be from 1 to 1000000 and strides 1 or 2, "
                         f"got {shown(block.filters)} and {shown(block.strides)}.")
    if not isinstance(block.shortcut, bool):
        raise InputError(f"{where}: shortcut is true or false, got {shown(block.shortcut)}.")
    if not block.ops or len(block.ops) > MAX_OPS:
        raise InputError(f"{where}: needs from 1 to {MAX_OPS} ops.")
    for op in block.ops:
        ops_lib.parse(op)
    if len(set(block.ops)) != len(block.ops):
        raise InputError(f"{where}: an op occurs twice.")
    if len(block.inputs) > MAX_INPUTS:
        raise InputError(f"{where}: has at most {MAX_INPUTS} inputs, got {len(block.inputs)}.")


def _entering(block: Block, where: str, shapes: dict[str, tuple[int, int]], before: tuple[int, int]
              ) -> tuple[int, int]:
    """Side and channels of what enters a place."""
    for number, name in enumerate(block.inputs):
        if not isinstance(name, str) or name not in shapes:
            raise InputError(f"{where}: an input must be the name of an earlier place, got {shown(name)}.")
        if name in block.inputs[:number]:
            raise InputError(f"{where}: the input {name!r} occurs twice.")
    entering = [shapes[name] for name in block.inputs] or [before]
    if len(set(entering)) > 1:
        raise InputError(f"{where}: inputs that are added up need one shape, got " + ", ".join(
            f"{side}x{side}x{channels} of {name}" for name, (side, channels) in
            zip(block.inputs[:6], entering, strict=False)) + ".")
    return entering[0]

def op_mask(space: Space) -> np.ndarray:
    """Which entries of an alpha matrix are ops: bool [choices, ops]."""
    counts = np.array([len(block.ops) for block in space.choices.values()])
    return np.arange(max(counts)) < counts[:, None]


def uniform_probs(space: Space) -> np.ndarray:
    """Every op of a choice equally likely: float64 [choices, ops], 0 for entries that are no ops."""
    mask = op_mask(space)
    return mask / mask.sum(1, keepdims=True)
