"""Networks that keep each block of a pretrained network whole, or leave it out.

A block with fewer channels or a smaller kernel has lost what it computed, and learns it again only from many images.
One that is left out costs little: its shortcut passes the input on, at the scale that the next blocks know. On few
images, networks of whole blocks are therefore far better at the same milliseconds (benchmarks/NOTES.md, "From a
pretrained network").
"""

import dataclasses

from pnas_tf.space import arch as arch_lib
from pnas_tf.space import ops
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Block, Space


def ops_of(space: Space) -> dict[str, str]:
    """The op of the pretrained network at each block, by name; its classifier stands for that of any classes.

    Args:
        space: Space with `pretrained`.
    """
    whole = arch_lib.load(str(space.pretrained))
    known = {block.name: op for block, op in whole.blocks()}
    return {block.name: known.get(block.name, block.ops[0]) for block in space.all_blocks}


def only(space: Space) -> Space:
    """The space in which every block is that of the pretrained network, or is left out where it may be now.

    Args:
        space: Space with `pretrained`.
    """
    whole = ops_of(space)

    def kept(block: Block) -> Block:
        return dataclasses.replace(block, ops=tuple(op for op in block.ops if op in (whole[block.name], ops.ZERO)))

    return dataclasses.replace(space, blocks=tuple(map(kept, space.blocks)))


def is_cut(arch: Arch) -> bool:
    """Whether a block of an arch is smaller than that of the pretrained network of its space; none is left out."""
    whole = ops_of(arch.space)
    return any(op not in (whole[block.name], ops.ZERO) for block, op in arch.blocks())


def are_all_of(arch: Arch, whole: Arch) -> bool:
    """Whether each block of an arch is also one of another arch, with the same op and number of filters."""
    there = {(block.name, op, block.filters) for block, op in whole.blocks()}
    return all((block.name, op, block.filters) in there for block, op in arch.blocks())
