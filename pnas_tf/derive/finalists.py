"""A network that a search may deliver, and the file that lists all of them."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from pnas_tf import files
from pnas_tf.cost.goal import Goal
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Space

FORMAT = "pnas_tf.finalists/1"


@dataclasses.dataclass(frozen=True)
class Finalist:
    """A network that may be delivered.

    Attributes:
        how: Origin of the network: one of the names in `run_folder.folder`.
        arch: The network.
        log_prob: Logarithm of the network's probability.
        costs: Costs of the network by the names of the limits, and `ms`; of a limit that the whole network is measured
            for, once it is.
        eligible: Whether the network may be delivered: it keeps every limit, according to the table or, if finalists
            are timed, on the device.
        expected_loss: Loss that its ops make it expect, by which networks are compared; see `op_effects` and `lean`.
        loss: Loss on all images that rank networks (`Scores`), with the supernet's weights; None if the network is not
            on the front.
        accuracy: Accuracy on all held-out images, or None like the loss.
        measured_ms: Milliseconds of the whole network on the device, if it was timed; see `device_check`.
        trial_accuracy: Held-out accuracy after a trial training, if there was one; see `trials`.
    """

    how: str
    arch: Arch
    log_prob: float
    costs: dict[str, float]
    eligible: bool
    expected_loss: float
    loss: float | None = None
    accuracy: float | None = None
    measured_ms: float | None = None
    trial_accuracy: float | None = None


def save(path: str, goal: Goal, finalists: Sequence[Finalist], labels: np.ndarray, space: Space) -> None:
    """Writes finalists.json: every finalist with its scores, best first, and the size of what they were scored on.

    Args:
        path: Path of the file.
        goal: Goal of the finalists.
        finalists: Finalists, best first.
        labels: Labels of all held-out images that `scored` used, int [images].
        space: Space that was searched.
    """
    def entry(finalist: Finalist) -> dict[str, Any]:
        fields = {field.name: getattr(finalist, field.name) for field in dataclasses.fields(finalist)}
        return {name: value for name, value in fields.items() if name != "arch" and value is not None} | {
            "ops": finalist.arch.chosen_in(space)}

    files.write_text(path, json.dumps({
        "format": FORMAT, "target": goal.target, "limits": dict(goal.bounds),
        "held_out_images": len(labels), "largest_class_share": float(np.bincount(labels).max() / len(labels)),
        "finalists": [entry(finalist) for finalist in finalists]}, indent=1) + "\n")
