"""TODO: docstring."""

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from pnas_tf.cost.goal import Goal
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import arch as arch_lib


def _plugin(name: str) -> Any:
    return tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": name})


def _summary(line: dict[str, Any], goal: Goal, arch: arch_lib.Arch) -> str:
    """An epoch as a table and the network so far, in Markdown."""
    wanted = f"{goal.wanted_ms:.4g} ms" if goal.wanted_ms else "latency is free"
    shown = {"epoch": line["epoch"] + 1, "phase": line["phase"], "target": f"{wanted} on {goal.target}",
             "expected": f"{line['expected_ms']:.4g} ms", "most probable network": f"{line['table_ms']:.4g} ms",
             "its held-out accuracy": f"{line['derived_accuracy']:.2%}", "entropy": f"{line['entropy']:.3f} nats"}
    rows = "\n".join(f"| {name} | {value} |" for name, value in shown.items())
    drawing = "\n".join("    " + row for row in arch.draw().splitlines())
    return f"| | |\n| --- | --- |\n{rows}\n\n{drawing}\n"


@contextlib.contextmanager
def _naming_full_disk(run_dir: str) -> Iterator[None]:
    """Turns TensorFlow's errors about files into one line."""
    try:
        yield
    except tf.errors.OpError as error:
        raise InputError(f"{RunFolder(run_dir).logs}: cannot be written ({' '.join(str(error).split())[:150]})"
                         ". Free space, and the same command goes on.") from None
