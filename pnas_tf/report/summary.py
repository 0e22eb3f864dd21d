"""The result of a run in a few numbers: cards at the top of its report, and lines for a terminal or a chat."""

import dataclasses
import itertools
import os
from typing import Any

from pnas_tf import shell, terminal
from pnas_tf.errors import printable
from pnas_tf.files import number
from pnas_tf.report import drawing, kept_limits
from pnas_tf.report.facts import Facts, text
from pnas_tf.report.kept_limits import KeptLimit
from pnas_tf.run_folder import RunFolder, measured
from pnas_tf.run_folder.folder import MODES


@dataclasses.dataclass(frozen=True)
class Card:
    """A number at the top of the report.

    Attributes:
        label: Name of the number.
        value: Text of the number.
        note: Further text that belongs to the number, or "".
        state: State that colours the card, "good", "bad" or "open", or "".
    """

    label: str
    value: str
    note: str = ""
    state: str = ""


def cards(facts: Facts) -> list[Card]:
    """Cards of accuracy, predicted and measured milliseconds, target, further limits, parameters and multiply-adds."""
    accuracy, images = number(facts.train.get("test_accuracy")), number(facts.train.get("test_images"))
    predicted, expected = facts.cost("table_ms"), facts.cost("expected_ms")
    shown = [Card("Test accuracy", terminal.percent(accuracy), f"on {images:,} images" if images else "")
             if accuracy is not None else Card("Test accuracy", "not yet measured", "train the network", "open")]
    if predicted is not None:
        shown.append(Card("Predicted", terminal.ms(predicted), "by the latency table"))
    elif expected is not None:
        shown.append(Card("Predicted", terminal.ms(expected), "expected under the probabilities"))
    else:
        shown.append(Card("Predicted", "not known", "", "open"))
    shown += [_measured(facts), target_kept(facts), *map(_limit, kept_limits.of_run(facts))]
    for name, label in (("params", "Parameters"), ("macs", "Multiply-adds")):
        value = facts.size(name)
        shown.append(Card(label, terminal.big(value), f"{value:,.0f}") if value is not None
                     else Card(label, "not known", "", "open"))
    return shown


def _limit(limit: KeptLimit) -> Card:
    needed = "" if limit.value is None else f", {limit.value:,.0f}"
    return Card(f"Limit on {limit.name}", f"{limit.bound:,.0f}", f"{'kept' if limit.is_kept else 'exceeded'}{needed}",
                "good" if limit.is_kept else "bad")


def _measured(facts: Facts) -> Card:
    export, predicted = facts.measured, facts.cost("table_ms")
    if export is None:
        return Card("Measured", "not yet measured", "export the network", "open")
    time = measured.of_export(export)
    ms = time.ms if time else None
    is_of_target = facts.is_of_target(export)
    where = "" if is_of_target else f" on {_timed_on(export, facts)}"  # the page's head names the search's own
    note = f"{export['mode']}.tflite{where}"
    if predicted and ms and is_of_target:
        note += f"; prediction {abs(predicted / ms - 1) * 100:.0f} % {'above' if predicted >= ms else 'below'}"
    doubt = time.doubt if time else ""
    return Card("Measured", "not a number" if ms is None else terminal.ms(ms), f"{note}; {doubt}" if doubt else note,
                "open" if doubt else "")


def _timed_on(export: dict[str, Any], facts: Facts) -> str:
    """Where an export was timed that is not of the search's target."""
    target = text(export.get("target"))
    if target is None:
        return "a target not named"
    return f"{text(export.get('device'))}, not {facts.device}" if target == facts.target else target


