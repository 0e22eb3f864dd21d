"""Trials: the last choice among finalists by what each learns alone, from scratch, in a few epochs.

For supernets that rank poorly: one that saw few epochs says little about large ops, which learn the slowest there, and
each favours the networks that it has trained the most (docs/results.md, "Does search pay?").
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

from pnas_tf import files as files_lib
from pnas_tf.derive.finalists import Finalist
from pnas_tf.run_folder import RunFolder
from pnas_tf.run_folder.folder import MOST_MACS
from pnas_tf.supernet import supernet
from pnas_tf.train import fit as fit_lib

# As pnas_tf.train's defaults.
RECIPE: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 4e-5, "label_smoothing": 0.1, "dropout": 0.0,
                          "colour_jitter": "normal", "init": "scratch"}


def run(found: Sequence[Finalist], data: Any, folder: str, *, count: int, epochs: int, batch_size: int,
        class_weights: str = "none", precision: str = "float32", seed: int = 0) -> list[Finalist]:
    """Trains some of the finalists; the one of highest held-out accuracy then comes first.

    But for chance: the network that computes most within the limits, which needs no search, has to be beaten by more
    than the standard error of a difference on so many images.

    What was trained before in the folder is not trained again.

    Args:
        found: from `finalists.find`.
        data: from `data.load`; its test images are not looked at.
        folder: of the goal's results; each trial has one of its own in there.
        count: of trials, see `entrants`.
        epochs: of each.
        batch_size: images a step.
        class_weights: of `data.CLASS_WEIGHTS`.
        precision: of `supernet.PRECISIONS`.
        seed: of weights and data order, the same in all.

    Returns:
        All finalists, those with a trial first, best first.
    """
    blind = dataclasses.replace(data, test=data.held_out)
    tried: list[Finalist] = []
    chosen = entrants(found, count)
    supernet.set_graph_optimiser(True)
    for number, finalist in enumerate(chosen):
        trial = RunFolder(folder).file("trials", str(number))
        facts = _facts(trial, finalist)
        if facts is None:
            print(f"Trial {number + 1} of {len(chosen)}: {finalist.how}, {epochs} epochs.", flush=True)
            os.makedirs(trial, exist_ok=True)
            finalist.arch.save(RunFolder(trial).arch)
            facts = fit_lib.fit(arch=finalist.arch, data=blind, run_dir=trial, epochs=epochs, batch_size=batch_size,
                              class_weights=class_weights, precision=precision, seed=seed, **RECIPE)
        tried.append(dataclasses.replace(finalist, trial_accuracy=facts["test_accuracy"]))
    supernet.set_graph_optimiser(False)
    tried = ranked(tried, data.held_out.size)
    return [*tried, *(finalist for finalist in found if finalist not in chosen)]


def ranked(tried: Sequence[Finalist], images: int) -> list[Finalist]:
    """Finalists by what they learned, best first; on as good as equal terms the network of most MACs comes first.

    Args:
        tried: each with its trial_accuracy.
        images: that it was measured on.
    """
    ordered = sorted(tried, key=lambda finalist: -_accuracy(finalist))
    best, computing = ordered[0], next((one for one in ordered if one.how == MOST_MACS), None)
    if computing:
        variances = (_accuracy(one) * (1 - _accuracy(one)) / images for one in (best, computing))
        if _accuracy(best) - _accuracy(computing) <= math.sqrt(sum(variances)):
            ordered.remove(computing)
            ordered.insert(0, computing)
    return ordered


def _accuracy(finalist):
    return finalist.trial_accuracy or 0.0


def entrants(found: Sequence[Finalist], count: int) -> list[Finalist]:
    """Which finalists are trained: the eligible one of lowest loss, the one of most MACs, the best of each other way.

    Then others by loss. Of those that are the same network, one is.
    """
    networks: dict[str, Finalist] = {}
    for finalist in found:
        if finalist.eligible:
            networks.setdefault(finalist.arch.fingerprint(), finalist)
    eligible = list(networks.values())
    ways: dict[str, Finalist] = {}
    for finalist in (*eligible[:1], *(one for one in eligible if one.how == MOST_MACS), *eligible):
        ways.setdefault(finalist.how, finalist)
    chosen = list(ways.values())[:count]
    chosen += [finalist for finalist in eligible if finalist not in chosen][:count - len(chosen)]
    return chosen


def _facts(trial, finalist):
    """What an earlier trial of the same network found, or None."""
    files = [RunFolder(trial).file(name) for name in ("train.json", "arch.json")]
    if not all(map(os.path.exists, files)) or files_lib.read_json(files[1]).get("ops") != finalist.arch.ops:
        return None
    return files_lib.read_json(files[0])
