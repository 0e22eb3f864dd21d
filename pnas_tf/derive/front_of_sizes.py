"""One front from those of several image sizes.

Each size was searched by itself, from the same warm-up. All networks were scored on the same held-out images, so their
expected losses can be compared; the error of a comparison between two sizes is that of two separate samples.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from pnas_tf.derive.front import accuracy_for_loss
from pnas_tf.run_folder.front_file import FrontNetwork


def delivered_size(fronts: Mapping[int, Sequence[FrontNetwork]]) -> int:
    """The image size whose delivered network has the lowest expected loss.

    Args:
        fronts: Front of each size, with one delivered network.
    """
    return min(fronts, key=lambda side: min(_loss(each) for each in fronts[side] if each.delivered))


def joined(fronts: Mapping[int, Sequence[FrontNetwork]], limit_ms: float | None, images: int) -> list[FrontNetwork]:
    """The networks that no network of any size beats in both milliseconds and expected loss, and the delivered one.

        gain = slope * (expected loss - expected loss of the best)
        gain_error = sqrt(gain_error in its own front^2 + 2 * accuracy * (1 - accuracy) / images)

    The second term is there for a network of another size than the best. Only one network is marked as delivered: that
    of `delivered_size`.

    Args:
        fronts: Front of each size.
        limit_ms: Milliseconds within which the best is looked for; None for no limit.
        images: Number of held-out images.

    Returns:
        Networks by milliseconds, with their image size.
    """
    side_delivered = delivered_size(fronts)
    known = [dataclasses.replace(each, image_size=side, delivered=each.delivered and side == side_delivered)
             for side, front in fronts.items() for each in front]
    known.sort(key=lambda each: (each.ms, _loss(each)))
    best = min((each for each in known if limit_ms is None or each.ms <= limit_ms * (1 + 1e-9)), key=_loss)
    slope = accuracy_for_loss([_loss(each) for each in known], [each.accuracy or 0.0 for each in known])
    kept: dict[str, FrontNetwork] = {}  # by the name of its folder, in which there is room for one network
    for each in known:
        lowest = min((_loss(one) for one in kept.values()), default=math.inf)
        there = kept.get(each.folder)
        if each.delivered or (_loss(each) < lowest and not (there and there.delivered)):
            other = 0.0 if each.image_size == best.image_size else _variance(each.accuracy or 0.5, images)
            kept[each.folder] = dataclasses.replace(each, gain=slope * (_loss(each) - _loss(best)),
                                                    gain_error=math.sqrt(each.gain_error ** 2 + other))
    return sorted(kept.values(), key=lambda each: each.ms)


def table(front: Sequence[FrontNetwork], limit_ms: float | None) -> str:
    """The joined front as lines of text.

    Args:
        front: Result of `joined`.
        limit_ms: Target in milliseconds, or None.
    """
    lines = ["The best network at each budget over all image sizes, beside the best",
             f"{'within the target' if limit_ms else 'of all'}:"]
    for each in front:
        above = limit_ms and each.ms > limit_ms * (1 + 1e-9)
        mark = "delivered" if each.delivered else "above the target" if above else ""
        lines.append(f"{each.ms:10.3g} ms {each.image_size:5d} px  {0.0 - round(100 * each.gain, 1):+5.1f} +- "
                     f"{100 * each.gain_error:.1f} points  {mark}".rstrip())
    return "\n".join(lines)


def _loss(network: FrontNetwork) -> float:
    return math.inf if network.expected_loss is None else network.expected_loss


def _variance(accuracy: float, images: int) -> float:
    """Variance of the difference between two accuracies on separate samples of so many images."""
    return 2 * accuracy * (1 - accuracy) / images
