"""Judges a table by networks that a user has timed, in place of measurements of this program.

Nobody timed an anchor between them, so the networks near in time show the device's pace.
"""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latency import pace
from latency.figures import figures
from latency.fitted_table import TimedArch
from pnas_tf.cost import prices
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError


def run(table: LatencyTable, timed: Sequence[TimedArch]) -> dict[str, Any]:
    """Compares predictions with times, as measured and at the usual pace.

    Args:
        table: Table to judge.
        timed: Networks that its rows were not fitted to.

    Returns:
        target: Name of the target.
        networks: Number of networks.
        figures: Result of `figures` after each time is divided by its pace, which the other networks show. What all
            networks near in time take more or less than predicted counts as pace.
        as_measured: Result of `figures` for the times as they are.
        bias: Predicted against measured milliseconds of the middle network, as measured.
        pace: Smallest and largest pace, relative to the usual pace in this list.

    Raises:
        InputError: If there are fewer than 3 networks, the table lacks a row, or it predicts 0 ms.
    """
    if len(timed) < 3:
        raise InputError(f"A table is judged by at least 3 networks, got {len(timed)}.")
    for network in timed:
        table.check_covers(network.arch)
    predicted = np.array([prices.of_arch(network.arch, table.ms) for network in timed])
    if not predicted.all():
        raise InputError(f"Table {table.target} ({table.path}) predicts 0 ms for a whole network. "
                         "Choose another table.")
    measured = np.array([network.ms for network in timed])
    curve = pace.curve(np.array([network.time_s for network in timed]), measured / predicted)
    paces, usual = curve.left_out()[0], float(np.exp(curve.usual_log))
    return {"target": table.target, "networks": len(timed), "figures": figures(predicted, measured / paces),
            "as_measured": figures(predicted, measured), "bias": 1 / usual - 1,
            "pace": [float(paces.min()) / usual, float(paces.max()) / usual]}


def accuracy(result: Mapping[str, Any]) -> dict[str, Any]:
    """The result as an entry of a table's `accuracy`.

    Args:
        result: Result of `run`.
    """
    return {"networks": result["networks"], "by": "a list of networks", **result["figures"], "bias": result["bias"],
            "as_measured_within_5_percent": result["as_measured"]["within_5_percent"],
            "date": datetime.date.today().isoformat()}


def words(result: Mapping[str, Any]) -> str:
    """The result as lines to print.

    Args:
        result: Result of `run`.
    """
    low, high = result["pace"]
    lines = [f"\nPace: {low:.3f} to {high:.3f} times the usual, as networks near in time show it",
             f"{'':24} {'within 5 %':>10} {'10 %':>6} {'bias':>7} {'RMSE':>8} {'spearman':>9}"]
    for name, part in (("divided by the pace", "figures"), ("as measured", "as_measured")):
        f = result[part]
        rank = "" if f["spearman"] is None else f" {f['spearman']:>9.4f}"
        lines.append(f"{name:24} {f['within_5_percent']:>10.0%} {f['within_10_percent']:>6.0%} {f['bias']:>+7.1%} "
                     f"{f['rmse_of_mean']:>8.1%}{rank}")
    return "\n".join(lines)
