"""Trials: some finalists are trained for a few epochs as the user will train, and the best of them is delivered.

Trials help if the supernet ranks networks poorly: after few epochs, it says little about large ops, which learn slowest
in it, and it favours the networks that it has trained most (benchmarks/NOTES.md, "Does search pay?").
"""

import contextlib
import dataclasses
import json
import math
import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pnas_tf import files, terminal
from pnas_tf.data import Data
from pnas_tf.derive.finalists import Finalist
from pnas_tf.run_folder import RunFolder
from pnas_tf.run_folder.folder import FEWEST_SKIPS, MOST_MACS
from pnas_tf.space import arch as arch_lib
from pnas_tf.space.arch import Arch
from pnas_tf.supernet import supernet
from pnas_tf.train.fit import fit
from pnas_tf.train.non_finite import NonFinite
from pnas_tf.train.recipe import Recipe

# Function that writes arch.json and the inherited weights of a finalist into a run folder.
Prepare = Callable[[Finalist, RunFolder], object]
# Function that trains the networks of run folders in processes of their own, several at a time, and yields each folder
# when its process has ended; see `search.side_by_side.train`.
SideBySide = Callable[[Sequence[RunFolder]], Iterable[RunFolder]]
# Origins of networks that need no search.
PLAIN = (MOST_MACS, FEWEST_SKIPS)
# Deviation of accuracy between trainings that differ in the seed alone, after a few epochs (benchmarks/NOTES.md); and
# largest probability that a network which is no better than a plain one is delivered in its place.
SEED_DEVIATION, BY_CHANCE = 0.01, 0.1


