"""The command `python -m pnas_tf.search`: its flags and its output."""

import dataclasses
import hashlib
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from absl import flags

from pnas_tf import files, search, terminal
from pnas_tf.cli import settings, start
from pnas_tf.cost import limits, table_accuracy, table_commands
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.errors import InputError
from pnas_tf.report import facts as run_facts
from pnas_tf.report import kept_limits
from pnas_tf.run_folder import RunFolder, claim, versions
from pnas_tf.search.config import ALL, TEACHERS, SearchConfig
from pnas_tf.search.problem import Problem, Request
from pnas_tf.space import spaces
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Space

if TYPE_CHECKING:
    import tensorflow as tf

    from pnas_tf.derive.device_check import Timer
    from pnas_tf.search.stopping import Stop

# Function that makes the timer of a table's device, for networks of a space.
MakeTimer = Callable[[LatencyTable, Space], "Timer"]


def define_flags() -> None:
    """Defines the flags of the command, and of other commands that search."""
    settings.define(SearchConfig)
    flags.DEFINE_string("run_dir", None, "Folder of the results.")
    flags.DEFINE_bool("overwrite", False, "Removes a run with other flags from --run_dir instead of refusing. A run "
                      "with the same flags is resumed.")


def by_flags(make_timer: MakeTimer | None = None) -> None:
    """Runs the command after its flags are parsed.

    Args:
        make_timer: Function that makes the timer of a table's device; None if finalists are not timed.
    """
    config, run_dir = settings.read(SearchConfig), flags.FLAGS.run_dir
    request = Request.of(config)
    if not make_timer or config.latency_loss == "none":
        limits.refuse_whole_networks(request.bounds)
    request = dataclasses.replace(request, named_by=[*start.import_flags(), *request.named_by])
    _check_named(config.dataset, run_dir)
    start.load_tensorflow()
    from pnas_tf.search import replicas

    with replicas.starting_again(config.strategy):
        devices = replicas.strategy(config.strategy, config.replicas)
        problems = _problems(request)
        replicas.check_divides(devices, problems[0].batch_size)
        archs = _searched(problems, config, run_dir, devices, make_timer)
        if not replicas.is_chief(devices):
            print("Done; the first worker has written the results.")
            return
    for arch, folder in archs:
        print(_summary(arch, folder, settings.differing(config, settings.ImageSettings)))


def _check_named(dataset: str, run_dir: str | None) -> None:
    """Raises InputError if the images or the folder are missing: flag files leave them to the user."""
    missing = {"the images": not dataset and "--dataset=folder:PATH",
               "a folder for the results": not run_dir and "--run_dir=DIR"}
    if flags_to_name := [flag for flag in missing.values() if flag]:
        raise InputError(f"Name {' and '.join(what for what, flag in missing.items() if flag)}: "
                         f"{' '.join(flags_to_name)}.")


def _problems(request: Request) -> list[Problem]:
    """The problem with its images, or one for each of several image sizes. Prints what to know before a long search."""
    from pnas_tf import data as data_lib
    from pnas_tf.search import image_sizes

    _warn_widths(request.config)
    data = request.load_data()
    if request.config.class_weights == "none" and (message := data_lib.imbalance(data.train)):
        print(message)
    problems = image_sizes.problems(request, data) if request.sides else [Problem.of(request, data)]
    for note in problems[0].notes():
        print(note)
    for table, goal in zip(problems[0].tables, problems[0].goals, strict=True):
        _warn_classifier(table, problems[0].space)
        print(_accuracy(table, problems[0].space, request.named_by))
        if not request.sides:
            print(goal.summary())
    for problem in problems if request.sides else ():
        print(f"Images of {problem.space.input_size} pixels: {problem.goals[0].summary()}")
    if problems[0].batch_size < request.config.batch_size:
        print(f"Batches have {problems[0].batch_size} images, because there are no more training images.")
    return problems


def _searched(problems: Sequence[Problem], config: SearchConfig, run_dir: str, devices: "tf.distribute.Strategy",
              make_timer: MakeTimer | None) -> list[tuple[Arch, RunFolder]]:
    """Runs the search while this process holds the run folder; returns the networks with their folders."""
    from pnas_tf.search import image_sizes, replicas, run, stages, stopping

    folder, chief, problem = RunFolder(run_dir), replicas.is_chief(devices), problems[0]
    timers = [[make_timer(table, each.space) for table in each.tables] if make_timer and chief else []
              for each in problems]
    with (stopping.signals() as stop,
          claim.claimed(run_dir, start.as_text(), _inputs(problems, config), default_text=start.default_text(),
                        overwrite=flags.FLAGS.overwrite, alone=chief)):
        try:
            if chief:
                versions.note(run_dir)
            if config.image_sizes:
                archs = image_sizes.run(problems, config, folder, devices=devices, timers=timers, stop=stop)
            else:
                search_it = run.run if config.stages == ALL else stages.run
                archs = search_it(problem, config, folder, devices=devices, timers=timers[0], stop=stop)
        except KeyboardInterrupt:
            _stopped(stop, run_dir)
            raise
    folders = [folder] if len(problem.goals) == 1 else [RunFolder(folder.file(goal.name)) for goal in problem.goals]
    return list(zip(archs, folders, strict=False))  # processes other than the first have no archs


