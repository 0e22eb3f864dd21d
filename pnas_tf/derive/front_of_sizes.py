"""One front from those of several image sizes.

Each size was searched by itself, from the same warm-up, and has weights, effects of ops and a loss of its own. What can
be compared between sizes is how many of the same held-out images a network has right. Which images these are is not
kept, so the error of such a comparison is taken as that of separate images: it is too large rather than too small.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from pnas_tf.derive.front import line
from pnas_tf.run_folder.front_file import FrontNetwork


def delivered_size(fronts: Mapping[int, Sequence[FrontNetwork]]) -> int:
    """The image size whose delivered network has the highest held-out accuracy; of equal ones the quickest.

    Args:
        fronts: Front of each size, with one delivered network.
    """
    return min(fronts, key=lambda side: min(_order(each) for each in fronts[side] if each.delivered))


def joined(fronts: Mapping[int, Sequence[FrontNetwork]], images: int) -> list[FrontNetwork]:
    """The networks that no network of any size beats in both milliseconds and accuracy, and the delivered one.

        gain = accuracy of the delivered network - accuracy
        gain_error = sqrt(2 * accuracy * (1 - accuracy) / images), or that of its own front if both have one size;
                     0 for the delivered network itself

    Only one network is marked as delivered: that of `delivered_size`.

    Args:
        fronts: Front of each size, with one delivered network each.
        images: Number of held-out images.

    Returns:
        Networks by milliseconds, with their image size.
    """
    chosen = delivered_size(fronts)
    known = [dataclasses.replace(each, image_size=side, delivered=each.delivered and side == chosen)
             for side, front in fronts.items() for each in front]
    best = next(each for each in known if each.delivered)
    kept: dict[str, FrontNetwork] = {}  # by the name of its folder, in which there is room for one network
    highest = -1.0
    for each in sorted(known, key=lambda each: (each.ms, *_order(each))):
        there = kept.get(each.folder)
        if each.delivered or (_accuracy(each) > highest and not (there and there.delivered)):
            error = 0.0 if each.delivered else each.gain_error if each.image_size == chosen else \
                _error(_accuracy(each), images)
            kept[each.folder] = dataclasses.replace(each, gain=_accuracy(best) - _accuracy(each), gain_error=error)
        highest = max(highest, _accuracy(each))
    return sorted(kept.values(), key=lambda each: each.ms)


def table(front: Sequence[FrontNetwork], limit_ms: float | None) -> str:
    """The joined front as lines of text.

    Args:
        front: Result of `joined`.
        limit_ms: Target in milliseconds, or None.
    """
    lines = ["The best network at each budget over all image sizes, beside the delivered one:"]
    for each in front:
        above = limit_ms and each.ms > limit_ms * (1 + 1e-9)
        mark = "delivered" if each.delivered else "above the target" if above else ""
        lines.append(line(each.ms, each.gain, each.gain_error, mark, f" {each.image_size:5d} px"))
    return "\n".join(lines)


def _accuracy(network: FrontNetwork) -> float:
    return network.accuracy or 0.0


def _order(network: FrontNetwork) -> tuple[float, float]:
    return -_accuracy(network), network.ms


def _error(accuracy: float, images: int) -> float:
    """Standard error of the difference between two accuracies on separate samples of so many images."""
    return math.sqrt(2 * accuracy * (1 - accuracy) / images)