def run(finalists: Sequence[Finalist], folder: RunFolder, prepare: Prepare, *, data: Data, recipe: Recipe, count: int,
        side_by_side: SideBySide) -> list[Finalist]:
    """Trains some of the finalists; the finalist of highest held-out accuracy then comes first.

    Networks that need no search have to be beaten by more than chance: see `ranked`. Networks that have been trained
    in the folder before are not trained again.

    Args:
        finalists: Finalists, the one that would be delivered without trials first.
        folder: Folder of the goal's results; it has a part for each trial.
        prepare: Function that writes arch.json and the inherited weights of a finalist into a run folder.
        data: Data set; its test images are not used.
        recipe: Recipe of each training, as the user will train; all have the same seed.
        count: Number of trials, see `entrants`.
        side_by_side: Function that trains several in processes of their own. What it has not trained is trained here.

    Returns:
        All finalists: first those with a trial, best first, then the others.
    """
    chosen = entrants(finalists, count)
    trials = {folder.trial(number): finalist for number, finalist in enumerate(chosen)}
    waiting = [trial for trial, finalist in trials.items() if _facts(trial, finalist) is None]
    for trial in waiting:
        os.makedirs(trial, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.remove(trial.training_facts)  # of another network, from before the finalists were timed
        prepare(trials[trial], trial)
    if waiting:
        terminal.say(f"Trials: {len(waiting)} finalist{'s' * (len(waiting) > 1)}, {recipe.epochs} "
                     f"epoch{'s' * (recipe.epochs > 1)} each.")
    for trial in _trained({trial: trials[trial].arch for trial in waiting}, data, recipe, side_by_side):
        facts = files.read_json(trial.training_facts)
        terminal.say(f"Trial {list(trials).index(trial) + 1} of {len(trials)}: {trials[trial].how}, "
                     f"{facts['test_accuracy']:.2%} of held-out images.")
        if "non_finite" in facts:
            terminal.warn(f"This trial counts as an accuracy of 0. {facts['non_finite']}")
    trained = ranked([_with_accuracy(finalist, trial) for trial, finalist in trials.items()], data.held_out.size)
    return [*trained, *(finalist for finalist in finalists if finalist not in chosen)]


def train(arch: Arch, data: Data, recipe: Recipe, trial: RunFolder) -> None:
    """Trains the network of a trial. Of one that diverges, train.json has an accuracy of 0 and the reason.

    Args:
        arch: The network.
        data: Data set; its test images are not used, and those of train.json are the held-out ones.
        recipe: Recipe of the training.
        trial: Run folder of the trial, prepared.
    """
    try:
        # Costs would be a setting of the training. The folder may hold that of another network.
        fit(Arch(arch.space, arch.ops), dataclasses.replace(data, test=data.held_out), recipe, trial, overwrite=True)
    except NonFinite as error:
        files.write_text(trial.training_facts, json.dumps({"test_accuracy": 0.0, "non_finite": str(error)}) + "\n")


def _trained(archs: Mapping[RunFolder, Arch], data: Data, recipe: Recipe, side_by_side: SideBySide
             ) -> Iterator[RunFolder]:
    """Trains networks by their run folders, and yields each folder as soon as its network is trained."""
    waiting = list(archs)
    for trial in side_by_side(list(archs)):
        if os.path.exists(trial.training_facts):
            waiting.remove(trial)
            yield trial
    for trial in waiting:
        supernet.set_graph_optimiser(True)
        train(archs[trial], data, recipe, trial)
        supernet.set_graph_optimiser(False)
        yield trial


def _with_accuracy(finalist: Finalist, trial: RunFolder) -> Finalist:
    facts = files.read_json(trial.training_facts)
    return dataclasses.replace(finalist, trial_accuracy=facts["test_accuracy"])


def ranked(trained: Sequence[Finalist], images: int) -> list[Finalist]:
    """Finalists by accuracy. A network that needs no search comes first unless the best is better beyond chance.

        error = sqrt(sum over both networks of (accuracy * (1 - accuracy) / images + seed deviation^2))

    The best of several challengers that are equal to it would pass it by z errors in 10 % of all cases at most, with
    the z of the normal distribution for 10 % divided by the number of challengers.

    Args:
        trained: Finalists with their trial_accuracy.
        images: Number of images that the accuracy was measured on.
    """
    ordered = sorted(trained, key=lambda finalist: -_accuracy(finalist))
    best, plain = ordered[0], next((finalist for finalist in ordered if finalist.how in PLAIN), None)
    if plain and best is not plain:
        challengers = sum(finalist.how not in PLAIN for finalist in ordered)
        variances = (_accuracy(finalist) * (1 - _accuracy(finalist)) / images + SEED_DEVIATION**2
                     for finalist in (best, plain))
        z = statistics.NormalDist().inv_cdf(1 - BY_CHANCE / challengers)
        if _accuracy(best) - _accuracy(plain) <= z * math.sqrt(sum(variances)):
            ordered.remove(plain)
            ordered.insert(0, plain)
    return ordered


def entrants(finalists: Sequence[Finalist], count: int) -> list[Finalist]:
    """The finalists to train: the first that is eligible, those that need no search, and the first of each other kind.

    Further eligible finalists follow in their order. Of equal networks, only the first counts.
    """
    networks: dict[str, Finalist] = {}
    for finalist in finalists:
        if finalist.eligible:
            networks.setdefault(finalist.arch.fingerprint(), finalist)
    eligible = list(networks.values())
    kinds: dict[str, Finalist] = {}
    # Of the networks that need no search there is one at each budget: the one at the target counts.
    plain = [max((other for other in eligible if other.how == how), key=_ms, default=None) for how in PLAIN]
    for finalist in (*eligible[:1], *filter(None, plain), *(other for other in eligible if other.how not in PLAIN)):
        kinds.setdefault(finalist.how, finalist)
    chosen = list(kinds.values())[:count]
    chosen += [finalist for finalist in eligible if finalist not in chosen][:count - len(chosen)]
    return chosen


def _ms(finalist: Finalist) -> float:
    return finalist.costs.get("ms", 0.0)


def _accuracy(finalist: Finalist) -> float:
    return finalist.trial_accuracy or 0.0


def _facts(trial: RunFolder, finalist: Finalist) -> dict[str, Any] | None:
    """train.json of an earlier trial of the same network, or None."""
    if not all(map(os.path.exists, (trial.training_facts, trial.arch))):
        return None
    if arch_lib.load(trial.arch).fingerprint() != finalist.arch.fingerprint():
        return None
    return files.read_json(trial.training_facts)
