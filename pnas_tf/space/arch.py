"""An arch: one op for each choice of a space. Archs are read, written and drawn here."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

import numpy as np

from pnas_tf import files
from pnas_tf.errors import InputError, shown
from pnas_tf.files import write_text
from pnas_tf.space import ops, spaces, widths
from pnas_tf.space.blocks import Block, OpKey, Space

FORMAT = "pnas_tf.arch/1"


@dataclasses.dataclass(frozen=True)
class Arch:
    """One network of a space.

    Attributes:
        space: Space that the network belongs to, with one number of filters for each block.
        ops: Op text by choice name.
        costs: Facts about the network: target, expected_ms, table_ms, params, macs, ...

    Raises:
        InputError: If a choice has no op, or an op that the choice does not offer, or a block has several numbers of
            filters (on construction).
    """

    space: Space
    ops: dict[str, str]
    costs: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        choices = self.space.choices
        if searched := self.space.width_choices:
            raise InputError(f"An arch of {self.space.name} needs one number of filters for each block: "
                             f"{next(iter(searched))} has several.")
        unknown, missing = sorted(set(self.ops) - set(choices)), sorted(set(choices) - set(self.ops))
        if unknown or missing:
            raise InputError(f"An arch of {self.space.name} needs one op for each choice: "
                             f"missing {missing[:5]}, unknown {[str(name)[:30] for name in unknown[:5]]}.")
        for name, op in self.ops.items():
            if op not in choices[name].ops:
                raise InputError(f"Choice {name} offers {', '.join(choices[name].ops)}; got {shown(op)}.")

    def op_of(self, block: Block) -> str:
        """Op of a block, whether chosen or fixed."""
        return self.ops.get(block.name, block.ops[0])

    def blocks(self) -> list[tuple[Block, str]]:
        """Pairs of a block and its op, stem to head, skipped blocks left out. `Space.thread` joins them."""
        pairs = [(block, self.op_of(block)) for block in self.space.all_blocks]
        return [(block, op) for block, op in pairs if op != ops.ZERO]

    def op_keys(self) -> list[tuple[Block, OpKey]]:
        """Pairs of a block and its table row. The network's estimate is the sum of these rows."""
        pairs = [(block, self.space.op_key(block, self.op_of(block))) for block in self.space.all_blocks]
        return [(block, key) for block, key in pairs if not key.is_free]

    def chosen_in(self, space: Space) -> dict[str, str]:
        """What the network has at each choice of a space, by name; the inverse of `from_chosen`.

        Args:
            space: The network's space, or one with several numbers of filters where the network has one of them.
        """
        filters = {block.name: str(block.filters) for block in self.space.all_blocks} if space.width_choices else {}
        return {name: filters[name.removesuffix(widths.FILTERS)] if choice.filters else self.ops[name]
                for name, choice in space.choices.items()}

    def path_in(self, space: Space) -> np.ndarray:
        """The index of what the network has at each choice of a space, int32 [choices]; the inverse of `from_path`."""
        chosen = self.chosen_in(space)
        return np.array([choice.ops.index(chosen[name]) for name, choice in space.choices.items()], np.int32)

    @property
    def path(self) -> np.ndarray:
        """The index of the op of each choice of the network's own space, int32 [choices]."""
        return self.path_in(self.space)

    def fingerprint(self) -> str:
        """16 hexadecimal digits that are equal for equal networks, whatever names the space and its blocks have.

        In a chain, skipping either of two identical neighbours gives the same network, so its op keys alone count. In
        any other graph the ops of the named blocks count too.
        """
        positions = [] if self.space.is_chain else list(self.ops.items())
        return hashlib.sha256(repr(([str(key) for _, key in self.op_keys()], positions)).encode()).hexdigest()[:16]

    def for_data(self, input_size: int, input_channels: int, num_classes: int) -> "Arch":
        """The same arch for other images and another number of classes."""
        return dataclasses.replace(self, space=self.space.for_data(input_size, input_channels, num_classes))

    def with_costs(self, **costs: Any) -> "Arch":
        """The same arch with these costs added or replaced."""
        return dataclasses.replace(self, costs={**self.costs, **costs})

    def to_json(self) -> dict[str, Any]:
        """Contents of an arch.json."""
        return {"format": FORMAT, "space": self.space.to_json(), "ops": self.ops, "costs": self.costs}

    def save(self, path: str) -> None:
        """Writes an arch.json, whole or not at all.

        Raises:
            InputError: If the file cannot be written.
        """
        write_text(path, json.dumps(self.to_json(), indent=1) + "\n")

    def draw(self) -> str:
        """The network as text, one line for each block."""
        lines = [f"{self.space.name}: {self.space.input_size}x{self.space.input_size}x{self.space.input_channels}"
                 f" -> {self.space.num_classes} classes"]
        shapes = self.space.input_shapes()
        for block in self.space.all_blocks:
            op, (height, width, channels) = self.op_of(block), shapes[block.name]
            shape = f"{height}x{width}x{channels}"
            text = "skipped" if op == ops.ZERO else f"{op} -> {block.filters}" + (
                f" /{block.strides}" if block.strides > 1 else "") + (" + shortcut" if block.shortcut else "")
            lines.append((f"  {block.name:<10} {shape:<12} {text:<24}" + " + ".join(block.inputs)).rstrip())
        return "\n".join(lines)


