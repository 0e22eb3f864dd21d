"""Results of the benchmark of small folders: means and differences as Markdown, and the trade-off as a plot."""

import itertools
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.quality import photo_cuts, photo_rivals, study_results
from pnas_tf import files
from pnas_tf.report import figure_file, plots

# Name, colour and marker of each kind of rivals, by the first word of the rival's name.
KINDS = {"cnn": ("plain CNN", "#64707d", "o"), "lite0": ("Lite0, fine-tuned", "#000000", "X"),
         "width": ("Lite0, narrower", "#2b6cb0", "s"), "depth": ("Lite0, shallower", "#86377b", "^"),
         "resolution": ("Lite0, smaller images", "#0f766e", "P"), "scratch": ("found, from scratch", "#8a6100", "v"),
         "search": ("found, from pretrained weights", "#c05621", "D")}

Rows = Sequence[dict[str, Any]]


def write(output: str, rows: Rows) -> str:
    """Writes results.md and trade_off.svg.

    Args:
        output: Folder of the benchmark.
        rows: Lines of results.jsonl.

    Returns:
        The text of results.md; without files, a line that says so if there are no results.
    """
    if not rows:
        return "There are no results yet."
    folders = list(dict.fromkeys(row["folder"] for row in rows))
    text = "\n\n".join([*(f"{folder}\n\n{table([row for row in rows if row['folder'] == folder])}"
                          for folder in folders),
                        *([f"Mean over the folders\n\n{table(rows)}\n\n{differences(rows)}"]
                          if len(folders) > 1 else [])])
    files.write_text(os.path.join(output, "results.md"), text + "\n")
    files.write_text(os.path.join(output, "trade_off.svg"), trade_off(rows))
    return text


def means(rows: Rows, rival: str, field: str) -> np.ndarray:
    """Means of a field over seeds, one value for each folder that has the rival.

    Args:
        rows: Lines of results.jsonl.
        rival: Name of the rival.
        field: Name of the field.
    """
    values: dict[str, list[float]] = {}
    for row in rows:
        if row["rival"] == rival:
            values.setdefault(row["folder"], []).append(row[field])
    return np.array([np.mean(each) for each in values.values()])


