"""What the report draws: line charts, heat maps of probabilities, and the architecture strip.

Everything is a value to put into a page: charts are inline SVG whose colours are the page's CSS variables,
so that one drawing serves light and dark; heat maps are small PNG data URIs, transparent where a probability
is 0; the strip is a list of boxes.
"""

import base64
import dataclasses
import io
import math
import re
from collections.abc import Sequence
from typing import Any

from pnas_tf import ops as op_language
from pnas_tf.arch import Arch
from pnas_tf.errors import InputError
from pnas_tf.space import Block

# By kernel, for strip, heat maps and bars: each is at least 4.5:1 against white text and still clear on black.
KERNEL_COLORS = {1: "#64707d", 3: "#2b6cb0", 5: "#c05621", 7: "#0f766e", 9: "#86377b", 11: "#8a6100"}
PLAIN_COLOR = "#64707d"

# The page stays below 2 MB: at most so many epochs in a chart, columns in a heat map, ops in all heat maps.
MAX_POINTS, MAX_COLUMNS, MAX_HEAT_ROWS = 1000, 200, 1500

# matplotlib wants real colours: these stand for what the page decides.
_PAGE_COLORS = {"#000001": "currentColor", "#000002": "var(--line)", "#000003": "var(--muted)",
                "#000004": "var(--series-1)", "#000005": "var(--series-2)", "#000006": "var(--shade)"}
_INK, _LINE, _MUTED, _SHADE = "#000001", "#000002", "#000003", "#000006"
_SERIES = ("#000004", "#000005")
_DASHES = ("-", (0, (5, 2)))

STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "pnas_tf", "text.parse_math": False, "font.size": 11,
    "text.color": _INK, "axes.edgecolor": _LINE, "axes.labelcolor": _MUTED, "axes.linewidth": 1,
    "xtick.color": _LINE, "ytick.color": _LINE, "xtick.labelcolor": _MUTED, "ytick.labelcolor": _MUTED,
    "axes.spines.top": False, "axes.spines.right": False, "grid.color": _LINE, "grid.linewidth": 0.6,
    "legend.frameon": False, "legend.labelcolor": _INK, "figure.facecolor": "none", "axes.facecolor": "none",
}
# The same of files of their own, in plain colours.
FILE_STYLE = {"svg.hashsalt": "pnas_tf", "text.parse_math": False}


