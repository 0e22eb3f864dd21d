"""Several runs side by side: numbers, networks, the trade-off between accuracy and latency, and searches."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from pnas_tf import terminal
from pnas_tf.errors import InputError
from pnas_tf.files import number
from pnas_tf.report import drawing, plots, summary
from pnas_tf.report.facts import Facts, text
from pnas_tf.report.plots import Chart, Line, Point
from pnas_tf.run_folder import measured as measured_lib

MAX_RUNS = 30
# Largest number of lines in a chart, one for each colour.
MAX_LINES = len(plots.SERIES)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of the comparison.

    Attributes:
        name: Short name that no other run has.
        facts: Contents of the run folder.
        stages: Network of the run as it is drawn; empty if there is none yet.
        searched: Whether the network comes from a search; otherwise it is a baseline.
    """

    name: str
    facts: Facts
    stages: list[drawing.Stage]
    searched: bool

    @property
    def boxes(self) -> list[drawing.Box]:
        """All blocks of the network from left to right."""
        return [box for stage in self.stages for box in stage.boxes]


def runs(collected: Sequence[Facts]) -> list[Run]:
    """Gives runs unique names and prepares them for the page.

    Args:
        collected: Contents of the run folders.

    Raises:
        InputError: If there are too many runs for a page.
    """
    if len(collected) > MAX_RUNS:
        raise InputError(f"At most {MAX_RUNS} runs fit side by side, got {len(collected)}. Name fewer.")
    return [Run(name, facts, drawing.of_arch(facts.arch) if facts.arch else [],
                bool(facts.epochs) or facts.cost("target_ms") is not None)
            for name, facts in zip(_names([facts.run_dir for facts in collected]), collected, strict=True)]


