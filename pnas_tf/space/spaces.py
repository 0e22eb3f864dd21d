"""Search spaces, by name or from a JSON file.

To add a space, add an entry to `SPACES`, or write a JSON file (see `Space.to_json`) and name it by `--space`.
"""

import dataclasses
import itertools
import json
import os
from collections.abc import Sequence
from importlib import resources
from typing import Any, NamedTuple

from pnas_tf.errors import InputError
from pnas_tf.files import read_json
from pnas_tf.space import ops, tree_cells
from pnas_tf.space.blocks import Block, Space, make_divisible
from pnas_tf.space.checks import MAX_BLOCKS, MAX_INPUTS, MAX_OPS, MAX_WIDTHS
from pnas_tf.space.widths import with_filters

# The ops of the paper's mobile spaces, in the order of the alphas.
MB_OPS = tuple(f"mb_k{k}_e{e}" for k in (3, 5, 7) for e in (3, 6))
# Universal inverted bottlenecks: sizes of the start and the middle depthwise, each with every expansion.
UIB_KERNELS = ((0, 3), (0, 5), (3, 0), (5, 0), (3, 3), (5, 5), (0, 0))
# Ending of the name of a space in which filters are searched, and filters to choose from as multiples of its own.
WIDTHS, FACTORS = "_widths", (0.75, 1.0, 1.25)
# Fields that the JSON of a space may leave out.
OPTIONAL = {"normalisation", "pretrained"}


def from_json(data: Any, where: str = "space") -> Space:
    """Reads what `Space.to_json` wrote.

    Args:
        data: Parsed JSON, untrusted.
        where: Start of error messages, such as the name of the file.

    Raises:
        InputError: If the data is not a space.
    """
    fields = {field.name for field in dataclasses.fields(Space)}
    needed = fields - OPTIONAL
    if not isinstance(data, dict) or not needed <= set(data) <= fields:
        raise InputError(f"{where}: a space is a JSON object with {', '.join(sorted(needed))}, and perhaps "
                         f"{', '.join(sorted(OPTIONAL))}.")

    def block(entry: Any) -> Block:
        allowed = {field.name for field in dataclasses.fields(Block)} - {"widths"}  # a list in the place of filters
        if not isinstance(entry, dict) or not {"name", "ops", "filters"} <= set(entry) <= allowed:
            raise InputError(f"{where}: a block is a JSON object with name, ops, filters, and perhaps "
                             f"{', '.join(sorted(allowed - {'name', 'ops', 'filters'}))}.")
        if not isinstance(entry["ops"], list) or len(entry["ops"]) > MAX_OPS:
            raise InputError(f"{where}: ops of a block is a list of at most {MAX_OPS} op texts.")
        inputs = entry.get("inputs", [])
        if not isinstance(inputs, list) or len(inputs) > MAX_INPUTS:
            raise InputError(f"{where}: inputs of a block is a list of at most {MAX_INPUTS} names.")
        fields = {**entry, "ops": tuple(entry["ops"]), "inputs": tuple(inputs)}
        if isinstance(entry["filters"], list):
            if not 1 < len(entry["filters"]) <= MAX_WIDTHS:
                raise InputError(f"{where}: filters of a block is a number, or a list of 2 to {MAX_WIDTHS}.")
            fields |= {"filters": entry["filters"][-1], "widths": tuple(entry["filters"])}
        return Block(**fields)

    parts = {}
    for part in ("stem", "blocks", "head"):
        if not isinstance(data[part], list) or len(data[part]) > MAX_BLOCKS:
            raise InputError(f"{where}: {part} is a list of at most {MAX_BLOCKS} blocks.")
        parts[part] = tuple(block(entry) for entry in data[part])
    if isinstance(data.get("normalisation"), list):
        parts["normalisation"] = tuple(data["normalisation"])
    try:
        return Space(**{**data, **parts})
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def load(name_or_path: str) -> Space:
    """Loads a space by its name (in `SPACES`, or a tree space such as `cifar_tree_b2_f88`), or a JSON file by its path.

    `_widths` behind a name, as in --space=cifar_mb_widths, makes filters choices, see `with_searched_widths`.
    An arch, shipped or in a file, stands for the space that it is of.

    Raises:
        InputError: If there is neither, or the file does not hold a space.
    """
    space = SPACES.get(name_or_path) or tree_cells.named(name_or_path)
    if space:
        return space
    if name_or_path.endswith(WIDTHS) and (fixed := SPACES.get(name_or_path.removesuffix(WIDTHS))):
        return with_searched_widths(fixed, name_or_path)
    for entry in resources.files("pnas_tf").joinpath("archs").iterdir():
        if entry.name == f"{name_or_path}.json":
            return from_json(json.loads(entry.read_text(encoding="utf-8"))["space"], name_or_path)
    if not os.path.exists(name_or_path):
        raise InputError(f"Unknown space {name_or_path!r}. Known: {', '.join(SPACES)}, cifar_tree_bB_fF "
                         "with B blocks in each of 3 stages (up to 18) and F filters in the last (72 to 1600), "
                         "cifar_tree_bB_fF_s2 on maps of half the side, or the path of a JSON file. Behind a name, "
                         f"{WIDTHS} makes filters choices: cifar_mb{WIDTHS}.")
    data = read_json(name_or_path)
    return from_json(data["space"] if isinstance(data, dict) and "space" in data else data, name_or_path)


