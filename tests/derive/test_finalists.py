"""Finalists against all networks of a small space, and a search with several goals that is killed and resumed."""

import dataclasses
import itertools
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pnas_tf.cost import prices
from pnas_tf.cost.goal import Goal
from pnas_tf.derive import deliver, finalists, trials
from pnas_tf.run_folder import RunFolder
from pnas_tf.run_folder import folder as run_folder
from pnas_tf.space import arch, blocks, spaces, tree_cells
from pnas_tf.supernet import path_scorer, supernet

ROOT = Path(__file__).parents[2]
TINY = spaces.mb_space("tiny", input_size=8, input_channels=1, num_classes=4,
                      stem=blocks.Block("stem", ("conv_k3",), 8, 2), first=blocks.Block("b00", ("mb_k3_e1",), 8, 2),
                      stages=(spaces.Stage(8, 2, 1), spaces.Stage(16, 1, 1)), mix=16)
COUNTS = [len(block.ops) for block in TINY.choices.values()]
PATHS = np.array(list(itertools.product(*map(range, COUNTS))))


@pytest.fixture(scope="module")
def net(stir):
    """A supernet whose residual ops do not start as zero, so that paths differ."""
    return stir(supernet.Supernet(TINY, seed=1), seed=2, scale=0.3)


def costs(net, seed):
    rng = np.random.default_rng(seed)
    return prices.Cost((rng.uniform(0.1, 1, net.mask.shape) * net.mask).astype(np.float32), 0.5, net.mask)


def test_trials_are_of_networks_that_differ():
    """Skipping either of two identical neighbours gives the same network, which needs only one trial."""
    alike = spaces.mb_space("alike", input_size=8, input_channels=1, num_classes=4, stem=TINY.stem[0],
                           first=TINY.blocks[0], stages=(spaces.Stage(8, 3, 1),), mix=16)
    names = list(alike.choices)[-2:]
    archs = [arch.Arch(alike, dict.fromkeys(alike.choices, "mb_k3_e3") | {skipped: "zero"}) for skipped in names]
    assert archs[0].ops != archs[1].ops and archs[0].fingerprint() == archs[1].fingerprint()
    other = arch.Arch(alike, dict.fromkeys(alike.choices, "mb_k3_e3") | {names[0]: "mb_k5_e3"})
    candidates = [finalists.Finalist(run_folder.SAMPLE, candidate, 0.0, {}, True, loss)
                  for candidate, loss in zip((*archs, other), (1.0, 1.1, 1.2), strict=True)]
    assert trials.entrants(candidates, 3) == [candidates[0], candidates[2]]
    assert trials.entrants([dataclasses.replace(candidates[0], eligible=False), *candidates[1:]], 1) == [candidates[1]]


def test_a_trial_of_most_macs_comes_right_after_that_of_least_loss():
    ops = [dict.fromkeys(TINY.choices, op) for op in ("mb_k3_e3", "mb_k5_e3", "mb_k3_e6", "mb_k5_e6")]
    hows = (run_folder.SAMPLE, run_folder.MOST_PROBABLE, run_folder.SAMPLE, run_folder.MOST_MACS)
    candidates = [finalists.Finalist(how, arch.Arch(TINY, path_ops), 0.0, {}, True, 0.0)
                  for how, path_ops in zip(hows, ops, strict=True)]
    assert trials.entrants(candidates, 2) == [candidates[0], candidates[3]]
    assert trials.entrants(candidates, 4) == [candidates[0], candidates[3], candidates[1], candidates[2]]
    assert trials.entrants(candidates[::-1], 2) == [candidates[3], candidates[2]]


@pytest.mark.parametrize("accuracies, images, first", [
    ((0.73, 0.71), 5000, 0),  # 1.645 * sqrt((0.73 * 0.27 + 0.70 * 0.30) / 5000 + 2 * 0.01**2) = 0.0276 < 0.03
    ((0.705, 0.728), 5000, 2),  # 0.0276 < 0.028
    ((0.705, 0.727), 5000, 1), ((0.73, 0.71), 900, 1), ((0.69, 0.60), 5000, 1)])
def test_what_needs_no_search_has_to_be_beaten_by_more_than_chance(accuracies, images, first):
    """By hand: the network of most MACs has 70 % after its trial; two samples are compared with it."""
    hows = (run_folder.SAMPLE, run_folder.MOST_MACS, run_folder.SAMPLE)
    entrants = [finalists.Finalist(how, None, 0.0, {}, True, 0.0, trial_accuracy=accuracy)
                for how, accuracy in zip(hows, (accuracies[0], 0.70, accuracies[1]), strict=True)]
    ranked = trials.ranked(entrants, images)
    assert ranked[0] == entrants[first] and sorted(map(id, ranked)) == sorted(map(id, entrants))


