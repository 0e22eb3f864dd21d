"""How a search grows with what it searches: images, choices, ops of a choice, image size, targets.

    python -m benchmarks.speed.scaling --out_dir=runs/scaling

Along each axis one thing grows and the rest stays. Each point is a search in a process of its own, on made-up images,
with a table of made-up prices: the cost of a search does not depend on what it finds. `benchmarks.speed.sampled` tells
its parts apart. Writes scaling.json, scaling.md and scaling.svg. No point is measured twice: stop and start again at
any time. Seconds are those of the CPU, so another program beside it disturbs little.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from benchmarks import steps
from benchmarks.speed.figures import rss_mb
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.cost import latency_table, prices
from pnas_tf.errors import InputError
from pnas_tf.report import figure_file
from pnas_tf.space import blocks, spaces

# Values of each axis, and what everything else is meanwhile.
AXES: dict[str, tuple[int, ...]] = {
    "images": (1000, 2000, 4000, 8000), "choices": (3, 6, 12, 24, 48), "ops": (2, 4, 6, 12),
    "image size": (32, 64, 128, 224), "targets": (1, 2, 4, 8)}
USUAL = {"images": 1000, "choices": 6, "ops": 4, "image size": 32, "targets": 1}
BATCH, CLASSES, HELD_OUT = 50, 10, 500
# Ops whose mean costs stay about the same however many of the first are offered.
OPS = ("mb_k3_e3", "mb_k5_e6", "mb_k5_e3", "mb_k3_e6", "mb_k3_e2", "mb_k5_e5", "mb_k3_e5", "mb_k5_e2", "mb_k3_e4",
       "mb_k5_e4", "mb_k7_e3", "mb_k7_e4")
# Parts of a search, and those of `benchmarks.speed.sampled` that they consist of.
PARTS = {"tracing and first steps": ("tracing and first runs",), "weight steps": ("weight steps",),
         "architecture steps": ("architecture steps",), "finalists": ("scoring finalists",)}
REST = "all else"
COLORS = ("#2b6cb0", "#c05621", "#0f766e", "#86377b", "#64707d")


def space_of(point: Mapping[str, int]) -> blocks.Space:
    """The space of a point: MBConvs of three widths, `choices` of them with `ops` ops each."""
    each = point["choices"] // 3
    stages = [spaces.Stage(filters, each, 2, OPS[:point["ops"]]) for filters in (16, 24, 40)]
    return spaces.mb_space("scaling", input_size=point["image size"], num_classes=CLASSES,
                           stem=blocks.Block("stem", ("conv_k3",), 8, 2), first=blocks.Block("b00", ("mb_k3_e1",), 8),
                           stages=stages, mix=128)


def measured(out_dir: str, point: Mapping[str, int]) -> dict[str, float]:
    """CPU seconds of each part of a search, and the most memory that it held.

    Args:
        out_dir: Folder of the search and of its output.
        point: Value of each axis.

    Returns:
        Seconds by part, those of `PARTS` and `REST`; and `peak_mb`.

    Raises:
        InputError: If the search fails.
    """
    shutil.rmtree(out_dir, ignore_errors=True)  # a search that was stopped would go on
    os.makedirs(out_dir)
    space, rng, path = space_of(point), np.random.default_rng(0), lambda name: os.path.join(out_dir, name)
    space_file, table_file = steps.write_made_up(out_dir, space, lambda number: 0.01 * (1 + number % 7))
    side, count = point["image size"], point["images"] + HELD_OUT
    images = rng.integers(0, 256, (count, side, side, 3), np.uint8)
    labels = np.arange(count) % CLASSES
    np.savez(path("images.npz"), x_train=images, y_train=labels, x_test=images[:BATCH], y_test=labels[:BATCH])
    low, high = prices.matrix(space, prices.milliseconds(latency_table.read(table_file))).range
    targets = ",".join(f"{table_file}:{ms:.4g}" for ms in np.linspace(low, high, point["targets"] + 2)[1:-1])
    arguments = [f"--space={space_file}", f"--targets={targets}", f"--dataset=npz:{path('images.npz')}",
                 f"--batch_size={BATCH}", f"--held_out_size={HELD_OUT}", "--warmup_epochs=2", "--search_epochs=2",
                 "--arch_every=1", f"--run_dir={path('run')}"]
    with open(path("log"), "w", encoding="utf-8") as log, subprocess.Popen(
            [sys.executable, "-m", "benchmarks.speed.sampled", path("parts.json"), "pnas_tf.search", *arguments],
            stdout=log, stderr=subprocess.STDOUT) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise InputError(f"A search failed; its output is in {path('log')}.")
    os.remove(path("images.npz"))
    seconds = {name: cpu for name, (_, cpu) in files.read_json(path("parts.json")).items()}
    parts = {name: sum(seconds.pop(own, 0.0) for own in names) for name, names in PARTS.items()}
    return {**parts, REST: sum(seconds.values()), "peak_mb": rss_mb(usage)}


def exponent(values: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of a cost over a value, both as logarithms: 1 if it grows in proportion, 0 if it does not grow."""
    return float(np.polyfit(np.log(values), np.log(np.maximum(costs, 1e-3)), 1)[0])


