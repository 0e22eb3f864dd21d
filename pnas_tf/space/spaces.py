"""Search spaces by name or from a JSON file; a block with several ops is a choice.

To add a space, add an entry to `SPACES`, or give a JSON file to `--space`.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from pnas_tf.errors import InputError
from pnas_tf.files import read_json
from pnas_tf.space import ops, tree_cells
from pnas_tf.space.blocks import MAX_BLOCKS, MAX_INPUTS, MAX_OPS, Block, Space

MB_OPS = tuple(f"mb_k{k}_e{e}" for k in (3, 5, 7) for e in (3, 6))


def from_json(data: Any, where: str = "space") -> Space:
    """Reads what `Space.to_json` wrote.

    Args:
        data: parsed JSON, untrusted.
        where: what to call it in an error.

    Raises:
        InputError: if it is not a space.
    """
    fields = {field.name for field in dataclasses.fields(Space)}
    if not isinstance(data, dict) or set(data) != fields:
        raise InputError(f"{where}: a space is a JSON object with exactly {', '.join(sorted(fields))}.")

    def block(entry: Any) -> Block:
        known = {field.name for field in dataclasses.fields(Block)}
        if not isinstance(entry, dict) or not {"name", "ops", "filters"} <= set(entry) <= known:
            raise InputError(f"{where}: a block is a JSON object with {', '.join(sorted(known))}.")
        if not isinstance(entry["ops"], list) or len(entry["ops"]) > MAX_OPS:
            raise InputError(f"{where}: ops of a block is a list of at most {MAX_OPS} op texts.")
        inputs = entry.get("inputs", [])
        if not isinstance(inputs, list) or len(inputs) > MAX_INPUTS:
            raise InputError(f"{where}: inputs of a block is a list of at most {MAX_INPUTS} names.")
        return Block(**{**entry, "ops": tuple(entry["ops"]), "inputs": tuple(inputs)})

    parts = {}
    for part in ("stem", "blocks", "head"):
        if not isinstance(data[part], list) or len(data[part]) > MAX_BLOCKS:
            raise InputError(f"{where}: {part} is a list of at most {MAX_BLOCKS} blocks.")
        parts[part] = tuple(block(entry) for entry in data[part])
    try:
        return Space(**{**data, **parts})
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def load(name_or_path: str) -> Space:
    """A space by name (of `SPACES`, or a tree space such as `cifar_tree_b2_f88`), or one read from a JSON file.

    Raises:
        InputError: if there is none.
    """
    found = SPACES.get(name_or_path) or tree_cells.named(name_or_path)
    if found:
        return found
    if not os.path.exists(name_or_path):
        raise InputError(f"Unknown space {name_or_path!r}. Known: {', '.join(SPACES)}, cifar_tree_bB_fF "
                         "with B blocks in each of 3 stages (up to 18) and F filters in the last (72 to 1600), or the "
                         "path of a JSON file.")
    return from_json(read_json(name_or_path), name_or_path)


def mb_space(name: str, *, input_size: int, input_channels: int = 3, num_classes: int, stem: Block, first: Block,
             widths: Sequence[int], cells: Sequence[int], strides: Sequence[int], mix: int) -> Space:
    """An MBConv space: stem, one fixed block, stages of choices, feature mix and classifier.

    `zero` is offered where the shortcut exists: at stride 1 with equal widths (paper section 3.1).
    """
    blocks, channels = [first], first.filters
    for width, count, stride in zip(widths, cells, strides, strict=True):
        for cell in range(count):
            step = stride if cell == 0 else 1
            shortcut = step == 1 and channels == width
            candidates = MB_OPS + ((ops.ZERO,) if shortcut else ())
            blocks.append(Block(f"b{len(blocks):02d}", candidates, width, step, shortcut))
            channels = width
    head = (Block("mix", ("conv_k1",), mix), Block("classifier", ("classifier",), num_classes))
    return Space(name, input_size, input_channels, num_classes, (stem,), tuple(blocks), head)


def _imagenet(name: str, first_stage: int) -> Space:
    return mb_space(
        name, input_size=224, num_classes=1000,
        stem=Block("stem", ("conv_k3",), 32, strides=2), first=Block("b00", ("mb_k3_e1",), 16),
        widths=(first_stage, 40, 80, 96, 192, 320), cells=(4, 4, 4, 4, 4, 1), strides=(2, 2, 2, 1, 2, 1), mix=1280)


SPACES: dict[str, Space] = {
    # The original's default space: 21 choices, 2.2e17 archs.
    "proxyless_imagenet": _imagenet("proxyless_imagenet", 24),
    # The same, 32 wide in the first stage, as the published mobile network is.
    "proxyless_mobile": _imagenet("proxyless_mobile", 32),
    # For 32x32 images: 12 choices on maps of 16, 8 and 4 pixels.
    "cifar_mb": mb_space(
        "cifar_mb", input_size=32, num_classes=10,
        stem=Block("stem", ("conv_k3",), 24), first=Block("b00", ("mb_k3_e1",), 16),
        widths=(24, 40, 80, 128), cells=(3, 3, 3, 3), strides=(2, 2, 1, 2), mix=512),
    # For the embedded 28x28 grey images: 6 choices on maps of 14 and 7 pixels.
    "quickstart": mb_space(
        "quickstart", input_size=28, input_channels=1, num_classes=10,
        stem=Block("stem", ("conv_k3",), 16, strides=2), first=Block("b00", ("mb_k3_e1",), 16),
        widths=(24, 40, 64), cells=(2, 2, 2), strides=(1, 2, 1), mix=192),
    # The paper's tree-structured cells: 648 choices in 54 blocks. `load` makes smaller ones.
    "cifar_tree": tree_cells.tree_space("cifar_tree", tree_cells.BLOCKS, tree_cells.FILTERS),
}
