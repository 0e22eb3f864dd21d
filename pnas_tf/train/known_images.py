"""Tells whether a training starts or learns from a network that knows images of the test part."""

import os
from typing import Any

from pnas_tf import files, terminal
from pnas_tf.data import Data, spec
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.train.initial_weights import WORDS
from pnas_tf.train.recipe import NONE, Recipe
from pnas_tf.train.state import CONTENTS, TRAINED_ON


def check(recipe: Recipe, data: Data) -> None:
    """Looks at the trainings of the initial weights and of the teacher, if they are of the same data set.

    Where the seed splits off the test images, another seed makes test images of those that a network has learned. So
    does a file that was added or removed, since the images are split anew; this is only a warning, because a network
    may well be trained further on a data set that has grown. The same holds for another data set of the same classes,
    which may be a copy.

    Args:
        recipe: Settled recipe.
        data: Data set of the training.

    Raises:
        InputError: If a network was trained on the same data set, split by another seed, so that it knows test images.
    """
    for flag, path in (("init_weights", recipe.init_weights), ("teacher", recipe.teacher)):
        facts = {} if path in (*WORDS, NONE) else _facts(path)
        settings = facts.get("settings")
        if not isinstance(settings, dict) or not _is_comparable(settings, data):
            continue
        is_same, looks = spec.is_same(str(facts.get("dataset")), data.name), facts.get(TRAINED_ON)
        classes = looks.get("class_names") if isinstance(looks, dict) else None
        if not is_same and classes != list(data.class_names):
            continue
        if str(settings.get(CONTENTS, data.test.fingerprint)).endswith(data.test.fingerprint):
            continue
        there = str(settings.get("seed"))[:20]
        if is_same and there != str(recipe.seed):
            raise InputError(f"--{flag}={path}: was trained on images that are test images now, since its split is "
                             f"another (--seed={there}, here {recipe.seed}). Give --seed={there}.")
        others = f"other files of {data.name} than there are now" if is_same else "another data set of these classes"
        terminal.warn(f"{path} was trained on {others}. It may know some of what are test images now, and the test "
                      "accuracy may be too high. Images for the test that stay the same belong in a folder of their "
                      "own, docs/data.md says how.")


def _facts(path: str) -> dict[str, Any]:
    """The record of the training that made a .keras file; {} if there is none."""
    folder = path if os.path.isdir(path) else os.path.dirname(path) or os.curdir
    record = RunFolder(folder).training_facts
    facts = files.read_json(record) if os.path.exists(path) and os.path.exists(record) else None
    return facts if isinstance(facts, dict) else {}


def _is_comparable(settings: dict[str, Any], data: Data) -> bool:
    """Whether fingerprints tell the same images: those of arrays depend on the size of the images, too."""
    space = settings["arch"].get("space") if isinstance(settings.get("arch"), dict) else None
    size = space.get("input_size") if isinstance(space, dict) else None
    return data.rendering is not None or size == data.image_shape[0]
