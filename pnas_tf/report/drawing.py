"""The architecture as the paper draws it (figure 6): a box for each block, in groups of one resolution."""

import dataclasses
import io
import itertools
import struct
from collections.abc import Sequence

from pnas_tf.report import figure_file, plots
from pnas_tf.space import ops
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Block

TIMES = "\N{MULTIPLICATION SIGN}"


@dataclasses.dataclass(frozen=True)
class Part:
    """The op at one of several choices of a block.

    Attributes:
        choice: Name of the choice.
        op: Name of the op.
        kernel: Kernel size, which sets the colour; None for grey.
        skipped: Whether the op is `zero`.
    """

    choice: str
    op: str
    kernel: int | None
    skipped: bool


@dataclasses.dataclass(frozen=True)
class Box:
    """A block as it is drawn.

    Attributes:
        block: Block of the space.
        op: Op of the block; in a block of several choices, its fixed last op.
        kind: "chosen", "fixed", "skipped", or "cell" for a block of several choices.
        label: Short text such as `MB6 5x5`.
        kernel: Kernel size, which sets the colour; None for grey.
        expansion: Expansion, which sets the length; at least 1.
        input: Height, width and channels of the block's input.
        parts: Choices of a cell, in order.
    """

    block: Block
    op: str
    kind: str
    label: str
    kernel: int | None
    expansion: int
    input: tuple[int, int, int]
    parts: tuple[Part, ...] = ()


@dataclasses.dataclass(frozen=True)
class Stage:
    """Consecutive boxes whose outputs have the same resolution.

    Attributes:
        side: Height and width of the outputs, in pixels; 1 after the classifier.
        boxes: Boxes from left to right.
    """

    side: int
    boxes: tuple[Box, ...]


