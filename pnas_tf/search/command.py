"""The command `python -m pnas_tf.search`: its flags, and what it prints."""

import hashlib
import json
import shlex
import signal
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from absl import flags

from pnas_tf import search
from pnas_tf.cli import settings, start
from pnas_tf.cost import latency_table
from pnas_tf.cost.latency_table import LatencyTable
from pnas_tf.report import facts as run_facts
from pnas_tf.run_folder import RunFolder, claim, versions
from pnas_tf.search.config import SearchConfig
from pnas_tf.search.problem import Problem, Request
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Space

if TYPE_CHECKING:
    import tensorflow as tf

    from pnas_tf.derive.device_check import Timer
    from pnas_tf.search.stopping import Stop

# Makes the timer of a table's device, for networks of a space.
MakeTimer = Callable[[LatencyTable, Space], "Timer"]


def define_flags() -> None:
    """Defines the flags of the command, and of other commands that search."""
    settings.define(SearchConfig)
    flags.DEFINE_string("run_dir", None, "Folder of the results.")
    flags.DEFINE_bool("overwrite", False, "If --run_dir holds a run with other flags: removes its files, in place of "
                      "refusing. With the same flags the run goes on all the same.")


def by_flags(make_timer: MakeTimer | None = None) -> None:
    """Runs the command, once its flags are parsed.

    Args:
        make_timer: Makes the timer of a table's device; None if finalists are not timed and the tables decide alone.
    """
    config, run_dir = settings.read(SearchConfig), flags.FLAGS.run_dir
    request = Request.of(config)
    start.load_tensorflow()
    from pnas_tf.search import replicas

    with replicas.starting_again(config.strategy):
        devices = replicas.strategy(config.strategy, config.replicas)
        problem = _problem(request)
        replicas.check_divides(devices, problem.batch_size)
        archs = _searched(problem, config, run_dir, devices, make_timer)
        if not replicas.is_chief(devices):
            print("Done; the first worker has written the results.")
            return
    for arch, folder in archs:
        print(_summary(arch, folder))


def _problem(request: Request) -> Problem:
    """The problem with its images; prints what the user should know before a long search."""
    from pnas_tf import data as data_lib

    data = request.load_data()
    if request.config.class_weights == "none" and (message := data_lib.imbalance(data.train)):
        print(message)
    problem = Problem.of(request, data)
    for table, goal in zip(problem.tables, problem.goals, strict=True):
        _warn_classifier(table, problem.space)
        print(_accuracy(table, problem.space))
        print(goal.summary())
    if problem.batch_size < request.config.batch_size:
        print(f"Batches of {problem.batch_size}: there are no more training images.")
    return problem


def _searched(problem: Problem, config: SearchConfig, run_dir: str, devices: "tf.distribute.Strategy",
              make_timer: MakeTimer | None) -> list[tuple[Arch, RunFolder]]:
    """The networks found, with their folders, while this process has the run folder."""
    from pnas_tf.search import replicas, stopping
    from pnas_tf.search.run import run

    chief = replicas.is_chief(devices)
    timers = [make_timer(table, problem.space) for table in problem.tables] if make_timer and chief else []
    with (stopping.signals() as stop,
          claim.claimed(run_dir, start.as_text(), _inputs(problem), overwrite=flags.FLAGS.overwrite, alone=chief)):
        try:
            if chief:
                versions.note(run_dir)
            archs = run(problem, config, RunFolder(run_dir), devices=devices, timers=timers, stop=stop)
        except KeyboardInterrupt:
            _stopped(stop, run_dir)
            raise
    folder = RunFolder(run_dir)
    folders = [folder] if len(problem.goals) == 1 else [RunFolder(folder.file(goal.name)) for goal in problem.goals]
    return list(zip(archs, folders, strict=False))  # processes other than the first have no archs


def _stopped(stop: "Stop", run_dir: str) -> None:
    """Says how to go on; after SIGTERM, ends with its exit code."""
    print(f"\nStopped. The same command goes on from the last checkpoint in {run_dir}.", flush=True)
    if stop.signal == signal.SIGTERM:
        sys.exit(128 + signal.SIGTERM)


def _inputs(problem: Problem) -> Mapping[str, str]:
    """What the files named by flags contained, as far as the result depends on it."""
    def digest(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()[:16]

    data = problem.data
    return {"space": digest(json.dumps(problem.space.to_json(), sort_keys=True).encode()),
            "training images": str(data.train.size), "held-out images": str(data.held_out.size),
            **{f"milliseconds on {goal.target}": digest(goal.ms.matrix.tobytes() + str(goal.ms.fixed).encode())
               for goal in problem.goals}}


def _summary(arch: Arch, folder: RunFolder) -> str:
    """The result, what is suspicious about the search, and the next command."""
    facts, costs = run_facts.collect(folder.path), arch.costs
    target = f"target {facts.target_ms:.3g} ms" if facts.target_ms else "latency was free"
    measured = f", {costs['measured_ms']:.3g} ms measured" if "measured_ms" in costs else ""
    return "\n".join([
        f"\n{arch.draw()}\n\nFound: {costs['params']:,} parameters, {costs['macs']:,} MACs, "
        f"{costs['table_ms']:.3g} ms by the table of {costs['target']}{measured} ({target}).",
        *(f"Warning: {text}" for text in run_facts.warnings(facts)),
        f"Results: {folder.arch}", f"Next:    python -m pnas_tf.train --run_dir={shlex.quote(folder.path)}"])


def _accuracy(table: LatencyTable, space: Space) -> str:
    """How far the table's predictions were off, or a warning that nobody knows."""
    entry = table.accuracy(space) or {}
    shares = [entry.get(name) for name in ("within_5_percent", "within_10_percent", "rmse_of_mean")]
    if not all(isinstance(share, float | int) for share in shares):
        return (f"Warning: how well table {table.target} predicts networks of {space.name} is not known. Find out: "
                f"python -m latency.compare --table={table.file} {latency_table.space_flags(space)}")
    return (f"Table {table.target} predicted {shares[0]:.0%} of whole networks within 5 % and {shares[1]:.0%} within "
            f"10 %, RMSE {shares[2]:.1%} of the mean.")


def _warn_classifier(table: LatencyTable, space: Space) -> None:
    """Says so if the table prices the classifier as one of more classes."""
    block, key = list(space.op_keys())[-1]
    row = table.row(block.name, key)
    if row and row["filters"] != key.filters:
        print(f"Table {table.target} has no classifier of {key.filters} classes: it is priced as one of "
              f"{row['filters']}.")


def main() -> None:
    """Runs the command."""
    define_flags()
    start.start(by_flags, manual=search.__doc__)
