"""Trials: some finalists are trained from scratch for a few epochs, and the best of them is delivered.

Trials help if the supernet ranks networks poorly: after few epochs, it says little about large ops, which learn slowest
in it, and it favours the networks that it has trained most (docs/results.md, "Does search pay?").
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

from pnas_tf import files
from pnas_tf.data import Data
from pnas_tf.derive.finalists import Finalist
from pnas_tf.run_folder import RunFolder
from pnas_tf.run_folder.folder import MOST_MACS
from pnas_tf.supernet import supernet
from pnas_tf.train.fit import fit
from pnas_tf.train.recipe import Recipe


def run(finalists: Sequence[Finalist], folder: RunFolder, data: Data, recipe: Recipe, count: int) -> list[Finalist]:
    """Trains some of the finalists; the finalist of highest held-out accuracy then comes first.

    The network with most MACs within the limits needs no search, so another finalist has to beat it by more than the
    standard error of a difference. Networks that have been trained in the folder before are not trained again.

    Args:
        finalists: Finalists from `finalists.find`.
        folder: Folder of the goal's results; it has a run folder for each trial.
        data: Data set; its test images are not used.
        recipe: Recipe of each training; all have the same seed.
        count: Number of trials, see `entrants`.

    Returns:
        All finalists: first those with a trial, best first, then the others.
    """
    without_test = dataclasses.replace(data, test=data.held_out)
    trained: list[Finalist] = []
    chosen = entrants(finalists, count)
    supernet.set_graph_optimiser(True)
    for number, finalist in enumerate(chosen):
        trial = RunFolder(os.path.join(folder.trials, str(number)))
        facts = _facts(trial, finalist)
        if facts is None:
            print(f"Trial {number + 1} of {len(chosen)}: {finalist.how}, {recipe.epochs} epochs.", flush=True)
            os.makedirs(trial, exist_ok=True)
            finalist.arch.save(trial.arch)
            facts = fit(finalist.arch, without_test, recipe, trial)
        trained.append(dataclasses.replace(finalist, trial_accuracy=facts["test_accuracy"]))
    supernet.set_graph_optimiser(False)
    trained = ranked(trained, data.held_out.size)
    return [*trained, *(finalist for finalist in finalists if finalist not in chosen)]


def ranked(trained: Sequence[Finalist], images: int) -> list[Finalist]:
    """Finalists by accuracy. The network of most MACs comes first unless the best is more accurate beyond chance.

        standard error = sqrt(sum over both networks of accuracy * (1 - accuracy) / images)

    Args:
        trained: Finalists with their trial_accuracy.
        images: Number of images that the accuracy was measured on.
    """
    ordered = sorted(trained, key=lambda finalist: -_accuracy(finalist))
    best, largest = ordered[0], next((finalist for finalist in ordered if finalist.how == MOST_MACS), None)
    if largest:
        variances = (_accuracy(finalist) * (1 - _accuracy(finalist)) / images for finalist in (best, largest))
        if _accuracy(best) - _accuracy(largest) <= math.sqrt(sum(variances)):
            ordered.remove(largest)
            ordered.insert(0, largest)
    return ordered


def entrants(finalists: Sequence[Finalist], count: int) -> list[Finalist]:
    """The finalists to train: the eligible finalist of lowest loss, that of most MACs, and the best of each other kind.

    Further eligible finalists follow by loss. Of equal networks, only the first counts.
    """
    networks: dict[str, Finalist] = {}
    for finalist in finalists:
        if finalist.eligible:
            networks.setdefault(finalist.arch.fingerprint(), finalist)
    eligible = list(networks.values())
    kinds: dict[str, Finalist] = {}
    for finalist in (*eligible[:1], *(other for other in eligible if other.how == MOST_MACS), *eligible):
        kinds.setdefault(finalist.how, finalist)
    chosen = list(kinds.values())[:count]
    chosen += [finalist for finalist in eligible if finalist not in chosen][:count - len(chosen)]
    return chosen


def _accuracy(finalist: Finalist) -> float:
    return finalist.trial_accuracy or 0.0


def _facts(trial: RunFolder, finalist: Finalist) -> dict[str, Any] | None:
    """train.json of an earlier trial of the same network, or None."""
    if not all(map(os.path.exists, (trial.training_facts, trial.arch))):
        return None
    if files.read_json(trial.arch).get("ops") != finalist.arch.ops:
        return None
    return files.read_json(trial.training_facts)
