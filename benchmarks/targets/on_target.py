r"""Ask for milliseconds, get milliseconds? Searches for several targets, then times the networks that are delivered.

    python -m benchmarks.targets.on_target --table=host.jsonl --out_dir=runs/on_target
    python -m benchmarks.targets.on_target --space=cifar_mb --dataset=cifar10 --data_dir=/data/cifar10 \
        --table=host.jsonl --out_dir=runs/on_target_cifar --checked

The table has to be one of this machine that latency.compare has judged; it leaves TABLE.networks.jsonl beside it.
Targets lie at equal ratios over the feasible range, and each is lowered to the slowest network within it. With
--checked, the finalists of each search are timed before the network is chosen (latency.search); this happens when all
searches are over.

At the end all networks are timed twice, in as many visits as the table was judged by, and in turns with networks of
that comparison (benchmarks.targets.windows says how). Run the whole benchmark without a break; --one_supernet makes it
short. If it is stopped, the same command goes on where it was. It writes searches.jsonl, windows.jsonl, on_target.json
and on_target.svg into --out_dir; with --checked also checked.jsonl.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from benchmarks import steps
from benchmarks.targets import on_target_results, windows
from pnas_tf import files, terminal
from pnas_tf.cli import start
from pnas_tf.cost import goal as goals_lib
from pnas_tf.cost import latency_table
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import blocks, spaces

# Ends of the range of targets, as factors of the fastest and of the slowest network's milliseconds.
LOWEST, HIGHEST = 1.3, 0.8

# Targets in milliseconds and seed of a search.
Job = tuple[Sequence[float], int]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the benchmark.

    Attributes:
        targets: Number of targets.
        seeds: Number of searches for each target.
        at_most: Largest number of searches in one call; 0 for no limit.
        timing: Whether to time the networks once all searches are done.
        workers: Number of searches at a time; with several, each has one core.
        one_supernet: Whether one search serves all targets of a seed.
        checked: Whether finalists are timed before the network is chosen.
        max_drift: Largest drift from the table's pace at which a window counts, see `windows.time_all`.
        minutes: Longest time to wait for windows at the table's pace.
    """

    targets: int = 5
    seeds: int = 3
    at_most: int = 0
    timing: bool = True
    workers: int = 1
    one_supernet: bool = False
    checked: bool = False
    max_drift: float = 0.02
    minutes: float = 15.0


def targets(search_space: blocks.Space, table: LatencyTable, count: int) -> list[float]:
    """Targets in milliseconds, at equal ratios, each lowered to the slowest network within it.

    Between networks of fast ops and networks with one slow op there are gaps. A target inside a gap would have no
    network near it.

    Args:
        search_space: Space, fitted to the data.
        table: Table that covers the space.
        count: Number of targets.

    Returns:
        Milliseconds in rising order, rounded up to 4 digits; fewer than `count` if two targets have the same network.
    """
    from pnas_tf.cost import prices, within_limits
    from pnas_tf.cost.limits import Limit
    from pnas_tf.space.arch import from_path

    ms = prices.matrix(search_space, prices.milliseconds(table))
    low, high = ms.range
    lowered = []
    for limit_ms in np.geomspace(LOWEST * low, HIGHEST * high, count):
        slowest = within_limits.most_of(ms, [Limit("ms", ms, float(limit_ms))])
        if slowest is not None:
            lowered.append(terminal.rounded_up(prices.of_arch(from_path(search_space, slowest), table.ms)))
    return list(dict.fromkeys(lowered))


