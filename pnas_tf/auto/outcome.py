"""The last words of a run: what came out, how it compares with the whole pretrained network, and what to do next."""

import os
import shlex
from collections.abc import Sequence
from typing import Any

from pnas_tf import files, terminal
from pnas_tf.auto.plan import Goal, Step
from pnas_tf.auto.record import Record
from pnas_tf.errors import printable
from pnas_tf.files import number
from pnas_tf.report import facts as run_facts
from pnas_tf.report import small_data, summary
from pnas_tf.report.facts import Facts
from pnas_tf.run_folder import RunFolder, measured


def durations(steps: Sequence[Step], record: Record) -> str:
    """One line about the estimates and the real times of all steps."""
    taken = [f"{step.name} {terminal.seconds(round(record.seconds(step)))} (estimated "
             f"{terminal.seconds(round(step.seconds))})" for step in steps]
    return f"Durations: {', '.join(taken)}."


def last_words(folder: RunFolder, goal: Goal, argument: str) -> str:
    """What came out of a run, and what to do next.

    Args:
        folder: Run folder of a finished run.
        goal: Milliseconds that it aimed at.
        argument: Folder of pictures, as the command got it.

    Raises:
        InputError: If a file of the run is damaged.
    """
    facts = run_facts.collect(folder.path)
    manifest = _object(os.path.join(folder.bundle(), "bundle.json"))
    recommended = printable(manifest.get("recommended"), 20)
    lines = [f"Result:   {verdict(facts, _object(RunFolder(folder.teacher).training_facts), goal)}",
             f"Goal:     {milliseconds(facts, goal)}",
             f"Take:     {folder.tflite(recommended)}. {printable(manifest.get('reason'), 400)}",
             f"Files:    {folder.bundle()}{os.sep} for an app, {folder.report}, {folder.model}",
             "Next:     open the report. Try the network on a picture of your own:",
             f"              python {shlex.quote(os.path.join(folder.bundle(), 'run.py'))} --image=PICTURE"]
    if len(facts.front) > 1:
        others = [network.ms for network in facts.front if not network.delivered]
        train = f"python -m pnas_tf.train --run_dir={shlex.quote(folder.path)} --pick={others[0]:.3g}ms"
        lines += [f"          Train another network of the search, of {', '.join(f'{ms:.3g}' for ms in others)} ms:",
                  f"              {train}"]
    lines += ["          For a phone or another board, measure a table on it (docs/start.md):",
              f"              python -m pnas_tf.auto {shlex.quote(argument)} --table=TABLE.jsonl --run_dir=DIR"]
    return "\n".join(lines)


def verdict(facts: Facts, teacher: dict[str, Any], goal: Goal) -> str:
    """The accuracy of the network in one sentence, beside that of the whole pretrained network.

    Args:
        facts: Facts of the run.
        teacher: Facts of the training of the whole network, or {}.
        goal: Milliseconds that the run aimed at.
    """
    accuracy, images = number(facts.train.get("test_accuracy")), number(facts.train.get("test_images"))
    whole, predicted = number(teacher.get("test_accuracy")), facts.cost("table_ms")
    if accuracy is None or not images:
        return "the accuracy is not known."
    text = f"{terminal.percent(accuracy)} of {images:,.0f} test pictures are named correctly"
    if whole is None or not goal.ms:
        return f"{text}."
    points = 100 * (accuracy - whole)
    error = 100 * small_data.ERRORS * small_data.standard_error([accuracy, whole], images)
    side = "the same as" if not points else f"{abs(points):.1f} points {'above' if points > 0 else 'below'}"
    chance = f"; differences of up to {error:.1f} points may be chance with so few pictures" \
        if abs(points) <= error else ""
    share = f", at {100 * predicted / goal.ms * goal.share:.0f} % of its milliseconds" if predicted else ""
    return f"{text}, {side} the whole pretrained network ({terminal.percent(whole)}){share}{chance}."


def milliseconds(facts: Facts, goal: Goal) -> str:
    """The milliseconds that were asked for, those that were measured, and whether the goal is kept."""
    export, asked = facts.measured or {}, terminal.ms(goal.ms)
    time = measured.of_export(export)
    if time is None:
        return f"{asked}."
    return (f"{asked}. {printable(export.get('mode'), 20)}.tflite takes {terminal.ms(time.ms)} on "
            f"{printable(export.get('target'), 100)}: {summary.target_kept(facts).note}.")


def _object(path: str) -> dict[str, Any]:
    data = files.read_json(path) if os.path.exists(path) else {}
    return data if isinstance(data, dict) else {}
