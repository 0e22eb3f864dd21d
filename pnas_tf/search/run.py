"""TODO: docstring."""

import contextlib
from collections.abc import Sequence
from typing import Any

from pnas_tf.run_folder import RunFolder
from pnas_tf.search import schedule, stopping
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import blocks

# Held-out batches that score the most probable network after each epoch.
VALIDATION_BATCHES = 10


def run(*, search_space: blocks.Space, goals: Sequence[Any], data: Any, plan: schedule.Schedule, run_dir: str,
        method: Any = None, batch_size: int = 256, label_smoothing: float = 0.1, weight_decay: float = 4e-5,
        recompute: bool = False, precision: str = "float32", devices: Any = None, bn_recalibration_batches: int = 20,
        class_weights: str = "none", cutout: int = 0, init_weights: str = "", timers: Sequence[Any] = (),
        trials: int = 0, trial_epochs: int = 5, seed: int = 0, checkpoint_minutes: float = 10.0,
        stop: stopping.Stop | None = None) -> list[arch_lib.Arch]:
    """Searches, and leaves the results in the run folder.

    Args:
        search_space: fits the data.
        goals: `limits.Goal`s from `goal`, one network each. With several, the weights are trained once, and each has
            a folder of its own in the run folder.
        data: from `data.load`.
        plan: phases and learning rates.
        run_dir: claimed already.
        method: how alpha learns, a `methods.Method`; the default one if None.
        batch_size: images a step.
        label_smoothing: of weight steps.
        weight_decay: of weight steps.
        recompute: whether to trade time for memory.
        precision: of `supernet.PRECISIONS`.
        devices: from `replicas.strategy`; None for one device.
        bn_recalibration_batches: training batches that set the found network's batch norm statistics; 0 to leave
            those of the search.
        class_weights: of `data.CLASS_WEIGHTS`, for all losses.
        cutout: side in pixels of a square of each training image that is set to the mean; 0 for none.
        init_weights: where weights come from at the start, see `initial_weights.into_supernet`; empty: anew.
        timers: a `device_check.Timer` of each goal, to time finalists before one is taken; empty: the tables decide.
        trials: finalists that are trained on their own before one is taken.
        trial_epochs: of each such training.
        seed: of everything random.
        checkpoint_minutes: between checkpoints, at most; 0: at the end of epochs alone.
        stop: what signals ask for, if somebody listens to them.

    Returns:
        The arch found for each goal, with its costs.

    Raises:
        InputError: if a file cannot be written, no checkpoint be read, or a loss or an alpha is no finite number.
        KeyboardInterrupt: if the search was stopped; saved, if `stop` asked for it.
    """
    from pnas_tf import data as data_lib
    from pnas_tf.derive import deliver
    from pnas_tf.search import build as search_build
    from pnas_tf.search import log as search_log
    from pnas_tf.search import replicas, searcher, stopping
    from pnas_tf.supernet import path_scorer

    devices = devices or replicas.strategy("none")
    weights = data_lib.class_weights(data.train, class_weights)
    model = search_build.compiled_searcher(
        search_space, goals, plan, method=method, class_weights=weights, label_smoothing=label_smoothing,
        weight_decay=weight_decay, recompute=recompute, precision=precision, devices=devices, seed=seed)
    net = model.supernet
    print(f"{search_space.name}: {len(search_space.choices)} choices, {_about(search_space.size)} archs, "
          f"{net.count_weights():,} weights. {data.train.size:,} training and {data.held_out.size:,} held-out images, "
          f"{plan.steps:,} weight steps, {plan.warmup_steps:,} of them warm-up{_on(devices)}.")
    done, epoch_seconds = _restored(model, plan, run_dir, init_weights, devices)
    results = [deliver.Result(goal, run_dir if len(goals) == 1 else RunFolder(run_dir).part(goal.name))
               for goal in goals]
    with data_lib.naming_broken_images():
        scorer = path_scorer.PathScorer(net, data.held_out.batches(batch_size).take(VALIDATION_BATCHES), weights)
        watch, stop = [stopping.StopOnNonFinite()], stop or stopping.Stop()
        if done < plan.steps and replicas.is_chief(devices):
            watch.append(search_log.SearchLog(run_dir, results, scorer, checkpoint_minutes=checkpoint_minutes,
                                             stop=stop, epoch_seconds=epoch_seconds))
        with stop.after_step() if len(watch) > 1 else contextlib.nullcontext():
            model.go_on(lambda step: searcher.alternating_batches(data.train, data.held_out, plan, batch_size, seed,
                                                                  step, devices, cutout), watch)
        if not replicas.is_chief(devices):
            return []

        def tried(found, folder):
            from pnas_tf.derive import trials as trials_lib

            return trials_lib.run(found, data, folder, count=trials, epochs=trial_epochs, batch_size=batch_size,
                                  class_weights=class_weights, precision=precision, seed=seed)

        return deliver.deliver(net, results, scorer, data, batch_size=batch_size, seed=seed, timers=timers,
                              bn_recalibration_batches=bn_recalibration_batches, tried=tried if trials else None)


def _restored(model, plan, run_dir, init_weights, devices):
    """Weight steps that a checkpoint has done, and seconds of the epoch in progress; the first weights without one."""
    from pnas_tf.search import checkpoints, initial_weights, replicas

    epoch_seconds = checkpoints.restore(model, run_dir)
    done = int(model.step.value.numpy())
    if init_weights and not done:
        initial_weights.into_supernet(model.supernet, init_weights)
    replicas.check_agree(devices, done, f"steps done in {run_dir}")
    if done:
        epoch, steps = divmod(done, plan.steps_per_epoch)
        print(f"Going on after epoch {epoch} of {plan.epochs}"
              f"{f' and {steps:,} of {plan.steps_per_epoch:,} steps' if steps else ''}.", flush=True)
    return done, epoch_seconds


def _about(number):
    """A whole number of any size in a few characters."""
    return f"{number:.3g}" if number < 10 ** 300 else f"10^{len(str(number)) - 1}"


def _on(devices):
    count = devices.num_replicas_in_sync
    return f", on {count} replicas" if count > 1 else ""
