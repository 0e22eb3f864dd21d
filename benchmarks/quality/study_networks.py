"""The networks that a search has to beat: random networks, uniform ones, and MobileNetV2 scaled by width."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from pnas_tf import terminal
from pnas_tf.space import spaces
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Block, Space, make_divisible

# MobileNetV2 (Sandler et al. 2018, table 2) after the stem: expansion, filters, blocks, strides of the first block.
MOBILENET_V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                (6, 320, 1, 1))


def study_space(width_mult: float) -> Space:
    """The space of the study of search quality, see `quick`."""
    return dataclasses.replace(quick("cifar_mb", width_mult), name="cifar_mb_s2")


def quick(name: str, width_mult: float) -> Space:
    """A space for 32x32 images, made quick to train: its stem has strides 2, and all its widths are scaled.

    Args:
        name: Name of the space.
        width_mult: Factor of its widths.
    """
    scaled = spaces.load(name).scaled(width_mult)
    stem = (dataclasses.replace(scaled.stem[0], strides=2),)
    return dataclasses.replace(scaled, stem=stem)


def uniform(space: Space, op: str) -> Arch:
    """The network that has the same op in every choice.

    Raises:
        InputError: If a choice does not offer the op.
    """
    return Arch(space, dict.fromkeys(space.choices, op))


def uniform_ms(space: Space, table, ops: Sequence[str], digits: int) -> dict[str, float]:
    """Milliseconds of uniform networks by op, rounded up, so that each keeps its own as a limit.

    Args:
        space: Space of the networks.
        table: A `LatencyTable` of the space.
        ops: Op of each network.
        digits: Significant digits of the milliseconds.
    """
    from pnas_tf.cost import prices

    price = prices.milliseconds(table)
    return {op: terminal.rounded_up(prices.of_arch(uniform(space, op), price), digits) for op in ops}


def random_within(space: Space, limit, count: int, seed: int, least: float = 0.97, without: str = "") -> list[Arch]:
    """Different random networks among those that keep a limit and use most of it, all equally likely.

    Args:
        space: Space of the networks.
        limit: Limit that they keep, a `limits.Limit`.
        count: Number of networks.
        seed: Seed of the draws.
        least: Share of the limit that each network uses at least.
        without: Part of the names of ops that no network holds; "" for none.
    """
    from pnas_tf.cost import within_limits
    from pnas_tf.space import arch as arch_lib
    from pnas_tf.space import blocks as blocks_lib

    probs = blocks_lib.uniform_probs(space)
    for row, block in zip(probs, space.choices.values(), strict=True):
        row[:len(block.ops)] *= [not without or without not in op for op in block.ops]
    paths = within_limits.samples(probs / probs.sum(1, keepdims=True), [limit], least, count, seed)
    return [arch_lib.from_path(space, path) for path in paths]


def mobilenet_v2(space: Space, width_mult: float) -> Arch:
    """MobileNetV2 for the images of a space.

    It has as many blocks with strides 2 as the space, at the stages that begin nearest to the same share of the depth,
    and the same head: so both do about the same share of their blocks on maps of each size.

    Args:
        space: Space whose images, stem and head the network takes over.
        width_mult: Factor of all widths of MobileNetV2.
    """
    depth, starts = sum(stage[2] for stage in MOBILENET_V2), [0]
    for *_, count, _ in MOBILENET_V2[:-1]:
        starts.append(starts[-1] + count)
    shrinks: list[int] = []
    for number, block in enumerate(space.blocks):
        if block.strides == 2:
            off = {start: abs(start / depth - number / len(space.blocks)) for start in starts if start not in shrinks}
            shrinks.append(min(off, key=off.__getitem__))
    blocks, channels = list[Block](), make_divisible(32 * width_mult)
    stem = dataclasses.replace(space.stem[0], filters=channels)
    for expansion, filters, count, _ in MOBILENET_V2:
        width = make_divisible(filters * width_mult)
        for _ in range(count):
            step = 2 if len(blocks) in shrinks else 1
            blocks.append(Block(f"b{len(blocks):02d}", (f"mb_k3_e{expansion}",), width, step,
                                step == 1 and channels == width))
            channels = width
    return Arch(Space(f"mobilenet_v2_{width_mult:g}", space.input_size, space.input_channels, space.num_classes,
                      (stem,), tuple(blocks), space.head), {})


def distinct(archs: dict[str, Arch]) -> dict[str, Arch]:
    """Leaves out networks that equal an earlier one: widths that differ little are equal once they are rounded."""
    names: dict[tuple, str] = {}
    for name, arch in archs.items():
        names.setdefault(tuple(key for _, key in arch.op_keys()), name)
    return {name: archs[name] for name in names.values()}


def nearest(ms: dict[str, float], target_ms: float) -> str:
    """Name of the network whose milliseconds are nearest to a target, by their ratio."""
    return min(ms, key=lambda name: abs(np.log(ms[name] / target_ms)))