def number(value: Any) -> float | None:
    """A finite number as it is, everything else as None: files are not to be trusted."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e18 < value < 1e18:
        return None
    return value


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        label: its name in the legend.
        x: numbers.
        y: as many; None where nothing is known.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float | None]


@dataclasses.dataclass(frozen=True)
class Chart:
    """An inline SVG with its title and a sentence of explanation."""

    title: str
    svg: str
    note: str = ""


def search_charts(epochs: Sequence[dict[str, Any]], target_ms: float | None) -> list[Chart]:
    """Latency, entropy, loss and accuracy over the epochs of a search, as far as they were logged."""
    epochs = _thin(epochs, MAX_POINTS)
    x = [epoch["epoch"] for epoch in epochs]
    warmup = [epoch["epoch"] for epoch in epochs if epoch.get("phase") == "warmup"]
    shaded = ("warm-up", min(warmup) - 0.5, max(warmup) + 0.5) if warmup else None

    def line(key: str, label: str) -> Line:
        return Line(label, x, [number(epoch.get(key)) for epoch in epochs])

    limits = sorted({name.removeprefix("multiplier_") for epoch in epochs for name in epoch
                     if isinstance(name, str) and name.startswith("multiplier_")})[:4]
    charts = [
        Chart("Expected latency, ms", line_chart("latency", [line("expected_ms", "expected"),
                                                             line("table_ms", "most probable")], shaded=shaded,
                                                 level=("target", target_ms) if target_ms else None),
              "By the latency table: the mean over the networks that the probabilities describe, and the single "
              "most probable one."),
        *(Chart(f"Multiplier of the limit on {limit}, nats",
                line_chart(f"multiplier-{limit}", [line(f"multiplier_{limit}", limit)], shaded=shaded),
                "What 100 % over the limit weighs in the loss of the architecture; below 0 it pulls upwards.")
          for limit in limits),
        Chart("Entropy of the choices, nats", line_chart("entropy", [line("entropy", "entropy")], shaded=shaded,
                                                         from_zero=True),
              "Mean over the choices: falls as the search makes up its mind; 0 is certainty."),
        Chart("Loss", line_chart("loss", [line("train_loss", "training"), line("held_out_loss", "held out")],
                                 shaded=shaded),
              "Of sampled networks: weights learn from the training part, probabilities from the held-out part."),
        Chart("Accuracy", line_chart("accuracy", [line("train_accuracy", "training"),
                                                  line("held_out_accuracy", "held out")], shaded=shaded, percent=True),
              "Of sampled networks with shared weights, not of the network found."),
    ]
    return [chart for chart in charts if chart.svg]


def train_charts(history: Any) -> list[Chart]:
    """Loss and accuracy over the epochs of `model.fit`, from its history (nobody vouches for its values)."""
    def line(key: str, label: str) -> Line:
        values = history.get(key) if isinstance(history, dict) else None
        points = _thin(list(enumerate(values if isinstance(values, list) else [], start=1)), MAX_POINTS)
        return Line(label, [x for x, _ in points], [number(y) for _, y in points])

    charts = [Chart("Loss", line_chart("train-loss", [line("loss", "training"), line("val_loss", "validation")])),
              Chart("Accuracy", line_chart("train-accuracy", [line("accuracy", "training"),
                                                              line("val_accuracy", "validation")], percent=True))]
    return [chart for chart in charts if chart.svg]


def _thin(items: Sequence, most: int) -> Sequence:
    """Every n-th item so that at most `most` are left, the last one always among them."""
    step = max(1, math.ceil(len(items) / most))
    return items[::-1][::step][::-1]


def line_chart(name: str, lines: Sequence[Line], *, x_label: str = "epoch", level: tuple[str, float] | None = None,
               shaded: tuple[str, float, float] | None = None, percent: bool = False, from_zero: bool = False) -> str:
    """A line chart as inline SVG, sized for a phone's width.

    Args:
        name: prefix of the ids inside, so that several charts live in one page.
        lines: at most two; those without a known value are left out.
        x_label: what x is.
        level: label and height of a horizontal line.
        shaded: label, first and last x of a shaded span.
        percent: whether y is a share, 0 to 1, to be shown in percent.
        from_zero: whether the y axis begins at 0.

    Returns:
        An `<svg>` element, or "" if no line has a known value.
    """
    import matplotlib
    from matplotlib import ticker
    from matplotlib.figure import Figure

    lines = [line for line in lines if any(value is not None for value in line.y)]
    if not lines:
        return ""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.1), layout="constrained")
        axes = figure.add_subplot()
        if shaded:
            axes.axvspan(shaded[1], shaded[2], color=_SHADE, linewidth=0, label=shaded[0], zorder=0)
        for line, color, dashes in zip(lines, _SERIES, _DASHES, strict=False):
            y = [math.nan if value is None else value for value in line.y]
            axes.plot(line.x, y, color=color, linestyle=dashes, linewidth=2, label=line.label,
                      marker="o" if len(y) <= 30 else "", markersize=3.5)
        if level:
            axes.axhline(level[1], color=_INK, linestyle=":", linewidth=1.5, label=level[0])
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.set_xlabel(x_label)
        axes.xaxis.set_major_locator(ticker.MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(ticker.MaxNLocator(nbins=5))
        if percent:
            axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, symbol=" %"))
        if from_zero:
            axes.set_ylim(bottom=0)
        if len(axes.get_legend_handles_labels()[0]) > 1:
            figure.legend(loc="outside upper left", ncols=4, handlelength=1.6, columnspacing=1.4, borderpad=0)
        return inline(figure, name)


def scatter(measured_ms: Sequence[float], predicted_ms: Sequence[float], *, title: str) -> str:
    """Predicted against measured milliseconds of networks (paper figure 5), as an SVG file of its own.

    Args:
        measured_ms: of each network.
        predicted_ms: of each network.
        title: what was measured.

    Returns:
        Contents of an SVG file: a point for each network, the line where both agree, and 10 % to either side.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(FILE_STYLE):
        figure = Figure(figsize=(5, 5), layout="constrained")
        axes = figure.add_subplot()
        ends = [0.9 * min(*measured_ms, *predicted_ms), 1.1 * max(*measured_ms, *predicted_ms)]
        axes.fill_between(ends, [0.9 * end for end in ends], [1.1 * end for end in ends], color="#000000", alpha=0.08,
                          linewidth=0, label="within 10 %")
        axes.plot(ends, ends, color="#64707d", linewidth=1, label="predicted = measured")
        axes.plot(measured_ms, predicted_ms, "o", color="#2b6cb0", markersize=4, alpha=0.7,
                  label=f"{len(measured_ms)} networks")
        axes.set(xlim=ends, ylim=ends, aspect="equal", xlabel="measured, ms", ylabel="predicted by the table, ms",
                 title=title)
        axes.legend(frameon=False)
        return as_file(figure)


def as_file(figure) -> str:
    """A figure as the contents of an SVG file; the same figure gives the same text."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def inline(figure, name: str) -> str:
    """A figure as an SVG element for a page: the page's colours, ids of its own, no metadata."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", rf'<svg \1 role="img" aria-label="{name}">',
                 svg[svg.index("<svg"):], count=1)
    svg = re.sub(r"#00000[1-6]\b", lambda match: _PAGE_COLORS[match[0]], svg)
    return re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", svg)


