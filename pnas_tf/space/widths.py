"""Filters that are searched: which blocks share a choice, and the table rows that their ops may need.

A block with `widths` offers several numbers of filters. Without a shortcut, it begins a stage, and the stage has a
choice of its own, `b04/filters`. A block with a shortcut has as many channels as its input, so it follows that choice:

    b04   filters 24, 32 or 40, stride 2      choice b04/filters
    b05   filters 24, 32 or 40, shortcut      follows b04/filters
    b06   filters 64 or 80, stride 2          choice b06/filters; its rows depend on b04/filters, too
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # blocks.py imports this module
    from pnas_tf.space.blocks import Block, OpKey, Space

# Ending of the name of a choice of filters, behind the block that begins the stage.
FILTERS = "/filters"


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a search decides.

    Attributes:
        name: Name of a block, whose op is chosen; or such a name with `/filters`, if filters are chosen.
        ops: Ops, or numbers of filters as text, in the order of their alphas.
        filters: The numbers of filters; empty if an op is chosen.
    """

    name: str
    ops: tuple[str, ...]
    filters: tuple[int, ...] = ()


def choices(space: "Space") -> dict[str, Choice]:
    """What a search of a space decides, by name, in the order of the network."""
    by_name = {}
    for block in space.all_blocks:
        if len(block.ops) > 1:
            by_name[block.name] = Choice(block.name, block.ops)
        if (name := space.width_choices.get(block.name)) and name not in by_name:
            by_name[name] = Choice(name, tuple(map(str, block.widths)), block.widths)
    return by_name


def by_block(space: "Space") -> dict[str, str]:
    """Name of the choice of a block's filters, by block name, for blocks whose filters are searched."""
    names: dict[str, str] = {}
    for block in space.all_blocks:
        if block.widths:
            names[block.name] = names[space.sources[block.name][0]] if block.shortcut else block.name + FILTERS
    return names


def axes(space: "Space", block: "Block") -> tuple[str, ...]:
    """Names of the choices that the table row of a block depends on, see `Space.axes`."""
    op = [block.name] if len(block.ops) > 1 else []
    return tuple(dict.fromkeys([*op, *filter(None, _sides(space, block))]))


def keys(space: "Space", block: "Block") -> "list[OpKey]":
    """Keys of all table rows that a block may need, see `Space.keys`."""
    before, own = _sides(space, block)
    if not (before or own):
        return [space.op_key(block, op) for op in block.ops]
    result = []
    for op in block.ops:
        key = space.op_key(block, op)
        height, width, channels = key.input
        for size in space.choices[before].filters if before else (channels,):
            # Behind a shortcut, the filters are those of the input.
            out = (size,) if own and own == before else block.widths or (block.filters,)
            result += [dataclasses.replace(key, input=(height, width, size), filters=filters) for filters in out]
    return result


def _sides(space: "Space", block: "Block") -> tuple[str | None, str | None]:
    """Names of the choices of the filters of a block's input and of its own; None where they are fixed."""
    before = space.sources[block.name]
    return space.width_choices.get(before[0]) if before else None, space.width_choices.get(block.name)


@functools.lru_cache(maxsize=10_000)  # a search compares thousands of networks of few widths
def fixed(space: "Space", chosen: tuple[int, ...]) -> "Space":
    """A space with the filters of every stage fixed.

    Args:
        space: Space with choices of filters.
        chosen: Filters of each such choice, in the order of `Space.choices`.
    """
    filters = dict(zip((name for name, choice in space.choices.items() if choice.filters), chosen, strict=True))

    def of(blocks: "tuple[Block, ...]") -> "tuple[Block, ...]":
        return tuple(with_filters(block, [filters[space.width_choices[block.name]]]) if block.widths else block
                     for block in blocks)

    return dataclasses.replace(space, stem=of(space.stem), blocks=of(space.blocks), head=of(space.head))


def with_filters(block: "Block", filters: Iterable[int]) -> "Block":
    """A block with other output channels: one number, or several to choose from."""
    different = tuple(sorted(set(filters)))
    return dataclasses.replace(block, filters=different[-1], widths=different if len(different) > 1 else ())