def _names(folders: Sequence[str]) -> list[str]:
    """The shortest ends of the paths that are unique."""
    paths = [os.path.abspath(folder).split(os.sep) for folder in folders]
    for length in range(1, max(map(len, paths)) + 1):
        names = ["/".join(path[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({place})" for place, name in enumerate(names, start=1)]


def rows(compared: Sequence[Run]) -> list[tuple[str, list[str | None]]]:
    """Rows of the table of numbers.

    Args:
        compared: Runs, one for each column.

    Returns:
        Name of each number with its text for every run, None if it is unknown. Numbers that are unknown for all runs
        are left out.
    """
    def texts(show, value_of):
        return [None if number(value := value_of(run.facts)) is None else show(value) for run in compared]

    table = [
        ("Test accuracy", texts(terminal.percent, lambda facts: facts.train.get("test_accuracy"))),
        ("Target device", [run.facts.target for run in compared]),
        ("Predicted", texts(terminal.ms, lambda facts: facts.cost("table_ms"))),
        ("Measured", [_time(run.facts.measured or {}) for run in compared]),
        ("Measured on", [text((run.facts.measured or {}).get("target")) for run in compared]),
        ("Latency target", texts(terminal.ms, lambda facts: facts.target_ms)),
        ("Kept", [summary.target_kept(run.facts).note or None for run in compared]),
        ("Parameters", texts(lambda value: f"{value:,.0f}", lambda facts: facts.size("params"))),
        ("Multiply-adds", texts(lambda value: f"{value:,.0f}", lambda facts: facts.size("macs"))),
        ("Choices", [drawing.counts(run.boxes) if run.searched and run.boxes else None for run in compared]),
        ("Epochs searched", [str(len(run.facts.epochs) or "") or None for run in compared]),
        ("Time searched", texts(terminal.seconds, lambda facts: facts.seconds_searched)),
        ("Time trained", texts(terminal.seconds, lambda facts: facts.train.get("seconds")))]
    for mode in dict.fromkeys(export["mode"] for run in compared for export in run.facts.exports):
        exports = [next((export for export in run.facts.exports if export["mode"] == mode), {}) for run in compared]
        table.append((f"{mode}.tflite", [_export(export) for export in exports]))
    return [(name, values) for name, values in table if any(values)]


def _export(export: dict[str, Any]) -> str | None:
    values = [(export.get("size_bytes"), lambda value: terminal.big(value, "B")),
              (export.get("top1"), terminal.percent)]
    texts = [show(value) for value, show in values if number(value) is not None]
    return ", ".join([*texts, *filter(None, [_time(export)])]) or None


def _time(export: dict[str, Any]) -> str | None:
    """Milliseconds of an export, and the doubt about them; None if there are none."""
    time = measured_lib.of_export(export)
    return str(time) if time else None


def differing_flags(compared: Sequence[Run]) -> list[tuple[str, list[str | None]]]:
    """Flags that were not the same in all searches, with their value in each run.

    The run folder always differs and is left out. Runs without a record of flags do not count.
    """
    names = dict.fromkeys(name for run in compared for name in run.facts.flags)
    table = [(name, [run.facts.flags.get(name) for run in compared]) for name in sorted(names) if name != "run_dir"]
    return [(name, values) for name, values in table
            if len({value for value, run in zip(values, compared, strict=True) if run.facts.flags}) > 1]


def verdicts(compared: Sequence[Run]) -> list[str]:
    """The most accurate network on each target and data set that at least two runs share, and the others beside it."""
    return [_verdict(target, dataset, group) for (target, dataset), group in _groups(compared).items()
            if len(group) > 1]


def _verdict(target: str, dataset: str, group: Sequence[Point]) -> str:
    best = max(group, key=lambda point: (point.accuracy, -point.ms))
    others = [f"{point.label}{'' if point.searched else ' (a baseline)'} by "
              f"{100 * (best.accuracy - point.accuracy):.1f} points"
              + (f", at {100 * point.ms / best.ms:.0f} % of its milliseconds" if best.ms > 0 else "")
              for point in sorted(group, key=lambda point: -point.accuracy) if point is not best]
    predicted = "" if all(point.measured for point in group) else " Some milliseconds are predicted, not measured."
    return (f"On {dataset}, {best.label} is the most accurate: {terminal.percent(best.accuracy)} in "
            f"{terminal.ms(best.ms)} on {target}. Below it: {'; '.join(others)}.{predicted}")


def trade_offs(compared: Sequence[Run]) -> list[Chart]:
    """Accuracy against latency (paper figure 4): a chart for each target and data set that at least two runs share."""
    return [Chart(f"Accuracy on {dataset} against milliseconds on {target}",
                  plots.trade_off(group, f"trade-off-{place}", f"ms on {target}"),
                  "Circles, joined by a line: networks from searches. Squares: baselines, trained without a "
                  "search. Hollow marks: milliseconds are predicted, not measured.")
            for place, ((target, dataset), group) in enumerate(_groups(compared).items()) if len(group) > 1]


def _groups(compared: Sequence[Run]) -> dict[tuple[str, str], list[Point]]:
    """Networks with an accuracy and milliseconds, by target with its device and by data set."""
    points: dict[tuple[str, str], list[Point]] = {}
    for run in compared:
        for target, (ms, accuracy, measured) in _results(run.facts).items():
            points.setdefault((target, run.facts.dataset or "an unnamed data set"), []).append(
                Point(run.name, ms, accuracy, run.searched, measured))
    return points


def _results(facts: Facts) -> dict[str, tuple[float, float, bool]]:
    """Milliseconds, accuracy, and whether the milliseconds are measured, by target with its device.

    Both numbers belong to an exported file that was timed, which may be less accurate than the network. If there is no
    such file, they are the table's prediction and the accuracy of the trained network.
    """
    results, predicted, trained = {}, facts.cost("table_ms"), number(facts.train.get("test_accuracy"))
    if facts.target and predicted is not None and trained is not None:
        results[_place(facts.target, facts.device or _device_of_exports(facts))] = (predicted, trained, False)
    for export in facts.exports:
        ms, target, top1 = number(export.get("measured_ms")), text(export.get("target")), number(export.get("top1"))
        accuracy = trained if top1 is None else top1
        if ms is not None and target and accuracy is not None:
            results[_place(target, text(export.get("device")))] = (ms, accuracy, True)
    return results


def _place(target: str, device: str | None) -> str:
    """A target and the device behind it: tables of two computers may have the same target."""
    return f"{target} ({device})" if device else target


def _device_of_exports(facts: Facts) -> str | None:
    return next((text(export.get("device")) for export in facts.exports if export.get("target") == facts.target), None)


def search_charts(compared: Sequence[Run]) -> tuple[list[Chart], int]:
    """Charts of expected latency, entropy and held-out loss, with a line for each search.

    Returns:
        The charts, and the number of searches that the charts leave out.
    """
    searched = [run for run in compared if run.searched]

    def lines(key):
        thinned = [(run.name[-40:], plots.thin(run.facts.epochs, plots.MAX_POINTS)) for run in searched[:MAX_LINES]]
        return [Line(name, [epoch["epoch"] + 1 for epoch in epochs], [number(epoch.get(key)) for epoch in epochs])
                for name, epochs in thinned]

    charts = [Chart(title, plots.line_chart(f"all-{key}", lines(key), from_zero=key == "entropy"))
              for key, title in (("expected_ms", "Expected latency, ms"),
                                 ("entropy", "How open the choices are: entropy in nats"),
                                 ("held_out_loss", "Held-out loss of sampled networks"))]
    return [chart for chart in charts if chart.svg], max(0, len(searched) - MAX_LINES)
