"""The first of two stages of a search (`--stages=widths,ops`): the filters that it offered and found."""

import dataclasses

from pnas_tf import terminal
from pnas_tf.report.facts import Facts
from pnas_tf.report.heat_maps import HeatMap, HeatMaps
from pnas_tf.space.arch import Arch
from pnas_tf.space.ops import ZERO
from pnas_tf.space.widths import FILTERS


@dataclasses.dataclass(frozen=True)
class Row:
    """One choice of filters.

    Attributes:
        block: Block that begins the stage.
        offered: Filters that could be chosen.
        found: Filters that were chosen.
        prob: Their last probability, or None.
    """

    block: str
    offered: str
    found: str
    prob: float | None


@dataclasses.dataclass(frozen=True)
class FirstStage:
    """The first stage.

    Attributes:
        rows: Choices of filters.
        ops: Op of every block.
        skipped: Number of blocks that were skipped.
        ms: Milliseconds of the network found, or None.
        time: Time of the stage in words, or None.
    """

    rows: list[Row]
    ops: str
    skipped: int
    ms: float | None
    time: str | None


def of_run(facts: Facts, maps: HeatMaps) -> FirstStage | None:
    """The first stage of a search; None if there was only one stage.

    Args:
        facts: Contents of the run folder.
        maps: Heat maps of its first stage.
    """
    first = facts.widths
    if first is None or first.arch is None:
        return None
    chosen = chosen_of(first.arch, maps)
    rows = [_row(each, chosen[each.choice]) for each in maps.all if each.choice in chosen and _is_width(each)]
    searched = facts.arch.space.choices if facts.arch else {}
    ops = sorted({op for block in first.arch.space.blocks if block.name in searched for op in block.ops} - {ZERO})
    seconds = first.seconds_searched
    return FirstStage(rows, ", ".join(ops), sum(op == ZERO for op in first.arch.ops.values()),
                      first.cost("table_ms"), terminal.seconds(seconds) if seconds is not None else None)


def chosen_of(arch: Arch | None, maps: HeatMaps) -> dict[str, str]:
    """Op, or number of filters as text, that a network has at each choice of some heat maps, by name."""
    if arch is None:
        return {}
    has = arch.ops | {f"{block.name}{FILTERS}": str(block.filters) for block in arch.space.all_blocks}
    return {each.choice: has[each.choice] for each in maps.all if each.choice in has}


def _is_width(heat_map: HeatMap) -> bool:
    return heat_map.choice.endswith(FILTERS)


def _row(heat_map: HeatMap, found: str) -> Row:
    return Row(heat_map.choice.removesuffix(FILTERS), ", ".join(op for op, _ in heat_map.final), found,
               dict(heat_map.final).get(found))
