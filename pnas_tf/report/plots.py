"""Charts, as SVG elements for a page or as SVG files.

The colours of an element are CSS variables of the page, so that one drawing fits the light and the dark page.
"""

import dataclasses
import io
import math
import re
from collections.abc import Sequence
from typing import Any

from pnas_tf.errors import InputError, printable
from pnas_tf.files import number
from pnas_tf.report import figure_file
from pnas_tf.space import ops

# Colours of kernel sizes in networks, heat maps and bars: each has a contrast of at least 4.5:1 to white text, and
# stays legible on black.
KERNEL_COLORS = {1: "#64707d", 3: "#2b6cb0", 5: "#c05621", 7: "#0f766e", 9: "#86377b", 11: "#8a6100"}
PLAIN_COLOR = "#64707d"
# Metadata that keeps matplotlib from writing its version into each PNG.
WITHOUT_VERSION: dict[str, Any] = {"Software": None}

# Limits that keep the page below 2 MB: points of a line, and points of a scatter plot.
MAX_POINTS, MAX_SCATTERED = 1000, 2000

# matplotlib accepts real colours only. These stand for colours that the page defines.
_PAGE_COLORS = {"#000001": "currentColor", "#000002": "var(--line)", "#000003": "var(--muted)",
                "#000006": "var(--shade)", "#000004": "var(--series-1)", "#000005": "var(--series-2)",
                "#000007": "var(--series-3)", "#000008": "var(--series-4)", "#000009": "var(--series-5)",
                "#000010": "var(--series-6)"}
_INK, _LINE, _MUTED, _SHADE = "#000001", "#000002", "#000003", "#000006"
SERIES = ("#000004", "#000005", "#000007", "#000008", "#000009", "#000010")
_DASHES = ("-", (0, (5, 2)), (0, (1, 1)), (0, (6, 1, 1, 1)), (0, (3, 1)), (0, (8, 3)))

STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "pnas_tf", "text.parse_math": False, "font.size": 11,
    "text.color": _INK, "axes.edgecolor": _LINE, "axes.labelcolor": _MUTED, "axes.linewidth": 1,
    "xtick.color": _LINE, "ytick.color": _LINE, "xtick.labelcolor": _MUTED, "ytick.labelcolor": _MUTED,
    "axes.spines.top": False, "axes.spines.right": False, "grid.color": _LINE, "grid.linewidth": 0.6,
    "legend.frameon": False, "legend.labelcolor": _INK, "figure.facecolor": "none", "axes.facecolor": "none",
}


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        label: Name of the line in the legend.
        x: Horizontal positions.
        y: Vertical positions, one for each x; None if the value is unknown.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float | None]


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart of a page.

    Attributes:
        title: Title above the chart.
        svg: The chart as an `<svg>` element; "" if there is nothing to draw.
        note: Sentence of explanation below the chart, or "".
    """

    title: str
    svg: str
    note: str = ""


def search_charts(epochs: Sequence[dict[str, Any]], target_ms: float | None) -> list[Chart]:
    """Charts of the latency, multipliers, entropy, loss and accuracy that a search logged, over its epochs.

    Args:
        epochs: Logged epochs in order.
        target_ms: Latency target, drawn as a line; None for no target.
    """
    epochs = thin(epochs, MAX_POINTS)
    x = [epoch["epoch"] + 1 for epoch in epochs]
    warmup = [epoch["epoch"] + 1 for epoch in epochs if epoch.get("phase") == "warmup"]
    shaded = ("warm-up", min(warmup) - 0.5, max(warmup) + 0.5) if warmup else None

    def line(key: str, label: str) -> Line:
        return Line(label, x, [number(epoch.get(key)) for epoch in epochs])

    limits = sorted({name.removeprefix("multiplier_") for epoch in epochs for name in epoch
                     if isinstance(name, str) and name.startswith("multiplier_")})[:4]
    charts = [
        Chart("Expected latency, ms", line_chart("latency", [line("expected_ms", "expected"),
                                                             line("table_ms", "most probable")], shaded=shaded,
                                                 level=("target", target_ms) if target_ms else None),
              "According to the latency table: the mean over networks drawn from the probabilities, and the single "
              "most probable network."),
        *(Chart(f"Weight of the limit on {printable(limit, 40)}",
                line_chart(f"multiplier-{place}", [line(f"multiplier_{limit}", limit)], shaded=shaded),
                "The search raises this weight while networks exceed the limit. It is the Lagrange multiplier: what "
                "100 % above the limit adds to the loss of an architecture step, in nats. Below 0, it pulls the cost "
                "up, towards the limit.")
          for place, limit in enumerate(limits)),
        Chart("How open the choices are", line_chart("entropy", [line("entropy", "entropy")], shaded=shaded,
                                                         from_zero=True),
              "Entropy of the probabilities in nats, a mean over the choices. It falls as the search decides; at 0 "
              "every choice is certain."),
        Chart("Loss", line_chart("loss", [line("train_loss", "training"), line("held_out_loss", "held out")],
                                 shaded=shaded),
              "Loss of sampled networks. Weights learn from the training part, probabilities from the held-out part."),
        Chart("Accuracy", line_chart("accuracy", [line("train_accuracy", "training"),
                                                  line("held_out_accuracy", "held out")], shaded=shaded, percent=True),
              "Accuracy of sampled networks with shared weights, not of the delivered network."),
    ]
    return [chart for chart in charts if chart.svg]


def train_charts(history: Any, taught: bool = False) -> list[Chart]:
    """Charts of loss and accuracy over the epochs of a training.

    Args:
        history: History of `model.fit` from train.json; everything that does not fit is left out.
        taught: Whether the loss of training steps has a teacher's part.
    """
    def line(key: str, label: str) -> Line:
        values = history.get(key) if isinstance(history, dict) else None
        points = thin(list(enumerate(values if isinstance(values, list) else [], start=1)), MAX_POINTS)
        return Line(label, [x for x, _ in points], [number(y) for _, y in points])

    charts = [Chart("Loss", line_chart("train-loss", [line("loss", "training"), line("val_loss", "validation")]),
                    "That of training steps has the teacher's part, too; validation is by the labels alone." if taught
                    else ""),
              Chart("Accuracy", line_chart("train-accuracy", [line("accuracy", "training"),
                                                              line("val_accuracy", "validation")], percent=True))]
    return [chart for chart in charts if chart.svg]


def thin(items: Sequence, most: int) -> Sequence:
    """Keeps every n-th item, with the smallest n that leaves at most `most` items. The last item is always kept."""
    step = max(1, math.ceil(len(items) / most))
    return items[::-1][::step][::-1]


def line_chart(name: str, lines: Sequence[Line], *, x_label: str = "epoch", level: tuple[str, float] | None = None,
               shaded: tuple[str, float, float] | None = None, percent: bool = False, from_zero: bool = False) -> str:
    """Draws a line chart, sized for the width of a phone.

    Args:
        name: Prefix of the ids in the element, so that one page can hold several charts.
        lines: At most six lines; lines without a known value are left out.
        x_label: Label of the x axis.
        level: Label and height of a horizontal line.
        shaded: Label, first and last x of a shaded span.
        percent: Whether y is a share, 0 to 1, that is shown in percent.
        from_zero: Whether the y axis begins at 0.

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
        for line, color, dashes in zip(lines, SERIES, _DASHES, strict=False):
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
            longest = max(map(len, axes.get_legend_handles_labels()[1]))
            figure.legend(loc="outside upper left", ncols=max(1, min(4, 60 // (longest + 5))), handlelength=1.6,
                          columnspacing=1.4, borderpad=0)
        return inline(figure, name)


def plain_ticks(*log_axes: Any) -> None:
    """Labels log axes with numbers such as 0.2. Powers of ten would need the markup that `text.parse_math` forbids."""
    from matplotlib import ticker

    for axis in log_axes:
        axis.set_major_locator(ticker.LogLocator(10, (1, 2, 5)))
        axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axis.set_minor_locator(ticker.NullLocator())


def scatter(measured_ms: Sequence[float], predicted_ms: Sequence[float], *, title: str, name: str | None = None,
            found_ms: tuple[float, float] | None = None) -> str:
    """Draws predicted against measured milliseconds of networks (paper figure 5).

    Args:
        measured_ms: Measured milliseconds of each network; at least one.
        predicted_ms: Predicted milliseconds of each network.
        title: Title of an SVG file; not drawn in a page.
        name: Prefix of the ids in an `<svg>` element for a page; None for an SVG file.
        found_ms: Measured and predicted milliseconds of the delivered network, or None.

    Returns:
        SVG with a point for each network, the line where both agree, and a band of 10 % to either side.
    """
    import matplotlib
    from matplotlib.figure import Figure

    line, point, star = (_MUTED, SERIES[0], SERIES[1]) if name else ("#64707d", "#2b6cb0", "#c05621")
    with matplotlib.rc_context(STYLE if name else figure_file.STYLE):
        figure = Figure(figsize=(5.2, 4.6) if name else (5, 5), layout="constrained")
        axes = figure.add_subplot()
        every = [*measured_ms, *predicted_ms, *(found_ms or ())]
        ends = [0.9 * min(every), 1.1 * max(every)]
        shade = {"color": _SHADE} if name else {"color": "#000000", "alpha": 0.08}
        axes.fill_between(ends, [0.9 * end for end in ends], [1.1 * end for end in ends], linewidth=0,
                          label="within 10 %", **shade)
        axes.plot(ends, ends, color=line, linewidth=1, label="predicted = measured")
        kept = thin(list(zip(measured_ms, predicted_ms, strict=True)), MAX_SCATTERED)
        axes.plot(*zip(*kept, strict=True), "o", color=point, markersize=4, alpha=0.7,
                  label=f"{len(measured_ms)} networks")
        if found_ms:
            axes.plot(*found_ms, "*", color=star, markersize=15, label="delivered network")
        if ends[1] > 10 * ends[0] > 0:
            axes.set(xscale="log", yscale="log")
            plain_ticks(axes.xaxis, axes.yaxis)
        axes.set(xlim=ends, ylim=ends, aspect="equal", xlabel="measured, ms", ylabel="predicted by the table, ms")
        if not name:
            axes.set_title(title)
        axes.legend(frameon=False, loc="upper left")
        return inline(figure, name) if name else figure_file.as_svg(figure)


@dataclasses.dataclass(frozen=True)
class Point:
    """A network in the trade-off plot.

    Attributes:
        label: Name of the network.
        ms: Milliseconds of the network.
        accuracy: Share of test images that the network classifies correctly, 0 to 1.
        searched: Whether the network comes from a search; otherwise it is a baseline.
        measured: Whether `ms` was measured; otherwise it was predicted.
    """

    label: str
    ms: float
    accuracy: float
    searched: bool
    measured: bool


def trade_off(points: Sequence[Point], name: str, x_label: str) -> str:
    """Draws accuracy against milliseconds (paper figure 4).

    Args:
        points: Networks on the same target, at least one.
        name: Prefix of the ids in the element.
        x_label: Label of the x axis.

    Returns:
        An `<svg>` element: searched networks are circles joined by a line, baselines are squares, and marks are hollow
        where the milliseconds are predicted.
    """
    import matplotlib
    from matplotlib import ticker
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.2, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for searched, color, mark, label in ((True, SERIES[0], "o", "searched"), (False, SERIES[1], "s", "baseline")):
            group = sorted((point for point in points if point.searched is searched), key=lambda point: point.ms)
            if searched:
                axes.plot([point.ms for point in group], [point.accuracy for point in group], color=color,
                          linewidth=1.5)
            for index, point in enumerate(group):
                axes.plot(point.ms, point.accuracy, mark, color=color, markersize=8, linewidth=0,
                          markerfacecolor=color if point.measured else "none", label="" if index else label)
        for point in points:
            axes.annotate(point.label[:40], (point.ms, point.accuracy), xytext=(7, -11), textcoords="offset points",
                          fontsize=9)
        axes.grid(axis="both")
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.margins(x=0.25, y=0.2)
        axes.set(xlabel=x_label, ylabel="test accuracy")
        axes.xaxis.set_major_locator(ticker.MaxNLocator(nbins=6))
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, symbol=" %"))
        figure.legend(loc="outside upper left", ncols=2, borderpad=0)
        return inline(figure, name)