def _stopped(stop: "Stop", run_dir: str) -> None:
    """Prints how to continue; after SIGTERM, exits with the signal's exit code."""
    print(f"\nStopped. The same command continues from the last checkpoint in {run_dir}.", flush=True)
    if stop.signal == signal.SIGTERM:
        sys.exit(128 + signal.SIGTERM)


def _inputs(problems: Sequence[Problem], config: SearchConfig) -> Mapping[str, str]:
    """Digests of the files and images that flags name, as far as the result depends on them."""
    problem = problems[0]

    def digest(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()[:16]

    data = problem.data
    teacher = {} if config.teacher in TEACHERS else {"teacher": files.sha256(config.teacher)[:16]}
    return {**teacher, "space": digest(json.dumps(problem.space.to_json(), sort_keys=True).encode()),
            **({"white of 16-bit images": str(data.rendering.white)} if data.rendering else {}),
            "training images": str(data.train.size), "held-out images": str(data.held_out.size),
            "contents of the training images": data.train.fingerprint,
            "contents of the held-out images": data.held_out.fingerprint,
            **{f"milliseconds on {goal.target}{f' at {each.space.input_size} pixels' if len(problems) > 1 else ''}":
               digest(goal.ms.matrix.tobytes() + str(goal.ms.fixed).encode()
                      + b"".join(term.values.tobytes() for term in goal.ms.terms))
               for each in problems for goal in each.goals}}


def _summary(arch: Arch, folder: RunFolder, image_flags: Sequence[str]) -> str:
    """The result, warnings about the search, and the next command with the flags that it shares with this one."""
    facts, costs = run_facts.collect(folder.path), arch.costs
    target = f"target {facts.target_ms:.3g} ms" if facts.target_ms else "latency was free"
    measured = f", {costs['measured_ms']:.3g} ms measured" if "measured_ms" in costs else ""
    return "\n".join([
        f"\n{arch.draw()}\n\nResult: {costs['params']:,} parameters, {costs['macs']:,} MACs, "
        f"{costs['table_ms']:.3g} ms according to the table of {costs['target']}{measured} ({target}).",
        *(f"Limit:   {limit}" for limit in kept_limits.of_run(facts)),
        *(f"Warning: {text}" for text in run_facts.warnings(facts)),
        f"Results: {folder.arch}",
        f"Next:    {start.next_command('pnas_tf.train', f'--run_dir={folder.path}', *image_flags)}"])


def _accuracy(table: LatencyTable, space: Space, named_by: Sequence[str] = ()) -> str:
    """The accuracy of the table's predictions; a warning if it is unknown or bad."""
    entry, space_flags = table.accuracy(space) or {}, table_commands.space_flags(space, named_by)
    shares = [entry.get(name) for name in ("within_5_percent", "within_10_percent", "rmse_of_mean")]
    if not all(isinstance(share, float | int) for share in shares):
        way_out = ("It was imported, so no device here can measure it."
                   if table.header.get("measurer") == "import" else
                   f"Measure it: {table_commands.compare(table.file, space_flags)}")
        return f"Warning: the accuracy of table {table.target} for networks of {space.name} is unknown. {way_out}"
    doubt = table_accuracy.doubt(entry, table.header.get("measurer"))
    build = table_commands.build(table.header, space_flags, table_commands.another(table.file))
    warning = f"\nWarning: {doubt} Build a new table and search with it: {build}" if doubt else ""
    return (f"Table {table.target} predicted {shares[0]:.0%} of whole networks within 5 % and {shares[1]:.0%} within "
            f"10 %, RMSE {shares[2]:.1%} of the mean.{warning}")


def _warn_widths(config: SearchConfig) -> None:
    """Warns if other widths leave the space without its pretrained weights."""
    if config.width_mult != 1 and spaces.load(config.space).pretrained:
        terminal.warn(f"--space={config.space} has pretrained weights at its own widths alone. With "
                      f"--width_mult={config.width_mult:g}, the search starts from scratch. Smaller images keep them "
                      "(--image_size).")


def _warn_classifier(table: LatencyTable, space: Space) -> None:
    """Prints a note if the table prices the classifier as a classifier of more classes."""
    block, key = list(space.op_keys())[-1]
    row = table.row(block.name, key)
    if row and row["filters"] != key.filters:
        print(f"Table {table.target} has no classifier of {key.filters} classes, so the price of a classifier of "
              f"{row['filters']} classes is used.")


def main() -> None:
    """Runs the command."""
    define_flags()
    start.start(by_flags, manual=search.__doc__)
