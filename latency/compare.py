"""Compares a table's predictions for whole networks with their measured times, and can correct the table.

    python -m latency.compare --table=runs/host.jsonl --space=quickstart --networks=20
    python -m latency.compare --table=runs/host.jsonl --space=quickstart --networks=100 --calibrate=100
    python -m latency.compare --table=runs/host.jsonl --arch=runs/quickstart/arch.json

With --calibrate, further networks are timed and the table's rows are fitted to them (calibrated_ms; the measured times
stay). The accuracy is written into the table, and the search prints it. To continue a stopped comparison, run the same
command again.
"""

import datetime
import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from latency import (
    anchors,
    calibrate,
    compare_list,
    fitted_table,
    measure,
    network_list,
    space_flags,
    timed_networks,
    verdict,
)
from latency.figures import figures
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.cost import latency_table, network_times, prices, table_commands
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError
from pnas_tf.report import plots
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import memory
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import OpKey, Space


def run(*, table: LatencyTable, archs: Sequence[Arch], others: Sequence[Arch] = (), times: str | None = None,
        settings: Mapping[str, int] | None = None, space: Space | None = None) -> dict[str, Any]:
    """Times networks on the target of a table.

    Args:
        table: Table to judge. Its header says how it was measured; networks are measured in the same way.
        archs: Networks to judge the table by.
        others: Networks to calibrate the table on. If there are any, the corrected rows are judged.
        times: Path of the file that keeps the networks' times; None to keep nothing. A comparison that was stopped goes
            on; the times of one that has ended are set aside.
        settings: Rounds, runs and together, if they differ from those of the table.
        space: Space that the networks were drawn from; None for that of the first.

    Returns:
        target: Name of the target.
        networks: One entry for each of `archs`: ops, predicted_ms, measured_ms, and again_ms from a second measurement
            after all others.
        figures: Result of `figures` for the predictions.
        uncalibrated: Result of `figures` for predictions from the rows without calibration.
        noise: Result of `figures` for the second measurement as a prediction of the first.
        calibrated_ms: Milliseconds by key; empty without `others`.

    Raises:
        InputError: If the table lacks a row, or its target cannot be timed here.
    """
    for arch in (*archs, *others):
        table.check_covers(arch)
    device = measure.from_header({**table.header, **(settings or {})}, table.path)
    runs = [(arch, 1) for arch in _alternating(archs, others)] + [(arch, 2) for arch in archs]
    if times:
        timed_networks.set_finished_aside(times, device, runs, space or archs[0].space)
    measured = timed_networks.measured(times, device, runs, anchors.references_of(table.header), space)

    def ms(arch, number=1):
        return measured[network_times.digest(arch), number]

    calibrated = _calibrated(table, space or archs[0].space, others, [ms(arch) for arch in others]) if others else {}

    def corrected_ms(block_name, key):
        return calibrated[key] if key in calibrated else table.ms(block_name, key)

    networks = [{"ops": arch.ops, "predicted_ms": prices.of_arch(arch, corrected_ms), "measured_ms": ms(arch),
                 "again_ms": ms(arch, 2)} for arch in archs]
    predicted, first, second = (np.array([network[name] for network in networks])
                                for name in ("predicted_ms", "measured_ms", "again_ms"))
    plain = np.array([prices.of_arch(arch, functools.partial(_paced_ms, table)) for arch in archs])
    return {"target": table.target, "networks": networks, "figures": figures(predicted, first),
            "uncalibrated": figures(plain, first), "noise": figures(second, first), "calibrated_ms": calibrated}


def _alternating(archs, others):
    """Networks of both lists in turns, so that a change of the machine's speed affects both lists alike."""
    longest = max(len(archs), len(others))
    return [group[i] for i in range(longest) for group in (archs, others) if i < len(group)]


def _paced_ms(table: LatencyTable, block_name: str, key: OpKey) -> float:
    """Milliseconds, without calibration, of a row that the table has."""
    row = table.row(block_name, key)
    assert row is not None
    return latency_table.paced_ms(row)


