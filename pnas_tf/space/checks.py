"""Whether the blocks of a space make a network: names, numbers, ops and shapes that fit together.

A space may come from an untrusted file, so its size is bounded before anything is built from it.
"""

import re
from typing import TYPE_CHECKING, Any

from pnas_tf.errors import InputError, shown
from pnas_tf.space import ops
from pnas_tf.space.widths import FILTERS

if TYPE_CHECKING:  # blocks.py imports this module
    from pnas_tf.space.blocks import Block, Space

MAX_BLOCKS = 3000
MAX_OPS = 100
MAX_INPUTS = 16
MAX_WIDTHS = 8
MAX_ROWS = 100_000  # in a space in which filters are searched
MAX_SIDE = 8192
# Networks whose weights ship with the package; `network.pretrained` loads them.
PRETRAINED = ("efficientnet_lite0",)

# Names that are names of Keras models and scopes of TensorFlow, too.
_SPACE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", flags=re.ASCII)
# `b07`, or `b07/n3` for a block inside a cell.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)?", flags=re.ASCII)


def check(space: "Space") -> None:
    """Checks a whole space.

    Raises:
        InputError: If its blocks do not make a network.
    """
    if not isinstance(space.name, str) or not _SPACE_NAME.fullmatch(space.name):
        raise InputError("A space needs a name of at most 100 letters (A to Z, a to z), digits, points, dashes and "
                         "underscores that begins with a letter or digit, because TensorFlow takes no others, got "
                         f"{shown(space.name)}.")
    for field, low, high in (("input_size", 1, MAX_SIDE), ("input_channels", 1, 1024), ("num_classes", 2, 1_000_000)):
        value = getattr(space, field)
        if not _whole(value, low, high):
            raise InputError(f"{field} must be a whole number from {low} to {high}, got {shown(value)}.")
    _check_origin(space)
    if not space.stem or not space.head:
        raise InputError("A space needs a stem and a head.")
    if len(space.all_blocks) > MAX_BLOCKS:
        raise InputError(f"A space has at most {MAX_BLOCKS} blocks, got {len(space.all_blocks)}.")
    shapes: dict[str, tuple[int, int]] = {}  # side and channels of each block's output
    offered: tuple[int, ...] = ()  # filters of the block before, if there are several
    layer_names: set[str] = set()
    before = (space.input_size, space.input_channels)
    for block in space.all_blocks:
        _check_fields(block)
        where = f"block {block.name!r}"
        if block.prefix in layer_names:
            raise InputError(f"{where} occurs twice ({block.prefix} in layer names).")
        layer_names.add(block.prefix)
        side, channels = _input_of(block, where, shapes, before)
        _check_widths(space, block, where, offered)
        offered = block.widths
        if block.shortcut and (block.strides != 1 or channels != block.filters):
            raise InputError(f"{where}: a shortcut needs stride 1 and as many filters as input channels "
                             f"({channels}), got stride {block.strides} and {block.filters} filters.")
        if ops.ZERO in block.ops and (not block.shortcut or len(block.inputs) > 1):
            raise InputError(f"{where}: zero needs a shortcut, or nothing would pass, and a single input.")
        for op in block.ops:
            ops.check(op, where, channels, block.filters, block.strides)
        is_last, classifiers = block is space.head[-1], sum(map(ops.is_classifier, block.ops))
        if classifiers != is_last or (is_last and len(block.ops) > 1):
            raise InputError(f"{where}: the last block of the head, and no other, holds a single op, one of "
                             f"{', '.join(ops.CLASSIFIERS)}.")
        before = shapes[block.name] = (-(-side // block.strides), block.filters)
    if space.head[-1].filters != space.num_classes:
        raise InputError(f"The classifier has {space.head[-1].filters} filters for {space.num_classes} classes.")
    searched = any(block.widths for block in space.all_blocks)
    if taken := [block.name for block in space.all_blocks if searched and block.name.endswith(FILTERS)]:
        raise InputError(f"block {taken[0]!r}: where filters are searched, no name of a block may end in {FILTERS}.")
    if searched and sum(space.count_keys(block) for block in space.all_blocks) > MAX_ROWS:
        raise InputError(f"{space.name} needs more than {MAX_ROWS:,} table rows, as each op has one for each of its "
                         "filters and its input's. Give fewer filters or ops.")
    for block in space.all_blocks if searched else ():  # the smaller filters, too, which fit each other by now
        for key in space.keys(block):
            ops.check(key.op, f"block {block.name!r}", key.input[2], key.filters, key.strides)
    sources = {name for names in space.sources.values() for name in names}
    for block in space.all_blocks[:-1]:
        if block.name not in sources:
            raise InputError(f"block {block.name!r}: no later block reads its output. Name it in the inputs of a later "
                             "block, or leave it out.")


def _check_widths(space: "Space", block: "Block", where: str, before: tuple[int, ...]) -> None:
    """Checks the filters that a block offers, and its shortcut against those that the block before it offers."""
    widths = block.widths
    if widths and not (isinstance(widths, tuple) and 1 < len(widths) <= MAX_WIDTHS and all(
            _whole(width, 1, 1_000_000) for width in widths) and list(widths) == sorted(set(widths))
            and widths[-1] == block.filters):
        raise InputError(f"{where}: filters to choose from must be 2 to {MAX_WIDTHS} different whole numbers in "
                         f"ascending order, got {shown(list(widths))}.")
    if widths and (not space.is_chain or block is space.all_blocks[-1] or space.pretrained):
        raise InputError(f"{where}: filters to choose from need a chain of blocks without pretrained weights, and not "
                         "the classifier. Give one number of filters.")
    if block.shortcut and widths != before:
        raise InputError(f"{where}: a shortcut needs the filters of its input, "
                         f"{list(before) or 'a single number'}, got {list(widths) or block.filters}.")


def name_like(text: str) -> str:
    """A name for a space that resembles a text, such as the name of a file: other characters become underscores."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text[:100]).lstrip("_.-") or "network"


def _check_origin(space: "Space") -> None:
    """Checks the fields of a space that come from trained weights."""
    pair = space.normalisation
    if pair is not None and not (isinstance(pair, tuple) and len(pair) == 2 and _number(pair[0], -1e6, 1e6)
                                 and _number(pair[1], 1e-6, 1e6)):
        raise InputError("normalisation must be a pixel mean and a deviation above 0, got "
                         + (", ".join(map(shown, pair[:3])) if isinstance(pair, tuple) else shown(pair)) + ".")
    if space.pretrained is not None and space.pretrained not in PRETRAINED:
        raise InputError(f"pretrained must be one of {', '.join(PRETRAINED)}, got {shown(space.pretrained)}.")


def _check_fields(block: "Block") -> None:
    """Checks the fields of a block that do not depend on other blocks."""
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
        raise InputError(f"{where}: needs from 1 to {MAX_OPS} ops, got {len(block.ops or ())}.")
    for op in block.ops:
        ops.parse(op)
    if len(set(block.ops)) != len(block.ops):
        raise InputError(f"{where}: an op occurs twice.")
    if len(block.inputs) > MAX_INPUTS:
        raise InputError(f"{where}: has at most {MAX_INPUTS} inputs, got {len(block.inputs)}.")


def _input_of(block: "Block", where: str, shapes: dict[str, tuple[int, int]], before: tuple[int, int]
              ) -> tuple[int, int]:
    """Side and channels of a block's input."""
    for number, name in enumerate(block.inputs):
        if not isinstance(name, str) or name not in shapes:
            raise InputError(f"{where}: an input must be the name of an earlier block, got {shown(name)}.")
        if name in block.inputs[:number]:
            raise InputError(f"{where}: the input {name!r} occurs twice.")
    input_shapes = [shapes[name] for name in block.inputs] or [before]
    if len(set(input_shapes)) > 1:
        raise InputError(f"{where}: inputs that are added up need one shape, got " + ", ".join(
            f"{side}x{side}x{channels} of {name}" for name, (side, channels) in
            zip(block.inputs[:6], input_shapes, strict=False)) + ".")
    return input_shapes[0]


def _number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
