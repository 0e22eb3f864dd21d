"""Tiny spaces that many tests search, time and export: `from tests.spaces import SMALL`."""

from collections.abc import Sequence

from pnas_tf.space.blocks import Block, Space
from pnas_tf.space.spaces import MB_OPS

# Four choices on colour images of 8x8 pixels: two at stride 1, then one that halves the map, then one behind it.
SMALL = Space(
    "small", input_size=8, input_channels=3, num_classes=4,
    stem=(Block("stem", ("conv_k3",), 8),),
    blocks=(Block("b00", ("mb_k3_e1",), 8),
            Block("b01", (*MB_OPS, "zero"), 8, shortcut=True),
            Block("b02", (*MB_OPS, "zero"), 8, shortcut=True),
            Block("b03", MB_OPS, 16, strides=2),
            Block("b04", (*MB_OPS, "zero"), 16, shortcut=True)),
    head=(Block("mix", ("conv_k1",), 16), Block("classifier", ("classifier",), 4)))

# Two choices on the grey images of 28x28 pixels that the package brings along (fashion_mnist_small).
TINY = Space(
    "tiny", input_size=28, input_channels=1, num_classes=10,
    stem=(Block("stem", ("conv_k3",), 8, strides=2),),
    blocks=(Block("b00", ("mb_k3_e1",), 8, strides=2),
            Block("b01", (*MB_OPS, "zero"), 8, shortcut=True),
            Block("b02", (*MB_OPS, "zero"), 8, shortcut=True)),
    head=(Block("mix", ("conv_k1",), 16), Block("classifier", ("classifier",), 10)))


def two_choices(ops: Sequence[str]) -> Space:
    """A space whose networks are quick to time: two equal choices on grey images of 28x28 pixels.

    Args:
        ops: Names of the candidate ops of both choices.
    """
    return Space(
        "tiny", input_size=28, input_channels=1, num_classes=10,
        stem=(Block("stem", ("conv_k3",), 8, strides=2),),
        blocks=(Block("b00", ("mb_k3_e1",), 8, strides=2),
                *(Block(f"b0{number}", tuple(ops), 8, shortcut=True) for number in (1, 2))),
        head=(Block("classifier", ("classifier",), 10),))


# Filters are searched in two stages and in the head; a block lies between two stages with a shortcut of its own.
WIDE = Space(
    "wide", input_size=8, input_channels=3, num_classes=4,
    stem=(Block("stem", ("conv_k3",), 8),),
    blocks=(Block("b00", ("mb_k3_e1",), 12, widths=(8, 12)),
            Block("b01", ("mb_k3_e1", "mb_k5_e2", "zero"), 12, shortcut=True, widths=(8, 12)),
            Block("b02", ("mb_k3_e2", "mbse_k3_e2"), 24, strides=2, widths=(16, 20, 24)),
            Block("b03", ("conv_k3",), 24, shortcut=True, widths=(16, 20, 24))),
    head=(Block("mix", ("conv_k1",), 24, widths=(16, 24)), Block("classifier", ("classifier",), 4)))
