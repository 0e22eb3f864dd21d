"""The records of a search at each epoch: a line on the terminal, metrics, arch.json, events, a checkpoint."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnas_tf import terminal
from pnas_tf.cost import expectation, within_limits
from pnas_tf.derive.deliver import Result
from pnas_tf.run_folder import RunFolder
from pnas_tf.search import checkpoints
from pnas_tf.search.schedule import Pace
from pnas_tf.search.stopping import Stop
from pnas_tf.search.tensorboard import Events
from pnas_tf.space.arch import Arch
from pnas_tf.supernet import gates
from pnas_tf.supernet.path_scorer import PathScorer
from pnas_tf.supernet.supernet import Supernet

# Number of random networks whose spread of accuracy is measured.
RANDOM_PATHS = 10


class SearchLog(keras.callbacks.Callback):
    """Writes the run folder of a search, epoch by epoch, and tells its progress.

    Within an epoch it writes checkpoints: after some minutes, and when the search is asked to stop.
    """

    def __init__(self, folder: RunFolder, results: Sequence[Result], scorer: PathScorer, *,
                 checkpoint_minutes: float = 0.0, stop: Stop | None = None, epoch_seconds: float = 0.0):
        """Reads the metrics in the folder, if there are any.

        Args:
            folder: Run folder, claimed by this process.
            results: Goal and folder of each of the supernet's alphas.
            scorer: Scorer on held-out images, for the most probable network within the limits.
            checkpoint_minutes: Largest number of minutes between checkpoints; 0 for checkpoints only at the end of
                epochs.
            stop: Request to stop, which is read after each step.
            epoch_seconds: Seconds that the epoch in progress took before an interruption, from `checkpoints.restore`.
        """
        super().__init__()
        self._folder, self._results, self._scorer = folder, list(results), scorer
        # Batches for each goal, so that several goals take no longer than one.
        self._batches = math.ceil(scorer.num_batches / len(results))
        self._checkpoint_seconds, self._stop = 60 * checkpoint_minutes, stop or Stop()
        self._lines = [result.folder.read_metrics() for result in results]
        self._events = Events(folder.logs)
        self._seconds_before = epoch_seconds

    def on_train_begin(self, logs=None):
        """Starts to measure the pace, and the time since the last checkpoint."""
        self._pace, self._saved = Pace(self.model.schedule), time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        """Drops the metrics of epochs that will run again."""
        self._lines = [[line for line in lines if line["epoch"] < epoch] for lines in self._lines]
        self._last_progress = time.monotonic()
        self._epoch_begin, self._seconds_before = self._last_progress - self._seconds_before, 0.0

    def on_train_batch_begin(self, batch, logs=None):
        """Notes the time."""
        self._step_begin = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        """Saves if a checkpoint is due or the search should stop. On a terminal, updates a progress line each second.

        Raises:
            KeyboardInterrupt: When the search was asked to stop, after everything is saved.
        """
        now, steps = time.monotonic(), self.model.schedule.steps_per_epoch
        self._pace.note(self._steps_done() - 1, now - self._step_begin)
        stops, due = self._stop.signal is not None, 0 < self._checkpoint_seconds < now - self._saved
        if (stops or due) and self._steps_done() % steps:  # at the end of an epoch, on_epoch_end writes metrics first
            self._save()
            if stops:
                raise KeyboardInterrupt
        if now - self._last_progress > 1:
            self._last_progress = now
            step = (self._steps_done() - 1) % steps + 1
            terminal.status(f"  step {step}/{steps}, {1e3 * (now - self._epoch_begin) / step:.0f} ms a step, "
                            f"{self._left()}")

    def on_epoch_end(self, epoch, logs=None):
        """Writes everything. The checkpoint comes last, so that the files of the epochs it contains exist.

        Raises:
            KeyboardInterrupt: When the search was asked to stop, after everything is saved.
        """
        self._folder.check_there()
        schedule, seconds = self.model.schedule, time.monotonic() - self._epoch_begin
        common = {"kind": "search", "epoch": epoch, "phase": "warmup" if epoch < schedule.warmup_epochs else "search",
                  "steps": schedule.steps_per_epoch, "seconds": round(seconds, 3),
                  "step_ms": round(1e3 * seconds / schedule.steps_per_epoch, 3)}
        if epoch == schedule.warmup_epochs - 1:
            common |= self._accuracy_of_random_paths()
        for number, (result, lines) in enumerate(zip(self._results, self._lines, strict=True)):
            facts, arch = self._derived(result, number)
            lines.append({**common, **_of_goal(logs or {}, number), **facts})
            arch.save(result.folder.arch)
            result.folder.write_metrics(lines)
            prefix = f"{result.goal.name}/" if len(self._results) > 1 else ""
            self._events.write(lines[-1], result.goal, arch, prefix)
        self._events.flush()
        self._save(epoch_ends=True)
        terminal.status("")
        terminal.say(self._progress())
        if self._stop.signal is not None:
            raise KeyboardInterrupt

    def _save(self, epoch_ends: bool = False) -> None:
        self._folder.check_there()
        checkpoints.save(self.model, self._folder, 0.0 if epoch_ends else time.monotonic() - self._epoch_begin)
        self._saved = time.monotonic()

    def _steps_done(self) -> int:
        return int(self.model.step.value.numpy())

    def _derived(self, result: Result, number: int) -> tuple[dict[str, Any], Arch]:
        """Facts about the probabilities of a goal, and its most probable network within the limits."""
        goal, supernet = result.goal, self.model.supernet
        probs = supernet.probs(number).numpy()
        path = within_limits.most_probable(probs, goal.all_limits)
        assert path is not None, "the goal was checked to be feasible"
        expected_ms, table_ms = float(expectation.expected(goal.ms, probs)), goal.ms.of_path(path)
        score = self._scorer.score(path, self._batches)
        facts = {"expected_ms": expected_ms, "table_ms": table_ms, "derived_loss": score.loss,
                 "derived_accuracy": score.accuracy, "entropy": float(gates.entropy(tf.constant(probs)))}
        facts |= {f"expected_{limit.name}": float(expectation.expected(limit.cost, probs)) for limit in goal.limits}
        arch = supernet.arch(path).with_costs(**goal.costs, expected_ms=expected_ms, table_ms=table_ms)
        return {**facts, "probs": named_probs(supernet, probs)}, arch

    def _accuracy_of_random_paths(self) -> dict[str, float]:
        """Held-out accuracy over random networks; if its deviation is small, the supernet hardly ranks them."""
        counts, rng = self.model.supernet.mask.sum(1), np.random.default_rng(0)
        scores = [self._scorer.score(rng.integers(counts)) for _ in range(RANDOM_PATHS)]
        accuracies = [score.accuracy for score in scores]
        return {"random_accuracy_sd": float(np.std(accuracies, ddof=1)),
                "random_accuracy_mean": float(np.mean(accuracies)), "random_accuracy_images": scores[0].images}

    def _left(self) -> str:
        """The time that is left, in words."""
        seconds = self._pace.left(self._steps_done())
        return "time left not yet known" if seconds is None else f"{terminal.seconds(round(seconds))} left"

    def _progress(self) -> str:
        """One line about the last epoch, of at most 80 columns."""
        schedule, line = self.model.schedule, self._lines[0][-1]
        parts = [f"epoch {line['epoch'] + 1}/{schedule.epochs} {line['phase']}: loss {line['train_loss']:.3g}"]
        if "held_out_loss" in line:
            parts.append(f"held-out {line['held_out_loss']:.3g}")
        limits = [result.goal.limit_ms for result in self._results]
        expected = [lines[-1]["expected_ms"] for lines in self._lines]
        if len(expected) == 1 or None in limits:
            parts.append(f"{expected[0]:.3g}" + (f" of {limits[0]:.3g} ms" if limits[0] else " ms"))
        else:
            off = [ms / limit - 1 for ms, limit in zip(expected, limits, strict=True)]
            parts.append(f"{min(off):+.0%} to {max(off):+.0%} off {len(off)} targets")
        return ", ".join([*parts, self._left()])


def _of_goal(logs: Mapping[str, Any], number: int) -> dict[str, float]:
    """The logs of a step that concern one goal."""
    suffix = f"/{number}"
    return {name.removesuffix(suffix): float(value) for name, value in logs.items()
            if "/" not in name or name.endswith(suffix)}


def named_probs(supernet: Supernet, probs: np.ndarray) -> dict[str, dict[str, float]]:
    """Probabilities [choices, ops] as {choice: {op: probability}}."""
    return {name: {op: float(p) for op, p in zip(block.ops, row[:len(block.ops)], strict=True)}
            for (name, block), row in zip(supernet.space.choices.items(), probs, strict=True)}