def _calibrated(table: LatencyTable, space: Space, archs: Sequence[Arch], network_ms: Sequence[float]
                ) -> dict[OpKey, float]:
    """Corrected milliseconds by key, for all rows that the networks' space needs."""
    if lent := next((key for _, key in space.op_keys() if key not in table.rows), None):
        raise InputError(f"Table {table.target} has no row of its own for {lent} to calibrate. Measure it: "
                         f"{table_commands.build(table.header, table_commands.space_flags(space), table.file)}")
    rows = {key: _paced_ms(table, block.name, key) for block, key in space.op_keys()}
    counts = fitted_table.occurrences(list(rows), archs)
    corrected = calibrate.fit(counts, np.array(list(rows.values())), [key.op for key in rows], np.array(network_ms))
    return dict(zip(rows, map(float, corrected), strict=True))


def over_range(table: LatencyTable, space: Space, count: int, seed: int) -> list[Arch]:
    """Random networks spread over the whole range of predicted times.

    log(milliseconds) is drawn uniformly between the fastest and the slowest network of the space. If every op is drawn
    with equal probability instead, networks crowd in the middle of the range. Rows fitted to such networks were 15 %
    off for networks near the ends of the range, where searches go as well.

    Args:
        table: Table that predicts the times from its measured rows, without calibration.
        space: Space of the networks.
        count: Number of networks.
        seed: Seed of the random networks.
    """
    from pnas_tf.cost import within_limits
    from pnas_tf.cost.limits import Limit
    from pnas_tf.space import blocks

    # Rows without calibration, so that a calibrated table gives the same networks.
    ms = prices.matrix(space, functools.partial(_paced_ms, table))
    rng, (low, high) = np.random.default_rng(seed), ms.range
    targets_ms = np.exp(rng.uniform(np.log(low), np.log(high), count))
    # Each network has a seed of its own: with a common seed, networks of nearly equal targets would be the same.
    samples = [within_limits.samples(blocks.uniform_probs(space), [Limit("ms", ms, target_ms)], 0.9, 1, its_seed)
               for target_ms, its_seed in zip(targets_ms, rng.integers(2**31, size=count), strict=True)]
    return [arch_lib.from_path(space, path) for paths in samples for path in paths]


def random_networks(space: Space, networks: int, others: int, seed: int,
                    draw: Callable[[Space, int, int], list[Arch]] = measure.random_archs
                    ) -> tuple[list[Arch], list[Arch]]:
    """Networks to judge a table by, and other networks to calibrate it on.

    Args:
        space: Space of the networks.
        networks: Number of networks to judge by.
        others: Number of networks to calibrate on.
        seed: Seed of the random networks.
        draw: Function that draws networks: space, number, seed -> networks.

    Returns:
        Both lists; no network occurs twice.

    Raises:
        InputError: If the space has too few networks for both.
    """
    def distinct(count, its_seed, taken=()):
        # More networks than needed, because in small spaces many are drawn twice.
        drawn = {network_times.digest(arch): arch for arch in draw(space, 4 * count + 20, its_seed)}
        return {name: arch for name, arch in drawn.items() if name not in taken}

    judged = dict(list(distinct(networks, 2 * seed).items())[:networks])
    free = list(distinct(others, 2 * seed + 1, judged).values())[:others]
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
             **verdict.figures(result),
             "uncalibrated_rmse_of_mean": result["uncalibrated"]["rmse_of_mean"],
             "date": datetime.date.today().isoformat()}
    latency_table.annotate(table.path, rows={key: {"calibrated_ms": ms} for key, ms in result["calibrated_ms"].items()},
                           header={})
    _keep_accuracy(table.path, space, entry)


def _keep_accuracy(path: str, space: Space, entry: dict[str, Any]) -> None:
    """Adds an accuracy to the header, with the rows that it holds for."""
    entry["rows"] = latency_table.read(path).rows_of(space)
    latency_table.annotate(path, rows={}, header={"accuracy": {latency_table.accuracy_name(space): entry}})