def from_path(space: Space, path: Iterable[int]) -> Arch:
    """The arch of a path: one index for each choice, in the order of `Space.choices`. Its filters are plain numbers."""
    return from_chosen(space, {name: choice.ops[int(index)]
                               for (name, choice), index in zip(space.choices.items(), path, strict=True)})


def from_chosen(space: Space, chosen: Mapping[str, str]) -> Arch:
    """The arch with these ops and filters. Its space has plain numbers of filters.

    Args:
        space: Space, perhaps with several numbers of filters.
        chosen: Op, or number of filters as text, by the name of each choice.

    Raises:
        InputError: If an entry is missing, unknown, or not offered by its choice.
    """
    sizes = {name: choice for name, choice in space.choices.items() if choice.filters}
    for name, choice in sizes.items():
        if chosen.get(name) not in choice.ops:
            raise InputError(f"Choice {name} offers {', '.join(choice.ops)}; got {shown(chosen.get(name))}.")
    plain = widths.fixed(space, tuple(int(chosen[name]) for name in sizes)) if sizes else space
    return Arch(plain, {name: op for name, op in chosen.items() if name not in sizes})


def from_json(data: Any, where: str = "arch") -> Arch:
    """Reads what `Arch.to_json` wrote.

    Args:
        data: Parsed JSON, untrusted.
        where: Start of error messages, such as the name of the file.

    Raises:
        InputError: If the data is not an arch.
    """
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{where}: not an arch file (its format should be {FORMAT!r}).")
    arch_ops, costs = data.get("ops"), data.get("costs", {})
    if not isinstance(arch_ops, dict) or not isinstance(costs, dict):
        raise InputError(f"{where}: ops and costs must be JSON objects.")
    space = spaces.from_json(data.get("space"), where)
    try:
        return Arch(space, arch_ops, costs)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def names() -> list[str]:
    """Names of the archs that ship with the package, sorted."""
    return sorted(entry.name[:-5] for entry in resources.files("pnas_tf").joinpath("archs").iterdir()
                  if entry.name.endswith(".json"))


def load(name_or_path: str) -> Arch:
    """Loads a shipped arch by its name, or an arch.json by its path.

    Raises:
        InputError: If there is neither, or the file does not hold an arch.
    """
    if name_or_path in names():
        text = resources.files("pnas_tf").joinpath("archs", name_or_path + ".json").read_text(encoding="utf-8")
        return from_json(json.loads(text), name_or_path)
    if not os.path.exists(name_or_path) and (os.sep in name_or_path or name_or_path.endswith(".json")):
        raise InputError(f"{name_or_path}: no such file. Name the arch.json in the folder of a search, or one of "
                         f"{', '.join(names())}.")
    if not os.path.exists(name_or_path):
        raise InputError(f"Unknown arch {name_or_path!r}. Expected one of {', '.join(names())}, or the path of an "
                         "arch.json.")
    return from_json(files.read_json(name_or_path), name_or_path)
