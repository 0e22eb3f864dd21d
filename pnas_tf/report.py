"""Writes the report of a run: one HTML file that opens offline, on a desk, a phone or paper.

    python -m pnas_tf.report --run_dir=runs/quickstart

It shows what lies in the run folder (arch.json, metrics.jsonl, train.json, <mode>.json, <mode>.profile.json, run.flags,
versions.json) and leaves out what is not there yet, so it may be written at any time during a run.
"""

import dataclasses
import itertools
import math
import os
import shlex
import statistics
from importlib import metadata
from typing import Any

from absl import flags

from pnas_tf import __version__, early_warnings, op_profile, plots, run_flags, run_folder, versions
from pnas_tf import arch as arch_lib
from pnas_tf import space as space_lib
from pnas_tf.arch import Arch
from pnas_tf.errors import InputError, printable
from pnas_tf.plots import number

MODES = run_folder.MODES


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the run folder holds; nothing is made up.

    Attributes:
        run_dir: the folder.
        arch: the network found, if there is one yet.
        epochs: logged epochs of the search in order, as they stand in metrics.jsonl.
        train: train.json, or {}.
        exports: the <mode>.json there are.
        flags: flags of the search by name, or {}.
        finalists: of finalists.json, best first, or [].
        profiles: the <mode>.profile.json there are, by mode.
        starts: of versions.json, what the search was started with, or [].
    """

    run_dir: str
    arch: Arch | None
    epochs: list[dict[str, Any]]
    train: dict[str, Any]
    exports: list[dict[str, Any]]
    flags: dict[str, str]
    finalists: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    profiles: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    starts: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def cost(self, name: str) -> float | None:
        """A number of the arch's costs."""
        return number(self.arch.costs.get(name)) if self.arch else None

    @property
    def target(self) -> str | None:
        """Name of the device that was searched for."""
        return text(self.arch.costs.get("target")) if self.arch else None

    @property
    def target_ms(self) -> float | None:
        """Milliseconds that the search aimed at: as the arch says, else as the flags say."""
        wanted = self.cost("target_ms") or number_of_text(self.flags.get("target_ms"))
        return wanted if wanted and wanted > 0 else None

    @property
    def measured(self) -> dict[str, Any] | None:
        """The export that was timed: on the target that was searched for if there is one, else the first."""
        timed = [export for export in self.exports if number(export.get("measured_ms")) is not None]
        same = [export for export in timed if self.target and export.get("target") == self.target]
        return next(iter(same + timed), None)


def run(run_dir: str) -> str:
    """Writes `run_dir`/report.html.

    Returns:
        Its path.

    Raises:
        InputError: if there is nothing to report, or a file that cannot be read.
    """
    path = run_folder.path(run_dir, "report.html")
    arch_lib.write_text(path, render(collect(run_dir)))
    return path


def summary(facts: Facts) -> str:
    """The result in a few lines for the terminal; what is not known yet is left out."""
    measured = facts.measured or {}
    where = text(measured.get("target"))
    lines = [("Test accuracy", facts.train.get("test_accuracy"), format_percent),
             ("Parameters", facts.cost("params"), lambda value: f"{value:,.0f}"),
             ("MACs", facts.cost("macs"), lambda value: f"{value:,.0f}"),
             ("Predicted", facts.cost("table_ms"), lambda value: f"{format_ms(value)} on {facts.target}"),
             ("Measured", measured.get("measured_ms"), lambda value: f"{format_ms(value)} on {where}"),
             ("Target", facts.target_ms, format_ms)]
    found = [f"{name + ':':<15}{show(value)}" for name, value, show in lines if number(value) is not None]
    files = [f"{mode}.tflite" for mode in MODES if os.path.exists(run_folder.path(facts.run_dir, f"{mode}.tflite"))]
    kept = [name for name in ("arch.json", "model.keras", *files, "report.html")
            if os.path.exists(run_folder.path(facts.run_dir, name))]
    return "\n".join([*found, f"{'Files:':<15}{', '.join(kept)} in {facts.run_dir}"])


def collect(run_dir: str) -> Facts:
    """Reads a run folder.

    Raises:
        InputError: if it is missing or holds neither arch.json nor metrics, or a file that cannot be read.
    """
    def path(name: str) -> str:
        return run_folder.path(run_dir, name)

    if not os.path.isdir(run_dir):
        raise InputError(f"{run_dir}: no such folder. Give --run_dir the folder of a search.")
    arch = arch_lib.from_json(space_lib.read_json(path("arch.json")), path("arch.json")) \
        if os.path.exists(path("arch.json")) else None
    epochs = [epoch for epoch in run_folder.read_metrics(run_dir) if number(epoch["epoch"]) is not None]
    if arch is None and not epochs:
        raise InputError(f"{run_dir}: nothing to report, neither arch.json nor an epoch in metrics.jsonl. "
                         "Search first: python -m pnas_tf.search --flagfile=quickstart.flags "
                         f"--run_dir={shlex.quote(run_dir)}")
    exports = [{**_read_object(path(f"{mode}.json")), "mode": mode} for mode in MODES
               if os.path.exists(path(f"{mode}.json"))]
    train = _read_object(path("train.json")) if os.path.exists(path("train.json")) else {}
    used = run_folder.read_flags(path("run.flags")) if os.path.exists(path("run.flags")) else {}
    rivals = _read_object(path("finalists.json")).get("finalists") if os.path.exists(path("finalists.json")) else []
    rivals = [rival for rival in rivals if isinstance(rival, dict)] if isinstance(rivals, list) else []
    profiles = {mode: op_profile.read(path(f"{mode}.profile.json")) for mode in MODES
                if os.path.exists(path(f"{mode}.profile.json"))}
    return Facts(run_dir, arch, epochs, train, exports, used, rivals, profiles, versions.read(run_dir))


