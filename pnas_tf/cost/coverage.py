"""The search spaces that a table prices."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from pnas_tf.space.blocks import Block, OpKey, Space
from pnas_tf.space.spaces import SPACES


class Table(Protocol):
    """A table that knows which ops it lacks."""

    def missing(self, what: Space) -> list[tuple[Block, OpKey]]:
        """The ops of a space that the table has no row for."""
        ...


@dataclasses.dataclass(frozen=True)
class Coverage:
    """The part of a space that a table prices.

    Attributes:
        space: Name of the space.
        priced: Number of its ops that the table has.
        ops: Number of its ops, each counted in every block.
    """

    space: str
    priced: int
    ops: int

    @property
    def is_whole(self) -> bool:
        """Whether the table has every op."""
        return self.priced == self.ops


def of_spaces(table: Table) -> list[Coverage]:
    """The known spaces of which a table has at least half of the ops; those that it covers best come first."""
    found = []
    for name, space in SPACES.items():
        ops = {(block.name, key) for block, key in space.op_keys()}
        lacking = {(block.name, key) for block, key in table.missing(space)}
        found.append(Coverage(name, len(ops) - len(lacking), len(ops)))
    return sorted((part for part in found if 2 * part.priced >= part.ops), key=lambda part: -part.priced / part.ops)


def words(parts: Sequence[Coverage]) -> str:
    """The result of `of_spaces` in words, such as `proxyless_mobile; 100 of the 130 ops of proxyless_imagenet`."""
    whole = ", ".join(part.space for part in parts if part.is_whole) or "no known space as a whole"
    return "; ".join([whole, *(f"{part.priced} of the {part.ops} ops of {part.space}" for part in parts
                               if not part.is_whole)])
