"""Signs that a search had too few held-out images for what it concludes from them.

An accuracy p on n images has the standard error `sqrt(p * (1 - p) / n)`.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from pnas_tf.files import number
from pnas_tf.run_folder.front_file import FrontNetwork

# Standard errors within which a difference may be chance.
ERRORS = 2.0


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The held-out images that finalists were scored on.

    Attributes:
        images: Number of images.
        largest_class_share: Share of the most frequent label, 0 to 1.
    """

    images: int
    largest_class_share: float


def held_out(data: dict[str, Any]) -> HeldOut | None:
    """The held-out images as finalists.json describes them.

    Args:
        data: Contents of finalists.json.

    Returns:
        None if the file is of an older version, or if the numbers are impossible.
    """
    images, share = number(data.get("held_out_images")), _share(data.get("largest_class_share"))
    return HeldOut(int(images), share) if images is not None and images >= 1 and share is not None else None


def standard_error(accuracies: Sequence[float], images: float) -> float:
    """Standard error of an accuracy, or of the difference between two.

    Args:
        accuracies: One accuracy or two, each 0 to 1.
        images: Number of images that each was measured on.
    """
    return math.sqrt(sum(accuracy * (1 - accuracy) for accuracy in accuracies) / images)


def no_better_than_largest_class(finalists: Sequence[dict[str, Any]], images: HeldOut | None) -> str | None:
    """Sign that the delivered network's accuracy may be that of a network which knows only the most frequent class.

    Args:
        finalists: Entries of finalists.json, the delivered network first.
        images: Images that they were scored on, or None.
    """
    accuracy = _share(finalists[0].get("accuracy")) if finalists else None
    if images is None or accuracy is None:
        return None
    share = images.largest_class_share
    if accuracy - share > 2 * standard_error([share], images.images):
        return None
    return (f"With inherited weights, the delivered network names {accuracy:.1%} of {images.images:,} held-out images "
            f"correctly, which is no better than always naming the largest class ({share:.1%}): the supernet has "
            "learned too little to compare networks. Use more images or a longer warm-up (--warmup_epochs).")


def chosen_by_chance(front: Sequence[FrontNetwork], target_ms: float | None, images: HeldOut | None) -> str | None:
    """Sign that not even the quickest network of the front is worse beyond chance than the best within the target.

    Args:
        front: Networks of front.json, or none.
        target_ms: Milliseconds that the search aimed at, or None.
        images: Images that the networks were scored on, or None.
    """
    within = [network for network in front if target_ms is None or network.ms <= target_ms * (1 + 1e-6)]
    worst = max(within, key=lambda network: network.gain, default=None)
    if images is None or worst is None or len(within) < 2 or worst.gain > ERRORS * worst.gain_error:
        return None
    return (f"Networks of {within[0].ms:.3g} to {within[-1].ms:.3g} ms differ by {100 * worst.gain:.1f} +- "
            f"{100 * worst.gain_error:.1f} points: there are too few held-out images ({images.images:,}) to tell them "
            "apart. Use more images, hold out more of them (--held_out_size; up to 5,000 are compared), or compare by "
            "trainings (--trials).")


def _share(value: Any) -> float | None:
    share = number(value)
    return share if share is not None and 0 <= share <= 1 else None
