"""Reasons for a search to stop early: Ctrl-C, SIGTERM, and a loss or an alpha that is not finite."""

import contextlib
import math
import os
import signal
from collections.abc import Iterator, Mapping
from types import FrameType

import keras
import numpy as np
import tensorflow as tf

from pnas_tf.errors import InputError
from pnas_tf.search.schedule import Schedule
from pnas_tf.search.searcher import Searcher

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """A request to stop, which lets the current step of the search end first. `signals` connects it to signals.

    Attributes:
        signal: Number of the last signal; None before the first.
    """

    def __init__(self):
        """Starts without a request."""
        self.signal: int | None = None
        self._waits = self._interrupted = False

    @contextlib.contextmanager
    def after_step(self) -> Iterator[None]:
        """Within this context, the first signal is only recorded. The caller has to read `signal` after each step.

        Raises:
            KeyboardInterrupt: If a second signal arrives, even if TensorFlow's C++ code has turned the interrupt into
                an error of its own, as it does while it handles another error.
        """
        self._waits = True
        try:
            yield
        except Exception:
            if self._interrupted:
                raise KeyboardInterrupt from None
            raise
        finally:
            self._waits = False

    def ask(self, number: int, frame: FrameType | None = None) -> None:
        """Handles a signal.

        Raises:
            KeyboardInterrupt: If this is not the first signal, or the search is outside `after_step`.
        """
        first, self.signal = self.signal is None, number
        if not (first and self._waits):
            self._interrupted = True
            raise KeyboardInterrupt
        # A handler may interrupt a print, which must not be entered twice. Nobody may be there to read it.
        with contextlib.suppress(OSError):
            os.write(2, b"\nStopping after this step. Press Ctrl-C again to stop now, without saving.\n")


@contextlib.contextmanager
def signals() -> Iterator[Stop]:
    """Handles Ctrl-C and SIGTERM, in the main thread. A signal that the process ignores (nohup) stays ignored."""
    stop = Stop()
    before = {number: signal.signal(number, stop.ask) for number in SIGNALS
              if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopOnNonFinite(keras.callbacks.Callback):
    """Checks each step. This causes no further wait for an accelerator: Keras has already fetched the step's logs."""

    def on_train_batch_end(self, batch, logs=None):
        """Raises InputError as `check_finite` does."""
        check_finite(self.model, logs or {})


def check_state_finite(searcher: Searcher) -> None:
    """Checks the state that a checkpoint would save. Raises InputError as `check_finite` does."""
    check_finite(searcher, {name: total for name, (total, _) in searcher.sums.items()})


def check_finite(searcher: Searcher, logs: Mapping[str, float | tf.Tensor]) -> None:
    """Checks the last step.

    Args:
        searcher: Searcher after the step.
        logs: Means or sums of an epoch; a single step that is not finite makes them not finite.

    Raises:
        InputError: If a log or an alpha is not finite. The message says where it happened and the likely cause.
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
        f"{_cause(bad[0], schedule, step)}. The checkpoints are older than this step. Change that flag, with another "
        "--run_dir or --overwrite.")


def _cause(name: str, schedule: Schedule, step: int) -> str:
    if name == "an alpha" or name.startswith(("expected", "multiplier", "reward")):
        return "steps of alpha are too large, lower --alpha_lr (or --latency_strength)"
    flag = "--warmup_lr" if schedule.is_warmup(step) else "--lr"
    return (f"weights diverged at learning rate {schedule.weight_lr(step):.3g}, lower {flag}; with "
            "--precision=mixed_float16 the cause may be an overflow, which mixed_bfloat16 does not have")
