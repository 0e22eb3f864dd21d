"""Results of a study of search quality: means, intervals, ranks, and the trade-off plot (paper figure 4)."""

import json
import math
import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.quality import study as study_lib
from pnas_tf import files
from pnas_tf.report import figure_file, plots


class Kind(NamedTuple):
    """How a kind of networks is shown.

    Attributes:
        label: Name of the kind in tables and plots.
        color: Colour of its markers.
        marker: Shape of its markers, as of Matplotlib.
    """

    label: str
    color: str
    marker: str


FOUND, BEST_RANDOM = "gradient", "bestrandom"
KINDS = {FOUND: Kind("found", "#c05621", "D"),
         "reinforce": Kind("found, REINFORCE", "#86377b", "s"),
         "searchfree": Kind("best of a pool on the supernet", "#0f766e", "^"),
         "random": Kind("random, without 7x7", "#64707d", "o"),
         BEST_RANDOM: Kind("best of random, in the time of a search", "#334155", "."),
         "mostmacs": Kind("most MACs within the target", "#0369a1", "H"),
         "uniform": Kind("one op everywhere", "#2b6cb0", "P"),
         "mobilenetv2": Kind("MobileNetV2, scaled", "#000000", "X"),
         "unaware": Kind("found, latency free", "#8a6100", "v"),
         "biggest": Kind("biggest of the space", "#b3261e", "*")}
# Kinds of the networks that are trained; the best of random are chosen among these.
TRAINED = tuple(kind for kind in KINDS if kind != BEST_RANDOM)


def write(study) -> str:
    """Writes results.json, results.md and tradeoff.svg into a study's folder.

    Args:
        study: The `search_quality.Study`. Networks that are not trained yet are left out.

    Returns:
        The text of results.md; without files, a line that says so if nothing is trained yet.
    """
    rows = collect(study)
    if not rows:
        return "Nothing is trained yet."
    search, training = search_seconds(study), training_seconds(study)
    best = [row for op in study.targets() for row in (random_search(rows, op, search, training)
                                                      if search and training else [])]
    shown = [*rows, *best]
    text = "\n\n".join(part for part in (
        *(target_table(shown, op, ms) for op, ms in study.targets().items()), _others(rows),
        *(comparisons(shown, op) for op in study.targets()), _ranks(study, rows), _seconds(study)) if part)
    files.write_text(study.path("results.json"), json.dumps(rows, indent=1) + "\n")
    files.write_text(study.path("results.md"), text + "\n")
    files.write_text(study.path("tradeoff.svg"), trade_off(rows, study.targets()))
    return text


def collect(study) -> list[dict[str, Any]]:
    """Facts of every network of a study that has been trained.

    Args:
        study: The `search_quality.Study`.

    Returns:
        For each network: name, kind, target, number, accuracy (test), held_out_accuracy, params, macs, seconds (of the
        training), ms (None before it is timed), and ops.
    """
    measured, rows = _read(study.path("measured.json")) or {}, []
    for name, arch in study.networks().items():
        facts = _read(study.folder(study.training(name, arch)).training_facts)
        if facts:
            kind, target, number = study_lib.parts(name)
            rows.append({"name": name, "kind": kind, "target": target, "number": number,
                         "accuracy": facts["test_accuracy"],
                         "held_out_accuracy": facts["history"]["val_accuracy"][-1], "params": facts["params"],
                         "macs": facts["macs"], "seconds": facts["seconds"], "ms": measured.get(name),
                         "ops": arch.ops})
    return rows


def _read(path):
    return files.read_json(path) if os.path.exists(path) else None


def of(rows, kind: str, target: str, field: str = "accuracy") -> np.ndarray:
    """One field of all networks of a kind at a target.

    Args:
        rows: Networks, from `collect`.
        kind: Kind of networks, of `KINDS`.
        target: Name of the target, of `Study.targets`.
        field: Name of the field. Networks that lack its value are left out.

    Returns:
        Values, float64 [networks].
    """
    return np.array([row[field] for row in rows if row["kind"] == kind and row["target"] == target
                     and row[field] is not None], float)


def difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Difference of two means with its 95 % interval, whose sides may vary differently (Welch's t).

    Args:
        first: Values of one side.
        second: Values of the other side, which is subtracted.

    Returns:
        The difference, and both ends of the interval; NaN if a side has fewer than two values.
    """
    from scipy import stats

    gain = float(first.mean() - second.mean())
    if min(len(first), len(second)) < 2:
        return gain, math.nan, math.nan
    low, high = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    return gain, float(low), float(high)


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a mean, by Student's t.

    Args:
        values: At least two values.
    """
    from scipy import stats

    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return float(low), float(high)


def target_table(rows, target: str, ms: float) -> str:
    """Accuracy, milliseconds and size of each kind of networks at one target, as a Markdown table.

    Args:
        rows: Networks, from `collect`.
        target: Name of the target.
        ms: Milliseconds of the target.

    Returns:
        The table; empty if no network has the target.
    """
    lines = [f"Target {ms:.4g} ms (uniform {target}):", "",
             "| networks | runs | test accuracy, % | sd | measured ms | parameters | MACs |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for kind, (label, *_) in KINDS.items():
        values = 100 * of(rows, kind, target)
        if len(values):
            spread = f"{np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
            times, params, macs = (of(rows, kind, target, field) for field in ("ms", "params", "macs"))
            lines.append(f"| {label} | {len(values)} | {values.mean():.2f} | {spread} | "
                         f"{f'{times.mean():.4f}' if len(times) else 'not yet measured'} | "
                         f"{params.mean():,.0f} | {macs.mean():,.0f} |")
    return "\n".join(lines) if any(row["target"] == target for row in rows) else ""


def random_search(rows, target: str, search: float, training: float) -> list[dict[str, Any]]:
    """Random searches in the time of a search: each trains random networks and keeps the best.

        networks of one = max(1, round((search + training) / training))

    A random search has the time of one training in addition: what a search has found is trained, too. It keeps the
    network of highest test accuracy. So it does better than one that must choose by held-out images.

    Args:
        rows: Networks, from `collect`, among them random ones at the target.
        target: Name of the target.
        search: CPU seconds of a search for one network.
        training: CPU seconds of a training.

    Returns:
        The row of the network that each kept, with kind `BEST_RANDOM` and `of`, the number of networks that it trained.
        No network belongs to two of them.
    """
    random = [row for row in rows if (row["kind"], row["target"]) == ("random", target)]
    size = max(1, round((search + training) / training))
    groups = [random[start:start + size] for start in range(0, len(random) - size + 1, size)]
    return [{**max(group, key=lambda row: row["accuracy"]), "kind": BEST_RANDOM, "of": size} for group in groups]


def search_seconds(study) -> float | None:
    """Median CPU seconds of the searches by gradients, from start to end; None before the first has ended.

    All of it counts, as if the search had been for one target alone.

    Args:
        study: The `search_quality.Study`.
    """
    return _median(study.used(os.path.join("searches", search)) for search in study.searches()
                   if study_lib.parts(search)[0] == FOUND)


def training_seconds(study) -> float | None:
    """Median CPU seconds of the trainings of random networks, from start to end; None before the first has ended.

    Args:
        study: The `search_quality.Study`.
    """
    return _median(study.used(study.training(name, arch)) for name, arch in study.networks().items()
                   if study_lib.parts(name)[0] == "random")


def _median(used: Iterable[dict[str, float] | None]) -> float | None:
    known = [each["cpu_seconds"] for each in used if each]
    return float(np.median(known)) if known else None


def gain(first: np.ndarray, second: np.ndarray) -> str:
    """A difference of accuracies in points, with its 95 % interval (Welch) where there is one."""
    each, low, high = (100 * value for value in difference(first, second))
    return f"{each:+.2f} points" + (f" (95 %: {low:+.2f} to {high:+.2f})" if low == low else "")


def comparisons(rows, target: str) -> str:
    """Compares the networks found with each kind of rivals at one target, as a Markdown list.

    Args:
        rows: Networks, from `collect` and `random_search`.
        target: Name of the target.

    Returns:
        The list; empty if there are no such networks.
    """
    found, lines = of(rows, FOUND, target), []
    for rival in ("random", BEST_RANDOM, "mostmacs", "uniform", "mobilenetv2", "reinforce", "searchfree"):
        accuracies = of(rows, rival, target)
        if len(found) and len(accuracies):
            tried = next((f" (best of {row['of']})" for row in rows if row["kind"] == rival == BEST_RANDOM
                          and row["target"] == target), "")
            lines.append(f"- against {KINDS[rival].label}{tried}: {gain(found, accuracies)}")
    return f"Found, at {target}:\n\n" + "\n".join(lines) if lines else ""


def _others(rows):
    lines = [f"- {KINDS[row['kind']].label}: {100 * row['accuracy']:.2f} %, "
             + (f"{row['ms']:.4f} ms" if row["ms"] else "not yet measured") + f", {row['params']:,} parameters"
             for row in rows if row["kind"] in ("unaware", "biggest")]
    return "Without a target:\n\n" + "\n".join(lines) if lines else ""


def _ranks(study, rows):
    from scipy import stats

    inherited = _read(study.path("inherited.json")) or {}
    pairs = {}
    for row in rows:
        if row["name"] in inherited and row["target"] in study.targets():
            pairs[json.dumps(inherited[row["name"]]["ops"])] = (inherited[row["name"]], row)
    if len(pairs) < 3:
        return ""
    scores, trained = zip(*pairs.values(), strict=True)
    accuracy = [row["accuracy"] for row in trained]
    lines = []
    for field, sign in (("accuracy", 1), ("loss", -1)):
        tau = stats.kendalltau([sign * score[field] for score in scores], accuracy)
        lines.append(f"- by inherited {field}: Kendall {tau.statistic:+.2f} (p {tau.pvalue:.2f})")
    return (f"Rank correlation of the warmed-up supernet with stand-alone accuracy, {len(pairs)} archs:\n\n"
            + "\n".join(lines))


def _seconds(study):
    search, training = search_seconds(study), training_seconds(study)
    lines = [f"- {what}: {seconds / 60:.1f} min" for what, seconds in (("a search", search), ("a training", training))
             if seconds]
    return "CPU time from start to end, median:\n\n" + "\n".join(lines) if lines else ""


def trade_off(rows, targets: dict[str, float]) -> str:
    """Accuracy against measured milliseconds, as an SVG file.

    Args:
        rows: Networks, from `collect`.
        targets: Milliseconds of the targets, drawn as lines, by name.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(figure_file.STYLE):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.add_subplot()
        for kind, (label, color, marker) in KINDS.items():
            timed = [row for row in rows if row["kind"] == kind and row["ms"]]
            if timed:
                axes.plot([row["ms"] for row in timed], [100 * row["accuracy"] for row in timed], marker,
                          color=color, markersize=6, alpha=0.75, label=label, linestyle="")
        for ms in targets.values():
            axes.axvline(ms, color="#64707d", linestyle=":", linewidth=1)
        axes.set(xlabel="measured on the host, ms", ylabel="CIFAR-10 test accuracy, %", xscale="log")
        plots.plain_ticks(axes.xaxis)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
        return figure_file.as_svg(figure)
