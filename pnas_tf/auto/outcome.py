"""The last words of a run: durations, what came out, and what to do next."""

import os
from collections.abc import Sequence

from pnas_tf import shell, terminal
from pnas_tf.auto.plan import Step
from pnas_tf.auto.record import Record
from pnas_tf.report import facts as run_facts
from pnas_tf.report import next_steps, verdict
from pnas_tf.report.next_steps import NextStep
from pnas_tf.run_folder import RunFolder


def durations(steps: Sequence[Step], record: Record) -> str:
    """One line about the estimates and the real times of all steps."""
    taken = [f"{step.name} {terminal.seconds(round(record.seconds(step)))} (estimated "
             f"{terminal.seconds(round(step.seconds))})" for step in steps]
    return f"Durations: {', '.join(taken)}."


def last_words(folder: RunFolder, argument: str) -> str:
    """What came out of a run, and what to do next.

    Args:
        folder: Run folder of a finished run.
        argument: Folder of pictures, as the command got it.

    Raises:
        InputError: If a file of the run is damaged.
    """
    facts = run_facts.collect(folder.path)
    steps = [*next_steps.of_run(facts), NextStep(
        "For a phone or another board, measure a table on it (docs/start.md):",
        f"python -m pnas_tf.auto {shell.word(argument)} --table=TABLE.jsonl --run_dir=DIR")]
    return "\n".join([
        "Result:   " + "\n          ".join(verdict.of_run(facts)),
        f"Files:    {folder.bundle()}{os.sep} for an app, {folder.report}, {folder.model}",
        "Next:     " + "\n          ".join(
            line for step in steps for line in (step.words, step.command and f"    {step.command}") if line)])
