"""Trials in processes of their own: what they learn, what fails in them, and when they end."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pnas_tf import machine
from pnas_tf.run_folder import RunFolder
from pnas_tf.search import side_by_side
from pnas_tf.search.config import SearchConfig
from pnas_tf.space.arch import from_path
from tests.spaces import TINY

ROOT = Path(__file__).parents[2]
CONFIG = SearchConfig(dataset="fashion_mnist_small", trial_epochs=1000)


@pytest.fixture
def trial(tmp_path):
    folder = RunFolder(str(tmp_path / "0"))
    os.makedirs(folder)
    from_path(TINY, [0, 1]).save(folder.arch)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("taskset") or machine.cores() < 2, reason="needs taskset and two cores")
def test_side_by_side_networks_learn_what_they_learn_one_after_the_other(tmp_path, write_space):
    """On one core, trials are trained by the search itself, as loudly as pnas_tf.train does."""
    write_space(TINY, tmp_path / "space.json", tmp_path / "table.jsonl")
    finalists = []
    for cores in ("0,1", "0"):
        run_dir = tmp_path / cores
        result = subprocess.run(
            ["taskset", "-c", cores, sys.executable, "-m", "pnas_tf.search", f"--space={tmp_path}/space.json",
             f"--table={tmp_path}/table.jsonl", "--batch_size=32", "--warmup_epochs=1", "--search_epochs=1",
             "--max_steps=8", "--front=3", "--trials=3", "--trial_epochs=1", f"--run_dir={run_dir}"], cwd=ROOT,
            capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stderr
        assert "Training 3 finalists, 1 epoch each." in result.stdout and "Trial 3 of 3: " in result.stdout
        assert ("Compiling the first step" in result.stdout) == (cores == "0")
        finalists.append([(each["ops"], each["trial_accuracy"]) for each in json.loads(
            (run_dir / "finalists.json").read_text())["finalists"] if "trial_accuracy" in each])
    assert finalists[0] == finalists[1] and len(finalists[0]) == 3


def test_failed_processes_leave_nothing(trial, tmp_path, monkeypatch):
    """The search then trains the network itself, and says what is wrong."""
    monkeypatch.setattr(machine, "cores", lambda: 2)
    trials = [trial, RunFolder(str(tmp_path / "1"))]
    assert set(side_by_side.train(trials, SearchConfig(dataset=f"npz:{tmp_path}/none.npz"))) == set(trials)
    assert not os.path.exists(trial.training_facts)


def test_one_core_is_not_shared(trial, monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: 1)
    assert not list(side_by_side.train([trial, trial], CONFIG))


def test_process_ends_with_the_search(trial):
    """Without an error, and long before its thousand epochs."""
    with side_by_side.start(trial, CONFIG, threads=1, stderr=subprocess.PIPE) as process:
        process.stdin.close()
        assert process.wait(timeout=60) == 1 and process.stderr.read() == b""


def test_processes_end_if_the_search_is_interrupted(trial, tmp_path, monkeypatch):
    started = []

    def start(*arguments):
        started.append(before(*arguments))
        return started[-1]

    before = side_by_side.start
    monkeypatch.setattr(machine, "cores", lambda: 2)
    monkeypatch.setattr(side_by_side, "start", start)
    monkeypatch.setattr(side_by_side.time, "sleep", lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        list(side_by_side.train([trial, RunFolder(str(tmp_path / "1"))], CONFIG))
    assert [process.wait(timeout=60) for process in started] == [-9, -9]


@pytest.mark.parametrize("config", ["[1]", "{", '{"nothing": 1}'])
def test_settings_that_are_none_are_refused(trial, config):
    result = subprocess.run([sys.executable, "-m", "pnas_tf.search.trial", f"--run_dir={trial}", f"--config={config}"],
                            cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert result.returncode == 1 and result.stderr.startswith("Error: --config: expected the settings of a search")
    assert len(result.stderr.splitlines()) == 1
