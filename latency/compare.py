"""Compares what a table predicts for whole networks with what they take on the same target, and can correct the table.

    python -m latency.compare --table=runs/host.jsonl --space=quickstart --networks=20
    python -m latency.compare --table=runs/host.jsonl --space=quickstart --networks=100 --calibrate=100
    python -m latency.compare --table=runs/host.jsonl --arch=runs/quickstart/arch.json

--calibrate times other networks too and fits the table's rows to them (calibrated_ms; what was measured stays). The
accuracy is written into the table, for the search to print. Stopped and started again, it goes on where it was.
"""

import datetime
import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from latency import calibrate, measure, space_flags, timed_networks
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.cost import latency_table
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError
from pnas_tf.report import plots
from pnas_tf.space import arch as arch_lib
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import OpKey, Space


def run(*, table: LatencyTable, archs: Sequence[Arch], others: Sequence[Arch] = (), times: str | None = None,
        settings: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Times networks on the target of a table.

    Args:
        table: its header says how it was measured; networks are measured in the same way.
        archs: networks that the table covers, to judge it by.
        others: networks to calibrate the table on; judged then are the corrected rows.
        times: file that keeps the networks' times.
        settings: rounds and runs, where not those of the table.

    Returns:
        target; networks (ops, predicted_ms, measured_ms and, timed once more after all the others, again_ms);
        figures, uncalibrated and noise, each as `figures` has them: predictions, those by the rows as measured, and
        the second measurement taken for a prediction of the first; and calibrated_ms by key, empty without `others`.

    Raises:
        InputError: if the table lacks a row, or its target is not at hand.
    """
    from pnas_tf.cost import prices

    for arch in (*archs, *others):
        table.check_covers(arch)
    device = measure.from_header({**table.header, **(settings or {})}, table.path)
    wanted = [(arch, 1) for arch in _alternating(archs, others)] + [(arch, 2) for arch in archs]
    measured = timed_networks.measured(times, device, wanted)

    def ms(arch, number=1):
        return measured[timed_networks.digest(arch), number]

    calibrated = _calibrated(table, others, [ms(arch) for arch in others]) if others else {}

    def corrected_ms(block_name, key):
        return calibrated[key] if key in calibrated else table.ms(block_name, key)

    networks = [{"ops": arch.ops, "predicted_ms": prices.of_arch(arch, corrected_ms), "measured_ms": ms(arch),
                 "again_ms": ms(arch, 2)} for arch in archs]
    predicted, first, second = (np.array([network[name] for network in networks])
                                for name in ("predicted_ms", "measured_ms", "again_ms"))
    plain = np.array([prices.of_arch(arch, functools.partial(_median_ms, table)) for arch in archs])
    return {"target": table.target, "networks": networks, "figures": figures(predicted, first),
            "uncalibrated": figures(plain, first), "noise": figures(second, first), "calibrated_ms": calibrated}


def _alternating(archs, others):
    """Both in turns: a machine that changes its pace in between changes it for both."""
    longest = max(len(archs), len(others))
    return [group[i] for i in range(longest) for group in (archs, others) if i < len(group)]


def _median_ms(table: LatencyTable, block_name: str, key: OpKey) -> float:
    """As measured, not calibrated. The table covers what is asked for."""
    row = table.row(block_name, key)
    assert row is not None
    return row["median_ms"]


def _calibrated(table: LatencyTable, archs: Sequence[Arch], network_ms: Sequence[float]) -> dict[OpKey, float]:
    """Milliseconds by key of all rows that the networks' space needs."""
    rows = {key: _median_ms(table, block.name, key) for block, key in archs[0].space.op_keys()}
    numbers = {key: number for number, key in enumerate(rows)}
    counts = np.zeros((len(archs), len(rows)))
    for arch, count in zip(archs, counts, strict=True):
        np.add.at(count, [numbers[key] for _, key in arch.op_keys()], 1)
    found = calibrate.fit(counts, np.array(list(rows.values())), [key.op for key in rows], np.array(network_ms))
    return dict(zip(rows, map(float, found), strict=True))


def figures(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float | None]:
    """How well predictions hold.

    Args:
        predicted: milliseconds [networks].
        measured: milliseconds [networks].

    Returns:
        within_5_percent and within_10_percent (shares of networks), bias (mean of predicted / measured, less 1),
        rmse_ms, rmse_of_mean (rmse_ms / mean measured), and the rank correlations spearman and kendall, None for
        fewer than 3 networks.
    """
    from scipy import stats

    error = predicted / measured - 1
    rmse_ms = float(np.sqrt(np.mean((predicted - measured) ** 2)))
    ranked = len(measured) > 2
    return {"within_5_percent": float(np.mean(np.abs(error) <= 0.05)),
            "within_10_percent": float(np.mean(np.abs(error) <= 0.10)), "bias": float(np.mean(error)),
            "rmse_ms": rmse_ms, "rmse_of_mean": rmse_ms / float(np.mean(measured)),
            "spearman": float(stats.spearmanr(predicted, measured).statistic) if ranked else None,
            "kendall": float(stats.kendalltau(predicted, measured).statistic) if ranked else None}


def over_range(table: LatencyTable, space: Space, count: int, seed: int) -> list[Arch]:
    """Random networks whose predicted times lie at random, in logarithm, between those of the cheapest and the dearest.

    Where every op is equally likely, networks crowd in the middle of the range. Rows that were fitted to those were
    15 % off for networks near its ends, where searches go, too.
    """
    from pnas_tf.cost import prices, within_limits
    from pnas_tf.cost.limits import Limit
    from pnas_tf.space import blocks

    # By the rows as measured: the same networks whether or not the table has been calibrated.
    ms = prices.matrix(space, functools.partial(_median_ms, table))
    rng, (low, high) = np.random.default_rng(seed), ms.range
    wanted = np.exp(rng.uniform(np.log(low), np.log(high), count))
    # Each with draws of its own: from the same ones, neighbours in milliseconds would be the same network.
    paths = [within_limits.samples(blocks.uniform_probs(space), [Limit("ms", ms, wanted_ms)], 0.9, 1, its_seed)
             for wanted_ms, its_seed in zip(wanted, rng.integers(2**31, size=count), strict=True)]
    return [arch_lib.from_path(space, path) for found in paths for path in found]


def random_networks(space: Space, networks: int, others: int, seed: int,
                    draw: Callable[[Space, int, int], list[Arch]] = measure.random_archs
                    ) -> tuple[list[Arch], list[Arch]]:
    """Networks to judge by and other ones to calibrate on.

    Args:
        space: whose networks.
        networks: to judge by.
        others: to calibrate on.
        seed: of the draws.
        draw: so many networks of a space by a seed.

    Raises:
        InputError: if the space has too few for both.
    """
    def distinct(count, its_seed, taken):
        # More than needed: in small spaces many are drawn twice.
        drawn = {timed_networks.digest(arch): arch for arch in draw(space, 4 * count + 20, its_seed)}
        return {name: arch for name, arch in drawn.items() if name not in taken}

    judged = dict(list(distinct(networks, seed, ()).items())[:networks])
    free = list(distinct(others, seed + 1, judged).values())[:others]
    if len(judged) < networks or len(free) < others:
        raise InputError(f"Space {space.name} has too few networks to judge by {networks} and to calibrate on {others} "
                         "others. Give smaller numbers.")
    return list(judged.values()), free


def _show(result):
    lines = [f"\n{'network':>8} {'predicted':>13} {'measured':>13} {'error':>9}"]
    for number, network in enumerate(result["networks"], start=1):
        predicted_ms, measured_ms = network["predicted_ms"], network["measured_ms"]
        error = predicted_ms / measured_ms - 1
        lines.append(f"{number:>8} {predicted_ms:>10.4f} ms {measured_ms:>10.4f} ms {error:>+9.1%}")
    lines.append(f"\n{result['target']}, {len(result['networks'])} networks")
    lines.append(f"{'':24} {'within 5 %':>10} {'10 %':>6} {'bias':>7} {'RMSE':>10} {'of mean':>8} {'Spearman':>9} "
                 f"{'Kendall':>8}")
    parts = {"predicted": "figures", "sum of measured rows": "uncalibrated", "measured a second time": "noise"}
    for name, part in parts.items():
        f = result[part]
        ranks = "" if f["spearman"] is None else f" {f['spearman']:>9.4f} {f['kendall']:>8.4f}"
        lines.append(f"{name:24} {f['within_5_percent']:>10.0%} {f['within_10_percent']:>6.0%} {f['bias']:>+7.1%} "
                     f"{f['rmse_ms']:>7.4f} ms {f['rmse_of_mean']:>8.1%}{ranks}")
    return "\n".join(lines)


def _write_down(table: LatencyTable, space: Space, result: dict[str, Any], calibrated_on: int, **drawn: Any) -> None:
    before = (table.accuracy(space) or {}).get("calibrated_on", 0)
    entry = {"networks": len(result["networks"]), **drawn, "calibrated_on": calibrated_on or before,
             **result["figures"],
             "noise_rmse_of_mean": result["noise"]["rmse_of_mean"],
             "uncalibrated_rmse_of_mean": result["uncalibrated"]["rmse_of_mean"],
             "date": datetime.date.today().isoformat()}
    latency_table.annotate(table.path, calibrated_ms=result["calibrated_ms"],
                           accuracy={latency_table.accuracy_name(space): entry})


def _define_flags() -> None:
    flags.DEFINE_string("table", None, "Latency table: a file, or the name of a shipped one.")
    space_flags.define()
    flags.DEFINE_integer("networks", 10, "Random networks of the space to judge the table by.", 1, 10_000)
    flags.DEFINE_integer("calibrate", 0, "Other random networks to fit the table's rows to.", 0, 10_000)
    flags.DEFINE_boolean("over_range", False, "Networks spread over the whole range of milliseconds; else every op is "
                         "equally likely, and most networks lie in the middle.")
    flags.DEFINE_string("arch", None, "One network instead: name of a shipped arch or path of an arch.json.")
    flags.DEFINE_integer("rounds", 0, "Interleaved passes over a group of networks; 0: as the table's.", 0, 1000)
    flags.DEFINE_integer("runs", 0, "Timed runs of a network in a round; 0: as the table's.", 0, 10_000)
    flags.DEFINE_integer("together", 0, "host: networks that are visited in turns; 0: as the table's.", 0, 65536)
    flags.DEFINE_integer("seed", 0, "Of the random networks.", 0, 2**31 - 2)
    flags.DEFINE_string("times", None, "File that keeps the networks' times; default: TABLE.networks.jsonl.")
    flags.DEFINE_string("plot", None, "File for a scatter plot, .svg; default: TABLE.svg.")
    flags.DEFINE_string("json", None, "File for the result.")


def _main() -> None:
    f = flags.FLAGS
    if not f.table:
        raise InputError("Name the table: --table=TABLE.jsonl.")
    table = latency_table.read(f.table)
    ours = os.path.isfile(table.path)
    if f.calibrate and (f.arch or not ours):
        raise InputError("--calibrate writes into a table, from networks of a space: give --space, and --table=FILE "
                         f"of your own; got --table={f.table}" + (f" and --arch={f.arch}." if f.arch else "."))
    if f.arch:
        space, archs = None, [arch_lib.load(f.arch)]
        others: list[arch_lib.Arch] = []
    else:
        space = space_flags.space_of(f)
        table.check_covers(space)
        if f.over_range:
            start.load_tensorflow()
        archs, others = random_networks(space, f.networks, f.calibrate, f.seed,
                                        functools.partial(over_range, table) if f.over_range else measure.random_archs)
    start.load_tensorflow()
    stem = table.path.removesuffix(".jsonl")
    result = run(table=table, archs=archs, others=others,
                 times=f.times or (timed_networks.beside(table.path) if ours else None),
                 settings={name: f[name].value for name in ("rounds", "runs", "together") if f[name].value})
    print(_show(result))
    if space and ours:
        _write_down(table, space, result, len(others), seed=f.seed, over_range=f.over_range)
        print(f"Table:  {table.path} (accuracy for {space.name}{', calibrated rows' if others else ''})")
    if len(archs) > 1:
        plot = f.plot or f"{os.path.basename(stem) if not ours else stem}.svg"
        files.write_text(plot, plots.scatter(
            [network["measured_ms"] for network in result["networks"]],
            [network["predicted_ms"] for network in result["networks"]], title=table.target))
        print(f"Plot:   {plot}")
    if f.json:
        files.write_text(f.json, json.dumps({name: value for name, value in result.items()
                                                if name != "calibrated_ms"}, indent=1) + "\n")
        print(f"Result: {f.json}")


def main() -> None:
    """Console script."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
