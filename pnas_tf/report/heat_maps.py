"""Probabilities of every choice over time, as small pictures: a row for each op, a column for each epoch."""

import base64
import dataclasses
import io
from collections.abc import Sequence
from typing import Any

from pnas_tf.files import number
from pnas_tf.report import drawing, plots

# The page stays below 2 MB: columns of a heat map, pixels of all, and choices that are shown.
MAX_COLUMNS, MAX_PIXELS, MAX_CHOICES = 200, 300_000, 1500
# Up to so many choices each op has a line of its own; of more, each choice has one.
MAX_DETAILED = 60


@dataclasses.dataclass(frozen=True)
class HeatMap:
    """Probabilities of one choice over time.

    Attributes:
        choice: its name.
        image: data URI of a PNG: a row for each op, a column for each epoch.
        final: op and last probability (None if not a probability), in the order of the rows.
    """

    choice: str
    image: str
    final: tuple[tuple[str, float | None], ...]

    @property
    def most_probable(self) -> tuple[str, float | None]:
        """The op that is ahead at the end, and its probability."""
        return max(self.final, key=lambda entry: entry[1] or 0.0)


@dataclasses.dataclass(frozen=True)
class HeatMaps:
    """Those of a search.

    Attributes:
        groups: by block, in order; a block of one choice is a group of one.
        left_out: choices that there was no room for.
        detailed: whether there is room for a line of text for each op.
    """

    groups: dict[str, tuple[HeatMap, ...]]
    left_out: int
    detailed: bool

    @property
    def all(self) -> list[HeatMap]:
        """The maps of all groups in order."""
        return [one for group in self.groups.values() for one in group]


def of_search(epochs: Sequence[dict[str, Any]]) -> HeatMaps:
    """The maps of a search.

    Args:
        epochs: those whose `probs` is an object: op and probability by choice (nobody vouches for what is inside).
    """
    per_epoch = [_prob_dicts(epoch) for epoch in plots.thin(epochs, MAX_COLUMNS)]
    ops: dict[str, dict[str, None]] = {}
    for probs in per_epoch:
        for name, entry in probs.items():
            ops.setdefault(name, {}).update(dict.fromkeys(entry))
    shown: dict[str, list[str]] = {}
    left = MAX_PIXELS
    for name, named in list(ops.items())[:MAX_CHOICES]:
        left -= len(named)
        if left < 0:
            break
        shown[name] = list(named)
    columns = max(10, MAX_PIXELS // max(1, sum(map(len, shown.values()))))
    groups: dict[str, tuple[HeatMap, ...]] = {}
    for name, its_ops in shown.items():
        rows = [(op, [_prob(probs.get(name, {}).get(op)) for probs in plots.thin(per_epoch, columns)])
                for op in its_ops]
        one = HeatMap(name, picture(rows), tuple((op, row[-1]) for op, row in rows))
        block = drawing.block_of(name)
        groups[block] = (*groups.get(block, ()), one)
    return HeatMaps(groups, len(ops) - len(shown), len(shown) <= MAX_DETAILED)


def _prob_dicts(epoch: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: entry for name, entry in epoch["probs"].items() if isinstance(entry, dict) and entry}


def _prob(value: Any) -> float | None:
    value = number(value)
    return value if value is not None and 0 <= value <= 1 else None


def picture(rows: Sequence[tuple[str, Sequence[float | None]]]) -> str:
    """Probabilities over time: a row for each op in its kernel's colour, a column for each epoch.

    Args:
        rows: op and its probabilities, 0 to 1 or None, equally many in each row and at least one.

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
