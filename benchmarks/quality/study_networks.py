"""The networks that a search has to beat: random, uniform ones, MobileNetV2 scaled by width."""

import dataclasses

import numpy as np

from pnas_tf.space import spaces
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Block, Space, make_divisible

# MobileNetV2 (Sandler et al. 2018, table 2) below the stem: expansion, filters, blocks, stride of the first.
MOBILENET_V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                (6, 320, 1, 1))


def study_space(width_mult: float) -> Space:
    """`cifar_mb` for minutes of training: a stem of stride 2, and all widths scaled."""
    scaled = spaces.SPACES["cifar_mb"].scaled(width_mult)
    stem = (dataclasses.replace(scaled.stem[0], strides=2),)
    return dataclasses.replace(scaled, name="cifar_mb_s2", stem=stem)


def uniform(space: Space, op: str) -> Arch:
    """The network with one op everywhere.

    Raises:
        InputError: if a choice does not offer it.
    """
    return Arch(space, dict.fromkeys(space.choices, op))


def random_within(space: Space, limit, count: int, seed: int, least: float = 0.97) -> list[Arch]:
    """Different archs drawn evenly among those that keep a limit and use most of it.

    Args:
        space: to draw from.
        limit: a `limits.Limit`.
        count: of archs.
        seed: of the draws.
        least: share of the limit that an arch uses at least.
    """
    from pnas_tf.cost import within_limits
    from pnas_tf.space import arch as arch_lib
    from pnas_tf.space import blocks as blocks_lib

    paths = within_limits.samples_within(blocks_lib.uniform_probs(space), [limit], least, count, seed)
    return [arch_lib.from_path(space, path) for path in paths]


def mobilenet_v2(space: Space, width_mult: float) -> Arch:
    """MobileNetV2 for the images of a space: its blocks, scaled by width, strides where the space has them.

    It shrinks images as often as the space does, and has its head, so that both work on maps of the same sizes.
    """
    shrinks = sum(block.strides == 2 for block in space.blocks)
    blocks, channels = [], make_divisible(32 * width_mult)
    stem = dataclasses.replace(space.stem[0], filters=channels)
    for expansion, filters, count, strides in MOBILENET_V2:
        shrink = strides == 2 and shrinks > 0
        shrinks -= shrink
        width = make_divisible(filters * width_mult)
        for number in range(count):
            step = 2 if shrink and number == 0 else 1
            blocks.append(Block(f"b{len(blocks):02d}", (f"mb_k3_e{expansion}",), width, step,
                                step == 1 and channels == width))
            channels = width
    return Arch(Space(f"mobilenet_v2_{width_mult:g}", space.input_size, space.input_channels, space.num_classes,
                      (stem,), tuple(blocks), space.head), {})


def distinct(archs: dict[str, Arch]) -> dict[str, Arch]:
    """The first of each network: scaling widths little changes nothing once they are rounded."""
    seen: dict[tuple, str] = {}
    for name, arch in archs.items():
        seen.setdefault(tuple(key for _, key in arch.op_keys()), name)
    return {name: archs[name] for name in seen.values()}


def nearest(ms: dict[str, float], target_ms: float) -> str:
    """The name whose time is the nearest."""
    return min(ms, key=lambda name: abs(np.log(ms[name] / target_ms)))