def with_searched_widths(space: Space, name: str) -> Space:
    """A space in which the filters of each stage with choices of ops are searched: 0.75, 1 or 1.25 times its own.

    Args:
        space: Chain of blocks without pretrained weights.
        name: Name of the new space.

    Raises:
        InputError: If the space is no such chain.
    """
    if not space.is_chain or space.pretrained:
        raise InputError(f"{name}: filters can be searched in chains of blocks without pretrained weights, and "
                         f"{space.name} is none. Take another space, such as cifar_mb{WIDTHS}.")

    def searched(block: Block) -> Block:
        return with_filters(block, [make_divisible(factor * block.filters) for factor in FACTORS]) \
            if len(block.ops) > 1 else block

    return dataclasses.replace(space, name=name, blocks=tuple(map(searched, space.blocks)))


class Stage(NamedTuple):
    """Consecutive blocks of one width.

    Attributes:
        filters: Output channels of each block; several in ascending order if they are searched.
        blocks: Number of blocks.
        strides: Stride of the first block; the others have stride 1.
        ops: Candidate ops of each block, without `zero`. A stage with a single op is fixed.
    """

    filters: int | tuple[int, ...]
    blocks: int
    strides: int
    ops: tuple[str, ...] = MB_OPS


def mb_space(name: str, *, input_size: int, input_channels: int = 3, num_classes: int, stem: Block, first: Block,
             stages: Sequence[Stage], mix: int) -> Space:
    """An MBConv space: stem, one fixed block, stages, feature mix and classifier.

    See `chain` for the choices, which are named from `b01` on.

    Args:
        name: Name of the space.
        input_size: Height and width of the images, pixels.
        input_channels: Channels of the images.
        num_classes: Number of classes.
        stem: First block.
        first: Fixed block after the stem.
        stages: Stages after the first block.
        mix: Output channels of the feature mix, the 1x1 convolution before the classifier.
    """
    head = (Block("mix", ("conv_k1",), mix), Block("classifier", ("classifier",), num_classes))
    return Space(name, input_size, input_channels, num_classes, (stem,), chain([first], stages), head)


def chain(first: Sequence[Block], stages: Sequence[Stage]) -> tuple[Block, ...]:
    """Blocks after a stem, each of which reads the block before it: some fixed ones, then stages.

    Every choice offers those ops of its stage that work at its stride, and `zero` where the block has a shortcut: at
    stride 1 with equal widths (paper section 3.1). The blocks of the stages are numbered after the fixed ones. The
    blocks of a stage share one choice of filters.

    Args:
        first: Fixed blocks, `b00` first; at least one.
        stages: Stages after them.
    """
    blocks, channels = [*first], first[-1].widths or (first[-1].filters,)
    for stage in stages:
        filters = stage.filters if isinstance(stage.filters, tuple) else (stage.filters,)
        for number in range(stage.blocks):
            strides = stage.strides if number == 0 else 1
            shortcut = strides == 1 and channels == filters
            candidates = tuple(op for op in stage.ops if not any(
                ops.requirement(op, *sides, strides) for sides in itertools.product(channels, filters)))
            candidates += (ops.ZERO,) if shortcut and len(stage.ops) > 1 else ()
            block = Block(f"b{len(blocks):02d}", candidates, filters[-1], strides, shortcut)
            blocks.append(with_filters(block, filters))
            channels = filters
    return tuple(blocks)


def _imagenet(name: str, first_stage: int) -> Space:
    return mb_space(
        name, input_size=224, num_classes=1000,
        stem=Block("stem", ("conv_k3",), 32, strides=2), first=Block("b00", ("mb_k3_e1",), 16),
        stages=(Stage(first_stage, 4, 2), Stage(40, 4, 2), Stage(80, 4, 2), Stage(96, 4, 1), Stage(192, 4, 2),
                Stage(320, 1, 1)),
        mix=1280)


def _cut_out_of(kernel: int) -> tuple[str, ...]:
    """MBConvs that can be cut out of a trained one of this kernel and expansion 6: smaller kernels, fewer channels."""
    return tuple(f"mb_k{k}_e{e}" for k in range(3, kernel + 1, 2) for e in (3, 4, 6))


