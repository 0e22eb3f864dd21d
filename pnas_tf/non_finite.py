"""Stops a search at the first loss or alpha that is no finite number, before it gets into a checkpoint."""

import math
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from pnas_tf.errors import InputError
from pnas_tf.searcher import Searcher


class StopOnNonFinite(keras.callbacks.Callback):
    """Judges each step. No further wait for an accelerator: Keras has fetched the logs of the step for callbacks."""

    def on_train_batch_end(self, batch, logs=None):
        """Raises InputError as `check`."""
        check(self.model, logs or {})


def check_now(searcher: Searcher) -> None:
    """Judges what a checkpoint would hold. Raises InputError as `check`."""
    check(searcher, {name: total for name, (total, _) in searcher.sums.items()})


def check(searcher: Searcher, logs: Mapping[str, float | tf.Tensor]) -> None:
    """Judges the last step.

    Args:
        searcher: after it.
        logs: means or sums of an epoch: one bad step makes them bad.

    Raises:
        InputError: if one of them or an alpha is infinite or not a number; says where, and what the likely cause is.
    """
    # A sum is infinite or not a number if one of its terms is.
    numbers = [*((name, float(value)) for name, value in logs.items()),
               *(("an alpha", float(np.sum(alpha.value.read_value().numpy()))) for alpha in searcher.supernet.alphas)]
    bad = next(((name, value) for name, value in numbers if not math.isfinite(value)), None)
    if bad is None:
        return
    schedule, step = searcher.schedule, int(searcher.step.value.numpy()) - 1
    raise InputError(
        f"Step {step + 1:,} of {schedule.steps:,} (epoch {step // schedule.steps_per_epoch + 1}, "
        f"{'warm-up' if schedule.is_warmup(step) else 'search'}): {bad[0]} is {bad[1]}. Likely cause: "
        f"{_cause(bad[0], schedule, step)}. The checkpoints are of before. Change that flag, with another --run_dir "
        "or --overwrite.")


def _cause(name, schedule, step):
    if name == "an alpha" or name.startswith(("expected", "multiplier", "reward")):
        return "steps of alpha are too large, lower --alpha_lr (or --latency_strength)"
    flag = "--warmup_lr" if schedule.is_warmup(step) else "--lr"
    return (f"weights diverged at learning rate {schedule.weight_lr(step):.3g}, lower {flag}; with "
            "--precision=mixed_float16 an overflow, which mixed_bfloat16 has not")
