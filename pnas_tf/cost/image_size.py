"""The image size of a search around a pretrained network: smaller images for targets below its milliseconds.

Leaving out blocks costs little until about half of the milliseconds are gone. From there on, smaller images cost less:
benchmarks/NOTES.md, "From a pretrained network", has the measurements.
"""

import dataclasses

from pnas_tf.cost.goal import least_ms
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.space import whole_blocks
from pnas_tf.space.blocks import Space

# Images are the largest at which the target is at least this share of the whole network's milliseconds.
LEAST_SHARE = 0.55
LARGEST = 8192  # height and width that images may have


def sizes(space: Space, table: LatencyTable) -> list[int]:
    """The image sizes at which a table prices a space, largest first.

    Args:
        space: Space, not yet fitted to the channels and classes of the images.
        table: Latency table. Rows of the first and of the last block count for any number of channels and classes.
    """
    stem, ends = space.all_blocks[0], (space.all_blocks[0].name, space.all_blocks[-1].name)

    def is_priced(at_size: Space) -> bool:
        return least_ms(at_size, table, stem) > 0 and all(
            block.name in ends or table.row(block.name, key) for block, key in at_size.op_keys())

    sides = {key.input[0] for key in table.rows if key.op in stem.ops and key.input[0] == key.input[1]}
    return [side for side in sorted(sides, reverse=True)
            if 0 < side <= LARGEST and is_priced(dataclasses.replace(space, input_size=side))]


def suited(space: Space, table: LatencyTable, target_ms: float) -> int:
    """The largest image size at which a target is `LEAST_SHARE` or more of the whole pretrained network's milliseconds.

    Args:
        space: Space with `pretrained`.
        table: Latency table.
        target_ms: Milliseconds; 0 for the largest size.

    Returns:
        A size of `sizes`, at which some network reaches the target; the smallest one if the target is too low for all,
        the space's own if the table has none.
    """
    known = sizes(space, table)
    for side in known:
        at_size = dataclasses.replace(space, input_size=side)
        least = sum(least_ms(at_size, table, block) for block in space.all_blocks)
        if not target_ms or target_ms >= max(least, LEAST_SHARE * whole_ms(at_size, table)):
            return side
    return known[-1] if known else space.input_size


def whole_ms(space: Space, table: LatencyTable) -> float:
    """Milliseconds of the pretrained network of a space, at the size of the space's images."""
    ops = whole_blocks.ops_of(space)
    return sum(least_ms(space, table, dataclasses.replace(block, ops=(ops[block.name],)))
               for block in space.all_blocks)