def _define_flags() -> None:
    flags.DEFINE_string("table", None, "Latency table: a file, or the name of a shipped table.")
    space_flags.define()
    flags.DEFINE_integer("networks", 10, "Random networks of the space to judge the table by.", 1, 10_000)
    flags.DEFINE_integer("calibrate", 0, "Other random networks to fit the table's rows to.", 0, 10_000)
    flags.DEFINE_boolean("over_range", False, "Spreads the networks over the whole range of milliseconds; otherwise "
                         "every op is equally likely, and most networks lie in the middle.")
    flags.DEFINE_string("arch", None, "Single network to judge the table by: name of a shipped arch, or path of an "
                        "arch.json.")
    flags.DEFINE_integer("rounds", 0, "Visits of each network, spread over time; 0: as for the table.", 0, 1000)
    flags.DEFINE_integer("runs", 0, "Timed runs of a network in a visit; 0: as for the table.", 0, 10_000)
    flags.DEFINE_integer("together", 0, "host: Networks that are visited in turns; 0: as for the table.", 0, 65536)
    flags.DEFINE_integer("seed", 0, "Seed of the random networks.", 0, 2**31 - 2)
    flags.DEFINE_string("times", None, "File that keeps the networks' times; default: TABLE.networks.jsonl.")
    flags.DEFINE_string("measured", None, "File of networks with times of your own, to judge by these in place of new "
                        "measurements; see latency.import_table --format=networks.")
    flags.DEFINE_string("plot", None, "File for a scatter plot, .svg; default: TABLE.svg.")
    flags.DEFINE_string("json", None, "File for the result.")


def _judge_by_list(f, table: LatencyTable) -> None:
    """Judges a table by a user's list of networks and times."""
    if f.calibrate or f.arch:
        raise InputError("--measured judges by the networks of a file; leave out --calibrate and --arch.")
    space = space_flags.space_of(f)
    result = compare_list.run(table, network_list.read(f.measured, space))
    print(compare_list.words(result))
    if os.path.isfile(table.path):
        _keep_accuracy(table.path, space, compare_list.accuracy(result))
        print(f"Table:  {table.path} (accuracy for {space.name})")
    if f.json:
        files.write_text(f.json, json.dumps(result, indent=1) + "\n")
        print(f"Result: {f.json}")


def _main() -> None:
    f = flags.FLAGS
    if not f.table:
        raise InputError("Name the table: --table=TABLE.jsonl.")
    table = latency_table.read(f.table)
    is_file = os.path.isfile(table.path)  # else it is a shipped table, which is never changed
    if f.measured:
        _judge_by_list(f, table)
        return
    if f.calibrate and (f.arch or not is_file):
        raise InputError("--calibrate fits a table's file to networks of a space: give --space and a table of your own "
                         f"by --table=FILE; got --table={f.table}" + (f" and --arch={f.arch}." if f.arch else "."))
    named_by = [*start.import_flags(), *table_commands.named_by(f.arch or f.space, 1.0 if f.arch else f.width_mult)]
    if f.arch:
        space, archs = None, [arch_lib.load(f.arch)]
        table.check_covers(archs[0], named_by)
        others: list[Arch] = []
    else:
        space = space_flags.space_of(f)
        table.check_covers(space, named_by)
        if f.over_range:
            start.load_tensorflow()
        archs, others = random_networks(space, f.networks, f.calibrate, f.seed,
                                        functools.partial(over_range, table) if f.over_range else measure.random_archs)
    for arch in (*archs, *others):
        memory.check_network(arch)
    start.load_tensorflow()
    stem = table.path.removesuffix(".jsonl")
    times = f.times or (network_times.beside(table.path) if is_file else None)
    result = run(table=table, archs=archs, others=others, times=times,
                 settings={name: f[name].value for name in ("rounds", "runs", "together") if f[name].value},
                 space=space)
    print(_show(result))
    if space and is_file:
        _write_down(table, space, result, len(others), seed=f.seed, over_range=f.over_range)
        print(f"Table:  {table.path} (accuracy for {space.name}{', calibrated rows' if others else ''})")
    if len(archs) > 1:
        plot = f.plot or f"{stem if is_file else os.path.basename(stem)}.svg"
        files.write_text(plot, plots.scatter(
            [network["measured_ms"] for network in result["networks"]],
            [network["predicted_ms"] for network in result["networks"]], title=table.target))
        print(f"Plot:   {plot}")
    if f.json:
        files.write_text(f.json, json.dumps({name: value for name, value in result.items()
                                             if name != "calibrated_ms"}, indent=1) + "\n")
        print(f"Result: {f.json}")
    print(f"\n{verdict.words(table, result, table_commands.space_flags(archs[0].space, named_by), times)}")


def main() -> None:
    """Console script."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
