"""Results of a study of search quality: means, errors, rank correlations, and the trade-off plot (paper figure 4)."""

import itertools
import json
import math
import os
from typing import Any, NamedTuple

import numpy as np

from benchmarks import steps
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


KINDS = {"trials": Kind("found, gradient, trials", "#15803d", "p"),
         "gradient": Kind("found, gradient", "#c05621", "D"),
         "longer": Kind("found, gradient, longer", "#dc2626", "d"),
         "longertrials": Kind("found, gradient, longer, trials", "#7c2d12", "h"),
         "reinforce": Kind("found, REINFORCE", "#86377b", "s"),
         "searchfree": Kind("best of a pool on the supernet", "#0f766e", "^"),
         "random": Kind("random", "#64707d", "o"),
         "mostmacs": Kind("most MACs within the target", "#0369a1", "H"),
         "uniform": Kind("one op everywhere", "#2b6cb0", "P"),
         "mobilenetv2": Kind("MobileNetV2, scaled", "#000000", "X"),
         "unaware": Kind("found, latency free", "#8a6100", "v"),
         "biggest": Kind("biggest of the space", "#b3261e", "*")}
# Kinds that a search by gradients delivers, which are compared with the others.
SEARCHED = ("trials", "gradient", "longer", "longertrials")


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
    text = "\n\n".join(part for part in (
        *(target_table(rows, op, ms) for op, ms in study.targets().items()), _others(rows),
        *(comparisons(rows, op, kind, study.search_seconds()) for op in study.targets() for kind in SEARCHED),
        _ranks(study, rows), _seconds(study, rows)) if part)
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


def difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Difference of two means, and its standard error (Welch).

        error = sqrt(var(first) / len(first) + var(second) / len(second))

    A side with one value is given the variance of the other side. If both have one value, the error is NaN.
    """
    def variance(values, other):
        several = values if len(values) > 1 else other
        return float(np.var(several, ddof=1)) if len(several) > 1 else math.nan

    error = math.sqrt(variance(first, second) / len(first) + variance(second, first) / len(second))
    return float(first.mean() - second.mean()), error


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


def random_search(rows, target: str, seconds: float) -> tuple[int, float]:
    """The expected result of random search: train random networks for a given time, keep the best by held-out images.

    Args:
        rows: Networks, from `collect`, among them random ones at the target.
        target: Name of the target.
        seconds: Wall-clock seconds, in which one network is trained after the other.

    Returns:
        The number of networks that can be trained in the time, at least one, and the test accuracy of the network with
        the best held-out accuracy among that many: the mean over all subsets of the random networks.
    """
    test, held_out = of(rows, "random", target), of(rows, "random", target, "held_out_accuracy")
    fit = int(seconds / np.median(of(rows, "random", target, "seconds")))
    tries = min(max(1, fit), len(test))
    return tries, float(np.mean([test[max(chosen, key=lambda number: held_out[number])]
                                 for chosen in itertools.combinations(range(len(test)), tries)]))


def _gain(searched, rival):
    gain, error = difference(searched, rival)
    return f"{100 * gain:+.2f} points, standard error {100 * error:.2f}"


def comparisons(rows, target: str, kind: str = "gradient", seconds: float | None = None) -> str:
    """Compares searched networks with each kind of rivals at one target, as a Markdown list.

    Args:
        rows: Networks, from `collect`.
        target: Name of the target.
        kind: Kind of the searched networks, of `SEARCHED`.
        seconds: Seconds that a search takes, to compare with random search in the same time; None if unknown.

    Returns:
        The list; empty if there are no such networks.
    """
    searched, lines = of(rows, kind, target), []
    if not len(searched):
        return ""
    rivals = {rival: of(rows, rival, target) for rival in ("random", "uniform", "mobilenetv2", "mostmacs", "reinforce",
                                                           "searchfree")}
    for rival, accuracies in rivals.items():
        if len(accuracies):
            lines.append(f"- against {KINDS[rival].label}: {_gain(searched, accuracies)}")
    if len(rivals["random"]):
        lines.append(f"- mean of the searched networks, {100 * searched.mean():.2f} %; the best quarter of the random "
                     f"ones begins at {100 * np.quantile(rivals['random'], 0.75):.2f} %")
    if len(rivals["random"]) and seconds:
        tries, best = random_search(rows, target, seconds)
        lines.append(f"- against random search in the same time (best of {tries} trained, by held-out images): "
                     f"{100 * (searched.mean() - best):+.2f} points")
    return f"{KINDS[kind].label.capitalize()}, at {target}:\n\n" + "\n".join(lines)


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


def _seconds(study, rows):
    lines = []
    for search in study.searches():
        seconds = steps.search_seconds(study.path("searches", search))
        if seconds is not None:
            lines.append(f"- search {search}: {seconds:.0f} s")
    lines.append(f"- training of one network: {np.median([row['seconds'] for row in rows]):.0f} s, median")
    return "Time (wall clock, one core each, two at a time):\n\n" + "\n".join(lines)


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
