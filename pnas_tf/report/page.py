"""Writes the report of a run: one HTML file that opens offline, on a desk, a phone or paper.

    python -m pnas_tf.report --run_dir=runs/quickstart
    python -m pnas_tf.report --compare=runs/fast,runs/accurate,runs/mobilenet_v2

It shows what lies in the run folder and leaves out what is not there yet, so it may be written at any time during a
run. --compare puts runs side by side; networks that were trained without a search are baselines.
"""

import itertools
import math
import shlex
import statistics
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from pnas_tf import __version__, files, terminal
from pnas_tf.errors import InputError
from pnas_tf.files import number
from pnas_tf.report import comparison, drawing, heat_maps, op_profile, plots, summary
from pnas_tf.report import facts as run_facts
from pnas_tf.report.facts import Facts, collect, text
from pnas_tf.run_folder import RunFolder, versions
from pnas_tf.run_folder import folder as run_folder

__all__ = ["collect", "compare", "run", "summary"]


def run(run_dir: str) -> str:
    """Writes `run_dir`/report.html; of a search for several devices, its results side by side.

    Returns:
        Its path.

    Raises:
        InputError: if there is nothing to report, or a file that cannot be read.
    """
    path, parts = RunFolder(run_dir).report, run_facts.parts(run_dir)
    files.write_text(path, render_comparison([collect(part) for part in parts]) if parts
                        else render(collect(run_dir)))
    return path


def compare(run_dirs: Sequence[str], output: str) -> str:
    """Writes a page of several runs side by side.

    Returns:
        Its path, `output`.

    Raises:
        InputError: if there are fewer than two, or more than a page holds; or as `run`.
    """
    if len(run_dirs) < 2:
        raise InputError(f"--compare takes two run folders or more, with commas between; got {len(run_dirs)}.")
    folders = [folder for run_dir in run_dirs for folder in run_facts.parts(run_dir) or [run_dir]]
    files.write_text(output, render_comparison([collect(folder) for folder in folders]))
    return output


