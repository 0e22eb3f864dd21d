"""What a comparison of a table with whole networks says about the table, in words."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pnas_tf.files import number

# Bias, error of single networks and change of the machine up to which a table is as good as its use needs.
TOLERANCE = 0.10

GOOD, OFF, SCATTERED, UNJUDGED = "good", "off", "scattered", "unjudged"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A judgement of a table.

    Attributes:
        state: `GOOD`; `OFF`, all networks take more or less than predicted; `SCATTERED`, single networks do;
            `UNJUDGED`, the machine changed so much during the comparison that the comparison says nothing.
        words: The judgement as a sentence.
    """

    state: str
    words: str


def verdict(accuracy: Mapping[str, Any], measurer: Any = "host") -> Verdict | None:
    """Judges a table by its comparison with whole networks.

    Args:
        accuracy: Entry of the table's header as `latency.compare` writes it: bias and rmse_of_mean of the predictions,
            noise_bias and noise_rmse_of_mean of a second measurement as a prediction of the first. It may come from a
            stranger.
        measurer: Name of the table's measurer.

    Returns:
        The judgement; None if the entry lacks the figures.
    """
    bias, error = number(accuracy.get("bias")), number(accuracy.get("rmse_of_mean"))
    if bias is None or error is None:
        return None
    device = "phone" if measurer == "android" else "machine"
    noise = max(abs(number(accuracy.get(name)) or 0.0) for name in ("noise_bias", "noise_rmse_of_mean"))
    if noise > TOLERANCE and abs(bias) <= 2 * noise:
        return Verdict(UNJUDGED, f"The {device} was busy: the same networks timed twice differed by "
                                 f"{_percent(noise)}, so this comparison does not judge the table.")
    if abs(bias) > TOLERANCE:
        return Verdict(OFF, f"As the {device} was then, this table is {_percent(bias)} "
                            f"{'low' if bias < 0 else 'high'}.")
    if error > TOLERANCE:
        return Verdict(SCATTERED, "On average this table is right, but single networks are off by about "
                                  f"{_percent(error)}.")
    return Verdict(GOOD, f"This table is right: its predictions are off by about {_percent(error)}"
                         + (f", the same networks timed twice by {_percent(noise)}." if noise else "."))


def doubt(accuracy: Mapping[str, Any] | None, measurer: Any) -> str:
    """The words of a verdict that a search should not pass over; "" if there is none."""
    judged = verdict(accuracy, measurer) if accuracy else None
    return judged.words if judged and judged.state != GOOD else ""


def _percent(share: float) -> str:
    return f"{100 * abs(share):.2g} %"
