"""EfficientNet-Lite0 made faster by hand: by width, by depth, or by smaller images.

Each rule is a ladder of networks, from Lite0 down, for each of some image sizes, from the largest down. The first
ladder that can keep the milliseconds gives its slowest network that does. All networks are parts of Lite0 and start
from its weights.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Block, Space

RULES = ("width", "depth", "resolution")
LEAST_EXPANSION = 2  # an MBConv of expansion 1 has no expanded channels to choose from
# Image sizes of width and depth, and of resolution, which has no other means.
SIZES = (96, 64, 32)
SIZE_STEP, LEAST_SIZE = 8, 24


def ladders(full: Arch, rule: str) -> list[list[Arch]]:
    """Networks from the full one down, each smaller than the one before, for each image size.

    Args:
        full: EfficientNet-Lite0 for the images and classes of the data set.
        rule: One of `RULES`.
    """
    blocks = tuple(dataclasses.replace(block, ops=(full.op_of(block),)) for block in full.space.blocks)
    start = dataclasses.replace(full.space, blocks=blocks)
    steps = {"width": _narrower, "depth": _shallower, "resolution": lambda space: [space]}[rule](start)
    sizes = range(start.input_size, LEAST_SIZE - 1, -SIZE_STEP) if rule == "resolution" else SIZES
    return [[Arch(space.for_data(size, space.input_channels, space.num_classes), {}) for space in steps]
            for size in sizes]


def _narrower(space: Space) -> list[Space]:
    """Lower expansions: all blocks go from 6 to 5, 4, 3 and 2, the later half first."""
    steps, half = [space], len(space.blocks) // 2
    for expansion in range(5, LEAST_EXPANSION - 1, -1):
        for first in (half, 0):
            blocks = tuple(_at_most(block, expansion) if number >= first else block
                           for number, block in enumerate(steps[-1].blocks))
            steps.append(dataclasses.replace(space, blocks=blocks))
    return steps


def _at_most(block: Block, expansion: int) -> Block:
    def lower(match):
        return f"_e{min(int(match[1]), expansion)}"

    return dataclasses.replace(block, ops=tuple(re.sub(r"_e(\d+)$", lower, op) for op in block.ops))


def _shallower(space: Space) -> list[Space]:
    """Fewer blocks: the last block of the deepest stage goes, of the later one if two are as deep."""
    steps = [space]
    while True:
        blocks = steps[-1].blocks
        # The blocks of a stage have the same filters; all but its first have a shortcut and can go.
        depths = {block.filters: sum(other.filters == block.filters for other in blocks) for block in blocks}
        deepest = max(depths, key=lambda filters: (depths[filters], filters))
        if depths[deepest] == 1:
            return steps
        gone = [block for block in blocks if block.filters == deepest][-1]
        steps.append(dataclasses.replace(space, blocks=tuple(block for block in blocks if block is not gone)))


def slowest_within(ladders: Sequence[Sequence[Arch]], ms: Mapping[str, float], limit_ms: float) -> Arch:
    """The slowest network that keeps a limit, of the first ladder that has one; if none has, the fastest network.

    Args:
        ladders: Networks, from the largest image size down.
        ms: Their milliseconds by fingerprint.
        limit_ms: Limit in milliseconds.
    """
    for archs in ladders:
        within = [arch for arch in archs if ms[arch.fingerprint()] <= limit_ms]
        if within:
            return max(within, key=lambda arch: ms[arch.fingerprint()])
    return min((arch for archs in ladders for arch in archs), key=lambda arch: ms[arch.fingerprint()])
