"""Results of the benchmark on NAS-Bench-Macro: how the supernet ranks networks, regrets by way to choose, the plot."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.quality.macro_methods import METHODS
from benchmarks.quality.macro_truth import Truth
from pnas_tf import files
from pnas_tf.cost.prices import Cost
from pnas_tf.report import figure_file

# Bands of MACs in millions, of 6,561 networks that have 8 to 106.
BANDS = ((35e6, 45e6), (45e6, 55e6), (55e6, 65e6), (65e6, 80e6))
# Order of the ways to choose in the tables; others follow.
WAYS = ("found", "delivered", "most probable within the limits", "arg-max",
        "least inherited loss of all scored", "least inherited loss of 64 random", "evolution by inherited loss",
        *(f"alpha by {name}" for name in METHODS), "most MACs", "fewest skips, then most MACs", "best of 4 trained",
        "best of 16 trained", "best of all, each trained once")

Rows = Sequence[dict[str, Any]]


def ranking(truth: Truth, paths: np.ndarray, losses: np.ndarray) -> dict[str, float]:
    """Kendall's tau between losses and published accuracies.

    Args:
        truth: Truth of the space.
        paths: Op indices of the networks, int [networks, choices].
        losses: Loss of each network.

    Returns:
        tau of `all` networks, the mean over `bands` of MACs, and of the `better` half.
    """
    from scipy import stats

    of = [truth.of(path) for path in paths]
    accuracy, macs = truth.accuracy[of], truth.macs[of]

    def tau(chosen):
        return float(stats.kendalltau(-losses[chosen], accuracy[chosen])[0])

    return {"all": tau(macs > 0), "bands": float(np.mean([tau((macs >= low) & (macs < high)) for low, high in BANDS])),
            "better": tau(accuracy >= np.median(accuracy))}


def write(output: str, rows: Rows, truth: Truth, ms: Cost) -> str:
    """Writes results.md and trade_off.svg; returns the text.

    Args:
        output: Folder of the benchmark.
        rows: Lines of results.jsonl.
        truth: Truth of the space.
        ms: Prices of the host's table.
    """
    choices = [row for row in rows if "way" in row]
    host = next((row["table"] for row in choices), "")
    text = "\n\n".join([
        ranking_table([row for row in rows if "all" in row]),
        f"Table of the host\n\n{regrets([row for row in choices if row['table'] == host])}",
        "Table of the host in int8, without architecture steps\n\n"
        + regrets([row for row in choices if row["table"].startswith("host") and row["table"] != host]),
        "Made-up prices, without architecture steps\n\n"
        + regrets([row for row in choices if row["table"].startswith("made_up")])])
    files.write_text(os.path.join(output, "results.md"), text + "\n")
    files.write_text(os.path.join(output, "trade_off.svg"),
                     plot(truth, ms, [row for row in choices if row["table"] == host and "path" in row]))
    return text


def ranking_table(rows: Rows) -> str:
    """Kendall's tau by seed: of single losses, and of the effects of ops."""
    lines = ["| seed | judged by | networks | all | bands of MACs | better half |",
             "| --- | --- | --- | --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {row['seed']} | {'effects of ops' if row['table'] else 'own inherited loss'} | "
                                f"{row['networks']:,} | {row['all']:.3f} | {row['bands']:.3f} | {row['better']:.3f} |"
                                for row in rows)])


def regrets(rows: Rows) -> str:
    """Regret and rank of each way to choose, over targets and seeds; and its gain over most MACs."""
    lines = ["| chosen by | regret, mean | worst | rank within the target, mean | worst | minus most MACs, mean | "
             "least |", "| --- | --- | --- | --- | --- | --- | --- |"]
    plain = {(row["seed"], row["table"], row["target_ms"]): row["regret"] for row in rows if row["way"] == "most MACs"}
    ways = sorted({row["way"] for row in rows}, key=lambda way: (WAYS.index(way) if way in WAYS else len(WAYS), way))
    for way in ways:
        own = [row for row in rows if row["way"] == way and row.get("ms", 0) <= row["target_ms"] * (1 + 1e-9)]
        if not own:
            continue
        regret = [row["regret"] for row in own]
        ranks = [100 * row["rank"] for row in own if "rank" in row]
        gains = [plain[row["seed"], row["table"], row["target_ms"]] - row["regret"] for row in own]
        lines.append(f"| {way} | {np.mean(regret):.2f} | {max(regret):.2f} | "
                     + (f"{np.mean(ranks):.2f} % | {max(ranks):.1f} % | " if ranks else "- | - | ")
                     + f"{np.mean(gains):+.2f} | {min(gains):+.2f} |")
    return "\n".join(lines)


def plot(truth: Truth, ms: Cost, rows: Rows) -> str:
    """Accuracy against milliseconds, SVG: all networks as a cloud, their front, and what each way chose.

    Args:
        truth: Truth of the space.
        ms: Prices of the host's table.
        rows: Choices for the host's table.
    """
    import matplotlib
    from matplotlib.figure import Figure

    costs = ms.of_paths(truth.paths)
    order = np.argsort(costs)
    best = np.maximum.accumulate(truth.accuracy[order])
    with matplotlib.rc_context(figure_file.STYLE):
        figure = Figure(figsize=(7, 5), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(costs, truth.accuracy, ".", color="#64707d", markersize=1, alpha=0.4, rasterized=True,
                  label=f"all {len(costs):,} networks")
        axes.step(costs[order], best, where="post", color="#000000", linewidth=1, label="best of all")
        for way, color, marker in (("most MACs", "#2b6cb0", "s"), ("most probable within the limits", "#0f766e", "^"),
                                   ("found", "#c05621", "*")):
            own = [row for row in rows if row["way"] == way]
            axes.plot([row["ms"] for row in own], [row["accuracy"] for row in own], marker, color=color, linestyle="",
                      markersize=11 if marker == "*" else 6, label=way)
        axes.set(xlabel="milliseconds by the table", ylabel="published accuracy, %", ylim=(82, 93.5))
        axes.legend(loc="lower right", frameon=False)
        return figure_file.as_svg(figure)
