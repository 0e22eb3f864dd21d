"""The front of a search for a report: accuracy against milliseconds, and what a millisecond buys."""

from collections.abc import Sequence
from typing import Any

from pnas_tf.report import plots
from pnas_tf.run_folder.front_file import FrontNetwork

# Number of ops in which a network differs from the delivered one that a table names.
NAMED = 4


def chart(front: Sequence[FrontNetwork], target_ms: float | None) -> plots.Chart | None:
    """The front as a chart: points of accuracy that each network has above or below the best within the target.

    Args:
        front: Networks by milliseconds.
        target_ms: Milliseconds that the search aimed at, or None.

    Returns:
        None if there are fewer than two networks.
    """
    if len(front) < 2:
        return None
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axes = figure.add_subplot()
        ms, points = [each.ms for each in front], [-100 * each.gain for each in front]
        axes.errorbar(ms, points, yerr=[100 * each.gain_error for each in front], color=plots.SERIES[0], marker="o",
                      markersize=5, linewidth=1.5, elinewidth=1, capsize=3, label="best at each budget")
        for each in front:
            if each.delivered:
                axes.plot(each.ms, -100 * each.gain, "*", color=plots.SERIES[1], markersize=17, zorder=3,
                          label="delivered")
        if target_ms:
            axes.axvline(target_ms, color=plots.SERIES[2], linewidth=1, linestyle="--", label="target")
        axes.grid(axis="both")
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.set(xlabel="predicted, ms", ylabel="accuracy, points")
        figure.legend(loc="outside upper left", ncols=2, borderpad=0)
        beside = "delivered network" if any(each.image_size for each in front) else "best network within the target"
        return plots.Chart("Accuracy against milliseconds", plots.inline(figure, "front"),
                           f"Expected accuracy beside that of the {beside}, before any of them is trained alone. The "
                           "bars are standard errors of the comparison.")


def rows(front: Sequence[FrontNetwork]) -> list[dict[str, Any]]:
    """A row of the table for each network: its accuracy, and its differences from the delivered network.

    Args:
        front: Networks by milliseconds.
    """
    delivered = next((each.ops for each in front if each.delivered), {})
    found = []
    for each in front:
        other = [f"{choice}: {op}" for choice, op in each.ops.items() if delivered and op != delivered.get(choice)]
        more = len(other) - NAMED
        points = 0.0 - round(100 * each.gain, 1)  # 0.0, not -0.0
        found.append({"ms": each.ms, "points": points, "error": 100 * each.gain_error,
                      "params": each.costs.get("params"), "delivered": each.delivered, "folder": each.folder,
                      "pixels": each.image_size,
                      "differs": ", ".join(other[:NAMED]) + (f" and {more} more" if more > 0 else "")})
    return found
