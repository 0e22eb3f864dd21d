"""Ask for milliseconds, get milliseconds? Searches for several targets, then times what was found.

    python -m benchmarks.on_target --table=host.jsonl --out_dir=runs/on_target
    python -m benchmarks.on_target --space=cifar_mb --dataset=cifar10 --data_dir=/data/cifar10 --table=host.jsonl \
        --out_dir=runs/on_target_cifar --checked

The table is one of this machine that latency.compare has judged (it leaves TABLE.networks.jsonl beside it). Targets lie
at equal ratios over the feasible range, each lowered to the dearest network within it. With --checked the finalists of
each search are timed before one is taken (latency.search), when all searches are over. All networks are timed at the
end, twice in as many visits as the table was judged by, in turns with networks that it was judged by, the anchors. They
tell the pace of the machine, which changes from second to second where it is shared: windows of five visits at another
pace than the table's, or so for the short or the long ones alone, do not count (--max_drift), as a phone waits until
it is cool. Do all of it at a stretch; --one_supernet makes it short.
Stopped and started again, it goes on where it was. Writes searches.jsonl, windows.jsonl, on_target.json, on_target.svg.
"""

import functools
import json
import math
import os
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from benchmarks import steps
from export import timing
from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.cost import goal as goals_lib
from pnas_tf.cost import latency_table
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import blocks, spaces
from pnas_tf.space.arch import Arch

# Ends of the range that targets are spread over, as factors of the cheapest and the dearest network's milliseconds.
LOWEST, HIGHEST = 1.3, 0.8
# Deviations from the target that are counted.
BOUNDS = (0.02, 0.03)
# Networks of the table's comparison that are timed again.
ANCHORS = 15
# Visits of each network in a window, in which the machine is taken to keep its pace.
ROUNDS = 5
# Of the anchors by their time: a busy machine slows long networks down more than short ones, or short ones more.
PARTS = 3


def targets(search_space: blocks.Space, table: LatencyTable, count: int) -> list[float]:
    """Milliseconds to ask for, at equal ratios, each that of the dearest network within it.

    Between the cheap networks and the ones with a slow op there are gaps; a target inside one has no network near it.

    Args:
        search_space: fits the data.
        table: covers the space.
        count: of targets.

    Returns:
        Rising, rounded up to 4 digits; fewer than `count` if two have the same network.
    """
    from pnas_tf.cost import prices, within_limits
    from pnas_tf.cost.limits import Limit
    from pnas_tf.space import blocks

    ms = prices.matrix(search_space, prices.milliseconds(table))
    low, high = ms.range(blocks.op_mask(search_space))
    found = []
    for wanted in np.geomspace(LOWEST * low, HIGHEST * high, count):
        dearest = within_limits.dearest(search_space, [Limit("ms", ms, float(wanted))])
        found.append(steps.rounded_up(prices.of_arch(dearest, table.ms)))
    return list(dict.fromkeys(found))


