"""The command `python -m pnas_tf.auto`: its flags, and the run of its steps."""

import os
import signal
import sys
from collections.abc import Sequence

from absl import flags

from pnas_tf import auto, shell, terminal
from pnas_tf.auto import child, outcome, plan
from pnas_tf.auto import photos as photos_lib
from pnas_tf.auto.photos import Photos
from pnas_tf.auto.plan import AutoConfig, Goal, Step
from pnas_tf.auto.record import Record
from pnas_tf.cli import settings, start
from pnas_tf.cost import latency_table
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder

# Steps that refuse a folder of a run with other settings, unless they get --overwrite.
REFUSING = ("search", "train")


def _define_flags() -> None:
    settings.define(AutoConfig)
    flags.DEFINE_string("run_dir", None, "Folder of the results; default: runs/NAME, with the name of the folder of "
                        "pictures.")
    flags.DEFINE_bool("overwrite", False, "Removes a run with other flags or pictures from --run_dir instead of "
                      "refusing.")


def _main() -> None:
    config = settings.read(AutoConfig)
    if not config.photos:
        raise InputError("Name the folder of your pictures, with one folder for each class in it: "
                         "python -m pnas_tf.auto photos")
    if config.table and flags.FLAGS["dtype"].present:
        raise InputError(f"--dtype is for the table that this command makes, and --table={config.table} has a number "
                         "format of its own. Leave out one of them.")
    photos = photos_lib.read(config.photos)
    folder = RunFolder(flags.FLAGS.run_dir or os.path.join("runs", os.path.basename(os.path.abspath(photos.path))))
    _check_place(folder.path, photos.path)
    print(photos, flush=True)
    run(config, photos, folder, overwrite=flags.FLAGS.overwrite)


def _check_place(run_dir: str, photos: str) -> None:
    """Raises InputError if a path is no place for the results."""
    if os.path.exists(run_dir) and not os.path.isdir(run_dir):
        raise InputError(f"{run_dir}: not a folder. Name another folder for the results: --run_dir=DIR.")
    if f"{os.path.realpath(run_dir)}{os.sep}".startswith(f"{os.path.realpath(photos)}{os.sep}"):
        raise InputError(f"{run_dir}: inside the folder of pictures, where it would count as a class. Name another "
                         "folder for the results: --run_dir=DIR.")


def run(config: AutoConfig, photos: Photos, folder: RunFolder, *, overwrite: bool = False) -> None:
    """Runs the steps that are not complete, and prints what came out.

    Args:
        config: Settings.
        photos: Pictures.
        folder: Run folder.
        overwrite: Whether to replace a run with other settings.

    Raises:
        InputError: If the milliseconds cannot be reached, or a step fails.
        SystemExit: If a signal stopped a step. All that is done is kept.
    """
    record = Record(folder, photos)
    first = [] if config.table else [plan.table_step(config, photos, folder)]
    is_measured = all(map(record.is_complete, first))
    goal = _goal(config, photos, folder) if is_measured else plan.not_known_yet(config)
    steps = [*first, *plan.later_steps(config, photos, folder, goal)]
    print(_overview(steps, record, folder), flush=True)
    if not is_measured:
        _run_step(first[0], steps, record, overwrite)
        goal = _goal(config, photos, folder)
        steps = [*first, *plan.later_steps(config, photos, folder, goal)]
    print(f"\n{goal.words}", flush=True)
    for step in steps[len(first):]:
        _run_step(step, steps, record, overwrite)
    print(f"\n{outcome.durations(steps, record)}\n\n{outcome.last_words(folder, photos.path)}")
    if config.max_steps:
        print(f"Trial:    search and training ended after {config.max_steps} steps at most, so accuracies say nothing "
              "yet. For a full run, leave out --max_steps, and name another --run_dir or --overwrite this one.")


def _goal(config: AutoConfig, photos: Photos, folder: RunFolder) -> Goal:
    return plan.goal_of(config, photos, latency_table.read(plan.table_of(config, folder)))


def _overview(steps: Sequence[Step], record: Record, folder: RunFolder) -> str:
    """The plan: each step, and its estimate or that it is complete."""
    left: list[Step] = []
    lines = [f"Results: {folder}. Steps, with estimates:"]
    for number, step in enumerate(steps, start=1):
        complete = not left and record.is_complete(step)  # what comes after a step that runs may have to run again
        left += [] if complete else [step]
        lines.append(f"  {number} {step.name:<8} {'complete' if complete else _about(step.seconds):<14} {step.purpose}"
                     f"{'; begun before' if record.is_begun(step) else ''}")
    lines.append(f"  in all     {_about(plan.total(left)) if left else 'nothing to do'}")
    if left:
        lines.append('Ctrl-C stops, and the same command continues. The commands after "Next:" run by themselves here.')
    return "\n".join(lines)


def _run_step(step: Step, steps: Sequence[Step], record: Record, overwrite: bool) -> None:
    """Runs a step if it is not complete, and says how long it took and how long the others will take."""
    place = f"{steps.index(step) + 1}/{len(steps)} {step.name}"
    if record.is_complete(step):
        print(f"\n{place}: complete.", flush=True)
        return
    length = f"{_about(step.seconds)} from its beginning; continues what an earlier start has saved" \
        if record.is_begun(step) else _about(step.seconds)
    print(f"\n{place}: {step.purpose}; {length}.\n{step.command}\n", flush=True)
    record.begin(step)
    more = ["--overwrite"] if overwrite and step.name in REFUSING else []
    ended = child.run(step.module, [*step.arguments, *more])
    record.add(step, ended)
    if ended.signal is not None or ended.code in (130, -signal.SIGINT):
        print(f"\nStopped. To continue: {_same_command()}", flush=True)
        sys.exit(128 + (ended.signal or signal.SIGINT))
    if ended.code < 0:
        raise InputError(f"{place}: a signal ({signal.Signals(-ended.code).name}) has ended it; if the memory ran out, "
                         f"see docs/troubleshooting.md. To continue: {_same_command()}")
    if ended.code:
        raise InputError(f"{place}: ended with exit code {ended.code}, for the reason above. Once that is mended, this "
                         f"continues: {_same_command()}")
    taken = f"{place}: took {terminal.seconds(round(ended.seconds))}, estimated {_about(step.seconds)}"
    print(f"\n{taken}.{_left(step, steps, record)}", flush=True)


def _left(step: Step, steps: Sequence[Step], record: Record) -> str:
    """A sentence about the time that is left, at the pace of the steps so far; "" after the last step."""
    number = steps.index(step) + 1
    seconds = plan.total(steps[number:])
    pace = sum(map(record.seconds, steps[:number])) / plan.total(steps[:number])
    return f" {_about(pace * seconds).capitalize()} left at this pace." if seconds else ""


def _about(seconds: float) -> str:
    """An estimate in words: `about 20 s`, `about 5 min`, `about 2 h 10 min`."""
    if seconds < 55:
        return f"about {max(1, round(seconds / 5)) * 5} s"
    return f"about {terminal.seconds(60 * round(seconds / 60)).removesuffix(' 0 s')}"


def _same_command() -> str:
    """The running command, to paste."""
    return shell.line(["python", "-m", "pnas_tf.auto", *sys.argv[1:]])


def main() -> None:
    """Runs the command; the console script `pnas-auto` is this function."""
    _define_flags()
    start.start(_main, manual=auto.__doc__, takes="photos")