def _template(name: str):
    import jinja2

    environment = jinja2.Environment(loader=jinja2.PackageLoader("pnas_tf.report"), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(ms=terminal.ms, percent=terminal.percent, big=terminal.big, number=number, text=text)
    environment.globals.update(kernel_colors=plots.KERNEL_COLORS, plain_color=plots.PLAIN_COLOR,
                               kernel_of=plots.kernel_of)
    return environment.get_template(name)


def render(facts: Facts) -> str:
    """The page of a run."""
    stages = drawing.of_arch(facts.arch) if facts.arch else []
    boxes = [box for stage in stages for box in stage.boxes]
    epochs = [epoch for epoch in facts.epochs if isinstance(epoch.get("probs"), dict) and epoch["probs"]]
    maps = heat_maps.of_search(epochs)
    return _template("report.html").render(
        title=facts.title, facts=facts, cards=summary.cards(facts), rows=_fact_rows(facts),
        stages=stages, boxes=boxes, summary=drawing.counts(boxes), kernels=drawing.kernels(boxes),
        maps=maps, ops=facts.arch.ops if facts.arch else {},
        final={one.choice: dict(one.final) for one in maps.all},
        heat_map_span=[epochs[0]["epoch"], epochs[-1]["epoch"]] if epochs else [],
        warmup_share=sum(epoch.get("phase") == "warmup" for epoch in epochs) / max(1, len(epochs)),
        search_charts=plots.search_charts(facts.epochs, facts.target_ms),
        warnings=run_facts.warnings(facts), finalists=_finalist_rows(facts),
        compared_chart=_compared_chart(facts), compare_command=_compare_command(facts),
        profile_charts=[plots.Chart(f"{mode}.tflite", op_profile.chart(profile, f"profile-{mode}"),
                                    op_profile.note(profile)) for mode, profile in facts.profiles.items()],
        train_charts=plots.train_charts(facts.train.get("history")), run_dir=shlex.quote(facts.run_dir),
        command=f"python -m pnas_tf.search --flagfile={shlex.quote(RunFolder(facts.run_dir).flags)}")


def render_comparison(collected: Sequence[Facts]) -> str:
    """The page of several runs."""
    compared = comparison.runs(collected)
    charts, left_out = comparison.search_charts(compared)
    return _template("comparison.html").render(
        title=f"{len(compared)} runs side by side", runs=compared, rows=comparison.rows(compared),
        flag_rows=comparison.differing_flags(compared), trade_offs=comparison.trade_offs(compared),
        search_charts=charts, left_out=left_out,
        kernels=sorted({kernel for one in compared for kernel in drawing.kernels(one.boxes)}),
        version=f"pnas_tf {__version__}")


def _compared_chart(facts: Facts) -> plots.Chart | None:
    """Predicted against measured milliseconds of whole networks (paper figure 5)."""
    compared, predicted_ms, measured_ms = facts.compared, facts.cost("table_ms"), facts.measured_on_target
    if compared is None:
        return None
    found_ms = (measured_ms, predicted_ms) if compared.target == facts.target and predicted_ms and measured_ms else None
    known = [(compared.within_10_percent, "{:.0%} of them within 10 %"),
             (compared.rmse_of_mean, "RMSE {:.1%} of the mean")]
    note = ", ".join([f"{len(compared.measured_ms)} networks on {compared.target or 'a target not named'}",
                      *(how.format(value) for value, how in known if value is not None)])
    return plots.Chart("Whole networks", plots.scatter(
        compared.measured_ms, compared.predicted_ms, title="", name="compared",
        found_ms=found_ms), f"{note}.")


def _compare_command(facts: Facts) -> str:
    space = facts.flags.get("space") or (facts.arch.space.name if facts.arch else "SPACE")
    output = shlex.quote(RunFolder(facts.run_dir).comparison)
    return f"python -m latency.compare {facts.table_flag()} --space={shlex.quote(space)} --networks=20 --json={output}"


def _finalist_rows(facts: Facts) -> list[dict[str, Any]]:
    """The best five finalists, those that are not samples, and those that were timed or had a trial."""
    rows = []
    for place, rival in enumerate(facts.finalists, start=1):
        costs = rival.get("costs")
        costs = costs if isinstance(costs, dict) else {}
        if place <= 5 or rival.get("how") != run_folder.SAMPLE or {"trial_accuracy", "measured_ms"} & rival.keys():
            rows.append({"place": place, "how": text(rival.get("how")), "ms": number(costs.get("ms")),
                         "loss": number(rival.get("loss")), "accuracy": number(rival.get("accuracy")),
                         "measured": number(rival.get("measured_ms")), "trial": number(rival.get("trial_accuracy")),
                         "eligible": rival.get("eligible") is True})
    return rows


def _fact_rows(facts: Facts) -> list[tuple[str, str]]:
    """Name and text of what else is known."""
    space, epochs, rows = facts.arch.space if facts.arch else None, facts.epochs, []
    rows.append(("Data set", facts.dataset))
    rows.append(("Space", space.name if space else facts.flags.get("space")))
    if space:
        rows.append(("Input", f"{space.input_size} \N{MULTIPLICATION SIGN} {space.input_size} \N{MULTIPLICATION SIGN} "
                              f"{space.input_channels}, {space.num_classes:,} classes"))
        size = space.size
        size_text = f"{size:,}" if size < 10 ** 24 else f"about 10^{math.log10(size):.0f}"
        rows.append(("Size of the space", f"{size_text} networks, {len(space.choices)} choices"))
    rows.append(("Target", facts.target))
    rows.append(("Seed", facts.flags.get("seed")))
    if epochs:
        warmup = sum(epoch.get("phase") == "warmup" for epoch in epochs)
        rows.append(("Epochs searched", f"{len(epochs)}" + (f", {warmup} of them warm-up" if warmup else "")))
    seconds = facts.seconds_searched
    step_ms = [value for epoch in epochs if (value := number(epoch.get("step_ms"))) is not None]
    rows.append(("Time searched", terminal.seconds(seconds) if seconds is not None else None))
    rows.append(("Time of a step", f"{terminal.ms(statistics.median(step_ms))}, median" if step_ms else None))
    trained, train_epochs = number(facts.train.get("seconds")), number(facts.train.get("epochs"))
    rows.append(("Epochs trained", f"{train_epochs:g}" if train_epochs is not None else None))
    rows.append(("Weights began", {"scratch": "from scratch", "inherited": "as the search left them"}.get(
        text(facts.train.get("init")) or "")))
    rows.append(("Time trained", terminal.seconds(trained) if trained is not None else None))
    rows.append(("Versions of the search", versions.summary(facts.starts[-1]) if facts.starts else None))
    for before, then in itertools.pairwise(facts.starts):
        rows.append(("Versions changed while it ran", "; ".join(versions.changed(before, then))))
    rows.append(("Versions where this report was made", ", ".join([f"pnas_tf {__version__}", *_versions()])))
    return [(name, value[:300]) for name, value in rows if value]


def _versions() -> list[str]:
    """Of the packages a result depends on, as far as they are installed; none is imported for it."""
    found = []
    for name in ("tensorflow", "keras", "ai-edge-litert"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return found
