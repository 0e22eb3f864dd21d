"""Results of benchmarks.targets.specialise: the matrix of networks and devices as values and as text, and a plot."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.space.arch import Arch


def matrix(archs: Mapping[str, Arch], tables: Mapping[str, LatencyTable], targets_ms: Mapping[str, float],
           ms: Mapping[str, Mapping[str, float]], accuracies: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """All results as values.

    Args:
        archs: Networks by the name of the device that they were searched for, and the uniform one.
        tables: Table by device.
        targets_ms: Target in milliseconds by device.
        ms: Measured milliseconds by network and device.
        accuracies: Test accuracies by network, one for each seed.

    Returns:
        targets_ms: As given.
        networks: By name: ops, accuracies, accuracy (their mean), and by device ms, predicted_ms and share (of the
            device's target, measured).
        wins: By device: keep_the_target (networks within 3 % above the target), and most_accurate among them.
    """
    from pnas_tf.cost import prices

    networks: dict[str, dict[str, Any]] = {
        name: {"ops": arch.ops, "accuracies": list(accuracies[name]), "accuracy": statistics.fmean(accuracies[name]),
               "ms": dict(ms[name]), "predicted_ms": {device: prices.of_arch(arch, prices.milliseconds(table))
                                                      for device, table in tables.items()},
               "share": {device: ms[name][device] / targets_ms[device] for device in tables}}
        for name, arch in archs.items()}
    wins = {}
    for device in tables:
        keeping = [name for name, network in networks.items() if network["share"][device] <= 1.03]
        wins[device] = {"keep_the_target": keeping,
                        "most_accurate": max(keeping, key=lambda name: networks[name]["accuracy"], default=None)}
    return {"targets_ms": dict(targets_ms), "networks": networks, "wins": wins}


def show(result: Mapping[str, Any]) -> str:
    """The matrix as text: a row for each network, a column for each device; * marks a network's own device."""
    devices = list(result["targets_ms"])
    lines = [f"{'searched for':<18}{'accuracy':>10}" + "".join(f"{device:>24}" for device in devices),
             f"{'target':<28}" + "".join(f"{ms:>21.4g} ms" for ms in result["targets_ms"].values())]
    for name, network in result["networks"].items():
        cells = [f"{network['ms'][device]:.4g} ms ({network['share'][device]:.2f}){'*' if device == name else ' '}"
                 for device in devices]
        lines.append(f"{name:<18}{network['accuracy']:>10.2%}" + "".join(f"{cell:>24}" for cell in cells))
    lines.append("In brackets: share of the device's target. Trained with "
                 f"{len(next(iter(result['networks'].values()))['accuracies'])} seed(s).")
    for device, win in result["wins"].items():
        best = win["most_accurate"]
        lines.append(f"{device}: most accurate of those that keep the target within 3 %: {best or 'none'}"
                     + ("." if best == device else f", not its own. Those that keep it: "
                                                   f"{', '.join(win['keep_the_target']) or 'none'}."))
    return "\n".join(lines)


def plot(archs: Mapping[str, Arch]) -> str:
    """The networks below each other (paper figure 6), as an SVG file: colour is the kernel, height the expansion."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from pnas_tf.report import drawing, figure_file, plots

    strips = {name: [box for stage in drawing.of_arch(arch) for box in stage.boxes if box.kind != "fixed"]
              for name, arch in archs.items()}
    columns = max(map(len, strips.values()))
    with rc_context(figure_file.STYLE):
        figure = Figure(figsize=(2 + 0.6 * columns, 0.5 + 0.8 * len(strips)), layout="constrained")
        axes = figure.add_subplot()
        for row, boxes in enumerate(strips.values()):
            for column, box in enumerate(boxes):
                _draw(axes, box, row, column)
        axes.set(xlim=(-0.2, columns), ylim=(0.5 - len(strips), 0.5), yticks=[-row for row in range(len(strips))],
                 yticklabels=list(strips), xticks=[column + 0.4 for column in range(columns)],
                 xticklabels=list(next(iter(archs.values())).space.choices))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        kernels = sorted({box.kernel for boxes in strips.values() for box in boxes if box.kernel})
        figure.legend(handles=[*(Patch(color=plots.KERNEL_COLORS.get(kernel, plots.PLAIN_COLOR),
                                       label=f"{kernel}\N{MULTIPLICATION SIGN}{kernel}") for kernel in kernels),
                               Patch(fill=False, edgecolor="#64707d", linestyle=":", label="skipped")],
                      loc="outside upper right", ncols=4, frameon=False,
                      title="height: expansion")
        return figure_file.as_svg(figure)


def _draw(axes, box, row, column):
    """Draws the box of one block: filled in the colour of its kernel, or a dotted outline if it is skipped."""
    from matplotlib.patches import Rectangle

    from pnas_tf.report import plots

    height = 0.12 * box.expansion
    colour = plots.KERNEL_COLORS.get(box.kernel, plots.PLAIN_COLOR)
    skipped = box.kind == "skipped"
    axes.add_patch(Rectangle((column, -row - height / 2), 0.8, height, fill=not skipped, facecolor=colour,
                             edgecolor="#64707d" if skipped else colour, linestyle=":" if skipped else "-"))
    if not skipped:
        axes.text(column + 0.4, -row, f"{box.kernel}\N{MULTIPLICATION SIGN}{box.kernel}", color="white", ha="center",
                  va="center", fontsize=7)