def show(figures: Mapping[str, Mapping[int, Mapping[str, float]]]) -> str:
    """The costs along each axis, and their exponents, as Markdown.

    Args:
        figures: Result of `measured` by axis and value.
    """
    names = [*PARTS, REST]
    lines = ["| axis | " + " | ".join(f"{name}, s" for name in names) + " | in all, s | memory, MB |",
             "| --- |" + " --- |" * (len(names) + 2)]
    for axis, points in figures.items():
        for value, parts in points.items():
            cells = [*(parts[name] for name in names), sum(parts[name] for name in names)]
            lines.append(f"| {value:,} {axis} | " + " | ".join(f"{cell:.1f}" for cell in cells)
                         + f" | {parts['peak_mb']:,.0f} |")
        if len(points) > 1:
            def slope(cost, points=points):
                return exponent(list(points), [cost(parts) for parts in points.values()])

            cells = [*(slope(lambda parts, name=name: parts[name]) for name in names),
                     slope(lambda parts: sum(parts[name] for name in names)), slope(lambda parts: parts["peak_mb"])]
            lines.append(f"| **exponent** of {axis} | "
                         + " | ".join(f"{round(cell, 2) + 0.0:.2f}" for cell in cells) + " |")
    return "\n".join(lines)


def plot(figures: Mapping[str, Mapping[int, Mapping[str, float]]]) -> str:
    """CPU seconds of the parts along each axis, as an SVG file."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(figure_file.STYLE):
        figure = Figure(figsize=(11, 3), layout="constrained")
        panels = figure.subplots(1, len(figures), sharey=True, squeeze=False)[0]
        for axes, (axis, points) in zip(panels, figures.items(), strict=True):
            for name, color in zip((*PARTS, REST), COLORS, strict=True):
                axes.plot(list(points), [parts[name] for parts in points.values()], "o-", color=color, markersize=3,
                          label=name)
            axes.set(xscale="log", yscale="log", xlabel=axis)
            axes.set_xticks(list(points), [f"{value:,}" for value in points], fontsize=8)
            axes.minorticks_off()
            axes.grid(alpha=0.3)
        panels[0].set_ylabel("CPU seconds")
        panels[0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False,
                      fontsize=8)
        return figure_file.as_svg(figure)


def run(out_dir: str, axes: Mapping[str, Sequence[int]]) -> dict[str, dict[int, dict[str, Any]]]:
    """Measures every point that is not in the folder yet."""
    path = os.path.join(out_dir, "scaling.json")
    known = files.read_json(path) if os.path.exists(path) else {}
    figures: dict[str, dict[int, dict[str, Any]]] = {}
    for axis, values in axes.items():
        for value in values:
            point = {**USUAL, axis: value}
            name = "-".join(map(str, point.values()))
            if name not in known:
                known[name] = measured(os.path.join(out_dir, name), point)
                files.write_text(path, json.dumps(known, indent=1) + "\n")
            figures.setdefault(axis, {})[value] = known[name]
            print(f"{value:,} {axis}: {sum(known[name][part] for part in (*PARTS, REST)):.1f} s of CPU", flush=True)
    return figures


def main() -> None:
    """Entry point."""
    out_dir = flags.DEFINE_string("out_dir", None, "Folder of the searches and results.", required=True)
    chosen = flags.DEFINE_list("axes", list(AXES), "What grows.")

    def measure():
        if unknown := set(chosen.value) - set(AXES):
            raise InputError(f"--axes must be of {', '.join(AXES)}; got {', '.join(sorted(unknown))}.")
        figures = run(out_dir.value, {axis: AXES[axis] for axis in chosen.value})
        text = show(figures)
        files.write_text(os.path.join(out_dir.value, "scaling.md"), text + "\n")
        files.write_text(os.path.join(out_dir.value, "scaling.svg"), plot(figures))
        print(f"\n{text}")

    start.start(measure)


if __name__ == "__main__":
    main()
