"""Runs a search, from its last checkpoint if there is one, and delivers the networks (paper sections 3.2 and 3.3)."""

import contextlib
import dataclasses
import functools
from collections.abc import Sequence

import tensorflow as tf

from pnas_tf import data as data_lib
from pnas_tf import terminal
from pnas_tf.derive import deliver, device_check, trials
from pnas_tf.derive.deliver import LastChoice, Result
from pnas_tf.run_folder import RunFolder
from pnas_tf.search import build, checkpoints, initial_weights, replicas, searcher, side_by_side, teaching
from pnas_tf.search.config import SearchConfig
from pnas_tf.search.log import SearchLog
from pnas_tf.search.problem import Problem
from pnas_tf.search.stopping import Stop, StopOnNonFinite
from pnas_tf.space import memory
from pnas_tf.space.arch import Arch
from pnas_tf.supernet.path_scorer import PathScorer

# Number of held-out batches that score the most probable network after each epoch.
VALIDATION_BATCHES = 10


def run(problem: Problem, config: SearchConfig, folder: RunFolder, *, devices: tf.distribute.Strategy | None = None,
        timers: Sequence[device_check.Timer] = (), stop: Stop | None = None) -> list[Arch]:
    """Searches, and writes the results into the run folder.

    Args:
        problem: Space, images, goals and schedule.
        config: Settings of the search.
        folder: Run folder, claimed by this process. With several goals, it has a folder for each.
        devices: Devices from `replicas.strategy`; None for one device.
        timers: Timer of each goal's device, which times finalists before one is delivered; empty if the tables decide.
        stop: Request to stop, if signals are handled.

    Returns:
        The arch of each goal with its costs; an empty list in all processes but the first.

    Raises:
        InputError: If a file cannot be written, no checkpoint can be read, or a loss or an alpha is not finite.
        KeyboardInterrupt: If the search was stopped; its state is saved if `stop` asked for that.
    """
    devices = devices or replicas.strategy("none")
    with data_lib.naming_broken_images(problem.data):
        model, results, scorer = _trained(problem, config, folder, devices, stop or Stop())
        if not replicas.is_chief(devices):
            return []
        return deliver.deliver(model.supernet, results, scorer, problem.data, LastChoice(
            problem.batch_size, bn_recalibration_batches=0 if problem.frozen else config.bn_recalibration_batches,
            budgets=config.front, seed=config.seed, use_all_ms=config.use_all_ms, timers=timers,
            trials=_trials(problem, config), compared_at=problem.compared_at, with_training_images=problem.frozen))


def warm_up(problem: Problem, config: SearchConfig, folder: RunFolder, *,
            devices: tf.distribute.Strategy | None = None, stop: Stop | None = None) -> None:
    """Trains the weights of the warm-up alone, from which other searches start; no network is delivered.

    Args:
        problem: As for `run`; its schedule ends with the warm-up here.
        config: Settings of the search.
        folder: Run folder for the checkpoints, claimed by this process.
        devices: As for `run`.
        stop: As for `run`.

    Raises:
        InputError: As `run`.
        KeyboardInterrupt: As `run`.
    """
    problem = dataclasses.replace(problem, plan=dataclasses.replace(problem.plan, search_epochs=0))
    with data_lib.naming_broken_images(problem.data):
        _trained(problem, config, folder, devices or replicas.strategy("none"), stop or Stop())


def _trained(problem: Problem, config: SearchConfig, folder: RunFolder, devices: tf.distribute.Strategy, stop: Stop
             ) -> tuple[searcher.Searcher, list[Result], PathScorer]:
    """A supernet trained to the end of the schedule, the folder of each goal, and a scorer of the supernet's paths."""
    data, plan, batch_size = problem.data, problem.plan, problem.batch_size
    if not tf.config.list_physical_devices("GPU"):  # whose memory is another
        memory.check_space(problem.space, batch_size, recompute=config.memory == "recompute")
    criterion = teaching.criterion_of(config, problem.space, data, folder, problem.largest_size)
    model = build.compiled_searcher(problem, config, criterion=criterion, devices=devices)
    terminal.say(_summary(problem, model.supernet, devices))
    done, epoch_seconds = _restored(model, folder, config, devices)
    results = [Result(goal, folder if len(problem.goals) == 1 else folder.part(goal.name)) for goal in problem.goals]
    scorer = PathScorer(model.supernet, data.held_out.batches(batch_size).take(VALIDATION_BATCHES),
                        criterion.without_smoothing())
    changes = build.changes(problem, config)
    logs = done < plan.steps and replicas.is_chief(devices)
    callbacks = [StopOnNonFinite(), *([SearchLog(
        folder, results, scorer, checkpoint_minutes=config.checkpoint_minutes, stop=stop,
        epoch_seconds=epoch_seconds)] if logs else [])]
    with stop.after_step() if logs else contextlib.nullcontext():
        model.go_on(lambda step: searcher.alternating_batches(
            data.train, data.held_out, plan, batch_size, config.seed, step, devices, changes), callbacks)
    return model, results, scorer


def _trials(problem: Problem, config: SearchConfig) -> deliver.Try | None:
    """Function that trains finalists; None if the config has no trials."""
    if not config.trials:
        return None
    return functools.partial(trials.run, data=problem.data, recipe=side_by_side.recipe(config), count=config.trials,
                             side_by_side=functools.partial(side_by_side.train, config=config,
                                                            largest_size=problem.largest_size))


def _restored(model: searcher.Searcher, folder: RunFolder, config: SearchConfig, devices: tf.distribute.Strategy
              ) -> tuple[int, float]:
    """Restores a checkpoint or initial weights; returns the weight steps done and seconds of the current epoch."""
    epoch_seconds = checkpoints.restore(model, folder)
    done, plan = int(model.step.value.numpy()), model.schedule
    if config.init_weights and not done:
        initial_weights.into_supernet(model.supernet, config.init_weights)
    elif model.supernet.space.pretrained and not done:
        teaching.start_from_pretrained(model.supernet, RunFolder(folder.teacher).model)
    replicas.check_agree(devices, done, f"steps done in {folder}")
    if done:
        epoch, steps = divmod(done, plan.steps_per_epoch)
        terminal.say(f"Continuing after epoch {epoch} of {plan.epochs}"
                     f"{f' and {steps:,} of {plan.steps_per_epoch:,} steps' if steps else ''}.")
    return done, epoch_seconds


def _summary(problem: Problem, net, devices: tf.distribute.Strategy) -> str:
    """One line about the size of a search."""
    space, data, plan, count = problem.space, problem.data, problem.plan, devices.num_replicas_in_sync
    return (f"{space.name}: {len(space.choices)} choices, {_about(space.size)} archs, "
            f"{net.count_weights():,} weights. {data.train.size:,} training and {data.held_out.size:,} held-out "
            f"images, {plan.steps:,} weight steps, {plan.warmup_steps:,} of them warm-up"
            f"{f', on {count} replicas' if count > 1 else ''}.")


def _about(number: int) -> str:
    """A whole number of any size in a few characters."""
    return f"{number:.3g}" if number < 10 ** 300 else f"10^{len(str(number)) - 1}"
