"""Writes the report of a run, and the comparison of several runs, as HTML pages that load nothing and run nothing."""

import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Any

from pnas_tf import __version__, files, packages, shell, terminal
from pnas_tf.errors import InputError
from pnas_tf.files import number
from pnas_tf.report import (
    comparison,
    drawing,
    first_stage,
    front_chart,
    heat_maps,
    mistakes,
    next_steps,
    op_profile,
    plots,
    summary,
    verdict,
)
from pnas_tf.report import facts as run_facts
from pnas_tf.report.facts import Facts, text
from pnas_tf.run_folder import RunFolder, measured, versions

# Packages whose versions a report names.
DEPENDENCIES = ("tensorflow", "keras", "ai-edge-litert")
# Largest number of finalists in the table.
MAX_FINALISTS = 60


def run(run_dir: str) -> str:
    """Writes the report of a run; for a search with several goals, the results of all goals side by side.

    Args:
        run_dir: Path of the run folder.

    Returns:
        Path of the page, report.html in the run folder.

    Raises:
        InputError: If there is nothing to report, or a file cannot be read.
    """
    path, parts = RunFolder(run_dir).report, run_facts.parts(run_dir)
    page = render_comparison([run_facts.collect(part) for part in parts]) if parts \
        else render(run_facts.collect(run_dir))
    files.write_text(path, page)
    return path


def compare(run_dirs: Sequence[str], output: str) -> str:
    """Writes a page of several runs side by side.

    Args:
        run_dirs: Paths of the run folders.
        output: Path of the page.

    Returns:
        Path of the page.

    Raises:
        InputError: If there are fewer than two runs or too many for a page, a run has nothing to report, or a file
            cannot be read.
    """
    if len(run_dirs) < 2:
        raise InputError("--compare takes at least two run folders, separated by commas: --compare=DIR,DIR. Got "
                         f"{len(run_dirs)}.")
    folders = [folder for run_dir in run_dirs for folder in run_facts.parts(run_dir) or [run_dir]]
    files.write_text(output, render_comparison([run_facts.collect(folder) for folder in folders]))
    return output