def test_cells_show_which_place_has_no_op():
    tree = tree_cells.tree_space("small", 1, 88)
    ops = dict.fromkeys(tree.choices, "sep_k3")
    first, second = (arch.Arch(tree, ops | {name: "identity"}) for name in ("b01/n1", "b01/n2"))
    assert [str(key) for _, key in first.op_keys()] == [str(key) for _, key in second.op_keys()]
    assert first.fingerprint() != second.fingerprint()


@pytest.mark.parametrize("shape, batch_size, held_out, batches", [
    ((32, 32, 3), 96, 90_000, 53), ((32, 32, 3), 96, 5000, 52), ((224, 224, 3), 64, 9000, 14),
    ((224, 224, 3), 256, 9000, 10), ((28, 28, 1), 5000, 60_000, 10), ((28, 28, 1), 64, 640, 10),
    ((28, 28, 1), 64, 639, 10), ((28, 28, 1), 64, 200, 4), ((28, 28, 1), 64, 20, 1)])
def test_finalists_are_compared_on_5000_images_if_memory_allows(shape, batch_size, held_out, batches):
    """By hand: 5000 / 96 = 52.1; 2^29 bytes hold 891 images of 602,112 bytes; 10 batches, if there are so many.

    A last batch with fewer images counts if there are fewer than 10 others: 639 / 64 = 9.98.
    """
    assert deliver.batches(shape, batch_size, held_out) == batches


def test_training_images_rank_finalists_too_where_few_images_are_held_out(net, small_data):
    """As many full batches as there are; labels, and so accuracies, are those of held-out images alone."""
    held_out, train, size = small_data.held_out.size, small_data.train.size, 20
    assert held_out < deliver.LEAST_BATCHES * size < train
    scorer = path_scorer.PathScorer(net, small_data.held_out.batches(size).take(1))
    for with_training, more in ((True, train // size), (False, 0)):
        choice = deliver.LastChoice(size, with_training_images=with_training)
        scores = deliver.scores_of(TINY, scorer, small_data, choice)
        assert scores._scorer.num_batches == math.ceil(held_out / size) and len(scores.labels) == held_out
        assert scores._ranker.num_batches == math.ceil(held_out / size) + more


def test_the_file_records_the_images_that_finalists_were_scored_on(net, tmp_path):
    """Of 8 labels in two batches, 5 are 3: a share of 0.625."""
    images = tf.zeros((4, 8, 8, 1))
    several = path_scorer.PathScorer(net, [(images, tf.constant(labels)) for labels in ([3, 3, 0, 1], [3, 2, 3, 3])])
    goal = Goal("t", costs(net, 0), 1.6)
    ranked = [finalists.Finalist(run_folder.SAMPLE, arch.from_path(TINY, path), 0.0, {"ms": 1.0}, True, 0.0)
              for path in PATHS[:2]]
    finalists.save(str(tmp_path / "finalists.json"), goal, ranked, several.labels, TINY)
    facts = json.loads((tmp_path / "finalists.json").read_text())
    assert (facts["held_out_images"], facts["largest_class_share"]) == (8, 0.625)
    assert [entry["ops"] for entry in facts["finalists"]] == [finalist.arch.ops for finalist in ranked]


@pytest.mark.slow
def test_several_goals_killed_and_started_again_end_alike(tmp_path, write_space):
    """The checkpoint restores the alpha, optimizer and multipliers of each goal."""
    for name in ("first", "second"):
        write_space(TINY.for_data(28, 1, 10), tmp_path / "space.json", tmp_path / f"{name}.jsonl", name)

    def command(run_dir):
        return [sys.executable, "-m", "pnas_tf.search", f"--space={tmp_path}/space.json", "--batch_size=32",
                f"--targets={tmp_path}/first.jsonl:0.5,{tmp_path}/second.jsonl:0.6", "--limit=params<=15000",
                "--warmup_epochs=1", "--search_epochs=3", "--arch_every=1", "--front=2",
                "--max_steps=24", f"--run_dir={run_dir}"]

    whole = subprocess.run(command(tmp_path / "whole"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert whole.returncode == 0, whole.stderr
    with subprocess.Popen(command(tmp_path / "cut"), cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("epoch 3/4"):
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL
    again = subprocess.run(command(tmp_path / "cut"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "Continuing after epoch" in again.stdout
    folders = [name for name in os.listdir(tmp_path / "whole") if name.endswith("ms")]
    assert len(folders) == 2
    for name in folders:
        first, second = (tmp_path / run / name for run in ("whole", "cut"))
        assert (first / "arch.json").read_bytes() == (second / "arch.json").read_bytes()
        timing = {"seconds", "step_ms"}
        lines = [[{k: v for k, v in line.items() if k not in timing} for line in RunFolder(str(folder)).read_metrics()]
                 for folder in (first, second)]
        assert lines[0] == lines[1] and "multiplier_params" in lines[0][-1]
