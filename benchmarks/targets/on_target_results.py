"""Results of benchmarks.targets.on_target: deviations from the targets, as values, as text and as a plot."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.targets import windows

# Deviations from the target within which networks are counted.
BOUNDS = (0.02, 0.03)


def judge(searches: Sequence[dict[str, Any]], ms: Mapping[windows.NamedPass, float], judged: Sequence[windows.Anchor],
          table_error: float) -> dict[str, Any]:
    """Compares the measured milliseconds of networks with their targets.

    Args:
        searches: Results of searches, one for each network, as `on_target.search` returns them.
        ms: Milliseconds by (run_dir or `anchor N`, pass); passes are 1 and 2.
        judged: Anchors, as `windows.anchors` returns them.
        table_error: Relative error of the table, root mean square.

    Returns:
        networks: Entries of `searches`, each with passes_ms, measured_ms (their mean), deviation (of measured_ms from
            the target, relative) and deviation_at_pace (the same, divided by the pace).
        pace, paces_of_parts: Pace of the machine, by the mean of both passes.
        noise: Root mean square of (milliseconds in pass 2 / milliseconds in pass 1 - 1).
        within_3_percent_alone: Number of networks within 3 % of the target, by each pass alone.
        table_error: As given.
        raw, at_pace: Counts by each kind of deviation: within_2_percent, within_3_percent, above (networks above the
            target by more than the table's error), above_twice (by more than twice that), and worst_above (the largest
            deviation).
        expectation: mean, sd and worst of (expected_ms / target_ms - 1).
    """
    mean_ms = {name: (ms[name, 1] + ms[name, 2]) / 2 for name, _ in ms}
    pace, networks = windows.pace(mean_ms, judged), []
    for entry in searches:
        ratio = mean_ms[entry["run_dir"]] / entry["target_ms"]
        networks.append({**entry, "passes_ms": [ms[entry["run_dir"], number] for number in (1, 2)],
                         "measured_ms": mean_ms[entry["run_dir"]], "deviation": ratio - 1,
                         "deviation_at_pace": ratio / pace - 1})
    passes_ms, targets_ms = (np.array([network[name] for network in networks]) for name in ("passes_ms", "target_ms"))
    expected = np.array([entry["expected_ms"] / entry["target_ms"] - 1 for entry in searches])
    return {"networks": networks, "pace": pace, "paces_of_parts": windows.paces_of_parts(mean_ms, judged),
            "table_error": table_error,
            "noise": float(np.sqrt(np.mean((passes_ms[:, 1] / passes_ms[:, 0] - 1) ** 2))),
            "within_3_percent_alone": [int(np.sum(np.abs(pass_ms / targets_ms - 1) <= BOUNDS[-1]))
                                       for pass_ms in passes_ms.T],
            "raw": _counts(networks, "deviation", table_error),
            "at_pace": _counts(networks, "deviation_at_pace", table_error),
            "expectation": {"mean": float(expected.mean()), "sd": float(expected.std()),
                            "worst": float(np.abs(expected).max())}}


def _counts(networks, field, table_error):
    deviations = np.array([network[field] for network in networks])
    within = {f"within_{100 * bound:.0f}_percent": int(np.sum(np.abs(deviations) <= bound)) for bound in BOUNDS}
    return {**within, "above": int(np.sum(deviations > table_error)),
            "above_twice": int(np.sum(deviations > 2 * table_error)), "worst_above": float(deviations.max())}


def show(result: dict[str, Any]) -> str:
    """The result as text.

    Args:
        result: Result of `judge`, with `windows` as `windows.time_all` counts them.
    """
    lines = [f"{'target':>10} {'seed':>5} {'predicted':>11} {'pass 1':>11} {'pass 2':>11} {'deviation':>10} "
             f"{'at pace':>8} {'expected':>9} {'search':>7}"]
    for network in result["networks"]:
        first, second = network["passes_ms"]
        lines.append(f"{network['target_ms']:>10.4g} {network['seed']:>5} {network['predicted_ms']:>8.4f} ms "
                     f"{first:>8.4f} ms {second:>8.4f} ms {network['deviation']:>+10.1%} "
                     f"{network['deviation_at_pace']:>+8.1%} "
                     f"{network['expected_ms'] / network['target_ms'] - 1:>+9.1%} {network['seconds']:>5.0f} s")
    parts = ", ".join(f"{part:.3f}" for part in result["paces_of_parts"])
    lines.append(f"\nPace of the machine against the table's: {result['pace']:.3f} (short to long networks: {parts}). "
                 f"One pass against the other: {result['noise']:.1%} (RMS). Error of the table: "
                 f"{result['table_error']:.1%} (RMSE).")
    for name, part in (("as measured (mean of both passes)", "raw"), ("at the table's pace", "at_pace")):
        counts = result[part]
        lines.append(f"Of {len(result['networks'])}, {name}: {counts['within_3_percent']} within 3 %, "
                     f"{counts['within_2_percent']} within 2 %; {counts['above']} above the target by more than the "
                     f"table's error, {counts['above_twice']} by more than twice that; the worst "
                     f"{counts['worst_above']:+.1%}.")
    alone, counted = " and ".join(map(str, result["within_3_percent_alone"])), result["windows"]
    lines.append(f"By one pass alone: {alone} within 3 %. Windows: {counted['timed']} timed, {counted['kept']} kept, "
                 f"{counted['at_pace']} of these at the table's pace.")
    expectation = result["expectation"]
    lines.append(f"At the end of the searches the expected ms lie {expectation['mean']:+.1%} from the target "
                 f"(sd {expectation['sd']:.1%}, at most {expectation['worst']:.1%}).")
    return "\n".join(lines)


def plot(result: dict[str, Any], title: str) -> str:
    """Measured milliseconds against the target, and deviations in percent, as an SVG file.

    Args:
        result: Result of `judge`.
        title: Title of the plot.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from pnas_tf.report import figure_file, plots

    networks = result["networks"]
    targets_ms = [network["target_ms"] for network in networks]
    with rc_context(figure_file.STYLE):
        figure = Figure(figsize=(9, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        ends = [0.9 * min(targets_ms), 1.1 * max(targets_ms)]
        left.plot(ends, ends, color="#64707d", linewidth=1)
        left.plot(targets_ms, [network["measured_ms"] for network in networks], "o", color="#2b6cb0", markersize=4,
                  alpha=0.7)
        left.set(xscale="log", yscale="log", xlabel="target, ms", ylabel="measured, ms", title=title)
        right.axhspan(-3, 3, color="#000000", alpha=0.08, linewidth=0, label="within 3 %")
        right.axhline(0, color="#64707d", linewidth=1)
        for name, label, color, marker in (("deviation", "as measured", "#2b6cb0", "o"),
                                           ("deviation_at_pace", "at the table's pace", "#c05621", "x")):
            right.plot(targets_ms, [100 * network[name] for network in networks], marker, color=color, markersize=5,
                       alpha=0.8, label=label)
        right.set(xscale="log", xlabel="target, ms", ylabel="measured less target, %")
        right.set_ylim(*(limit(edge, *right.get_ylim()) for limit, edge in ((min, -5), (max, 5))))
        plots.plain_ticks(left.xaxis, left.yaxis, right.xaxis)
        right.legend(frameon=False)
        return figure_file.as_svg(figure)