def _template(name: str):
    import jinja2

    environment = jinja2.Environment(loader=jinja2.PackageLoader("pnas_tf.report"), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(ms=terminal.ms, percent=terminal.percent, big=terminal.big, number=number, text=text,
                               measured=measured.of_export)
    environment.globals.update(kernel_colors=plots.KERNEL_COLORS, plain_color=plots.PLAIN_COLOR,
                               kernel_of=plots.kernel_of)
    return environment.get_template(name)


def render(facts: Facts) -> str:
    """The page of a run, HTML."""
    stages = drawing.of_arch(facts.arch) if facts.arch else []
    boxes = [box for stage in stages for box in stage.boxes]
    epochs = _epochs_with_probs(facts)
    maps = heat_maps.of_search(epochs)
    return _template("report.html").render(
        title=facts.title, facts=facts, verdict=verdict.of_run(facts), steps=next_steps.of_run(facts),
        cards=summary.cards(facts), rows=_fact_rows(facts),
        stale=summary.stale(facts) if facts.stale else "",
        stages=stages, boxes=boxes, summary=drawing.counts(boxes), kernels=drawing.kernels(boxes),
        front=front_chart.chart(facts.front, facts.target_ms), front_rows=front_chart.rows(facts.front),
        front_sizes=any(each.image_size for each in facts.front),
        maps=maps, ops=first_stage.chosen_of(facts.arch, maps),
        first=first_stage.of_run(facts, heat_maps.of_search(_epochs_with_probs(facts.widths))),
        final={heat_map.choice: dict(heat_map.final) for heat_map in maps.all},
        heat_map_span=[epochs[0]["epoch"] + 1, epochs[-1]["epoch"] + 1] if epochs else [],
        warmup_share=sum(epoch.get("phase") == "warmup" for epoch in epochs) / max(1, len(epochs)),
        search_charts=plots.search_charts(facts.epochs, facts.target_ms),
        warnings=run_facts.warnings(facts), finalists=_finalist_rows(facts),
        compared_chart=_compared_chart(facts), compare_command=next_steps.compare_command(facts),
        profile_charts=[plots.Chart(f"{mode}.tflite", op_profile.chart(profile, f"profile-{mode}"),
                                    op_profile.note(profile)) for mode, profile in facts.profiles.items()],
        train_charts=plots.train_charts(facts.train.get("history"),
                                        taught=facts.train.get("teacher") not in (None, "none")),
        confusion=mistakes.confusion_chart(facts.mistakes) if facts.mistakes else None,
        run_dir=shell.word(facts.run_dir),
        command=next_steps.search_command(facts))


def _epochs_with_probs(facts: Facts | None) -> list[dict[str, Any]]:
    return [epoch for epoch in facts.epochs if isinstance(epoch.get("probs"), dict) and epoch["probs"]] if facts else []


def render_comparison(collected: Sequence[Facts]) -> str:
    """The page of several runs, HTML.

    Raises:
        InputError: If there are too many runs for a page.
    """
    compared = comparison.runs(collected)
    charts, left_out = comparison.search_charts(compared)
    return _template("comparison.html").render(
        title=f"{len(compared)} runs side by side", runs=compared, rows=comparison.rows(compared),
        verdicts=comparison.verdicts(compared), flag_rows=comparison.differing_flags(compared),
        trade_offs=comparison.trade_offs(compared),
        search_charts=charts, left_out=left_out,
        kernels=sorted({kernel for run in compared for kernel in drawing.kernels(run.boxes)}),
        version=f"pnas_tf {__version__}")


def _compared_chart(facts: Facts) -> plots.Chart | None:
    """Predicted against measured milliseconds of whole networks (paper figure 5)."""
    compared, predicted_ms, measured_ms = facts.compared, facts.cost("table_ms"), facts.measured_on_target
    if compared is None:
        return None
    found_ms = (measured_ms, predicted_ms) if compared.target == facts.target and predicted_ms and measured_ms else None
    figures = [(compared.within_10_percent, "{:.0%} of them within 10 %"),
               (compared.rmse_of_mean, "RMSE {:.1%} of the mean")]
    note = ", ".join([f"{len(compared.measured_ms)} networks on {compared.target or 'a target not named'}",
                      *(pattern.format(value) for value, pattern in figures if value is not None)])
    svg = plots.scatter(compared.measured_ms, compared.predicted_ms, title="", name="compared", found_ms=found_ms)
    return plots.Chart("Whole networks", svg, f"{note}.")


def _finalist_rows(facts: Facts) -> list[dict[str, Any]]:
    """The best five finalists, the best of each origin, and those that were timed or had a trial."""
    rows: list[dict[str, Any]] = []
    origins: set[str | None] = set()
    for place, finalist in enumerate(facts.finalists, start=1):
        how, costs = text(finalist.get("how")), finalist.get("costs")
        costs = costs if isinstance(costs, dict) else {}
        is_shown = place <= 5 or how not in origins or {"trial_accuracy", "measured_ms"} & finalist.keys()
        origins.add(how)
        if is_shown and len(rows) < MAX_FINALISTS:
            rows.append({"place": place, "how": how, "ms": number(costs.get("ms")),
                         "loss": number(finalist.get("loss")), "expected": number(finalist.get("expected_loss")),
                         "accuracy": number(finalist.get("accuracy")),
                         "measured": number(finalist.get("measured_ms")),
                         "trial": number(finalist.get("trial_accuracy")), "eligible": finalist.get("eligible") is True})
    return rows


def _fact_rows(facts: Facts) -> list[tuple[str, str]]:
    """Names and texts of further facts; unknown facts are left out."""
    space, epochs, rows = facts.arch.space if facts.arch else None, facts.epochs, []
    rows.append(("Data set", facts.dataset))
    rows.append(("Space", space.name if space else facts.flags.get("space")))
    if space:
        rows.append(("Input", f"{space.input_size} \N{MULTIPLICATION SIGN} {space.input_size} \N{MULTIPLICATION SIGN} "
                              f"{space.input_channels}, {space.num_classes:,} classes"))
        # The network has one number of filters; the probabilities tell whether they were searched, too.
        probs = epochs[-1].get("probs") if epochs else None
        counts = [len(row) for row in probs.values() if isinstance(row, dict)] if isinstance(probs, dict) else []
        size, choices = (math.prod(counts), len(counts)) if len(counts) > len(space.choices) else (
            space.size, len(space.choices))
        size_text = f"{size:,}" if size < 10 ** 24 else f"about 10^{math.log10(size):.0f}"
        rows.append(("Size of the space", f"{size_text} networks, {choices} choices"))
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
    rows.append(("Initial weights", {
        "scratch": "random", "inherited": "inherited from the search", "teacher": "the teacher's",
        "imagenet": "those trained on ImageNet"}.get(text(facts.train.get("init")) or "")))
    rows.append(("Time trained", terminal.seconds(trained) if trained is not None else None))
    rows.append(("Versions of the search", versions.summary(facts.starts[-1]) if facts.starts else None))
    for before, after in itertools.pairwise(facts.starts):
        rows.append(("Versions changed while it ran", "; ".join(versions.changed(before, after))))
    rows.append(("Versions where this report was made", ", ".join([
        f"pnas_tf {__version__}", *(" ".join(each) for each in packages.versions(DEPENDENCIES).items())])))
    return [(name, value[:300]) for name, value in rows if value]