def warnings(run_dir: str) -> list[str]:
    """What is suspicious about a search, a sentence each. Raises InputError as `collect`."""
    return _warnings(collect(run_dir))


def _warnings(facts: Facts) -> list[str]:
    aimed = facts.flags.get("latency_loss") != "none"
    return early_warnings.find(facts.epochs, facts.target_ms if aimed else None, facts.finalists)


def _read_object(path: str) -> dict[str, Any]:
    data = space_lib.read_json(path)
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a JSON object, got {str(data)[:40]!r}. Write it again.")
    return data


def number_of_text(value: str | None) -> float | None:
    """As `number`, for a flag's text."""
    try:
        return number(float(value))
    except (TypeError, ValueError):
        return None


def text(value: Any) -> str | None:
    """A text as one line of at most 200 characters, everything else as None."""
    return printable(value, 200) if isinstance(value, str) and value else None


def render(facts: Facts) -> str:
    """The page."""
    import jinja2

    environment = jinja2.Environment(loader=jinja2.PackageLoader("pnas_tf"), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(ms=format_ms, percent=format_percent, big=format_big, number=number, text=text)
    stages = plots.strip(facts.arch) if facts.arch else []
    boxes = [box for stage in stages for box in stage.boxes]
    epochs = [epoch for epoch in facts.epochs if isinstance(epoch.get("probs"), dict) and epoch["probs"]]
    heat_maps, heat_maps_left_out = plots.heat_maps(epochs)
    return environment.get_template("report.html").render(
        title=_title(facts), facts=facts, cards=_cards(facts), rows=_fact_rows(facts),
        stages=stages, boxes=boxes, summary=_summary(boxes),
        kernels=sorted({box.kernel for box in boxes if box.kernel}),
        kernel_colors=plots.KERNEL_COLORS, plain_color=plots.PLAIN_COLOR, kernel_of=plots.kernel_of,
        heat_maps=heat_maps, heat_maps_left_out=heat_maps_left_out, ops=facts.arch.ops if facts.arch else {},
        final={heat_map.choice: dict(heat_map.final) for heat_map in heat_maps},
        heat_map_span=[epochs[0]["epoch"], epochs[-1]["epoch"]] if epochs else [],
        warmup_share=sum(epoch.get("phase") == "warmup" for epoch in epochs) / max(1, len(epochs)),
        search_charts=plots.search_charts(facts.epochs, facts.target_ms),
        warnings=_warnings(facts), finalists=_finalist_rows(facts),
        profile_charts=[plots.Chart(f"{mode}.tflite", op_profile.chart(profile, f"profile-{mode}"),
                                    op_profile.note(profile)) for mode, profile in facts.profiles.items()],
        train_charts=plots.train_charts(facts.train.get("history")), run_dir=shlex.quote(facts.run_dir),
        command=f"python -m pnas_tf.search --flagfile={shlex.quote(run_folder.path(facts.run_dir, 'run.flags'))}")


def _finalist_rows(facts: Facts) -> list[dict[str, Any]]:
    """The best five finalists, and those that are not samples."""
    rows = []
    for place, rival in enumerate(facts.finalists, start=1):
        costs = rival.get("costs") if isinstance(rival.get("costs"), dict) else {}
        if place <= 5 or rival.get("how") != run_folder.SAMPLE:
            rows.append({"place": place, "how": text(rival.get("how")), "ms": number(costs.get("ms")),
                         "loss": number(rival.get("loss")), "accuracy": number(rival.get("accuracy")),
                         "eligible": rival.get("eligible") is True})
    return rows


def _title(facts: Facts) -> str:
    space = facts.arch.space.name if facts.arch else facts.flags.get("space", "search")
    data = facts.flags.get("dataset") or text(facts.train.get("dataset"))
    return (f"{space} on {data}" if data else space)[:300]


def _cards(facts: Facts) -> list[dict[str, str]]:
    """The headline: label, value, note, and a state that colours the card ("", "good", "bad", "open")."""
    def card(label, value, note="", state=""):
        return {"label": label, "value": value, "note": note, "state": state}

    accuracy, images = number(facts.train.get("test_accuracy")), number(facts.train.get("test_images"))
    predicted, expected = facts.cost("table_ms"), facts.cost("expected_ms")
    target = facts.target or "no target named"
    cards = [card("Test accuracy", format_percent(accuracy), f"on {images:,} images" if images else "")
             if accuracy is not None else card("Test accuracy", "not yet measured", "train the network", "open")]
    if predicted is not None:
        cards.append(card("Predicted", format_ms(predicted), target))
    elif expected is not None:
        cards.append(card("Predicted", format_ms(expected), f"{target}; expected under the probabilities"))
    else:
        cards.append(card("Predicted", "not known", target, "open"))
    cards.append(card("Measured", *_measured(facts)))
    cards.append(card("Latency target", *_target_kept(facts)))
    for name, label in (("params", "Parameters"), ("macs", "Multiply-adds")):
        value = number(facts.train.get(name))
        value = facts.cost(name) if value is None else value
        cards.append(card(label, format_big(value), f"{value:,.0f}") if value is not None
                     else card(label, "not known", "", "open"))
    return cards


def _measured(facts: Facts) -> tuple[str, str, str]:
    export, predicted = facts.measured, facts.cost("table_ms")
    if export is None:
        return "not yet measured", "export the network", "open"
    ms = number(export["measured_ms"])
    note = f"{export['mode']}.tflite on {text(export.get('target')) or 'a target not named'}"
    if predicted and ms and export.get("target") == facts.target:
        note += f"; prediction {abs(predicted / ms - 1) * 100:.0f} % {'above' if predicted >= ms else 'below'}"
    return format_ms(ms), note, ""


def _target_kept(facts: Facts) -> tuple[str, str, str]:
    """Whether the target is kept: by measurement if it was taken on the target itself, else by prediction."""
    wanted, export = facts.target_ms, facts.measured
    if wanted is None:
        return "none set", "", "open"
    on_target = export is not None and facts.target and export.get("target") == facts.target
    ms = number(export["measured_ms"]) if on_target else facts.cost("table_ms")
    if ms is None:
        return format_ms(wanted), "not yet known if kept", "open"
    by = "as measured" if on_target else "as predicted"
    if ms <= wanted:
        return format_ms(wanted), f"kept, {by}", "good"
    return format_ms(wanted), f"missed by {(ms / wanted - 1) * 100:.1f} %, {by}", "bad"


def _summary(boxes) -> str:
    """Counts of what was chosen: `6 choices: 2 of 3x3, 3 of 5x5, 1 skipped`."""
    chosen = [box for box in boxes if box.kind != "fixed"]
    counts = [(f"of {kernel}\N{MULTIPLICATION SIGN}{kernel}", sum(box.kernel == kernel for box in chosen))
              for kernel in sorted({box.kernel for box in chosen if box.kernel})]
    counts.append(("without kernel", sum(box.kernel is None and box.kind == "chosen" for box in chosen)))
    counts.append(("skipped", sum(box.kind == "skipped" for box in chosen)))
    return f"{len(chosen)} choices: " + ", ".join(f"{count} {what}" for what, count in counts if count)


def _fact_rows(facts: Facts) -> list[tuple[str, str]]:
    """Name and text of what else is known."""
    space, epochs, rows = facts.arch.space if facts.arch else None, facts.epochs, []
    rows.append(("Data set", facts.flags.get("dataset") or text(facts.train.get("dataset"))))
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
    seconds = [value for epoch in epochs if (value := number(epoch.get("seconds"))) is not None]
    step_ms = [value for epoch in epochs if (value := number(epoch.get("step_ms"))) is not None]
    rows.append(("Time searched", format_seconds(sum(seconds)) if seconds else None))
    rows.append(("Time of a step", f"{format_ms(statistics.median(step_ms))}, median" if step_ms else None))
    trained, train_epochs = number(facts.train.get("seconds")), number(facts.train.get("epochs"))
    rows.append(("Epochs trained", f"{train_epochs:g}" if train_epochs is not None else None))
    rows.append(("Weights began", {"scratch": "from scratch", "inherited": "as the search left them"}.get(
        text(facts.train.get("init")))))
    rows.append(("Time trained", format_seconds(trained) if trained is not None else None))
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


def format_ms(value: float) -> str:
    """`0.412 ms`, `1.80 ms`, `78.4 ms`, `1234 ms`: three digits that matter."""
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f} ms"


def format_percent(value: float) -> str:
    """A share as percent: `87.25 %`."""
    return f"{value * 100:.2f} %"


def format_big(value: float, unit: str = "") -> str:
    """`4.08 M`, `183 k`, `920`: thousands by letter."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {letter}{unit}"
    return f"{value:g} {unit}".strip()


def format_seconds(value: float) -> str:
    """`48 s`, `3 min 20 s`, `26 h 5 min`."""
    minutes, seconds = divmod(round(value), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {seconds} s" if minutes else f"{value:.3g} s"


def main() -> None:
    """Entry point."""
    # Defined here and not on import: other entry points have a --run_dir too, and one process may import both.
    run_dir = flags.DEFINE_string("run_dir", None, "Folder of a search; report.html is written into it.", required=True)

    def show():
        path = run(run_dir.value)
        print(f"{summary(collect(run_dir.value))}\nReport:        {path}")

    run_flags.start(show)


if __name__ == "__main__":
    main()
