"""What a search leaves behind at each epoch: a line on the terminal, metrics, arch.json, TensorBoard, a checkpoint."""

import glob
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnas_tf import gates, run_folder
from pnas_tf.arch import Arch
from pnas_tf.cost import Cost
from pnas_tf.errors import InputError
from pnas_tf.evaluate import PathScorer
from pnas_tf.searcher import Searcher
from pnas_tf.space import Space

KEPT_CHECKPOINTS = 2


class SearchLog(keras.callbacks.Callback):
    """Writes the run folder of a search, epoch by epoch, and prints how far it is."""

    def __init__(self, run_dir: str, cost: Cost, target: str, target_ms: float,
                 derive: Callable[[Space, np.ndarray], Arch], scorer: PathScorer):
        """Binds the folder.

        Args:
            run_dir: claimed already.
            cost: milliseconds of each op.
            target: name of the table's target.
            target_ms: wanted milliseconds.
            derive: from the space and probs [choices, ops] to the arch that is written at each epoch.
            scorer: of that arch, on held-out images.
        """
        super().__init__()
        self._run_dir, self._cost, self._target, self._target_ms = run_dir, cost, target, target_ms
        self._derive, self._scorer = derive, scorer
        self._lines = run_folder.read_metrics(run_dir)
        self._writer = tf.summary.create_file_writer(run_folder.path(run_dir, "logs"))
        self._epochs_run = 0

    def on_train_begin(self, logs=None):
        """Notes the time."""
        self._begin = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        """Drops metrics of epochs that are run again."""
        self._lines = [line for line in self._lines if line["epoch"] < epoch]
        self._epoch_begin = self._last_progress = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        """On a terminal, rewrites a line of progress each second."""
        now = time.monotonic()
        if sys.stderr.isatty() and now - self._last_progress > 1:
            self._last_progress = now
            steps = self.model.schedule.steps_per_epoch
            print(f"\r  step {batch + 1}/{steps}, {1e3 * (now - self._epoch_begin) / (batch + 1):.0f} ms a step ",
                  end="", file=sys.stderr, flush=True)

    def on_epoch_end(self, epoch, logs=None):
        """Writes everything; the checkpoint comes last, so that what it stands for exists."""
        self._epochs_run += 1
        searcher, seconds = self.model, time.monotonic() - self._epoch_begin
        probs = searcher.supernet.probs().numpy()
        arch = self._derive(searcher.supernet.space, probs)
        path = searcher.supernet.path(arch)
        table_ms, score = self._cost.of_path(path), self._scorer.score(path)
        line = {
            "kind": "search", "epoch": epoch,
            "phase": "warmup" if epoch < searcher.schedule.warmup_epochs else "search",
            "steps": searcher.schedule.steps_per_epoch, "seconds": round(seconds, 3),
            "step_ms": round(1e3 * seconds / searcher.schedule.steps_per_epoch, 3),
            **{name: float(value) for name, value in (logs or {}).items()},
            "expected_ms": float(self._cost.expected(probs)), "table_ms": table_ms,
            "derived_loss": score.loss, "derived_accuracy": score.accuracy,
            "entropy": float(gates.entropy(tf.constant(probs))),
            "probs": named_probs(searcher.supernet, probs)}
        self._lines.append(line)
        run_folder.write_metrics(self._run_dir, self._lines)
        arch.with_costs(target=self._target, target_ms=self._target_ms, expected_ms=line["expected_ms"],
                        table_ms=table_ms).save(run_folder.path(self._run_dir, "arch.json"))
        self._tensorboard(line)
        save_checkpoint(searcher, self._run_dir, epoch + 1)
        print(self._progress(line), flush=True)

    def _progress(self, line: dict[str, Any]) -> str:
        schedule = self.model.schedule
        left = (time.monotonic() - self._begin) / self._epochs_run * (schedule.epochs - line["epoch"] - 1)
        parts = [f"epoch {line['epoch'] + 1}/{schedule.epochs} {line['phase']:<6}", f"{line['step_ms']:.0f} ms/step",
                 f"train loss {line['train_loss']:.3f} acc {line['train_accuracy']:.3f}"]
        if "held_out_loss" in line:
            parts.append(f"held-out loss {line['held_out_loss']:.3f} acc {line['held_out_accuracy']:.3f}")
        parts += [f"expected {line['expected_ms']:.3g} ms (target {self._target_ms:.3g})",
                  f"entropy {line['entropy']:.2f}", f"{_duration(left)} left"]
        return ("\r" if sys.stderr.isatty() else "") + ", ".join(parts)

    def _tensorboard(self, line):
        scalar = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"})
        values = {name: value for name, value in line.items() if isinstance(value, float)}
        values |= {f"probs/{choice}/{op}": p for choice, row in line["probs"].items() for op, p in row.items()}
        with self._writer.as_default():
            # tf.summary.scalar needs the tensorboard package; writing the event does not.
            for name, value in values.items():
                tf.summary.write(name, tf.constant(value, tf.float32), step=line["epoch"], metadata=scalar)
        self._writer.flush()


def named_probs(supernet: Any, probs: np.ndarray) -> dict[str, dict[str, float]]:
    """Probabilities [choices, ops] as {choice: {op: probability}}."""
    return {name: {op: float(p) for op, p in zip(block.ops, row[:len(block.ops)], strict=True)}
            for (name, block), row in zip(supernet.space.choices.items(), probs, strict=True)}


def save_checkpoint(searcher: Searcher, run_dir: str, epoch: int) -> None:
    """Writes the state after `epoch` epochs beside its place, renames it, and prunes older ones."""
    folder = run_folder.path(run_dir, "checkpoints")
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, "writing.weights.h5")
    searcher.save_weights(temporary)
    os.replace(temporary, os.path.join(folder, f"epoch_{epoch:05d}.weights.h5"))
    for old in _checkpoints(run_dir)[:-KEPT_CHECKPOINTS]:
        os.unlink(old)


def restore_checkpoint(searcher: Searcher, run_dir: str) -> int:
    """Loads the newest checkpoint, if there is one.

    Returns:
        Epochs done.

    Raises:
        InputError: if a checkpoint does not fit or cannot be read.
    """
    found = _checkpoints(run_dir)
    if not found:
        return 0
    try:
        searcher.load_weights(found[-1])
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise InputError(f"{found[-1]} cannot be loaded ({reason}). Remove it to go on from the one before, "
                         "or choose another --run_dir.") from None
    return int(os.path.basename(found[-1])[6:11])


def _checkpoints(run_dir):
    return sorted(glob.glob(os.path.join(glob.escape(run_dir), "checkpoints", "epoch_*.weights.h5")))


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s"
