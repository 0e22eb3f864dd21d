"""What a search leaves behind at each epoch: a line on the terminal, metrics, arch.json, TensorBoard, a checkpoint."""

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnas_tf import terminal
from pnas_tf.cost import within_limits
from pnas_tf.derive.deliver import Result
from pnas_tf.report import drawing as drawing_lib
from pnas_tf.run_folder import RunFolder
from pnas_tf.search import checkpoints
from pnas_tf.search.schedule import Pace
from pnas_tf.search.stopping import Stop
from pnas_tf.search.tensorboard import _naming_full_disk, _plugin, _summary
from pnas_tf.space import arch as arch_lib
from pnas_tf.supernet import gates
from pnas_tf.supernet.path_scorer import PathScorer

# Networks that tell how far the accuracy of random ones spreads.
RANDOM_PATHS = 10


class SearchLog(keras.callbacks.Callback):
    """Writes the run folder of a search, epoch by epoch, and prints how far it is.

    Between the ends of epochs it writes checkpoints: after some minutes, and when the search is asked to stop.
    """

    def __init__(self, run_dir: str, results: Sequence[Result], scorer: PathScorer, *, checkpoint_minutes: float = 0.0,
                 stop: Stop | None = None, epoch_seconds: float = 0.0):
        """Binds the folder.

        Args:
            run_dir: claimed already.
            results: one for each of the supernet's alphas.
            scorer: on held-out images, of the most probable network within the limits.
            checkpoint_minutes: between checkpoints, at most; 0: at the end of epochs alone.
            stop: looked at after each step.
            epoch_seconds: that the epoch in progress has taken before an interruption, from `checkpoints.restore`.
        """
        super().__init__()
        self._run_dir, self._results, self._scorer = run_dir, list(results), scorer
        self._batches = math.ceil(scorer.num_batches / len(results))  # for each goal, so that several take no longer
        self._checkpoint_seconds, self._stop = 60 * checkpoint_minutes, stop or Stop()
        self._lines = [RunFolder(result.folder).read_metrics() for result in results]
        with _naming_full_disk(run_dir):
            self._writer = tf.summary.create_file_writer(RunFolder(run_dir).logs)
        self._seconds_before = epoch_seconds
        self._drawn: dict[int, dict[str, str]] = {}  # the ops of the last picture, by goal

    def on_train_begin(self, logs=None):
        """Begins to watch the pace, and the time since a checkpoint."""
        self._pace, self._saved = Pace(self.model.schedule), time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        """Drops metrics of epochs that are run again."""
        self._lines = [[line for line in lines if line["epoch"] < epoch] for lines in self._lines]
        self._last_progress = time.monotonic()
        self._epoch_begin, self._seconds_before = self._last_progress - self._seconds_before, 0.0

    def on_train_batch_begin(self, batch, logs=None):
        """Notes the time."""
        self._step_begin = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        """Saves if it is time to, or to stop. On a terminal, rewrites a line of progress each second.

        Raises:
            KeyboardInterrupt: when the search was asked to stop, and all is saved.
        """
        now, steps = time.monotonic(), self.model.schedule.steps_per_epoch
        self._pace.note(self._steps_done() - 1, now - self._step_begin)
        stops, due = self._stop.signal is not None, 0 < self._checkpoint_seconds < now - self._saved
        if (stops or due) and self._steps_done() % steps:  # else on_epoch_end comes next, and the metrics first
            self._save()
            if stops:
                raise KeyboardInterrupt
        if sys.stderr.isatty() and now - self._last_progress > 1:
            self._last_progress = now
            step = (self._steps_done() - 1) % steps + 1
            print(f"\r  step {step}/{steps}, {1e3 * (now - self._epoch_begin) / step:.0f} ms a step, "
                  f"{self._left()}   ", end="", file=sys.stderr, flush=True)

    def on_epoch_end(self, epoch, logs=None):
        """Writes everything; the checkpoint comes last, so that what it stands for exists.

        Raises:
            KeyboardInterrupt: when the search was asked to stop, and all is saved.
        """
        RunFolder(self._run_dir).check_there()
        schedule, seconds = self.model.schedule, time.monotonic() - self._epoch_begin
        common = {"kind": "search", "epoch": epoch, "phase": "warmup" if epoch < schedule.warmup_epochs else "search",
                  "steps": schedule.steps_per_epoch, "seconds": round(seconds, 3),
                  "step_ms": round(1e3 * seconds / schedule.steps_per_epoch, 3)}
        if epoch == schedule.warmup_epochs - 1:
            common["random_accuracy_sd"] = self._spread_of_random_paths()
        for number, (result, lines) in enumerate(zip(self._results, self._lines, strict=True)):
            lines.append({**common, **self._own(logs or {}, number), **self._derived(result, number)})
            RunFolder(result.folder).write_metrics(lines)
        self._tensorboard()
        self._save(epoch_ends=True)
        print(self._progress(), flush=True)
        if self._stop.signal is not None:
            raise KeyboardInterrupt

    def _save(self, epoch_ends=False):
        RunFolder(self._run_dir).check_there()
        checkpoints.save(self.model, self._run_dir, 0.0 if epoch_ends else time.monotonic() - self._epoch_begin)
        self._saved = time.monotonic()

    def _steps_done(self):
        return int(self.model.step.value.numpy())

    def _own(self, logs, number):
        """Of the logs of a step what concerns one goal."""
        mine = f"/{number}"
        return {name.removesuffix(mine): float(value) for name, value in logs.items()
                if "/" not in name or name.endswith(mine)}

    def _derived(self, result, number):
        """Writes arch.json of a goal; what there is to log of its probabilities."""
        goal, supernet = result.goal, self.model.supernet
        probs = supernet.probs(number).numpy()
        arch = within_limits.most_probable_within(supernet.space, probs, goal.all_limits)
        path = supernet.path(arch)
        table_ms, score = goal.ms.of_path(path), self._scorer.score(path, self._batches)
        found = {"expected_ms": float(goal.ms.expected(probs)), "table_ms": table_ms, "derived_loss": score.loss,
                 "derived_accuracy": score.accuracy, "entropy": float(gates.entropy(tf.constant(probs)))}
        found |= {f"expected_{limit.name}": float(limit.cost.expected(probs)) for limit in goal.limits}
        arch.with_costs(target=goal.target, target_ms=goal.target_ms, expected_ms=found["expected_ms"],
                        table_ms=table_ms).save(RunFolder(result.folder).arch)
        return {**found, "probs": named_probs(supernet, probs)}

    def _spread_of_random_paths(self):
        """Standard deviation of held-out accuracy over random networks: whether the supernet ranks at all."""
        counts, rng = self.model.supernet.mask.sum(1), np.random.default_rng(0)
        return float(np.std([self._scorer.score(rng.integers(counts)).accuracy for _ in range(RANDOM_PATHS)], ddof=1))

    def _left(self) -> str:
        """How long the search still takes, in words."""
        seconds = self._pace.left(self._steps_done())
        return "time left not yet known" if seconds is None else f"{terminal.seconds(round(seconds))} left"

    def _progress(self) -> str:
        schedule, line = self.model.schedule, self._lines[0][-1]
        parts = [f"epoch {line['epoch'] + 1}/{schedule.epochs} {line['phase']:<6}", f"{line['step_ms']:.0f} ms/step",
                 f"train loss {line['train_loss']:.3f} acc {line['train_accuracy']:.3f}"]
        if "held_out_loss" in line:
            parts.append(f"held-out loss {line['held_out_loss']:.3f} acc {line['held_out_accuracy']:.3f}")
        for result, lines in zip(self._results, self._lines, strict=True):
            named = f"{result.goal.target}: " if len(self._results) > 1 else ""
            wanted = f" (target {result.goal.wanted_ms:.3g})" if result.goal.wanted_ms else ""
            parts.append(f"{named}expected {lines[-1]['expected_ms']:.3g} ms{wanted}, "
                         f"entropy {lines[-1]['entropy']:.2f}")
        return ("\r" if sys.stderr.isatty() else "") + ", ".join([*parts, self._left()])

    def _tensorboard(self):
        """Events as TensorBoard's plugins read them. tf.summary.scalar and its like need its package; this does not."""
        for number, (result, lines) in enumerate(zip(self._results, self._lines, strict=True)):
            line, prefix = lines[-1], f"{result.goal.name}/" if len(self._results) > 1 else ""
            values = {name: value for name, value in line.items() if isinstance(value, float)}
            values |= {f"probs/{choice}/{op}": p for choice, row in line["probs"].items() for op, p in row.items()}
            arch = arch_lib.load(RunFolder(result.folder).arch)
            with self._writer.as_default(step=line["epoch"]), _naming_full_disk(self._run_dir):
                for name, value in values.items():
                    tf.summary.write(prefix + name, tf.constant(value, tf.float32), metadata=_plugin("scalars"))
                if self._drawn.get(number) != arch.ops:  # drawing takes longer than all the rest
                    self._drawn[number] = arch.ops
                    png = drawing_lib.png(arch)
                    width, height = drawing_lib.png_size(png)
                    tf.summary.write(f"{prefix}architecture", tf.constant([str(width), str(height), png]),
                                     metadata=_plugin("images"))
                tf.summary.write(f"{prefix}summary", tf.constant(_summary(line, result.goal, arch)),
                                 metadata=_plugin("text"))
        with _naming_full_disk(self._run_dir):
            self._writer.flush()


def named_probs(supernet: Any, probs: np.ndarray) -> dict[str, dict[str, float]]:
    """Probabilities [choices, ops] as {choice: {op: probability}}."""
    return {name: {op: float(p) for op, p in zip(block.ops, row[:len(block.ops)], strict=True)}
            for (name, block), row in zip(supernet.space.choices.items(), probs, strict=True)}
