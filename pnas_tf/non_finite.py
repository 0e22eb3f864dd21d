"""Stops a search at the first loss or alpha that is no finite number, before it gets into a checkpoint."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from pnas_tf.errors import InputError
from pnas_tf.schedule import Schedule
from pnas_tf.searcher import Searcher


class StopOnNonFinite(keras.callbacks.Callback):
    """Looks at each step when the next one has been handed to the device, so it waits for no accelerator."""

    def __init__(self):
        """Nothing seen yet."""
        super().__init__()
        self._last = None

    def on_train_batch_end(self, batch, logs=None):
        """Notes a step, and judges the one before. Raises InputError as `check`."""
        last, self._last = self._last, _seen(self.model, logs or {})
        if last:
            check(self.model.schedule, *last)

    def on_epoch_end(self, epoch, logs=None):
        """Judges the last step of an epoch. Raises InputError as `check`."""
        last, self._last = self._last, None
        if last:
            check(self.model.schedule, *last)


def check_now(searcher: Searcher) -> None:
    """Judges what a checkpoint would hold. Raises InputError as `check`."""
    check(searcher.schedule, *_seen(searcher, {name: total for name, (total, _) in searcher.sums.items()}))


def check(schedule: Schedule, steps_done: int | tf.Tensor, logs: Mapping[str, float | tf.Tensor],
          alphas: Sequence[np.ndarray | tf.Tensor]) -> None:
    """Judges the last step.

    Args:
        schedule: of the search.
        steps_done: weight steps, the one to judge included.
        logs: means or sums of an epoch: one bad step makes them bad.
        alphas: float32 [choices, ops] each.

    Raises:
        InputError: if something is infinite or not a number; says where, and what the likely cause is.
    """
    bad = next(((name, float(value)) for name, value in logs.items() if not np.isfinite(float(value))), None)
    if bad is None:
        rows = [np.asarray(alpha) for alpha in alphas]
        if all(np.isfinite(row).all() for row in rows):
            return
        bad = "an alpha", next(float(row[~np.isfinite(row)][0]) for row in rows if not np.isfinite(row).all())
    step = int(steps_done) - 1
    warmup = schedule.is_warmup(step)
    raise InputError(
        f"Step {step + 1:,} of {schedule.steps:,} (epoch {step // schedule.steps_per_epoch + 1}, "
        f"{'warm-up' if warmup else 'search'}): {bad[0]} is {bad[1]}. Likely cause: {_cause(bad[0], schedule, step)}. "
        "The checkpoints are of before. Change that flag, with another --run_dir or --overwrite.")


def _seen(searcher, logs):
    return (searcher.step.value.read_value(), logs,
            [alpha.value.read_value() for alpha in searcher.supernet.alphas])


def _cause(name, schedule, step):
    if name == "an alpha" or name.startswith(("expected", "multiplier", "reward")):
        return "steps of alpha are too large, lower --alpha_lr (or --latency_strength)"
    flag = "--warmup_lr" if schedule.is_warmup(step) else "--lr"
    return (f"weights diverged at learning rate {schedule.weight_lr(step):.3g}, lower {flag}; with "
            "--precision=mixed_float16 an overflow, which mixed_bfloat16 has not")
