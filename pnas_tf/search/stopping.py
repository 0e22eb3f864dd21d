"""Stops a search at the first loss or alpha that is no finite number, before it gets into a checkpoint."""

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
from pnas_tf.search.searcher import Searcher


class StopOnNonFinite(keras.callbacks.Callback):
    """Judges each step. No further wait for an accelerator: Keras has fetched the logs of the step for callbacks."""

    def on_train_batch_end(self, batch, logs=None):
        """Raises InputError as `check`."""
        check_finite(self.model, logs or {})


def check_state_finite(searcher: Searcher) -> None:
    """Judges what a checkpoint would hold. Raises InputError as `check`."""
    check_finite(searcher, {name: total for name, (total, _) in searcher.sums.items()})


def check_finite(searcher: Searcher, logs: Mapping[str, float | tf.Tensor]) -> None:
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

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """What was asked for by signals; by itself it listens to none, see `signals`.

    Attributes:
        signal: number of the last one that came, None as long as none has.
    """

    def __init__(self):
        """Nothing is asked for yet."""
        self.signal: int | None = None
        self._waits = self._interrupted = False

    @contextlib.contextmanager
    def after_step(self) -> Iterator[None]:
        """Within it the first signal is only noted: whoever enters looks at `signal` after each step.

        Raises:
            KeyboardInterrupt: at a further signal; also if TensorFlow's C++ turned that into an error of its own, as it
                does if it comes in the middle of another one.
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
            KeyboardInterrupt: unless it is the first one and somebody is going to look.
        """
        first, self.signal = self.signal is None, number
        if not (first and self._waits):
            self._interrupted = True
            raise KeyboardInterrupt
        # A handler may interrupt a print, which must not be entered twice.
        os.write(2, b"\nStopping after this step. Once more (Ctrl-C) to stop now, without saving.\n")


@contextlib.contextmanager
def signals() -> Iterator[Stop]:
    """Listens to Ctrl-C and SIGTERM, in the main thread; a signal that the process ignores (nohup) stays ignored."""
    stop = Stop()
    before = {number: signal.signal(number, stop.ask) for number in SIGNALS
              if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