def target_kept(facts: Facts) -> Card:
    """The card that shows whether the latency target is kept.

    The milliseconds come from the export that was timed on the target; if there is none, from the search's own
    measurement on the target; if there is none either, from the table. If they come from a machine whose times cannot
    be trusted, and the target lies within their spread, it is open whether it is kept.
    """
    target_ms, measured_ms = facts.target_ms, facts.measured_on_target or facts.cost("measured_ms")
    label = "Latency target"
    if target_ms is None:
        return Card(label, "none set", "", "open")
    ms = facts.cost("table_ms") if measured_ms is None else measured_ms
    if ms is None:
        return Card(label, terminal.ms(target_ms), "not known yet whether kept", "open")
    source = "as predicted" if measured_ms is None else "as measured"
    kept, time = ms <= target_ms, facts.time_on_target
    doubt = f"; {time.doubt}" if time and time.doubt else ""
    if time and doubt and (time.may_miss(target_ms) if kept else time.may_keep(target_ms)):
        return Card(label, terminal.ms(target_ms), f"open whether kept, {terminal.ms(ms)} {source}{doubt}", "open")
    if kept:
        return Card(label, terminal.ms(target_ms), f"kept, {source}{doubt}", "good")
    return Card(label, terminal.ms(target_ms), f"missed by {(ms / target_ms - 1) * 100:.1f} %, {source}{doubt}",
                "bad")


def summary(facts: Facts) -> str:
    """The result in a few lines to paste anywhere; numbers that are not known yet are left out."""
    export, target, folder = facts.measured or {}, target_kept(facts), RunFolder(facts.run_dir)
    time, where = measured.of_export(export), text(export.get("target"))
    doubt = f"; {time.doubt}" if time and time.doubt else ""
    numbers = [("Test accuracy", facts.train.get("test_accuracy"), terminal.percent),
               ("Parameters", facts.size("params"), lambda value: f"{value:,.0f}"),
               ("MACs", facts.size("macs"), lambda value: f"{value:,.0f}"),
               ("Predicted", facts.cost("table_ms"), lambda value: f"{terminal.ms(value)} on {facts.target}"),
               ("Measured", export.get("measured_ms"), lambda value: f"{terminal.ms(value)} on {where}{doubt}"),
               ("Target", facts.target_ms, lambda value: f"{terminal.ms(value)}, {target.note}")]
    lines = [f"{name + ':':<15}{show(value)}" for name, value, show in numbers if number(value) is not None]
    lines += [f"{'Limit:':<15}{limit}{'' if limit.is_kept else ', exceeded'}" for limit in kept_limits.of_run(facts)]
    lines += [f"{name:<15}{printable(line, 200)}"
              for name, line in itertools.zip_longest(["Network:"], _network(facts), fillvalue="")]
    lines.append(f"{'Searched:':<15}{printable(facts.title)}"
                 + ("; not complete, so this is the best network so far" if facts.is_unfinished else ""))
    paths = [folder.arch, folder.model, *(folder.tflite(mode) for mode in MODES if mode not in facts.stale),
             folder.report]
    names = [os.path.basename(path) for path in paths if os.path.exists(path)]
    lines.append(f"{'Files:':<15}{', '.join(names)} in {facts.run_dir}")
    if facts.stale:
        lines.append(f"{'Left out:':<15}{stale(facts)}")
    return "\n".join(lines)


def stale(facts: Facts) -> str:
    """Sentences about the exports of an earlier model."""
    return f"{stale_files(facts)} Export again: {export_again(facts)}"


def stale_files(facts: Facts) -> str:
    """The exports of an earlier model, in a sentence."""
    return f"{', '.join(f'{mode}.tflite' for mode in facts.stale)}: made from an earlier model."


def export_again(facts: Facts) -> str:
    """Command that makes the exports of an earlier model again."""
    modes = ",".join(facts.stale)
    return shell.line(["python", "-m", "export.tflite", f"--run_dir={facts.run_dir}", f"--mode={modes}"])


def _network(facts: Facts) -> list[str]:
    """The chosen ops, one line for each resolution: `56x56: MB3 3x3, skipped, MB6 5x5`."""
    if facts.arch is None:
        return ["none yet"]
    chosen = [(stage.side, [box.label for box in stage.boxes if box.kind != "fixed"])
              for stage in drawing.of_arch(facts.arch)]
    return [f"{side}x{side}: {', '.join(labels)}".replace(drawing.TIMES, "x") for side, labels in chosen if labels] \
        or [facts.arch.space.name]
