"""Probabilities of every choice over time, as small pictures with a row for each op and a column for each epoch."""

import base64
import dataclasses
import io
from collections.abc import Sequence
from typing import Any

from pnas_tf.files import number
from pnas_tf.report import drawing, plots

# Limits that keep the page below 2 MB: columns of a heat map, pixels of all heat maps, and number of shown choices.
MAX_COLUMNS, MAX_PIXELS, MAX_CHOICES = 200, 300_000, 1500
# Up to this number of choices, each op has a line of text of its own; above it, each choice has one.
MAX_DETAILED = 60


@dataclasses.dataclass(frozen=True)
class HeatMap:
    """Probabilities of one choice over time.

    Attributes:
        choice: Name of the choice.
        image: Data URI of a PNG with a row for each op and a column for each epoch.
        final: Ops with their last probabilities, in the order of the rows; None stands for an invalid probability.
    """

    choice: str
    image: str
    final: tuple[tuple[str, float | None], ...]

    @property
    def most_probable(self) -> tuple[str, float | None]:
        """The op with the highest last probability, and that probability."""
        return max(self.final, key=lambda entry: entry[1] or 0.0)


@dataclasses.dataclass(frozen=True)
class HeatMaps:
    """The heat maps of a search.

    Attributes:
        groups: Heat maps by block, in order; a block of one choice is a group of one.
        left_out: Number of choices that are left out, for lack of room.
        detailed: Whether there is room for a line of text for each op.
    """

    groups: dict[str, tuple[HeatMap, ...]]
    left_out: int
    detailed: bool

    @property
    def all(self) -> list[HeatMap]:
        """The heat maps of all groups in order."""
        return [heat_map for group in self.groups.values() for heat_map in group]


def of_search(epochs: Sequence[dict[str, Any]]) -> HeatMaps:
    """Draws the heat maps of a search.

    Args:
        epochs: Logged epochs whose `probs` is an object. It should map each choice to probabilities by op, but it
            comes from a file, so everything that does not fit is left out.
    """
    per_epoch = [_prob_dicts(epoch) for epoch in plots.thin(epochs, MAX_COLUMNS)]
    ops: dict[str, dict[str, None]] = {}
    for probs in per_epoch:
        for name, entry in probs.items():
            ops.setdefault(name, {}).update(dict.fromkeys(entry))
    shown: dict[str, list[str]] = {}
    left = MAX_PIXELS
    for name, entries in list(ops.items())[:MAX_CHOICES]:
        left -= len(entries)
        if left < 0:
            break
        shown[name] = list(entries)
    columns = max(10, MAX_PIXELS // max(1, sum(map(len, shown.values()))))
    groups: dict[str, tuple[HeatMap, ...]] = {}
    for name, shown_ops in shown.items():
        rows = [(op, [_prob(probs.get(name, {}).get(op)) for probs in plots.thin(per_epoch, columns)])
                for op in shown_ops]
        heat_map = HeatMap(name, picture(rows), tuple((op, row[-1]) for op, row in rows))
        block = drawing.block_of(name)
        groups[block] = (*groups.get(block, ()), heat_map)
    return HeatMaps(groups, len(ops) - len(shown), len(shown) <= MAX_DETAILED)


def _prob_dicts(epoch: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: entry for name, entry in epoch["probs"].items() if isinstance(entry, dict) and entry}


def _prob(value: Any) -> float | None:
    value = number(value)
    return value if value is not None and 0 <= value <= 1 else None


def picture(rows: Sequence[tuple[str, Sequence[float | None]]]) -> str:
    """Draws probabilities over time, with a row for each op in its kernel's colour and a column for each epoch.

    Args:
        rows: Ops with their probabilities, 0 to 1 or None. All rows have the same length, at least 1.

    Returns:
        Data URI of a PNG with one pixel for each probability; its opacity is the probability.
    """
    import matplotlib.image
    import numpy as np
    from matplotlib.colors import to_rgba_array

    pixels = np.empty([len(rows), len(rows[0][1]), 4])
    for pixel_row, (op, probs) in zip(pixels, rows, strict=True):
        pixel_row[:] = to_rgba_array(plots.color_of(plots.kernel_of(op)))
        pixel_row[:, 3] = [prob or 0.0 for prob in probs]
    buffer = io.BytesIO()
    matplotlib.image.imsave(buffer, (pixels * 255).round().astype("uint8"), format="png",
                            metadata=plots.WITHOUT_VERSION)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
