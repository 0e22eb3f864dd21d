"""The result of a run in a few numbers: cards on top of its report, lines for the terminal and for a chat."""

import dataclasses
import itertools
import os

from pnas_tf import terminal
from pnas_tf.errors import printable
from pnas_tf.files import number
from pnas_tf.report import drawing
from pnas_tf.report.facts import Facts, text
from pnas_tf.run_folder import RunFolder
from pnas_tf.run_folder import folder as run_folder


@dataclasses.dataclass(frozen=True)
class Card:
    """One number of the headline.

    Attributes:
        label: what it is.
        value: the number as text.
        note: what belongs to it.
        state: "", or what colours it: "good", "bad" or "open".
    """

    label: str
    value: str
    note: str = ""
    state: str = ""


def cards(facts: Facts) -> list[Card]:
    """The headline: accuracy, milliseconds predicted, measured and wanted, parameters and MACs."""
    accuracy, images = number(facts.train.get("test_accuracy")), number(facts.train.get("test_images"))
    predicted, expected = facts.cost("table_ms"), facts.cost("expected_ms")
    target = facts.target or "no target named"
    found = [Card("Test accuracy", terminal.percent(accuracy), f"on {images:,} images" if images else "")
             if accuracy is not None else Card("Test accuracy", "not yet measured", "train the network", "open")]
    if predicted is not None:
        found.append(Card("Predicted", terminal.ms(predicted), target))
    elif expected is not None:
        found.append(Card("Predicted", terminal.ms(expected), f"{target}; expected under the probabilities"))
    else:
        found.append(Card("Predicted", "not known", target, "open"))
    found += [_measured(facts), target_kept(facts)]
    for name, label in (("params", "Parameters"), ("macs", "Multiply-adds")):
        value = facts.size(name)
        found.append(Card(label, terminal.big(value), f"{value:,.0f}") if value is not None
                     else Card(label, "not known", "", "open"))
    return found


def _measured(facts: Facts) -> Card:
    export, predicted = facts.measured, facts.cost("table_ms")
    if export is None:
        return Card("Measured", "not yet measured", "export the network", "open")
    ms = number(export["measured_ms"])
    note = f"{export['mode']}.tflite on {text(export.get('target')) or 'a target not named'}"
    if predicted and ms and export.get("target") == facts.target:
        note += f"; prediction {abs(predicted / ms - 1) * 100:.0f} % {'above' if predicted >= ms else 'below'}"
    return Card("Measured", "not a number" if ms is None else terminal.ms(ms), note)


def target_kept(facts: Facts) -> Card:
    """Whether the target is kept: by measurement of the export or of the search on the target, else by prediction."""
    wanted, measured_ms = facts.target_ms, facts.measured_on_target or facts.cost("measured_ms")
    label = "Latency target"
    if wanted is None:
        return Card(label, "none set", "", "open")
    ms = facts.cost("table_ms") if measured_ms is None else measured_ms
    if ms is None:
        return Card(label, terminal.ms(wanted), "not yet known if kept", "open")
    by = "as predicted" if measured_ms is None else "as measured"
    if ms <= wanted:
        return Card(label, terminal.ms(wanted), f"kept, {by}", "good")
    return Card(label, terminal.ms(wanted), f"missed by {(ms / wanted - 1) * 100:.1f} %, {by}", "bad")


def summary(facts: Facts) -> str:
    """The result in a few lines, to be pasted anywhere; what is not known yet is left out."""
    measured, wanted = facts.measured or {}, target_kept(facts)
    where = text(measured.get("target"))
    numbers = [("Test accuracy", facts.train.get("test_accuracy"), terminal.percent),
               ("Parameters", facts.size("params"), lambda value: f"{value:,.0f}"),
               ("MACs", facts.size("macs"), lambda value: f"{value:,.0f}"),
               ("Predicted", facts.cost("table_ms"), lambda value: f"{terminal.ms(value)} on {facts.target}"),
               ("Measured", measured.get("measured_ms"), lambda value: f"{terminal.ms(value)} on {where}"),
               ("Target", facts.target_ms, lambda value: f"{terminal.ms(value)}, {wanted.note}")]
    lines = [f"{name + ':':<15}{show(value)}" for name, value, show in numbers if number(value) is not None]
    lines += [f"{name:<15}{printable(line, 200)}"
              for name, line in itertools.zip_longest(["Network:"], _network(facts), fillvalue="")]
    lines.append(f"{'Searched:':<15}{printable(facts.title)}")
    files = [f"{mode}.tflite" for mode in run_folder.MODES
             if os.path.exists(RunFolder(facts.run_dir).tflite(mode))]
    kept = [name for name in ("arch.json", "model.keras", *files, "report.html")
            if os.path.exists(RunFolder(facts.run_dir).file(name))]
    return "\n".join([*lines, f"{'Files:':<15}{', '.join(kept)} in {facts.run_dir}"])


def _network(facts: Facts) -> list[str]:
    """The ops found, stage by stage: `56x56: MB3 3x3, skipped, MB6 5x5`."""
    if facts.arch is None:
        return ["none yet"]
    chosen = [(stage.side, [box.label for box in stage.boxes if box.kind != "fixed"])
              for stage in drawing.of_arch(facts.arch)]
    return [f"{side}x{side}: {', '.join(labels)}".replace(drawing.TIMES, "x") for side, labels in chosen if labels] \
        or [facts.arch.space.name]
