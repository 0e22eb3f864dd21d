"""Trials in processes of their own: what they learn, how they end, and what fails in them."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pnas_tf import machine
from pnas_tf.derive import trials
from pnas_tf.derive.finalists import Finalist
from pnas_tf.run_folder import RunFolder
from pnas_tf.search import side_by_side
from pnas_tf.search.config import SearchConfig
from pnas_tf.search.problem import load_data
from pnas_tf.space.arch import from_path
from pnas_tf.train.recipe import Recipe
from tests.spaces import TINY

ROOT = Path(__file__).parents[2]
CONFIG = SearchConfig(dataset="fashion_mnist_small", held_out_size=5500, trial_epochs=1)
ENDLESS = dataclasses.replace(CONFIG, trial_epochs=1000)


@pytest.fixture(autouse=True)
def room_for_two(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 2)
    monkeypatch.setattr(side_by_side, "_rooms", lambda: 2)


def trial_in(folder, path=(0, 1)):
    """A run folder with a network, as a search prepares it: with costs."""
    trial = RunFolder(str(folder))
    os.makedirs(trial, exist_ok=True)
    from_path(TINY, list(path)).with_costs(table_ms=1.0).save(trial.arch)
    return trial


def accuracy(trial):
    return json.loads(Path(trial.training_facts).read_text())["test_accuracy"]


@pytest.fixture(scope="module")
def images():
    return load_data(CONFIG, TINY)


def test_networks_learn_side_by_side_what_they_learn_here(tmp_path, images, capsys):
    """To a point, since sums of floats depend on threads; the test images are not looked at. Nothing is left behind."""
    apart = [trial_in(tmp_path / "0"), trial_in(tmp_path / "1", (2, 0))]
    assert set(side_by_side.train(apart, CONFIG)) == set(apart)
    for number, trial in enumerate(apart):
        assert "epoch 1/1" in Path(trial.file(side_by_side.OUTPUT)).read_text()
        here = trial_in(tmp_path / f"here{number}", ((0, 1), (2, 0))[number])
        trials.train(from_path(TINY, [(0, 1), (2, 0)][number]), images, side_by_side.recipe(CONFIG), here)
        assert accuracy(trial) == pytest.approx(accuracy(here), abs=0.01)
        assert json.loads(Path(trial.training_facts).read_text())["test_images"] == 5500
    assert "failed" not in capsys.readouterr().out  # a process that has trained ends with exit code 0


def test_what_a_process_has_learned_is_not_learned_again(tmp_path, images, capsys):
    """A process that is killed after an epoch, of which the search goes on by itself."""
    trial, two = trial_in(tmp_path / "0"), dataclasses.replace(CONFIG, trial_epochs=2)
    process = side_by_side.start(trial, two, threads=1)
    while process.poll() is None and not os.path.exists(os.path.join(trial.training, "state.json")):
        time.sleep(0.01)
    process.kill()
    process.wait()
    trials.train(from_path(TINY, [0, 1]), images, side_by_side.recipe(two), trial)
    assert "Continuing after epoch 1 of 2." in capsys.readouterr().out


def test_a_process_that_fails_says_why_and_leaves_nothing(tmp_path, capsys):
    """The search then trains the network itself."""
    failing = [trial_in(tmp_path / "0"), trial_in(tmp_path / "1")]
    nowhere = SearchConfig(dataset=f"npz:{tmp_path}/none.npz")
    assert set(side_by_side.train(failing, nowhere)) == set(failing)
    assert not os.path.exists(failing[0].training_facts)
    assert capsys.readouterr().out.count("failed: Error: ") == 2


def test_trials_that_diverge_are_trained_once(tmp_path, images):
    """Their accuracy counts as 0."""
    trial = trial_in(tmp_path / "0")
    trials.train(from_path(TINY, [0, 1]), images, Recipe(epochs=1, lr=1e30, batch_size=100), trial)
    facts = json.loads(Path(trial.training_facts).read_text())
    assert facts["test_accuracy"] == 0 and "lower --lr" in facts["non_finite"]


def test_trials_of_other_networks_do_not_count(tmp_path, images):
    """The folder of a trial may hold that of another network, from before the finalists were timed."""
    finalist = Finalist("sample", from_path(TINY, [1, 1]), 0.0, {"ms": 1.0}, True, 1.0)
    stale = trial_in(tmp_path / "trials" / "0", (3, 3))
    Path(stale.training_facts).write_text(json.dumps({"test_accuracy": 0.99}))
    asked = []

    def prepare(each, trial):
        each.arch.with_costs(table_ms=2.0).save(trial.arch)

    def not_here(folders):
        asked.extend(folders)
        return ()

    best, = trials.run([finalist], RunFolder(str(tmp_path)), prepare, data=images, recipe=side_by_side.recipe(CONFIG),
                       count=1, side_by_side=not_here)
    assert asked == [stale] and best.trial_accuracy == accuracy(stale) < 0.99


def test_processes_end_with_the_search(tmp_path):
    """Without an error, and long before the thousand epochs."""
    with side_by_side.start(trial_in(tmp_path), ENDLESS, threads=1) as process:
        process.stdin.close()
        assert process.wait(timeout=600) == 1
    assert "Error" not in (tmp_path / side_by_side.OUTPUT).read_text()


def test_processes_end_if_the_search_is_interrupted(tmp_path, monkeypatch):
    started, before = [], side_by_side.start

    def start(*arguments, **named):
        started.append(before(*arguments, **named))
        return started[-1]

    monkeypatch.setattr(side_by_side, "start", start)
    monkeypatch.setattr(side_by_side.time, "sleep", lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        list(side_by_side.train([trial_in(tmp_path / "0"), trial_in(tmp_path / "1")], ENDLESS))
    assert [process.wait(timeout=60) for process in started] == [-9, -9]


@pytest.mark.parametrize("cores, count, threads", [(2, 2, 1), (4, 3, 2), (2, 5, 1), (8, 1, 8)])
def test_threads_depend_on_cores_and_trials_alone(tmp_path, monkeypatch, cores, count, threads):
    seen, rooms = [], [8, 1]
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(side_by_side, "_rooms", rooms.pop)
    monkeypatch.setattr(side_by_side, "start", lambda trial, **named: (seen.append(named["threads"]), subprocess.Popen(
        [sys.executable, "-c", ""]))[1])
    folders = [RunFolder(str(tmp_path / str(number))) for number in range(count)]
    while rooms:
        assert len(list(side_by_side.train(folders, CONFIG))) == count
    assert set(seen) == {threads}


@pytest.mark.parametrize("config", ["[1]", "{", '{"nothing": 1}'])
def test_settings_that_are_none_are_refused(tmp_path, config):
    result = subprocess.run([sys.executable, "-m", "pnas_tf.search.trial", f"--run_dir={tmp_path}",
                             f"--config={config}"], cwd=ROOT, capture_output=True, text=True,
                            stdin=subprocess.DEVNULL, timeout=600)
    assert result.returncode == 1 and result.stderr.startswith("Error: --config: expected the settings of a search")
    assert len(result.stderr.splitlines()) == 1


def test_user_s_limit_of_threads_counts(monkeypatch):
    monkeypatch.undo()
    own = machine.cores()
    for limit, expected in (("1", 1), ("0", own), ("x", own), ("999", own)):
        monkeypatch.setenv(machine.THREADS[0], limit)
        assert machine.cores() == expected
    assert np.all([machine.thread_settings(3)[name] == "3" for name in machine.THREADS])
