"""The events of a search for TensorBoard: numbers, probabilities, pictures of the network, a summary in words."""

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from pnas_tf.cost.goal import Goal
from pnas_tf.errors import InputError
from pnas_tf.report import drawing
from pnas_tf.space.arch import Arch


class Events:
    """Writes events for TensorBoard's plugins. Unlike `tf.summary.scalar`, it does not need the package tensorboard."""

    def __init__(self, folder: str):
        """Opens the folder of the events.

        Raises:
            InputError: If the folder cannot be written.
        """
        self._folder = folder
        self._drawn: dict[str, str] = {}  # the network of the last picture, by prefix
        with self._naming_full_disk():
            self._writer = tf.summary.create_file_writer(folder)

    def write(self, line: dict[str, Any], goal: Goal, arch: Arch, prefix: str = "") -> None:
        """Adds the events of an epoch for one goal.

        Args:
            line: Line of metrics.jsonl.
            goal: Goal that the line belongs to.
            arch: Network so far.
            prefix: Prefix of the names of the events, if there are several goals.

        Raises:
            InputError: If the events cannot be written.
        """
        values = {name: value for name, value in line.items() if isinstance(value, float)}
        values |= {f"probs/{choice}/{op}": p for choice, row in line["probs"].items() for op, p in row.items()}
        with self._writer.as_default(step=line["epoch"] + 1), self._naming_full_disk():
            for name, value in values.items():
                tf.summary.write(prefix + name, tf.constant(value, tf.float32), metadata=_plugin("scalars"))
            if self._drawn.get(prefix) != arch.fingerprint():  # drawing takes longer than everything else
                self._drawn[prefix] = arch.fingerprint()
                png = drawing.png(arch)
                width, height = drawing.png_size(png)
                tf.summary.write(f"{prefix}architecture", tf.constant([str(width), str(height), png]),
                                 metadata=_plugin("images"))
            tf.summary.write(f"{prefix}summary", tf.constant(_summary(line, goal, arch)), metadata=_plugin("text"))

    def flush(self) -> None:
        """Writes all events to the disk. Raises InputError if the disk is full."""
        with self._naming_full_disk():
            self._writer.flush()

    @contextlib.contextmanager
    def _naming_full_disk(self) -> Iterator[None]:
        """Turns TensorFlow's errors about files into one line."""
        try:
            yield
        except tf.errors.OpError as error:
            raise InputError(f"{self._folder}: cannot be written ({' '.join(str(error).split())[:150]}). Free some "
                             "space and run the same command again.") from None


def _plugin(name: str) -> Any:
    return tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": name})


def _summary(line: dict[str, Any], goal: Goal, arch: Arch) -> str:
    """An epoch as a table, and the network so far, in Markdown."""
    target = f"{goal.limit_ms:.4g} ms" if goal.limit_ms else "latency is free"
    facts = {"epoch": line["epoch"] + 1, "phase": line["phase"], "target": f"{target} on {goal.target}",
             "expected": f"{line['expected_ms']:.4g} ms", "most probable network": f"{line['table_ms']:.4g} ms",
             "its held-out accuracy": f"{line['derived_accuracy']:.2%}", "entropy": f"{line['entropy']:.3f} nats"}
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    network = "\n".join("    " + row for row in arch.draw().splitlines())
    return f"| | |\n| --- | --- |\n{rows}\n\n{network}\n"