def search(module: str = "pnas_tf.search", *, targets_ms: Sequence[float], seed: int, run_dir: str, table: LatencyTable,
           arguments: Sequence[str], environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """Runs one search in a process of its own, for one target or for several from one supernet.

    Args:
        module: `pnas_tf.search`, or `latency.search`, which goes on in a folder of `pnas_tf.search`.
        targets_ms: Targets in milliseconds.
        seed: Seed of the search.
        run_dir: Run folder of the search.
        table: Table of the targets.
        arguments: Further flags of pnas_tf.search.
        environment: Environment variables to add.

    Returns:
        For each target: target_ms, seed, run_dir (of its network), arguments, ops, predicted_ms (according to the
        table), expected_ms (under the probabilities at the end), and the seconds and cpu_seconds of the whole search.
    """
    alone = len(targets_ms) == 1
    goal_flags = ([f"--table={table.path}", f"--target_ms={targets_ms[0]}"] if alone else
                  ["--targets=" + ",".join(f"{table.path}:{ms}" for ms in targets_ms)])
    usage = steps.command(module, [*arguments, *goal_flags, f"--seed={seed}", f"--run_dir={run_dir}"],
                          f"{run_dir}.{module}.log", environment=environment)
    entries = []
    for target_ms in targets_ms:
        folder = run_dir if alone else os.path.join(run_dir, goals_lib.goal_name(table.target, target_ms))
        arch = arch_lib.load(RunFolder(folder).arch)
        entries.append({"target_ms": target_ms, "seed": seed, "run_dir": folder, "arguments": list(arguments),
                        "ops": arch.ops, "predicted_ms": arch.costs["table_ms"],
                        "expected_ms": arch.costs["expected_ms"], **usage})
    return entries


def run(search_space: blocks.Space, table: LatencyTable, out_dir: str, arguments: Sequence[str],
        settings: Settings = Settings()) -> dict[str, Any] | None:
    """Searches, times and judges, as far as the settings say.

    Args:
        search_space: Space, fitted to the data.
        table: Table that covers the space.
        out_dir: Folder of all results.
        arguments: Flags of pnas_tf.search besides --table, --target_ms, --targets, --seed and --run_dir.
        settings: Settings of the benchmark.

    Returns:
        The result of `on_target_results.judge`, and `windows` as `windows.time_all` counts them; None if searches or
        times are missing.

    Raises:
        InputError: If the table was not judged, or the folder holds searches with other flags.
    """
    judged = windows.anchors(table, search_space)
    accuracy = table.accuracy(search_space)
    if accuracy is None:
        raise InputError(f"{table.path} was not judged on networks of {search_space.name}: see latency.compare.")
    table_error = accuracy["rmse_of_mean"]
    targets_ms = targets(search_space, table, settings.targets)
    print(f"Targets: {', '.join(f'{ms:g}' for ms in targets_ms)} ms.", flush=True)
    jobs: list[Job] = [(targets_ms, seed) for seed in range(settings.seeds)] if settings.one_supernet else [
        ([ms], seed) for seed in range(settings.seeds) for ms in targets_ms]
    done = _search_all(jobs, table, out_dir, arguments, settings)
    if not settings.timing or any((ms, seed) not in done for ms in targets_ms for seed in range(settings.seeds)):
        return None
    if settings.checked:
        one_by_one = dataclasses.replace(settings, workers=1, at_most=0)
        done = _search_all(jobs, table, out_dir, arguments, one_by_one, "latency.search", "checked.jsonl")
    searches = [done[ms, seed] for ms in targets_ms for seed in range(settings.seeds)]
    ms, counts = windows.time_all([entry["run_dir"] for entry in searches], judged, table,
                                  os.path.join(out_dir, "windows.jsonl"), settings.max_drift, settings.minutes)
    return {**on_target_results.judge(searches, ms, judged, table_error), "windows": counts}


def _search_all(jobs, table, out_dir, arguments, settings, module="pnas_tf.search", file="searches.jsonl"):
    """Runs the searches that a file lacks; returns all results, as `search` gives them, by target and seed."""
    path = os.path.join(out_dir, file)
    done = {(entry["target_ms"], entry["seed"]): entry for entry in files.read_lines(path)}
    if any(entry["arguments"] != list(arguments) for entry in done.values()):
        raise InputError(f"{out_dir} holds searches with other flags. Use another --out_dir.")
    missing = [(targets_ms, seed) for targets_ms, seed in jobs if any((ms, seed) not in done for ms in targets_ms)]
    print(f"{len(missing)} of {len(jobs)} searches to do by {module}.", flush=True)
    calls = [functools.partial(search, module, targets_ms=targets_ms, seed=seed, table=table, arguments=arguments,
                               environment=steps.ONE_CORE if settings.workers > 1 else {},
                               run_dir=os.path.join(out_dir, "searches", "_".join(
                                   f"{ms:g}ms" for ms in targets_ms) + f"_seed{seed}"))
             for targets_ms, seed in missing[:settings.at_most or None]]
    for entries in steps.in_parallel(calls, settings.workers):
        for entry in entries:
            done[entry["target_ms"], entry["seed"]] = entry
            files.append_line(path, entry)
            print(f"{entry['target_ms']:g} ms, seed {entry['seed']}: predicted {entry['predicted_ms']:.4f} ms, "
                  f"{entry['seconds']:.0f} s", flush=True)
    return done


def _define_flags() -> None:
    flags.DEFINE_string("space", "quickstart", "Name of a search space, or path of a JSON file.")
    flags.DEFINE_string("dataset", "fashion_mnist_small", "Data set, as in pnas_tf.search.")
    flags.DEFINE_string("data_dir", None, "Folder of the data set's files.")
    flags.DEFINE_string("table", None, "Latency table of this machine, judged by latency.compare.")
    flags.DEFINE_string("search_flags", "quickstart.flags", "Flag file of the searches, for what is not given here.")
    flags.DEFINE_integer("max_steps", 400, "Weight steps of a search.", 2)
    flags.DEFINE_integer("targets", Settings.targets, "Number of targets over the feasible range.", 1, 100)
    flags.DEFINE_integer("seeds", Settings.seeds, "Number of searches for each target.", 1, 100)
    flags.DEFINE_integer("at_most", Settings.at_most,
                         "Largest number of searches in this call, for a shared machine; 0: all that are missing.", 0)
    flags.DEFINE_integer("workers", Settings.workers, "Searches at a time; with several, each has one core.", 1)
    flags.DEFINE_boolean("one_supernet", Settings.one_supernet,
                         "Whether one search serves all targets of a seed (--targets of pnas_tf.search).")
    flags.DEFINE_boolean("checked", Settings.checked,
                         "Whether the finalists of each search are timed before the network is chosen "
                         "(latency.search).")
    flags.DEFINE_boolean("timing", Settings.timing,
                         "Whether to time the networks once all searches are done. The machine should be idle then.")
    flags.DEFINE_float("max_drift", Settings.max_drift,
                       "Largest relative distance between the pace of the machine in a window and the table's pace at "
                       "which the window counts; it holds for all anchors, and for the short and the long ones alone.",
                       0)
    flags.DEFINE_float("minutes", Settings.minutes,
                       "Longest time to wait for windows at the table's pace. If there are too few, the windows "
                       "nearest to it count.", 0)
    flags.DEFINE_string("out_dir", None, "Folder of the results.")


def _main() -> None:
    f = flags.FLAGS
    if not f.table or not f.out_dir:
        raise InputError("Name a table of this machine and a folder: --table=TABLE.jsonl --out_dir=DIR.")
    table = latency_table.read(f.table)
    start.load_tensorflow()
    from pnas_tf import data as data_lib

    search_space = spaces.load(f.space)
    data = data_lib.load(f.dataset, image_size=search_space.input_size, data_dir=f.data_dir,
                         normalisation=search_space.normalisation)
    search_space = search_space.fitted_to(data)
    table.check_covers(search_space)
    arguments = [f"--flagfile={f.search_flags}", f"--space={f.space}", f"--dataset={f.dataset}",
                 f"--max_steps={f.max_steps}", "--use_all_ms", *([f"--data_dir={f.data_dir}"] if f.data_dir else [])]
    settings = Settings(**{field.name: f[field.name].value for field in dataclasses.fields(Settings)})
    result = run(search_space, table, f.out_dir, arguments, settings)
    if result is None:
        print(f"Some searches or times are missing. The same command goes on in {f.out_dir}.")
        return
    title = f"{search_space.name} on {table.target}"
    print(f"\n{title}, {os.cpu_count()} cores, {f.max_steps} steps a search\n{on_target_results.show(result)}")
    json_file, svg_file = (os.path.join(f.out_dir, f"on_target.{ending}") for ending in ("json", "svg"))
    files.write_text(json_file, json.dumps({"space": search_space.name, "target": table.target,
                                            "max_steps": f.max_steps, **result}, indent=1) + "\n")
    files.write_text(svg_file, on_target_results.plot(result, title))
    print(f"Results: {json_file}\nPlot:    {svg_file}")


def main() -> None:
    """Entry point."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
