"""What a search leaves behind at each epoch: a line on the terminal, metrics, arch.json, TensorBoard, a checkpoint."""

import dataclasses
import glob
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnas_tf import derive, gates, run_folder
from pnas_tf.errors import InputError
from pnas_tf.evaluate import PathScorer
from pnas_tf.limits import Goal
from pnas_tf.searcher import Searcher

KEPT_CHECKPOINTS = 2
# Networks that tell how far the accuracy of random ones spreads.
RANDOM_PATHS = 10


@dataclasses.dataclass(frozen=True)
class Result:
    """Where what was found for one goal is written.

    Attributes:
        goal: what was searched for.
        folder: of arch.json and metrics.jsonl; the run folder itself if there is one goal.
    """

    goal: Goal
    folder: str


class SearchLog(keras.callbacks.Callback):
    """Writes the run folder of a search, epoch by epoch, and prints how far it is."""

    def __init__(self, run_dir: str, results: Sequence[Result], scorer: PathScorer):
        """Binds the folder.

        Args:
            run_dir: claimed already.
            results: one for each of the supernet's alphas.
            scorer: on held-out images, of the most probable network within the limits.
        """
        super().__init__()
        self._run_dir, self._results, self._scorer = run_dir, list(results), scorer
        self._lines = [run_folder.read_metrics(result.folder) for result in results]
        self._writer = tf.summary.create_file_writer(run_folder.path(run_dir, "logs"))
        self._epochs_run = 0

    def on_train_begin(self, logs=None):
        """Notes the time."""
        self._begin = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        """Drops metrics of epochs that are run again."""
        self._lines = [[line for line in lines if line["epoch"] < epoch] for lines in self._lines]
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
        schedule, seconds = self.model.schedule, time.monotonic() - self._epoch_begin
        common = {"kind": "search", "epoch": epoch, "phase": "warmup" if epoch < schedule.warmup_epochs else "search",
                  "steps": schedule.steps_per_epoch, "seconds": round(seconds, 3),
                  "step_ms": round(1e3 * seconds / schedule.steps_per_epoch, 3)}
        if epoch == schedule.warmup_epochs - 1:
            common["random_accuracy_sd"] = self._spread_of_random_paths()
        for number, (result, lines) in enumerate(zip(self._results, self._lines, strict=True)):
            lines.append({**common, **self._own(logs or {}, number), **self._derived(result, number)})
            run_folder.write_metrics(result.folder, lines)
        self._tensorboard()
        save_checkpoint(self.model, self._run_dir, epoch + 1)
        print(self._progress(), flush=True)

    def _own(self, logs, number):
        """Of the logs of a step what concerns one goal."""
        mine = f"/{number}"
        return {name.removesuffix(mine): float(value) for name, value in logs.items()
                if "/" not in name or name.endswith(mine)}

    def _derived(self, result, number):
        """Writes arch.json of a goal; what there is to log of its probabilities."""
        goal, supernet = result.goal, self.model.supernet
        probs = supernet.probs(number).numpy()
        arch = derive.most_probable_within(supernet.space, probs, goal.all_limits)
        path = supernet.path(arch)
        table_ms, score = goal.ms.of_path(path), self._scorer.score(path)
        found = {"expected_ms": float(goal.ms.expected(probs)), "table_ms": table_ms, "derived_loss": score.loss,
                 "derived_accuracy": score.accuracy, "entropy": float(gates.entropy(tf.constant(probs)))}
        found |= {f"expected_{limit.name}": float(limit.cost.expected(probs)) for limit in goal.limits}
        arch.with_costs(target=goal.target, target_ms=goal.target_ms, expected_ms=found["expected_ms"],
                        table_ms=table_ms).save(run_folder.path(result.folder, "arch.json"))
        return {**found, "probs": named_probs(supernet, probs)}

    def _spread_of_random_paths(self):
        """Standard deviation of held-out accuracy over random networks: whether the supernet ranks at all."""
        counts, rng = self.model.supernet.mask.sum(1), np.random.default_rng(0)
        return float(np.std([self._scorer.score(rng.integers(counts)).accuracy for _ in range(RANDOM_PATHS)], ddof=1))

    def _progress(self) -> str:
        schedule, line = self.model.schedule, self._lines[0][-1]
        left = (time.monotonic() - self._begin) / self._epochs_run * (schedule.epochs - line["epoch"] - 1)
        parts = [f"epoch {line['epoch'] + 1}/{schedule.epochs} {line['phase']:<6}", f"{line['step_ms']:.0f} ms/step",
                 f"train loss {line['train_loss']:.3f} acc {line['train_accuracy']:.3f}"]
        if "held_out_loss" in line:
            parts.append(f"held-out loss {line['held_out_loss']:.3f} acc {line['held_out_accuracy']:.3f}")
        for result, lines in zip(self._results, self._lines, strict=True):
            named = f"{result.goal.target}: " if len(self._results) > 1 else ""
            parts.append(f"{named}expected {lines[-1]['expected_ms']:.3g} ms (target {result.goal.target_ms:.3g}), "
                         f"entropy {lines[-1]['entropy']:.2f}")
        return ("\r" if sys.stderr.isatty() else "") + ", ".join([*parts, f"{_duration(left)} left"])

    def _tensorboard(self):
        scalar = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"})
        for result, lines in zip(self._results, self._lines, strict=True):
            line, prefix = lines[-1], f"{result.goal.name}/" if len(self._results) > 1 else ""
            values = {name: value for name, value in line.items() if isinstance(value, float)}
            values |= {f"probs/{choice}/{op}": p for choice, row in line["probs"].items() for op, p in row.items()}
            with self._writer.as_default():
                # tf.summary.scalar needs the tensorboard package; writing the event does not.
                for name, value in values.items():
                    tf.summary.write(prefix + name, tf.constant(value, tf.float32), step=line["epoch"], metadata=scalar)
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