def inline(figure, name: str) -> str:
    """A figure as an SVG element for a page, in the page's colours, with unique ids and without metadata.

    Args:
        figure: The matplotlib figure, drawn with `STYLE`.
        name: Prefix of the ids in the element; never from a file, since it stands in the markup as it is.

    Raises:
        ValueError: If the name has other characters than letters, digits, `_` and `-`.
    """
    if not re.fullmatch(r"[a-zA-Z0-9_-]+", name):
        raise ValueError(f"{name!r} cannot begin ids")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", rf'<svg \1 role="img" aria-label="{name}">',
                 svg[svg.index("<svg"):], count=1)
    svg = re.sub(r"#0000(?:0[1-9]|10)\b", lambda match: _PAGE_COLORS[match[0]], svg)
    return re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", svg)


def kernel_of(op: str) -> int | None:
    """Kernel size of an op, the larger one of a `uib`; None if the op has no kernel or is not in the op language."""
    values = parameters(op)
    return max(values["s"], values["m"]) or None if values and op.startswith("uib_") else values.get("k")


def color_of(kernel: int | None) -> str:
    """Colour of a kernel size; grey for ops without a kernel and for sizes without a colour."""
    return PLAIN_COLOR if kernel is None else KERNEL_COLORS.get(kernel, PLAIN_COLOR)


def parameters(op: str) -> dict[str, int]:
    """Parameters of an op by letter, as {"k": 5, "e": 6}; empty if the op is not in the op language."""
    try:
        return ops.parse(op)[1]
    except InputError:
        return {}