def of_arch(arch: Arch) -> list[Stage]:
    """All blocks of a network from left to right, grouped by resolution."""
    stages: list[Stage] = []
    shapes = arch.space.input_shapes()
    for name, group in itertools.groupby(arch.space.all_blocks, key=lambda block: block_of(block.name)):
        places = list(group)
        last = places[-1]
        if len(places) == 1:
            box = _box(last, arch.op_of(last), shapes[last.name])
        else:
            box = _cell(name, places, arch, shapes[places[0].name])
        side = 1 if ops.is_classifier(box.op) else -(-shapes[last.name][0] // last.strides)
        if stages and stages[-1].side == side:
            stages[-1] = Stage(side, (*stages[-1].boxes, box))
        else:
            stages.append(Stage(side, (box,)))
    return stages


def boxes(arch: Arch) -> list[Box]:
    """All blocks of a network from left to right."""
    return [box for stage in of_arch(arch) for box in stage.boxes]


def block_of(choice: str) -> str:
    """Name of the block that a choice belongs to: `b07` for `b07/n3`."""
    return choice.partition("/")[0]


def _cell(name: str, places: Sequence[Block], arch: Arch, input_shape: tuple[int, int, int]) -> Box:
    """A block of several places as one box. Fixed places only join the outputs of other places and are not drawn."""
    chosen = [(place.name, arch.op_of(place)) for place in places if len(place.ops) > 1]
    parts = tuple(Part(choice, op, plots.kernel_of(op), op == ops.ZERO) for choice, op in chosen)
    strides = max(place.strides for place in places)
    block = dataclasses.replace(places[-1], name=name, strides=strides)
    kind = "cell" if parts else "fixed"
    return Box(block, places[-1].ops[0], kind, f"{len(places)} ops", None, 6, input_shape, parts)


def _box(block: Block, op: str, input_shape: tuple[int, int, int]) -> Box:
    kernel, expansion = plots.kernel_of(op), plots.parameters(op).get("e", 1)
    if op == ops.ZERO:
        # The gap is as long as the longest candidate op, so it shows the saving.
        longest = max(plots.parameters(other).get("e", 1) for other in block.ops)
        return Box(block, op, "skipped", "skipped", None, longest, input_shape)
    kind = "chosen" if len(block.ops) > 1 else "fixed"
    return Box(block, op, kind, label_of(op), kernel if kind == "chosen" else None, expansion, input_shape)


def label_of(op: str) -> str:
    """Short text for an op: `MB6 5x5` for mb_k5_e6, `UIB4 5+3` for uib_s5_m3_e4 with its start and middle depthwise."""
    values, name = plots.parameters(op), op.partition("_")[0]
    if name == "uib" and values:
        return f"UIB{values['e']} {values['s']}+{values['m']}"
    label = f"MB{values.get('e', 1)}" if name == "mb" else name.capitalize()
    return f"{label} {values['k']}{TIMES}{values['k']}" if "k" in values else label


def counts(drawn: list[Box]) -> str:
    """The chosen ops in a line: `6 choices: 2 of 3x3, 3 of 5x5, 1 skipped`."""
    chosen = [(box.kernel, box.kind == "skipped") for box in drawn if box.kind in ("chosen", "skipped")]
    chosen += [(part.kernel, part.skipped) for box in drawn for part in box.parts]
    groups = [(f"of {size}{TIMES}{size}", sum(kernel == size for kernel, _ in chosen))
              for size in sorted({kernel for kernel, _ in chosen if kernel})]
    groups.append(("without kernel", sum(kernel is None and not skipped for kernel, skipped in chosen)))
    groups.append(("skipped", sum(skipped for _, skipped in chosen)))
    return f"{len(chosen)} choices: " + ", ".join(f"{count} {group}" for group, count in groups if count)


def kernels(drawn: list[Box]) -> list[int]:
    """Kernel sizes that have a colour in the drawing, smallest first."""
    sizes = {box.kernel for box in drawn} | {part.kernel for box in drawn for part in box.parts}
    return sorted(size for size in sizes if size)


def png(arch: Arch) -> bytes:
    """The network as a picture: boxes as long as their expansion, channels below, resolutions above.

    Returns:
        Contents of a PNG file; the same arch gives the same bytes.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    drawn = of_arch(arch)
    count = sum(len(stage.boxes) for stage in drawn)
    with matplotlib.rc_context(figure_file.STYLE):
        figure = Figure(figsize=(min(40, 1.5 + 0.42 * count), 3.0), dpi=100, layout="constrained")
        axes = figure.add_subplot()
        place = 0.0
        for stage in drawn:
            axes.text(place - 0.4, 1.03, f"{stage.side}{TIMES}{stage.side}", fontsize=8,
                      transform=axes.get_xaxis_transform())
            for box in stage.boxes:
                _draw(axes, place, box)
                place += 1
            axes.axvline(place - 0.5, color="#d5dbe1", linewidth=1)
        axes.set(xlim=(-0.6, place - 0.4), ylim=(-1.5, 7), yticks=[])
        axes.set_xticks(range(count), [f"{box.block.name}\n{box.block.filters}" for box in boxes(arch)], fontsize=6)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.legend(handles=[Patch(color=plots.color_of(kernel), label=f"{kernel}{TIMES}{kernel}")
                               for kernel in kernels(boxes(arch))]
                      + [Patch(color=plots.PLAIN_COLOR, label="fixed"),
                         Patch(fill=False, edgecolor=plots.PLAIN_COLOR, linestyle=":", label="skipped")],
                      loc="outside lower left", ncols=8, frameon=False, fontsize=8,
                      title="length: expansion; below: channels; above: resolution", title_fontsize=8)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata=plots.WITHOUT_VERSION)
    return buffer.getvalue()


def png_size(content: bytes) -> tuple[int, int]:
    """Width and height of a PNG in pixels, from its header."""
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def _draw(axes, place: float, box: Box) -> None:
    """Draws a box, or the parts of a cell one above another, around x = place."""
    parts = box.parts or (Part(box.block.name, box.op, box.kernel, box.kind == "skipped"),)
    bottom, height = 0.0, box.expansion / len(parts)
    for part in parts:
        color = plots.color_of(part.kernel)
        axes.bar(place, height, 0.8, bottom, fill=not part.skipped, facecolor=color,
                 edgecolor=plots.PLAIN_COLOR if part.skipped else "white", linewidth=1 if len(parts) < 9 else 0.3,
                 linestyle=":" if part.skipped else "-")
        bottom += height
    if len(parts) == 1 and box.expansion > 2:
        axes.text(place, box.expansion / 2, box.label, rotation=90, fontsize=7, ha="center", va="center",
                  color=plots.PLAIN_COLOR if parts[0].skipped else "white")
