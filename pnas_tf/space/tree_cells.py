"""The paper's CIFAR space (section 4.1): a PyramidNet of bottlenecks whose 3x3 convolutions are tree-structured cells.

A residual block consists of the following blocks. `b07`, `b07/out` and `b07/skip` have its full width, all others a
quarter of it.

    b07/in                  1x1 convolution to a quarter of the width, with batch norm and ReLU
    b07/left, b07/right     3x3 convolutions in two groups: the two branches
    b07/n1 .. b07/n6        choices: n1 and n2 read left; n3 and n4 read n1; n5 and n6 read n2
    b07/left_norm           batch norm of n3 + n4 + n5 + n6
    b07/n7 .. b07/n12       choices: the same tree, reading right
    b07/right_norm          batch norm of n9 + n10 + n11 + n12
    b07/out                 1x1 convolution of left + left_norm + right + right_norm
    b07/skip                shortcut without weights, where width or size change
    b07                     out + shortcut

The paper describes one convolution that doubles the channels, a channel shuffle and a split into halves. A shuffle of
two groups deals each group's channels evenly to both halves, so each half is a two-group convolution of its own with
half the filters: the same weights and the same function, with nothing to transpose on a phone.
"""

import re
from collections.abc import Callable

from pnas_tf.space.blocks import Block, Space

# In the order of the alphas.
OPS = ("identity", "sep_k3", "sep_k5", "sep_k7", "dil_k3", "avg_k3", "max_k3")
STAGES, STEM_FILTERS = 3, 16
BLOCKS, FILTERS = 18, 400  # B and F of the published network

# From (name of the residual block, channels, strides) to the blocks that read `NAME/in`, and the names of those whose
# outputs are added up for `NAME/out`.
Middle = Callable[[str, int, int], tuple[list[Block], tuple[str, ...]]]

_NAME = re.compile(r"cifar_tree(?:_b([1-9][0-9]?)_f([1-9][0-9]{1,3}))?(_s2)?", flags=re.ASCII)


def named(name: str, num_classes: int = 10) -> Space | None:
    """The tree space of a name: `cifar_tree`, or `cifar_tree_b2_f88` for other sizes.

    Args:
        name: Name of the space. If it ends in `_s2`, the stem has stride 2.
        num_classes: Number of classes.

    Returns:
        The space, or None if this is not the name of a tree space.
    """
    match = _NAME.fullmatch(name)
    if not match:
        return None
    blocks, filters = int(match[1] or BLOCKS), int(match[2] or FILTERS)
    if blocks > BLOCKS or not 72 <= filters <= 1600:
        return None
    return tree_space(name, blocks, filters, stem_strides=2 if match[3] else 1, num_classes=num_classes)


def tree_space(name: str, blocks: int, filters: int, *, stem_strides: int = 1, num_classes: int = 10) -> Space:
    """A PyramidNet of tree-structured cells; see `pyramid`."""
    return pyramid(name, blocks, filters, cell, stem_strides=stem_strides, num_classes=num_classes)


def plain(name: str, blocks: int, filters: int, *, stem_strides: int = 1, num_classes: int = 10) -> Space:
    """The PyramidNet with a 3x3 convolution in place of each cell: the baseline of the cells. It has no choices."""
    return pyramid(name, blocks, filters, convolution, stem_strides=stem_strides, num_classes=num_classes)


def pyramid(name: str, blocks: int, filters: int, middle: Middle, *, stem_strides: int = 1, num_classes: int = 10
            ) -> Space:
    """A PyramidNet of bottlenecks with pre-activation (Han, Kim, Kim 2017).

    Args:
        name: Name of the space.
        blocks: Residual blocks in each of three stages (B of the paper).
        filters: Output channels of the last residual block (F of the paper), rounded down to a multiple of 8.
        middle: Function that makes the blocks between the two 1x1 convolutions of a residual block.
        stem_strides: Stride of the stem. With 2, feature maps have half the side and take a quarter of the time.
        num_classes: Number of classes.

    Raises:
        InputError: If these sizes do not make a network.
    """
    parts: list[Block] = []
    before, channels = "stem", STEM_FILTERS
    for number, width in enumerate(widths(blocks, filters), start=1):
        strides = 2 if number > 1 and number % blocks == (1 if blocks > 1 else 0) else 1
        parts += residual_block(f"b{number:02d}", before, channels, width, strides, middle)
        before, channels = f"b{number:02d}", width
    head = (Block("mix", ("act",), channels), Block("classifier", ("classifier",), num_classes))
    stem = (Block("stem", ("linear_k3",), STEM_FILTERS, stem_strides),)
    return Space(name, 32, 3, num_classes, stem, tuple(parts), head)


def widths(blocks: int, filters: int) -> list[int]:
    """Output channels of all residual blocks: they grow evenly from 64 to `filters`, in multiples of 8."""
    total = STAGES * blocks
    quarters = [round(STEM_FILTERS + (filters / 4 - STEM_FILTERS) * number / total) for number in range(1, total + 1)]
    return [quarter // 2 * 8 for quarter in quarters]


def residual_block(name: str, before: str, channels: int, width: int, strides: int, middle: Middle) -> list[Block]:
    """The blocks of one residual block.

    Args:
        name: Name of the residual block, `b07`.
        before: Name of the block that it reads.
        channels: Output channels of the block that it reads.
        width: Output channels, a multiple of 8.
        strides: Stride of the middle and of the shortcut.
        middle: Function that makes the blocks between `b07/in` and `b07/out`.
    """
    inner = width // 4
    between, ends = middle(name, inner, strides)
    parts = [Block(f"{name}/in", ("reduce_k1",), inner, inputs=(before,)), *between]
    parts.append(Block(f"{name}/out", ("expand_k1",), width, inputs=ends))
    shortcut = before
    if strides > 1 or width != channels:
        shortcut = f"{name}/skip"
        parts.append(Block(shortcut, ("widen",), width, strides, inputs=(before,)))
    return [*parts, Block(name, ("join",), width, inputs=(f"{name}/out", shortcut))]


def cell(name: str, filters: int, strides: int) -> tuple[list[Block], tuple[str, ...]]:
    """The blocks of a tree-structured cell; a `Middle`."""
    def block(part, ops, inputs, strides=1):
        return Block(f"{name}/{part}", ops, filters, strides, inputs=tuple(f"{name}/{other}" for other in inputs))

    blocks = [block(branch, ("group_k3_g2",), ("in",), strides) for branch in ("left", "right")]
    for branch, first in (("left", 1), ("right", 7)):
        n = [f"n{first + offset}" for offset in range(6)]
        for node, source in zip(n, (branch, branch, n[0], n[0], n[1], n[1]), strict=True):
            blocks.append(block(node, OPS, (source,)))
        blocks.append(block(f"{branch}_norm", ("bn",), n[2:]))
    return blocks, tuple(f"{name}/{end}" for end in ("left", "left_norm", "right", "right_norm"))


def convolution(name: str, filters: int, strides: int) -> tuple[list[Block], tuple[str, ...]]:
    """The single block of a plain 3x3 convolution; a `Middle`."""
    return [Block(f"{name}/middle", ("group_k3_g1",), filters, strides, inputs=(f"{name}/in",))], (f"{name}/middle",)