def search(module: str = "pnas_tf.search", *, targets_ms: Sequence[float], seed: int, run_dir: str, table: LatencyTable,
           arguments: Sequence[str], environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """One search in a process of its own, for one target or for several from one supernet.

    Args:
        module: `pnas_tf.search` or `latency.search`; the other one's folder will do.
        targets_ms: asked for.
        seed: of the search.
        run_dir: its folder.
        table: of the targets.
        arguments: further flags of pnas_tf.search.
        environment: variables to add.

    Returns:
        For each target: target_ms, seed, run_dir (of its network), arguments, ops, predicted_ms (by the table),
        expected_ms (of the probabilities at the end), seconds, cpu_seconds (of the whole search).
    """
    alone = len(targets_ms) == 1
    wanted = ([f"--table={table.path}", f"--target_ms={targets_ms[0]}"] if alone else
              ["--targets=" + ",".join(f"{table.path}:{ms}" for ms in targets_ms)])
    used = steps.command(module, [*arguments, *wanted, f"--seed={seed}", f"--run_dir={run_dir}"],
                         f"{run_dir}.{module}.log", environment=environment)
    entries = []
    for target_ms in targets_ms:
        folder = run_dir if alone else os.path.join(run_dir, goals_lib.goal_name(table.target, target_ms))
        found = arch_lib.load(RunFolder(folder).arch)
        entries.append({"target_ms": target_ms, "seed": seed, "run_dir": folder, "arguments": list(arguments),
                        "ops": found.ops, "predicted_ms": found.costs["table_ms"],
                        "expected_ms": found.costs["expected_ms"], **used})
    return entries


def anchors(table: LatencyTable, search_space: blocks.Space) -> list[tuple[Arch, float]]:
    """Networks that the table was judged by, and what they took then, in ms.

    Raises:
        InputError: if the table was not compared with networks of the space.
    """
    from latency import timed_networks

    known = timed_networks.known(table.path, search_space)
    if not known.judged:
        raise InputError(f"{timed_networks.beside(table.path)} holds no networks of {search_space.name}, so nobody "
                         f"knows how good the table is. Compare it first: python -m latency.compare "
                         f"--space={search_space.name} --table={table.path} --networks=30 --calibrate=100")
    return list(known.ms[:known.judged][:ANCHORS])


def time_all(found: Sequence[dict[str, Any]], known: Sequence[tuple[Arch, float]], table: LatencyTable, path: str,
             max_drift: float, minutes: float) -> tuple[dict[tuple[str, int], float], dict[str, int]]:
    """Times found networks and anchors in turns, in windows of seconds, until enough of them are at the table's pace.

    Each found network is converted as `export.tflite` does, with the weights that it inherits from its supernet.

    Args:
        found: from `search`.
        known: from `anchors`.
        table: of this machine, timed as TFLite.
        path: of the file that keeps windows; those that it has count, too.
        max_drift: how far from 1 the pace of a window may be, see `drift`.
        minutes: to go on at most.

    Returns:
        ms by (run_dir or `anchor N`, pass): the lower quartile of its visits in every other window that is kept, those
        of pass 1 and of pass 2. And how many windows were timed and kept. If too few are at the table's pace, those
        nearest to it are kept.
    """
    from latency import host, measure, timed_networks

    builds = {entry["run_dir"]: functools.partial(_inherited, entry["run_dir"]) for entry in found}
    builds |= {f"anchor {number}": measure.network_build(arch) for number, (arch, _) in enumerate(known)}
    settings = timed_networks.known(table.path, known[0][0].space).settings
    device = measure.from_header({**table.header, **settings}, table.path)
    if not isinstance(device, host.Host):
        raise InputError(f"{table.path}: of {table.target}. Expected a table of this machine's TFLite, made by "
                         "latency.build_table --measurer=host.")
    windows = [entry["ms"] for entry in steps.lines(path)]
    if any(window.keys() != builds.keys() for window in windows):
        raise InputError(f"{path} holds times of other networks. Remove it to time anew.")
    drifts = [drift(_times(window), known) for window in windows]
    per_pass = math.ceil(settings["rounds"] / ROUNDS)
    begin = time.monotonic()
    with device.visiting(builds) as (visit, _):
        for name in builds:
            visit(name)  # converts it
        while (paced := sum(far <= max_drift for far in drifts)) < 2 * per_pass:
            if len(windows) >= 2 and time.monotonic() - begin > 60 * minutes:
                break
            window: dict[str, list[float]] = {name: [] for name in builds}
            for _ in range(ROUNDS):
                for name in random.sample(list(builds), len(builds)):
                    window[name].append(float(np.median(visit(name))))
            windows.append(window)
            steps.add_line(path, {"ms": window})
            ms = _times(window)
            drifts.append(drift(ms, known))
            print(f"Window {len(windows)}: pace {pace(ms, known):.3f} of the table's; {paced} of "
                  f"{2 * per_pass} at it so far.", flush=True)
    nearest = sorted(range(len(windows)), key=lambda number: (max(max_drift, drifts[number]), number))[:2 * per_pass]
    kept = [windows[number] for number in sorted(nearest)]
    by_pass = {(name, number): timing.of_visits([one for window in kept[number - 1::2] for one in window[name]])
               for name in builds for number in (1, 2)}
    return by_pass, {"timed": len(windows), "kept": len(kept), "at_pace": min(paced, len(kept))}


def _times(window):
    """ms by name, from the visits of a window."""
    return {name: timing.of_visits(visits) for name, visits in window.items()}


def pace(ms: Mapping[str, float], known: Sequence[tuple[Arch, float]]) -> float:
    """Median over the anchors of what they take by what they took with the table."""
    return float(np.median(_ratios(ms, known)))


def _ratios(ms, known):
    return np.array([ms[f"anchor {number}"] / then for number, (_, then) in enumerate(known)])


def paces_of_parts(ms: Mapping[str, float], known: Sequence[tuple[Arch, float]]) -> list[float]:
    """As `pace`, by the anchors of the shortest times alone, those of middle ones, of the longest ones."""
    rising = _ratios(ms, known)[np.argsort([then for _, then in known])]
    return [float(np.median(part)) for part in np.array_split(rising, min(PARTS, len(known)))]


def drift(ms: Mapping[str, float], known: Sequence[tuple[Arch, float]]) -> float:
    """How far a time is from the table's pace: by all anchors or, if that is more, by a part of them."""
    return max(abs(one - 1) for one in (pace(ms, known), *paces_of_parts(ms, known)))


def _inherited(run_dir):
    from pnas_tf import network

    model = network.build_network(arch_lib.load(RunFolder(run_dir).arch))
    model.load_weights(RunFolder(run_dir).inherited_weights)
    return model


def judge(found: Sequence[dict[str, Any]], ms: Mapping[tuple[str, int], float], known: Sequence[tuple[Arch, float]],
          table_error: float) -> dict[str, Any]:
    """What the times say.

    Args:
        found: from `search`.
        ms: by (run_dir or `anchor N`, pass); passes are 1 and 2.
        known: from `anchors`.
        table_error: relative, root mean square.

    Returns:
        networks: each of `found` with passes_ms, measured_ms (their mean), deviation (of that from the target) and
        deviation_at_pace (the same, had the machine kept its pace). pace and paces_of_parts: of the means. noise: root
        mean square of one pass / the other - 1. within_3_percent_alone: of each pass. table_error. raw and at_pace:
        within_2_percent, within_3_percent, above (networks above the target by more than the table's error),
        above_twice (by more than twice that), worst_above (largest deviation). expectation: mean, sd and worst of
        expected_ms / target_ms - 1.
    """
    mean_ms = {name: (ms[name, 1] + ms[name, 2]) / 2 for name, _ in ms}
    now, networks = pace(mean_ms, known), []
    for entry in found:
        off = mean_ms[entry["run_dir"]] / entry["target_ms"]
        networks.append({**entry, "passes_ms": [ms[entry["run_dir"], number] for number in (1, 2)],
                         "measured_ms": mean_ms[entry["run_dir"]], "deviation": off - 1,
                         "deviation_at_pace": off / now - 1})
    times, asked = (np.array([network[name] for network in networks]) for name in ("passes_ms", "target_ms"))

    def counts(name):
        off = np.array([network[name] for network in networks])
        return {**{f"within_{100 * bound:.0f}_percent": int(np.sum(np.abs(off) <= bound)) for bound in BOUNDS},
                "above": int(np.sum(off > table_error)), "above_twice": int(np.sum(off > 2 * table_error)),
                "worst_above": float(off.max())}

    expected = np.array([entry["expected_ms"] / entry["target_ms"] - 1 for entry in found])
    return {"networks": networks, "pace": now, "paces_of_parts": paces_of_parts(mean_ms, known),
            "table_error": table_error,
            "noise": float(np.sqrt(np.mean((times[:, 1] / times[:, 0] - 1) ** 2))),
            "within_3_percent_alone": [int(np.sum(np.abs(one / asked - 1) <= BOUNDS[-1])) for one in times.T],
            "raw": counts("deviation"), "at_pace": counts("deviation_at_pace"),
            "expectation": {"mean": float(expected.mean()), "sd": float(expected.std()),
                            "worst": float(np.abs(expected).max())}}


def show(result: dict[str, Any]) -> str:
    """The result as text."""
    lines = [f"{'target':>10} {'seed':>5} {'predicted':>11} {'pass 1':>11} {'pass 2':>11} {'deviation':>10} "
             f"{'at pace':>8} {'expected':>9} {'search':>7}"]
    for n in result["networks"]:
        first, second = n["passes_ms"]
        lines.append(f"{n['target_ms']:>10.4g} {n['seed']:>5} {n['predicted_ms']:>8.4f} ms {first:>8.4f} ms "
                     f"{second:>8.4f} ms {n['deviation']:>+10.1%} {n['deviation_at_pace']:>+8.1%} "
                     f"{n['expected_ms'] / n['target_ms'] - 1:>+9.1%} {n['seconds']:>5.0f} s")
    parts = ", ".join(f"{part:.3f}" for part in result["paces_of_parts"])
    lines.append(f"\nPace of the machine against the table's: {result['pace']:.3f} (short to long networks: {parts}). "
                 f"One pass against the other: {result['noise']:.1%} (RMS). Error of the table: "
                 f"{result['table_error']:.1%} (RMSE).")
    for name, part in (("as measured (mean of both passes)", "raw"), ("at the table's pace", "at_pace")):
        c = result[part]
        lines.append(f"Of {len(result['networks'])}, {name}: {c['within_3_percent']} within 3 %, "
                     f"{c['within_2_percent']} within 2 %; {c['above']} above the target by more than the table's "
                     f"error, {c['above_twice']} by more than twice that; the worst {c['worst_above']:+.1%}.")
    alone = " and ".join(map(str, result["within_3_percent_alone"]))
    w = result["windows"]
    lines.append(f"By one pass alone: {alone} within 3 %. Windows: {w['timed']} timed, {w['kept']} kept, "
                 f"{w['at_pace']} of these at the table's pace.")
    e = result["expectation"]
    lines.append(f"At the end of the searches the expected ms lie {e['mean']:+.1%} from the target (sd {e['sd']:.1%}, "
                 f"at most {e['worst']:.1%}).")
    return "\n".join(lines)


def plot(result: dict[str, Any], title: str) -> str:
    """Measured against target, and deviations in percent, as an SVG file."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from pnas_tf.report import plots

    asked = [n["target_ms"] for n in result["networks"]]
    with rc_context(plots.FILE_STYLE):
        figure = Figure(figsize=(9, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        ends = [0.9 * min(asked), 1.1 * max(asked)]
        left.plot(ends, ends, color="#64707d", linewidth=1)
        left.plot(asked, [n["measured_ms"] for n in result["networks"]], "o", color="#2b6cb0", markersize=4, alpha=0.7)
        left.set(xscale="log", yscale="log", xlabel="target, ms", ylabel="measured, ms", title=title)
        right.axhspan(-3, 3, color="#000000", alpha=0.08, linewidth=0, label="within 3 %")
        right.axhline(0, color="#64707d", linewidth=1)
        for name, label, color, marker in (("deviation", "as measured", "#2b6cb0", "o"),
                                           ("deviation_at_pace", "at the table's pace", "#c05621", "x")):
            right.plot(asked, [100 * n[name] for n in result["networks"]], marker, color=color, markersize=5, alpha=0.8,
                       label=label)
        right.set(xscale="log", xlabel="target, ms", ylabel="measured less target, %")
        right.set_ylim(*(limit(edge, *right.get_ylim()) for limit, edge in ((min, -5), (max, 5))))
        plots.plain_ticks(left.xaxis, left.yaxis, right.xaxis)
        right.legend(frameon=False)
        return plots.as_file(figure)


def run(*, search_space: blocks.Space, table: LatencyTable, out_dir: str, arguments: Sequence[str], count: int,
        seeds: int, at_most: int, timing: bool, workers: int = 1, one_supernet: bool = False, checked: bool = False,
        max_drift: float = 0.02, minutes: float = 15.0) -> dict[str, Any] | None:
    """Searches, times and judges as far as asked.

    Args:
        search_space: fits the data.
        table: covers the space.
        out_dir: of everything.
        arguments: flags of pnas_tf.search besides --table, --target_ms, --targets, --seed and --run_dir.
        count: of targets.
        seeds: searches for each target.
        at_most: searches in this call; 0 for no limit.
        timing: whether to time once all searches are done.
        workers: searches at a time; of one core each, if several.
        one_supernet: whether a search is for all targets of a seed.
        checked: whether finalists are timed before one is taken.
        max_drift: see `time_all`.
        minutes: see `time_all`.

    Returns:
        As `judge`; None if searches or times are missing.
    """
    known = anchors(table, search_space)
    error = table.accuracy(search_space)["rmse_of_mean"]
    asked = targets(search_space, table, count)
    print(f"Targets: {', '.join(f'{ms:g}' for ms in asked)} ms.", flush=True)
    jobs = [(asked, seed) for seed in range(seeds)] if one_supernet else [
        ([ms], seed) for seed in range(seeds) for ms in asked]
    searching = {"out_dir": out_dir, "table": table, "arguments": arguments}
    done = _searched(jobs, **searching, workers=workers, at_most=at_most)
    if not timing or any((ms, seed) not in done for ms in asked for seed in range(seeds)):
        return None
    if checked:
        done = _searched(jobs, **searching, module="latency.search", file="checked.jsonl")
    found = [done[ms, seed] for ms in asked for seed in range(seeds)]
    ms, windows = time_all(found, known, table, os.path.join(out_dir, "windows.jsonl"), max_drift, minutes)
    return {**judge(found, ms, known, error), "windows": windows}


def _searched(jobs, *, out_dir, table, arguments, module="pnas_tf.search", file="searches.jsonl", workers=1, at_most=0):
    """What the file has of all jobs, after those that it lacks were done: by target and seed, as `search` returns."""
    path = os.path.join(out_dir, file)
    done = {(entry["target_ms"], entry["seed"]): entry for entry in steps.lines(path)}
    if any(entry["arguments"] != list(arguments) for entry in done.values()):
        raise InputError(f"{out_dir} holds searches with other flags. Use another --out_dir.")
    missing = [(targets_ms, seed) for targets_ms, seed in jobs if any((ms, seed) not in done for ms in targets_ms)]
    print(f"{len(missing)} of {len(jobs)} searches to do by {module}.", flush=True)
    calls = [functools.partial(search, module, targets_ms=targets_ms, seed=seed, table=table, arguments=arguments,
                               environment=steps.ONE_CORE if workers > 1 else {},
                               run_dir=os.path.join(out_dir, "searches", "_".join(
                                   f"{ms:g}ms" for ms in targets_ms) + f"_seed{seed}"))
             for targets_ms, seed in missing[:at_most or None]]
    for entries in steps.in_parallel(calls, workers):
        for entry in entries:
            done[entry["target_ms"], entry["seed"]] = entry
            steps.add_line(path, entry)
            print(f"{entry['target_ms']:g} ms, seed {entry['seed']}: predicted {entry['predicted_ms']:.4f} ms, "
                  f"{entry['seconds']:.0f} s", flush=True)
    return done


def _define_flags() -> None:
    flags.DEFINE_string("space", "quickstart", "Name of a search space, or path of a JSON file.")
    flags.DEFINE_string("dataset", "fashion_mnist_small", "As in pnas_tf.search.")
    flags.DEFINE_string("data_dir", None, "Where the files of the data set are.")
    flags.DEFINE_string("table", None, "Latency table of this machine, judged by latency.compare.")
    flags.DEFINE_string("search_flags", "quickstart.flags", "Flag file of the searches, for what is not given here.")
    flags.DEFINE_integer("max_steps", 400, "Weight steps of a search.", 2)
    flags.DEFINE_integer("targets", 5, "Targets over the feasible range.", 1, 100)
    flags.DEFINE_integer("seeds", 3, "Searches for each target.", 1, 100)
    flags.DEFINE_integer("at_most", 0, "Searches in this call, on a shared machine; 0: all that are missing.", 0)
    flags.DEFINE_integer("workers", 1, "Searches at a time, of one core each if several.", 1)
    flags.DEFINE_boolean("one_supernet", False, "One search a seed, for all targets (--targets of pnas_tf.search).")
    flags.DEFINE_boolean("checked", False, "Time the finalists of each search before one is taken (latency.search).")
    flags.DEFINE_boolean("timing", True, "Whether to time once all searches are done, on an idle machine.")
    flags.DEFINE_float("max_drift", 0.02, "How far the pace of the machine in a window may be from the table's, for "
                       "the window to count: by all anchors, by the short ones, by the long ones.", 0)
    flags.DEFINE_float("minutes", 15.0, "To wait at most for windows at the table's pace; if there are too few, the "
                       "nearest to it count.", 0)
    flags.DEFINE_string("out_dir", None, "Folder of the results.")


def _main() -> None:
    f = flags.FLAGS
    if not f.table or not f.out_dir:
        raise InputError("Name a table of this machine and a folder: --table=TABLE.jsonl --out_dir=DIR.")
    table = latency_table.read(f.table)
    start.load_tensorflow()
    from pnas_tf import data as data_lib

    data = data_lib.load(f.dataset, image_size=spaces.load(f.space).input_size, data_dir=f.data_dir)
    search_space = spaces.load(f.space).fitted_to(data)
    table.check_covers(search_space)
    arguments = [f"--flagfile={f.search_flags}", f"--space={f.space}", f"--dataset={f.dataset}",
                 f"--max_steps={f.max_steps}", *([f"--data_dir={f.data_dir}"] if f.data_dir else [])]
    result = run(search_space=search_space, table=table, out_dir=f.out_dir, arguments=arguments, count=f.targets,
                 seeds=f.seeds, at_most=f.at_most, timing=f.timing, workers=f.workers,
                 one_supernet=f.one_supernet, checked=f.checked, max_drift=f.max_drift, minutes=f.minutes)
    if result is None:
        print(f"Not all is done yet: the same command goes on in {f.out_dir}.")
        return
    print(f"\n{search_space.name} on {table.target}, {os.cpu_count()} cores, {f.max_steps} steps a search\n"
          f"{show(result)}")
    json_file, svg_file = (os.path.join(f.out_dir, f"on_target.{kind}") for kind in ("json", "svg"))
    files.write_text(json_file, json.dumps({"space": search_space.name, "target": table.target,
                                               "max_steps": f.max_steps, **result}, indent=1) + "\n")
    files.write_text(svg_file, plot(result, f"{search_space.name} on {table.target}"))
    print(f"Results: {json_file}\nPlot:    {svg_file}")


def main() -> None:
    """Entry point."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
