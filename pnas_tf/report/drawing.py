"""The architecture as the paper draws it (figure 6): a box for each block, in groups of one resolution."""

import dataclasses
import io
import itertools
import struct
from collections.abc import Sequence

from pnas_tf.report import plots
from pnas_tf.space import ops
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Block

TIMES = "\N{MULTIPLICATION SIGN}"


@dataclasses.dataclass(frozen=True)
class Part:
    """What stands at one of several choices of a block.

    Attributes:
        choice: its name.
        op: its op.
        kernel: its colour; None for grey.
        skipped: whether the op is `zero`.
    """

    choice: str
    op: str
    kernel: int | None
    skipped: bool


@dataclasses.dataclass(frozen=True)
class Box:
    """One block of the strip.

    Attributes:
        block: the block.
        op: its op; of a block of several choices the name of its fixed op, if it has one.
        kind: "chosen", "fixed", "skipped", or "cell" for a block of several choices.
        label: short text such as `MB6 5x5`.
        kernel: its colour; None for grey.
        expansion: its length, at least 1.
        input: height, width and channels that enter.
        parts: of a cell, its choices in order.
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
    """Consecutive boxes whose outputs have the same resolution, in pixels a side; 1 after the classifier."""

    side: int
    boxes: tuple[Box, ...]


def of_arch(arch: Arch) -> list[Stage]:
    """The network from left to right, every block of the space."""
    stages: list[Stage] = []
    shapes = arch.space.input_shapes()
    for name, group in itertools.groupby(arch.space.all_blocks, key=lambda block: block_of(block.name)):
        places = list(group)
        last = places[-1]
        box = _box(last, arch.op_of(last), shapes[last.name]) if len(places) == 1 else _cell(
            name, places, arch, shapes[places[0].name])
        side = 1 if box.op == "classifier" else -(-shapes[last.name][0] // last.strides)
        if stages and stages[-1].side == side:
            stages[-1] = Stage(side, (*stages[-1].boxes, box))
        else:
            stages.append(Stage(side, (box,)))
    return stages


def boxes(arch: Arch) -> list[Box]:
    """The same without the groups."""
    return [box for stage in of_arch(arch) for box in stage.boxes]


def block_of(choice: str) -> str:
    """Name of the block that a choice stands in: `b07` of `b07/n3`."""
    return choice.partition("/")[0]


def _cell(name: str, places: Sequence[Block], arch: Arch, input_shape: tuple[int, int, int]) -> Box:
    """A block of several places as one box; the places that are fixed join what the others make and are not drawn."""
    chosen = [(place.name, arch.op_of(place)) for place in places if len(place.ops) > 1]
    parts = tuple(Part(choice, op, plots.kernel_of(op), op == ops.ZERO) for choice, op in chosen)
    strides = max(place.strides for place in places)
    block = dataclasses.replace(places[-1], name=name, strides=strides)
    kind = "cell" if parts else "fixed"
    return Box(block, places[-1].ops[0], kind, f"{len(places)} ops", None, 6, input_shape, parts)


def _box(block: Block, op: str, input_shape: tuple[int, int, int]) -> Box:
    values = plots.parameters(op)
    kernel, expansion = values.get("k"), values.get("e", 1)
    if op == ops.ZERO:
        # As long as the longest that could have stood there: the hole shows what was saved.
        longest = max(plots.parameters(other).get("e", 1) for other in block.ops)
        return Box(block, op, "skipped", "skipped", None, longest, input_shape)
    kind = "chosen" if len(block.ops) > 1 else "fixed"
    return Box(block, op, kind, label_of(op), kernel if kind == "chosen" else None, expansion, input_shape)


def label_of(op: str) -> str:
    """Short text of an op: `MB6 5x5` of mb_k5_e6."""
    values, name = plots.parameters(op), op.partition("_")[0]
    label = f"MB{values.get('e', 1)}" if name == "mb" else name.capitalize()
    return f"{label} {values['k']}{TIMES}{values['k']}" if "k" in values else label


def counts(drawn: list[Box]) -> str:
    """What was chosen in a line: `6 choices: 2 of 3x3, 3 of 5x5, 1 skipped`."""
    chosen = [(box.kernel, box.kind == "skipped") for box in drawn if box.kind in ("chosen", "skipped")]
    chosen += [(part.kernel, part.skipped) for box in drawn for part in box.parts]
    found = [(f"of {kernel}{TIMES}{kernel}", sum(one == kernel for one, _ in chosen))
             for kernel in sorted({kernel for kernel, _ in chosen if kernel})]
    found.append(("without kernel", sum(kernel is None and not skipped for kernel, skipped in chosen)))
    found.append(("skipped", sum(skipped for _, skipped in chosen)))
    return f"{len(chosen)} choices: " + ", ".join(f"{count} {what}" for what, count in found if count)


def kernels(drawn: list[Box]) -> list[int]:
    """Kernels that have a colour in the drawing, smallest first."""
    found = {box.kernel for box in drawn} | {part.kernel for box in drawn for part in box.parts}
    return sorted(kernel for kernel in found if kernel)


def png(arch: Arch) -> bytes:
    """The strip as a picture: from left to right, as long as the expansion, widths below, resolutions above.

    Returns:
        A PNG of the same bytes for the same arch.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    drawn = of_arch(arch)
    count = sum(len(stage.boxes) for stage in drawn)
    with matplotlib.rc_context(plots.FILE_STYLE):
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
    """Width and height of a PNG, in pixels, from its header."""
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def _draw(axes, place: float, box: Box) -> None:
    """A box, or a cell's parts one above another, around x = place."""
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