def kernel_of(op: str) -> int | None:
    """Kernel size of an op, or None if it has none or is not in the language."""
    return _parameters(op).get("k")


def _parameters(op: str) -> dict[str, int]:
    try:
        return op_language.parse(op)[1]
    except InputError:
        return {}


@dataclasses.dataclass(frozen=True)
class HeatMap:
    """Probabilities of one choice over time.

    Attributes:
        choice: its name.
        image: data URI of a PNG: a row for each op, a column for each epoch.
        final: op and last probability (None if not a probability), in the order of the rows.
    """

    choice: str
    image: str
    final: tuple[tuple[str, float | None], ...]


def heat_maps(epochs: Sequence[dict[str, Any]]) -> tuple[list[HeatMap], int]:
    """Probabilities over time of each choice, and of how many choices there was no room for.

    Args:
        epochs: those whose `probs` is an object: op and probability by choice (nobody vouches for what is inside).
    """
    epochs = _thin([_prob_dicts(epoch) for epoch in epochs], MAX_COLUMNS)
    names = list(dict.fromkeys(name for probs in epochs for name in probs))
    maps: list[HeatMap] = []
    rows_left = MAX_HEAT_ROWS
    for name in names:
        per_epoch = [probs.get(name, {}) for probs in epochs]
        rows = [(op, [_prob(probs.get(op)) for probs in per_epoch])
                for op in dict.fromkeys(op for probs in per_epoch for op in probs)]
        rows_left -= len(rows)
        if not rows or rows_left < 0:
            break
        maps.append(HeatMap(name, heat_map(rows), tuple((op, row[-1]) for op, row in rows)))
    return maps, len(names) - len(maps)


def _prob_dicts(epoch: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: entry for name, entry in epoch["probs"].items() if isinstance(entry, dict) and entry}


def _prob(value: Any) -> float | None:
    value = number(value)
    return value if value is not None and 0 <= value <= 1 else None


def heat_map(rows: Sequence[tuple[str, Sequence[float | None]]]) -> str:
    """Probabilities over time: a row for each op in its kernel's colour, a column for each epoch.

    Args:
        rows: op and its probabilities, 0 to 1 or None, equally many in each row and at least one.

    Returns:
        Data URI of a PNG with one pixel for each probability; its opacity is the probability.
    """
    import matplotlib.image
    import numpy as np
    from matplotlib.colors import to_rgba_array

    pixels = np.empty([len(rows), len(rows[0][1]), 4])
    for pixel_row, (op, probs) in zip(pixels, rows, strict=True):
        pixel_row[:] = to_rgba_array(KERNEL_COLORS.get(kernel_of(op), PLAIN_COLOR))
        pixel_row[:, 3] = [prob or 0.0 for prob in probs]
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, (pixels * 255).round().astype("uint8"), format="png", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


@dataclasses.dataclass(frozen=True)
class Box:
    """One block of the architecture strip.

    Attributes:
        block: the block.
        op: its op.
        kind: "chosen", "fixed" or "skipped".
        label: short text such as `MB6 5x5`.
        kernel: its colour; None for grey.
        expansion: its height, at least 1.
        input: height, width and channels that enter.
    """

    block: Block
    op: str
    kind: str
    label: str
    kernel: int | None
    expansion: int
    input: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Stage:
    """Consecutive boxes whose outputs have the same resolution, in pixels a side; 1 after the classifier."""

    side: int
    boxes: tuple[Box, ...]


def strip(arch: Arch) -> list[Stage]:
    """The network from left to right, every block of the space, as in figure 6 of the paper."""
    stages: list[Stage] = []
    shapes = arch.space.input_shapes()
    for block in arch.space.all_blocks:
        box = _box(arch, block, shapes[block.name])
        side = 1 if box.op == "classifier" else -(-box.input[0] // block.strides)
        if stages and stages[-1].side == side:
            stages[-1] = Stage(side, (*stages[-1].boxes, box))
        else:
            stages.append(Stage(side, (box,)))
    return stages


def _box(arch: Arch, block: Block, input_shape: tuple[int, int, int]) -> Box:
    op = arch.op_of(block)
    type_name, values = op_language.parse(op)
    kernel, expansion = values.get("k"), values.get("e", 1)
    kind = "skipped" if op == op_language.ZERO else "chosen" if len(block.ops) > 1 else "fixed"
    if kind == "skipped":
        # As tall as the tallest that could have stood there: the hole shows what was saved.
        return Box(block, op, kind, "skipped", None, max(_parameters(other).get("e", 1) for other in block.ops),
                   input_shape)
    label = f"MB{expansion}" if type_name == "mb" else type_name.capitalize()
    if kernel:
        label += f" {kernel}\N{MULTIPLICATION SIGN}{kernel}"
    return Box(block, op, kind, label, kernel if kind == "chosen" else None, expansion, input_shape)