def gain(rows: Rows, rival: str) -> tuple[float, float]:
    """Difference of a rival's test accuracy to that of Lite0, and its standard error.

    Both saw the same test images with the same seed, so the differences of pairs count. A folder's error is that of
    the mean over its seeds; the mean of F folders has the error `sqrt(sum(error ** 2)) / F`.

    Args:
        rows: Lines of results.jsonl.
        rival: Name of the rival.

    Returns:
        Difference and error. The error is NaN if a folder has a single pair, and both are if there is no pair.
    """
    pairs = _pairs(rows, rival, photo_rivals.BASE)
    if not pairs:
        return math.nan, math.nan
    errors = [float(np.std(each, ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else math.nan
              for each in pairs.values()]
    return (float(np.mean([np.mean(each) for each in pairs.values()])),
            float(np.sqrt(np.sum(np.square(errors))) / len(pairs)))


def differences(rows: Rows) -> str:
    """What was found beside what was cut by hand, on the same splits, as a Markdown table.

    A folder's difference is the mean over the seeds that have both; error and interval (Student's t) are those of the
    mean of the folders.

    Args:
        rows: Lines of results.jsonl, or of int8.jsonl.
    """
    lines = ["| mean of the folders | folders | pairs | difference, points | standard error | 95 % interval |",
             "| --- " * 6 + "|"]
    parts = {rival: photo_rivals.parse(rival) for rival in sorted({row["rival"] for row in rows}, key=_place)}
    for ours, hand in itertools.product(parts, parts):
        same_goal = parts[ours][1:] == parts[hand][1:]
        if not (parts[ours].kind == "search" and parts[hand].kind in photo_cuts.RULES and same_goal):
            continue
        if not (pairs := _pairs(rows, ours, hand)):
            continue
        of_folders = np.array([np.mean(each) for each in pairs.values()])
        error = np.std(of_folders, ddof=1) / math.sqrt(len(of_folders)) if len(of_folders) > 1 else math.nan
        low, high = study_results.interval(of_folders) if len(of_folders) > 1 else (math.nan, math.nan)
        lines.append(f"| {label(ours)}, less {KINDS[parts[hand].kind][0]} | {len(pairs)} | "
                     f"{sum(map(len, pairs.values()))} | {_points(of_folders.mean(), '+')} | {_points(error)} | "
                     f"{_points(low, '+')} to {_points(high, '+')} |")
    return "\n".join(lines)


def _pairs(rows: Rows, ours: str, other: str) -> dict[str, list[float]]:
    """Differences in accuracy between two rivals on the same splits, by folder."""
    accuracy = {(row["folder"], row["seed"], row["rival"]): row["test_accuracy"] for row in rows}
    pairs: dict[str, list[float]] = {}
    for (folder, seed, rival), value in accuracy.items():
        if rival == ours and (folder, seed, other) in accuracy:
            pairs.setdefault(folder, []).append(value - accuracy[folder, seed, other])
    return pairs


def table(rows: Rows) -> str:
    """Accuracy, difference to Lite0, milliseconds, size and time of each rival, as a Markdown table.

    Args:
        rows: Lines of results.jsonl.
    """
    lines = ["| network | runs | test accuracy, % | to Lite0, points | standard error | measured ms | of Lite0's, % "
             "| parameters | MACs | CPU s |", "| --- " * 10 + "|"]
    for rival in sorted({row["rival"] for row in rows}, key=_place):
        accuracy, ms, lite0_ms, params, macs, seconds = (means(rows, rival, field).mean() for field in (
            "test_accuracy", "ms", "lite0_ms", "params", "macs", "cpu_seconds"))
        difference, error = gain(rows, rival) if rival != photo_rivals.BASE else (math.nan, math.nan)
        lines.append(f"| {label(rival)} | {sum(row['rival'] == rival for row in rows)} | {100 * accuracy:.2f} | "
                     f"{_points(difference, '+')} | {_points(error)} | {ms:.3f} | "
                     f"{100 * ms / lite0_ms:.0f} | {params:,.0f} | {macs:,.0f} | "
                     f"{seconds:,.0f} |")
    return "\n".join(lines)


def label(rival: str) -> str:
    """Name of a rival in tables: its kind, and the share of Lite0's milliseconds."""
    kind, share, dtype = photo_rivals.parse(rival)
    by_file = "" if dtype == "float32" else f" by its {dtype} file"
    return KINDS[kind][0] + (f", {share} % of the ms{by_file}" if share else "")


def _place(rival):
    kind, share, dtype = photo_rivals.parse(rival)
    return list(KINDS).index(kind), share, dtype


def _points(value, sign=""):
    return "" if math.isnan(value) else f"{100 * value:{sign}.2f}"


def trade_off(rows: Rows) -> str:
    """Accuracy against measured milliseconds, means over seeds, one panel a folder, as an SVG file.

    Args:
        rows: Lines of results.jsonl.
    """
    import matplotlib
    from matplotlib.figure import Figure

    folders = list(dict.fromkeys(row["folder"] for row in rows))
    with matplotlib.rc_context(figure_file.STYLE):
        figure = Figure(figsize=(3.6 * len(folders) + 0.6, 3.8), layout="constrained")
        for axes, folder in zip(figure.subplots(1, len(folders), squeeze=False)[0], folders, strict=True):
            here = [row for row in rows if row["folder"] == folder]
            for kind, (name, color, marker) in KINDS.items():
                rivals = sorted({row["rival"] for row in here if photo_rivals.parse(row["rival"]).kind == kind},
                                key=lambda rival: means(here, rival, "ms").mean())
                axes.plot([means(here, rival, "ms").mean() for rival in rivals],
                          [100 * means(here, rival, "test_accuracy").mean() for rival in rivals], marker=marker,
                          color=color, markersize=6, linewidth=1, label=name)
            axes.set(title=folder, xlabel="measured on the host, ms", xscale="log")
            plots.plain_ticks(axes.xaxis)
            axes.grid(alpha=0.3)
        figure.axes[0].set_ylabel("test accuracy, %")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False,
                      fontsize=8)
        return figure_file.as_svg(figure)
