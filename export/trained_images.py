"""Compares the images of an export with those that the network was trained on, as train.json records them."""

import os
from typing import Any

import numpy as np

from pnas_tf import files
from pnas_tf.errors import InputError

# Largest difference of the normalisations, as a share of the deviation of pixels: less than a level of 255.
SHARE = 0.01


def check(data: Any, training_facts: str, *, are_the_same: bool) -> None:
    """Refuses images by which an export would be wrong.

    The file normalises its images as the training did and names its outputs by the classes, and both are taken from
    the data set. Images that the network has learned must not be among the test images.

    Args:
        data: Data set of the export, from `data.load`.
        training_facts: Path of train.json, which may be missing or lack any of this.
        are_the_same: Whether the data set is that of the training.

    Raises:
        InputError: If the images are others than those of the training under the same name, or are normalised
            otherwise, or have other classes.
    """
    from pnas_tf.train.state import CONTENTS, TRAINED_ON

    facts = files.read_json(training_facts) if os.path.exists(training_facts) else {}
    known, images = (facts.get(name) if isinstance(facts, dict) else None for name in ("settings", TRAINED_ON))
    there = known.get(CONTENTS) if isinstance(known, dict) else None
    if are_the_same and there is not None and there != data.fingerprint:
        raise InputError(f"The images of {data.name} are not those of the training ({training_facts}): files were "
                         "added, removed or changed. Put them back, train again, or name other images by --dataset.")
    if not isinstance(images, dict):
        return
    for name, own in (("mean", data.mean), ("std", data.std)):
        trained = images.get(name)
        if isinstance(trained, list) and not _alike(trained, own, data.std):
            raise InputError(f"The network was trained on images that are normalised otherwise than those of "
                             f"{data.name} ({name} {_shown(trained)} there, {_shown(own)} here), so the file would be "
                             "wrong. Export with the data set of the training.")
    names = images.get("class_names")
    if isinstance(names, list) and names != list(data.class_names):
        at = next((n for n, pair in enumerate(zip(names, data.class_names, strict=False)) if pair[0] != pair[1]),
                  min(len(names), len(data.class_names)))
        raise InputError(f"The network's classes are not those of {data.name}: class {at} is "
                         f"{_name(names, at)} there and {_name(data.class_names, at)} here. Name folders as for the "
                         "training, or train again.")


def _alike(one, other, std):
    numbers = [value for value in one if isinstance(value, int | float) and not isinstance(value, bool)]
    return len(numbers) == len(one) == len(other) and bool(
        np.all(np.abs(np.subtract(numbers, other)) <= SHARE * np.asarray(std)))


def _shown(values):
    return ", ".join(f"{value:.3g}" if isinstance(value, int | float) else "?" for value in values[:3])


def _name(names, at):
    return repr(str(names[at])[:60]) if at < len(names) else "missing"
