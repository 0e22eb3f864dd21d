"""Makes a table from the times of whole networks of a space: rows that `fit_networks.fit` fits, each with its error."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latency import fit_networks
from latency.figures import figures
from latency.fit_networks import Fit, Networks
from pnas_tf.cost import latency_table, prices
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import OpKey, Space

# Networks that a fit needs at least: cross-validation holds out a fifth of them.
LEAST_NETWORKS = 10


@dataclasses.dataclass(frozen=True)
class TimedArch:
    """A network and its time.

    Attributes:
        arch: The network.
        ms: Milliseconds as measured.
        time_s: Time of the measurement in any unit; its order is what counts.
        pace: Pace of the device then, as an anchor shows it; None if there was no anchor.
    """

    arch: Arch
    ms: float
    time_s: float
    pace: float | None = None


@dataclasses.dataclass(frozen=True)
class FittedTable:
    """Rows and how good they are.

    Attributes:
        rows: Rows as a table holds them.
        facts: Facts for the header: fitted (networks, sources, their weights, and the errors), accuracy, and the range
            of the pace.
    """

    rows: list[dict[str, Any]]
    facts: dict[str, Any]


def fitted(timed: Sequence[TimedArch], tables: Sequence[LatencyTable], space: Space | None = None) -> FittedTable:
    """Fits rows for every op of a space.

    Args:
        timed: Networks of one space, all with a pace or all without.
        tables: Tables of other devices that have every op of the space; empty for none, and rows are then assumed to
            follow operations, data moved, and a constant for each op.
        space: Space that the networks were drawn from; None for that of the first.

    Raises:
        InputError: If there are too few networks, a table lacks an op, or all its ops have 0 ms.
    """
    check_enough(len(timed))
    space = space or timed[0].arch.space
    for table in tables:
        table.check_covers(space)
        if not any(table.ms(block.name, key) for block, key in space.op_keys()):
            raise InputError(f"Table {table.target} ({table.path}) has 0 ms for every op. "
                             "Choose another table (--from).")
    keys = list(dict.fromkeys(key for _, key in space.op_keys()))
    networks = networks_of(keys, timed)
    sources = {name: _prices(space, table.ms) for name, table in _named(tables).items()} or _simple(space)
    fit = fit_networks.fit(networks, np.array(list(sources.values())))
    errors = fit_networks.held_out_errors(networks, np.array(list(sources.values())))
    rows = [latency_table.row(key, median_ms=ms, error_ms=error, fitted=True)
            for key, ms, error in zip(keys, fit.row_ms.round(6).tolist(), fit.error_ms.round(6).tolist(), strict=True)]
    return FittedTable(rows, {**_facts(fit, networks, sources, errors),
                              "accuracy": {latency_table.accuracy_name(space): accuracy(networks.ms, errors)}})


def _named(tables: Sequence[LatencyTable]) -> dict[str, LatencyTable]:
    """Tables by their target, with their number if several have the same."""
    targets = [table.target for table in tables]
    return {table.target if targets.count(table.target) == 1 else f"{table.target} {number}": table
            for number, table in enumerate(tables, start=1)}


def check_enough(networks: int) -> None:
    """Raises InputError if rows cannot be fitted to so few networks.

    Args:
        networks: Number of networks.
    """
    if networks < LEAST_NETWORKS:
        raise InputError(f"Rows are fitted to at least {LEAST_NETWORKS} networks, got {networks}. Time more of them.")


def networks_of(keys: Sequence[OpKey], timed: Sequence[TimedArch]) -> Networks:
    """Networks as the numbers that `fit_networks` takes.

    Args:
        keys: Rows in order.
        timed: Networks with their times.
    """
    paces = [network.pace for network in timed if network.pace is not None]
    return Networks(occurrences(keys, [network.arch for network in timed]),
                    np.array([network.ms for network in timed]),
                    np.array(paces) if len(paces) == len(timed) else None,
                    np.array([network.time_s for network in timed], np.float64))


def occurrences(keys: Sequence[OpKey], archs: Sequence[Arch]) -> np.ndarray:
    """Occurrences of each row in each network, float64 [networks, rows].

    Args:
        keys: Rows in order.
        archs: Networks whose ops are all among the rows.
    """
    numbers = {key: number for number, key in enumerate(keys)}
    counts = np.zeros((len(archs), len(keys)))
    for arch, count in zip(archs, counts, strict=True):
        np.add.at(count, [numbers[key] for _, key in arch.op_keys()], 1)
    return counts


def accuracy(ms: np.ndarray, errors: np.ndarray) -> dict[str, Any]:
    """An entry of a table's `accuracy`, from predictions for networks that the rows were not fitted to.

    Args:
        ms: Milliseconds of networks, float64 [networks].
        errors: Relative errors of predictions for them, float64 [networks].
    """
    return {"networks": len(ms), "calibrated_on": len(ms), "by": "cross-validation",
            **figures(ms * (1 + errors), ms), "date": datetime.date.today().isoformat()}


def words(facts: Mapping[str, Any]) -> str:
    """The facts of a fitted table in sentences.

    Args:
        facts: Facts of a `FittedTable`.
    """
    made, entry = facts["fitted"], next(iter(facts["accuracy"].values()))
    mixture = ", ".join(f"{weight:.3g} x {name}" for name, weight in made["weights"].items() if weight)
    pace = f"Pace:   {made['pace'][0]:.3f} to {made['pace'][1]:.3f} times the usual\n" if "pace" in made else ""
    return (f"Rows:   {mixture}, and {made['row_sigma']:.1%} for each row\n{pace}"
            f"Error:  {entry['within_5_percent']:.0%} of {entry['networks']} networks within 5 %, "
            f"{entry['within_10_percent']:.0%} within 10 %, when each was held out")


def _facts(fit: Fit, networks: Networks, sources, errors):
    pace = networks.pace
    if pace is None and fit.pace:
        pace = fit.pace.at(networks.times)[0] / np.exp(fit.pace.usual_log)
    made = {"networks": len(networks.ms), "weights": dict(zip(sources, fit.weights.round(9).tolist(), strict=True)),
            "row_sigma": fit.row_sigma, "noise": fit.noise, "held_out_median_error": float(np.median(np.abs(errors)))}
    return {"fitted": {**made, "pace": [float(pace.min()), float(pace.max())]} if pace is not None else made}


def _prices(space: Space, price: prices.Price) -> np.ndarray:
    """Price of each row of a space; where blocks share a row but not its price, their mean."""
    found: dict[OpKey, list[float]] = {}
    for block, key in space.op_keys():
        found.setdefault(key, []).append(price(block.name, key))
    return np.array([np.mean(values) for values in found.values()])


def _simple(space):
    """What milliseconds follow on any device, more or less; used where no other device is known."""
    def moved(_, key):
        height, width, channels = key.input
        out = -(-height // key.strides) * -(-width // key.strides) * key.filters
        return (height * width * channels + (key.filters if key.op == "classifier" else out)) / 1e6

    macs = prices.macs()
    return {"million MACs": _prices(space, lambda name, key: macs(name, key) / 1e6),
            "million values read and written": _prices(space, moved),
            "ops": _prices(space, lambda name, key: 1.0)}
