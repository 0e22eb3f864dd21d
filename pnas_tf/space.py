"""Search spaces as data: a space is a list of blocks, and a block with several ops is a choice.

The stem and the head are blocks with a single op, so one rule serves for shapes, costs, layers and
table rows. To add a space, add an entry to `SPACES`, or give a JSON file to `--space`.
"""

import dataclasses
import json
import math
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any

from pnas_tf import ops
from pnas_tf.errors import InputError, shown

MAX_BLOCKS = 1000
MAX_OPS = 100
MAX_SIDE = 8192

MB_OPS = tuple(f"mb_k{k}_e{e}" for k in (3, 5, 7) for e in (3, 6))


@dataclasses.dataclass(frozen=True)
class Block:
    """A place in the network.

    Attributes:
        name: prefix of its layers; the name of its choice.
        ops: candidate ops in the order of their alphas; a single one means that the block is fixed.
        filters: output channels.
        strides: 1 or 2.
        shortcut: whether the input is added to the op's output.
    """

    name: str
    ops: tuple[str, ...]
    filters: int
    strides: int = 1
    shortcut: bool = False


@dataclasses.dataclass(frozen=True)
class OpKey:
    """What a measurement depends on besides the target: one row of a table.

    Attributes:
        op: op text.
        input: height, width, channels.
        filters: output channels.
        strides: of the op.
        shortcut: whether the residual add is part of it.
    """

    op: str
    input: tuple[int, int, int]
    filters: int
    strides: int
    shortcut: bool

    def __str__(self) -> str:
        height, width, channels = self.input
        return (f"{self.op} on {height}x{width}x{channels} -> {self.filters}, stride {self.strides}"
                + (", shortcut" if self.shortcut else ""))


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

    @property
    def all_blocks(self) -> tuple[Block, ...]:
        """Every block, stem to head."""
        return self.stem + self.blocks + self.head

    @property
    def choices(self) -> dict[str, Block]:
        """The searchable blocks by name, in order."""
        return {block.name: block for block in self.all_blocks if len(block.ops) > 1}

    @property
    def size(self) -> int:
        """Number of archs."""
        return math.prod(len(block.ops) for block in self.choices.values())

    def input_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Height, width and channels that enter each block, by block name."""
        shapes, side, channels = {}, self.input_size, self.input_channels
        for block in self.all_blocks:
            shapes[block.name] = (side, side, channels)
            side, channels = -(-side // block.strides), block.filters
        return shapes

    def op_keys(self) -> Iterator[tuple[Block, OpKey]]:
        """Every (block, key of one candidate op) but `zero`, which costs nothing."""
        shapes = self.input_shapes()
        for block in self.all_blocks:
            for op in block.ops:
                if op != ops.ZERO:
                    yield block, OpKey(op, shapes[block.name], block.filters, block.strides, block.shortcut)

    def scaled(self, width_mult: float) -> "Space":
        """All widths times `width_mult`, by `make_divisible`; the feature mix grows but never shrinks."""
        if not 0.05 <= width_mult <= 20:
            raise InputError(f"width_mult must lie between 0.05 and 20, got {width_mult}.")
        if width_mult == 1:
            return self

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
        """Everything needed to rebuild the space, as JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def make_divisible(value: float, divisor: int = 8) -> int:
    """Nearest multiple of `divisor`, at least `divisor`, and not below 0.9 of the value."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def from_json(data: Any, where: str = "space") -> Space:
    """Reads what `Space.to_json` wrote.

    Args:
        data: parsed JSON, untrusted.
        where: what to call it in an error.

    Raises:
        InputError: if it is not a space.
    """
    fields = {field.name for field in dataclasses.fields(Space)}
    if not isinstance(data, dict) or set(data) != fields:
        raise InputError(f"{where}: a space is a JSON object with exactly {', '.join(sorted(fields))}.")

    def block(entry: Any) -> Block:
        known = {field.name for field in dataclasses.fields(Block)}
        if not isinstance(entry, dict) or not {"name", "ops", "filters"} <= set(entry) <= known:
            raise InputError(f"{where}: a block is a JSON object with {', '.join(sorted(known))}.")
        if not isinstance(entry["ops"], list) or len(entry["ops"]) > MAX_OPS:
            raise InputError(f"{where}: ops of a block is a list of at most {MAX_OPS} op texts.")
        return Block(**{**entry, "ops": tuple(entry["ops"])})

    parts = {}
    for part in ("stem", "blocks", "head"):
        if not isinstance(data[part], list) or len(data[part]) > MAX_BLOCKS:
            raise InputError(f"{where}: {part} is a list of at most {MAX_BLOCKS} blocks.")
        parts[part] = tuple(block(entry) for entry in data[part])
    try:
        return Space(**{**data, **parts})
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def load(name_or_path: str) -> Space:
    """A space of `SPACES` by name, or one read from a JSON file.

    Raises:
        InputError: if there is none.
    """
    if name_or_path in SPACES:
        return SPACES[name_or_path]
    if not os.path.exists(name_or_path):
        raise InputError(f"Unknown space {name_or_path!r}. Known: {', '.join(SPACES)}, or the path of a JSON file.")
    return from_json(read_json(name_or_path), name_or_path)


def read_json(path: str, max_bytes: int = 10_000_000) -> Any:
    """Parses a JSON file that nobody vouches for.

    Args:
        path: of a file; pipes and devices may never end.
        max_bytes: of the file. In memory it can become 25 times as large.

    Raises:
        InputError: if it is missing, too large, cut off or not JSON.
    """
    try:
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode) and status.st_size > max_bytes:
            raise InputError(f"{path}: larger than {max_bytes} bytes; this is not one of our files.")
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path}: neither file nor folder. Give the path of a file.")
        with open(path, encoding="utf-8") as file:
            return json.loads(file.read(max_bytes))
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:  # ValueError also of a path that cannot be
        raise InputError(f"{path}: not valid JSON ({error}); it may be cut off. Write it again.") from None


def _check(space: Space) -> None:
    def whole(value, low, high):
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    if not isinstance(space.name, str) or not 0 < len(space.name) <= 100 or not space.name.isprintable():
        raise InputError(f"A space needs a name of at most 100 printable characters, got {shown(space.name)}.")
    for field, low, high in (("input_size", 1, MAX_SIDE), ("input_channels", 1, 1024), ("num_classes", 2, 1_000_000)):
        value = getattr(space, field)
        if not whole(value, low, high):
            raise InputError(f"{field} must be a whole number from {low} to {high}, got {shown(value)}.")
    if not space.stem or not space.head:
        raise InputError("A space needs a stem and a head.")
    if len(space.all_blocks) > MAX_BLOCKS:
        raise InputError(f"A space has at most {MAX_BLOCKS} blocks, got {len(space.all_blocks)}.")
    seen: set[str] = set()
    channels = space.input_channels
    for block in space.all_blocks:
        if not isinstance(block.name, str) or not block.name.isidentifier() or not block.name.isascii() \
                or len(block.name) > 60:
            raise InputError(f"A block's name is a short identifier, got {shown(block.name)}.")
        where = f"block {block.name!r}"
        if block.name in seen:
            raise InputError(f"{where} occurs twice.")
        seen.add(block.name)
        if not whole(block.filters, 1, 1_000_000) or not whole(block.strides, 1, 2):
            raise InputError(f"{where}: filters must be from 1 to 1000000 and strides 1 or 2, "
                             f"got {shown(block.filters)} and {shown(block.strides)}.")
        if not isinstance(block.shortcut, bool):
            raise InputError(f"{where}: shortcut is true or false, got {shown(block.shortcut)}.")
        if not block.ops or len(block.ops) > MAX_OPS:
            raise InputError(f"{where}: needs from 1 to {MAX_OPS} ops.")
        for op in block.ops:
            ops.parse(op)
        if len(set(block.ops)) != len(block.ops):
            raise InputError(f"{where}: an op occurs twice.")
        if block.shortcut and (block.strides != 1 or channels != block.filters):
            raise InputError(f"{where}: a shortcut needs stride 1 and as many filters as input channels "
                             f"({channels}), got stride {block.strides} and {block.filters} filters.")
        if ops.ZERO in block.ops and not block.shortcut:
            raise InputError(f"{where}: zero needs a shortcut, or nothing would pass.")
        if (block is space.head[-1]) != (block.ops == ("classifier",)):
            raise InputError(f"{where}: the last block of the head, and only it, holds the op classifier.")
        channels = block.filters
    if space.head[-1].filters != space.num_classes:
        raise InputError(f"The classifier has {space.head[-1].filters} filters for {space.num_classes} classes.")


def mb_space(name: str, *, input_size: int, input_channels: int = 3, num_classes: int, stem: Block, first: Block,
             widths: Sequence[int], cells: Sequence[int], strides: Sequence[int], mix: int) -> Space:
    """An MBConv space: stem, one fixed block, stages of choices, feature mix and classifier.

    `zero` is offered where the shortcut exists: at stride 1 with equal widths (paper section 3.1).
    """
    blocks, channels = [first], first.filters
    for width, count, stride in zip(widths, cells, strides, strict=True):
        for cell in range(count):
            step = stride if cell == 0 else 1
            shortcut = step == 1 and channels == width
            candidates = MB_OPS + ((ops.ZERO,) if shortcut else ())
            blocks.append(Block(f"b{len(blocks):02d}", candidates, width, step, shortcut))
            channels = width
    head = (Block("mix", ("conv_k1",), mix), Block("classifier", ("classifier",), num_classes))
    return Space(name, input_size, input_channels, num_classes, (stem,), tuple(blocks), head)


def _imagenet(name: str, first_stage: int) -> Space:
    return mb_space(
        name, input_size=224, num_classes=1000,
        stem=Block("stem", ("conv_k3",), 32, strides=2), first=Block("b00", ("mb_k3_e1",), 16),
        widths=(first_stage, 40, 80, 96, 192, 320), cells=(4, 4, 4, 4, 4, 1), strides=(2, 2, 2, 1, 2, 1), mix=1280)


SPACES: dict[str, Space] = {
    # The original's default space: 21 choices, 2.2e17 archs.
    "proxyless_imagenet": _imagenet("proxyless_imagenet", 24),
    # The same, 32 wide in the first stage, as the published mobile network is.
    "proxyless_mobile": _imagenet("proxyless_mobile", 32),
    # For 32x32 images: 12 choices on maps of 16, 8 and 4 pixels.
    "cifar_mb": mb_space(
        "cifar_mb", input_size=32, num_classes=10,
        stem=Block("stem", ("conv_k3",), 24), first=Block("b00", ("mb_k3_e1",), 16),
        widths=(24, 40, 80, 128), cells=(3, 3, 3, 3), strides=(2, 2, 1, 2), mix=512),
    # For the embedded 28x28 grey images: 6 choices on maps of 14 and 7 pixels.
    "quickstart": mb_space(
        "quickstart", input_size=28, input_channels=1, num_classes=10,
        stem=Block("stem", ("conv_k3",), 16, strides=2), first=Block("b00", ("mb_k3_e1",), 16),
        widths=(24, 40, 64), cells=(2, 2, 2), strides=(1, 2, 1), mix=192),
}
