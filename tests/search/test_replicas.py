"""Several replicas against a single one: their data, losses, alphas and weights; and a worker that is killed.

TensorFlow allows one strategy per process, so each strategy runs `programs/replicas_steps.py` in its own process.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pnas_tf import data
from pnas_tf.data import parts as parts_lib
from pnas_tf.errors import InputError
from pnas_tf.search import replicas
from pnas_tf.space import arch
from tests.spaces import TINY

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "programs" / "replicas_steps.py"


def start(arguments, **environment):
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env={**os.environ, "PYTHONPATH": str(ROOT), **environment})


def steps(*arguments, **environment):
    return start([str(PROGRAM), *map(str, arguments)], **environment)


def result(process):
    out, error = process.communicate(timeout=1800)
    assert process.returncode == 0, error[-2000:]
    return json.loads(out.splitlines()[-1])


def assert_equal_runs(first, second):
    assert first["losses"].keys() == second["losses"].keys()
    for name, values in first["losses"].items():
        np.testing.assert_allclose(values, second["losses"][name], rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(first["alpha"], second["alpha"], atol=2e-5)
    for (name, mine), (_, theirs) in zip(first["weights"], second["weights"], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("updater", ["two", "all", "reinforce"])
def test_two_replicas_search_as_one_does(updater):
    """Batch norm uses the images of one replica only, so both halves of a batch are equal here."""
    single, two = result(steps("none", 1, updater, "doubled")), result(steps("mirrored", 2, updater, "doubled"))
    assert_equal_runs(single, two)
    assert len(two["copies"]) == 2 and two["copies"][0] == two["copies"][1]
    assert np.ptp(single["alpha"]) > 0.02  # the alphas have moved


@pytest.mark.slow
def test_two_replicas_apply_the_mean_of_their_gradients():
    by_hand, two = result(steps("none", 1, "by_hand", "plain")), result(steps("mirrored", 2, "two", "plain", 1))
    np.testing.assert_allclose(by_hand["losses"]["train_loss"], two["losses"]["train_loss"], rtol=1e-5)
    for (name, mine), (_, theirs) in zip(by_hand["weights"], two["weights"], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("share", [parts_lib.Share(0, 2, 2), parts_lib.Share(0, 4, 4)])
def test_replicas_parts_are_the_batch_that_one_would_get(share):
    part = data.load("fashion_mnist_small").train
    how = {"augment": True, "changes": parts_lib.Changes(cutout=6), "seed": 7, "skip_steps": 2}
    whole = list(part.batches(16, **how).take(3).as_numpy_iterator())
    parts = list(part.batches(16, **how, share=share).take(3 * share.count)
                 .as_numpy_iterator())
    for step, (images, labels) in enumerate(whole):
        own = parts[step * share.count:(step + 1) * share.count]
        np.testing.assert_array_equal(np.concatenate([x for x, _ in own]), images)
        np.testing.assert_array_equal(np.concatenate([y for _, y in own]), labels)


def test_workers_read_their_own_part_alone():
    part = data.load("fashion_mnist_small").train
    images, _ = next(iter(part.batches(16, augment=True, seed=7).as_numpy_iterator()))
    second, _ = next(iter(part.batches(16, augment=True, seed=7, share=parts_lib.Share(1, 1, 2)).as_numpy_iterator()))
    np.testing.assert_array_equal(second, images[8:])


@pytest.mark.parametrize("config", [None, "{", "[]", '{"cluster": {"worker": ["a:1"]}}',
                                    '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}'])
def test_wrong_tf_config_is_one_line(config, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(InputError, match="TF_CONFIG"):
        replicas.strategy("multi_worker")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for free in sockets:
        free.bind(("localhost", 0))
    ports = [free.getsockname()[1] for free in sockets]
    for free in sockets:
        free.close()
    return ports


def workers():
    """TF_CONFIG of each of two workers on this machine."""
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    return [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}) for index in range(2)]


@pytest.mark.slow
def test_two_workers_end_equal():
    both = [steps("multi_worker", 0, "two", "doubled", TF_CONFIG=config) for config in workers()]
    first, second = map(result, both)
    assert first == second
    assert_equal_runs(result(steps("none", 1, "two", "doubled")), first)


@pytest.fixture
def files(tmp_path, write_space):
    write_space(TINY, tmp_path / "space.json", tmp_path / "table.jsonl")
    return tmp_path


def search(files, run_dir, config=None):
    flags = [f"--space={files}/space.json", f"--table={files}/table.jsonl", "--batch_size=32", "--warmup_epochs=1",
             "--search_epochs=3", "--arch_every=1", "--front=2", "--max_steps=400", f"--run_dir={run_dir}"]
    arguments = ["-m", "pnas_tf.search", *flags]
    return start([*arguments, "--strategy=multi_worker"], TF_CONFIG=config) if config else \
        start([*arguments, "--strategy=mirrored", "--replicas=2"])


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_search_goes_on_when_a_killed_worker_is_started_again(files, victim):
    """The result is that of an undisturbed search on two replicas."""
    configs = workers()
    processes = [search(files, files / "run", config) for config in configs]
    chief = processes[0]
    for line in chief.stdout:
        if line.startswith("epoch 2/4"):
            break
    processes[victim].send_signal(signal.SIGKILL)
    processes[victim].communicate()
    time.sleep(5)
    processes[victim] = search(files, files / "run", configs[victim])
    outs = [process.communicate(timeout=1800)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "Lost another worker" in outs[1 - victim]
    assert all(re.search(r"Continuing after epoch \d of 4", out) for out in outs)
    undisturbed = search(files, files / "mirrored")
    assert undisturbed.wait(1800) == 0
    resumed, expected = (arch.load(str(files / name / "arch.json")) for name in ("run", "mirrored"))
    assert resumed.ops == expected.ops