# Filters, blocks, stride and kernel of EfficientNet-Lite0's stages after the first. All expand to 6 times the channels.
LITE0 = ((24, 2, 2, 3), (40, 2, 2, 5), (80, 3, 2, 3), (112, 3, 1, 5), (192, 4, 2, 5), (320, 1, 1, 3))


def _lite0() -> Space:
    """EfficientNet-Lite0, with ops that can be cut out of its own, so that all of them start from its weights."""
    space = mb_space(
        "lite0", input_size=224, num_classes=1000,
        stem=Block("stem", ("conv_k3",), 32, strides=2), first=Block("b00", ("mb_k3_e1",), 16),
        stages=[Stage(filters, count, strides, _cut_out_of(kernel)) for filters, count, strides, kernel in LITE0],
        mix=1280)
    return dataclasses.replace(space, normalisation=(127, 128), pretrained="efficientnet_lite0")


def _uib_ops(expansions: Sequence[int], kernels: Sequence[tuple[int, int]] = UIB_KERNELS) -> tuple[str, ...]:
    return tuple(f"uib_s{start}_m{middle}_e{e}" for start, middle in kernels for e in expansions)


def _mobile_2024() -> Space:
    """Widths, depth and fixed blocks of MobileNetV4-Conv-S, which is one of its networks."""
    first = (Block("b00", ("convrelu_k3",), 32, 2), Block("b01", ("convrelu_k1",), 32),
             Block("b02", ("convrelu_k3",), 96, 2), Block("b03", ("convrelu_k1",), 64))
    uib = _uib_ops((2, 3, 4, 6))
    return Space("mobile_2024", 224, 3, 1000, stem=(Block("stem", ("convrelu_k3",), 32, 2),),
                 blocks=chain(first, (Stage(96, 6, 2, uib), Stage(128, 6, 2, uib))),
                 head=(Block("mix", ("convrelu_k1",), 960), Block("classifier", ("mlpclassifier_h1280",), 1000)))


def _mobile_2024_medium() -> Space:
    """Widths, depth and fixed blocks of MobileNetV4-Conv-M, which is one of its networks."""
    uib = _uib_ops((2, 4, 6), (*UIB_KERNELS, (3, 5)))
    return Space("mobile_2024_medium", 256, 3, 1000, stem=(Block("stem", ("convrelu_k3",), 32, 2),),
                 blocks=chain([Block("b00", ("fusedrelu_k3_e4",), 48, 2)],
                              (Stage(80, 2, 2, uib), Stage(160, 8, 2, uib), Stage(256, 11, 2, uib))),
                 head=_mobile_2024().head)


# Filters, blocks and stride of the stages for 32x32 images, on feature maps of 16, 8 and 4 pixels.
CIFAR = ((24, 3, 2), (40, 3, 2), (80, 3, 1), (128, 3, 2))


def _cifar(name: str, candidates: tuple[str, ...]) -> Space:
    return mb_space(name, input_size=32, num_classes=10, stem=Block("stem", ("conv_k3",), 24),
                    first=Block("b00", ("mb_k3_e1",), 16), stages=[Stage(*stage, candidates) for stage in CIFAR],
                    mix=512)


SPACES: dict[str, Space] = {
    # The original's default space: 21 choices, 2.2e17 archs.
    "proxyless_imagenet": _imagenet("proxyless_imagenet", 24),
    # The same space with 32 channels in the first stage, as in the published mobile network.
    "proxyless_mobile": _imagenet("proxyless_mobile", 32),
    # Around MobileNetV4-Conv-S (2024), with its universal inverted bottlenecks: 12 choices.
    "mobile_2024": _mobile_2024(),
    # Around MobileNetV4-Conv-M, for 256x256 pixels: 21 choices.
    "mobile_2024_medium": _mobile_2024_medium(),
    # For 32x32 images: 12 choices on feature maps of 16, 8 and 4 pixels.
    "cifar_mb": _cifar("cifar_mb", MB_OPS),
    # The same widths and depth with universal inverted bottlenecks.
    "cifar_uib": _cifar("cifar_uib", _uib_ops((3, 6))),
    # For the embedded 28x28 grey images: 6 choices on feature maps of 14 and 7 pixels.
    "quickstart": mb_space(
        "quickstart", input_size=28, input_channels=1, num_classes=10,
        stem=Block("stem", ("conv_k3",), 16, strides=2), first=Block("b00", ("mb_k3_e1",), 16),
        stages=(Stage(24, 2, 1), Stage(40, 2, 2), Stage(64, 2, 1)), mix=192),
    # EfficientNet-Lite0 and the smaller networks in it, which start from its weights: 15 choices.
    "lite0": _lite0(),
    # The paper's tree-structured cells: 648 choices in 54 blocks. `load` makes smaller spaces.
    "cifar_tree": tree_cells.tree_space("cifar_tree", tree_cells.BLOCKS, tree_cells.FILTERS),
}
