"""Signs that a search had too few held-out images for what it concludes from them.

An accuracy p on n images has the standard error `sqrt(p * (1 - p) / n)`.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from pnas_tf.files import number


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


def chosen_by_chance(finalists: Sequence[dict[str, Any]], images: HeldOut | None) -> str | None:
    """Sign that finalists differ less than chance alone makes them differ. Trials choose in another way: no sign then.

    Args:
        finalists: Entries of finalists.json, the delivered network first.
        images: Images that they were scored on, or None.
    """
    if images is None or not finalists or "trial_accuracy" in finalists[0]:
        return None
    accuracies = [accuracy for finalist in finalists if finalist.get("eligible") is True
                  and (accuracy := _share(finalist.get("accuracy"))) is not None]
    if len(accuracies) < 2:
        return None
    ends = [min(accuracies), max(accuracies)]
    if ends[1] - ends[0] >= standard_error(ends, images.images):
        return None
    return (f"There are too few held-out images ({images.images:,}) to tell the best {len(accuracies)} networks apart: "
            "the choice between them is chance. Use more images, hold out more of them (--held_out_size; up to 5,000 "
            "are compared), compare by trainings (--trials), or take the cheapest of them or that with most MACs.")


def _share(value: Any) -> float | None:
    share = number(value)
    return share if share is not None and 0 <= share <= 1 else None
