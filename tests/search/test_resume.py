"""An interrupted search gives the same bytes as an uninterrupted one, whenever and however it was stopped."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from pnas_tf import data, network
from pnas_tf.cost import goal as goals_lib
from pnas_tf.cost import limits, prices
from pnas_tf.errors import InputError
from pnas_tf.network.criterion import Criterion, Teacher
from pnas_tf.run_folder import RunFolder
from pnas_tf.search import build, checkpoints, config, schedule, searcher, stopping
from pnas_tf.space import arch
from pnas_tf.supernet import supernet
from tests.spaces import TINY

pytestmark = pytest.mark.usefixtures("search_graphs")
ROOT = Path(__file__).parents[2]
PLAN = schedule.Schedule(steps_per_epoch=4, warmup_epochs=1, search_epochs=2, arch_every=1, warmup_lr=0.05, lr=0.05)
TIMING = {"seconds", "step_ms"}

# Methods that keep different variables from step to step: goals, method, precision.
METHODS = {"two goals with a limit, a teacher and shared weights": (2, config.Method(), "float32"),
           "two goals with a limit": (2, config.Method(), "float32"),
           "all paths": (1, config.Method(paths="all"), "float32"),
           "reinforce with a limit": (1, config.Method(arch_update="reinforce", reinforce_samples=2), "float32"),
           "float16": (1, config.Method(), "mixed_float16")}


@pytest.fixture(scope="module")
def images():
    return data.load("fashion_mnist_small")


class Watch(keras.callbacks.Callback):
    """Keeps the logs of epochs. Saves a checkpoint and stops the search after step `at`."""

    def __init__(self, folder=None, at=None):
        super().__init__()
        self.epochs, self._folder, self._at = {}, folder, at

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.step.value.numpy()) == self._at:
            checkpoints.save(self.model, self._folder, 12.5)
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        self.epochs[epoch] = {name: float(value) for name, value in logs.items()}


def searcher_of(method_name):
    goals, method, precision = METHODS[method_name]
    is_taught = "teacher" in method_name
    net = supernet.Supernet(TINY, 3, precision=precision, goals=goals, share="kernels" if is_taught else "none")
    ms = prices.matrix(TINY, lambda _, key: 0.01 * (1 + len(key.op) + key.filters))
    params = [limits.Limit("params", prices.matrix(TINY, prices.params()), 3000)] if "limit" in method_name else []
    all_goals = [goals_lib.Goal("t", ms, 0.5 + number, params, True) for number in range(goals)]
    criterion = Criterion(0.1, teacher=teacher() if is_taught else None)
    model = searcher.Searcher(net, list(build.updaters(method, net, all_goals, PLAN, criterion)), PLAN, seed=3,
                              criterion=criterion)
    model.compile(searcher.alpha_optimizer(0.05))
    return model


def teacher():
    keras.utils.set_random_seed(5)
    return Teacher(network.build_network(arch.Arch(TINY, dict.fromkeys(TINY.choices, "mb_k5_e6"))))


def search_on(model, images, watch):
    model.go_on(lambda step: searcher.alternating_batches(images.train, images.held_out, PLAN, 16, 3, step),
                [watch])


def variables(model):
    own = {f"weight {number}": variable for number, variable in enumerate(model.weights)}
    slots = {f"optimizer {number}, {slot}": variable for number, optimizer in enumerate(model.optimizers)
             for slot, variable in enumerate(optimizer.variables)}
    return {**own, **slots}


def state(model):
    return {name: np.asarray(variable).copy() for name, variable in variables(model).items()}


def scramble(model, values=None):
    """Gives every variable the given values, or values that no search has."""
    for name, variable in variables(model).items():
        variable.assign(np.asarray(variable) + 7 if values is None else values[name])
    model.sums.clear()


@pytest.mark.parametrize("method", ["two goals with a limit, a teacher and shared weights", *(
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("two goals with a limit", "reinforce with a limit", "all paths", "float16"))])
def test_every_variable_and_mean_comes_back(method, images, tmp_path):
    """The search is stopped in the middle of the warm-up and again after architecture steps.

    One compiled searcher plays all of them; its variables are scrambled in between, as a new process has others.
    """
    model, watch = searcher_of(method), Watch()
    start = state(model)
    search_on(model, images, watch)
    expected, epochs = state(model), {}
    for number, at in enumerate((2, 7)):
        scramble(model, None if number else start)
        assert checkpoints.restore(model, RunFolder(str(tmp_path))) == (12.5 if number else 0.0)
        stopped = Watch(RunFolder(str(tmp_path)), at)
        with pytest.raises(KeyboardInterrupt):
            search_on(model, images, stopped)
        epochs |= stopped.epochs
    last = Watch()
    scramble(model)
    checkpoints.restore(model, RunFolder(str(tmp_path)))
    search_on(model, images, last)
    resumed = state(model)
    assert expected.keys() == resumed.keys() and len(expected) > 20
    for name, value in expected.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)
    assert {**epochs, **last.epochs} == watch.epochs
    assert len(os.listdir(tmp_path / "checkpoints")) == checkpoints.KEPT


@pytest.mark.slow
def test_another_seed_takes_another_path(images):
    """The same seed gives the same path: see `test_every_variable_and_mean_comes_back`."""
    first, other = searcher_of("all paths"), searcher_of("all paths")
    other._seed = 4
    for model in (first, other):
        model.train_step(next(iter(searcher.alternating_batches(images.train, images.held_out, PLAN, 16, 3, 4))))
    assert any(not np.array_equal(value, state(other)[name]) for name, value in state(first).items())


def damage(file_path, how):
    content = bytearray(file_path.read_bytes())
    if how == "cut off":
        content = content[:len(content) // 2]
    elif how == "empty":
        content = b""
    elif how == "another file":
        content = b"no HDF5 at all" * 100
    else:  # one bit, in the middle of the weights
        content[len(content) // 2] ^= 1
    file_path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut off", "empty", "another file", "one bit"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(how, tmp_path, capsys):
    model, folder = searcher_of("all paths"), tmp_path / "checkpoints"
    for step in (4, 6):
        model.step.assign(step)
        checkpoints.save(model, RunFolder(str(tmp_path)))
    damage(folder / "epoch_00001_step_0000002.npz", how)
    again = searcher_of("all paths")
    checkpoints.restore(again, RunFolder(str(tmp_path)))
    assert int(again.step.value.numpy()) == 4
    output = capsys.readouterr().out
    assert output.startswith("Warning: ") and output.count("\n") == 1
    assert "step_0000002.npz cannot be loaded" in output
    again.step.assign(5)
    checkpoints.save(again, RunFolder(str(tmp_path)))
    assert sorted(os.listdir(folder)) == ["epoch_00001.npz", "epoch_00001_step_0000001.npz"]
    for file in folder.iterdir():
        damage(file, how)
    with pytest.raises(InputError, match=r"epoch_00001\.npz cannot be loaded"):
        checkpoints.restore(searcher_of("all paths"), RunFolder(str(tmp_path)))


def test_a_checkpoint_of_another_space_is_an_error(tmp_path):
    model = searcher_of("all paths")
    model.step.assign(4)
    checkpoints.save(model, RunFolder(str(tmp_path)))
    wider = TINY.scaled(2.0)
    net = supernet.Supernet(wider, 3)
    other = searcher.Searcher(net, list(build.updaters(config.Method(), net, [goals_lib.Goal(
        "t", prices.matrix(wider, lambda *_: 0.01), 0.5, [], True)], PLAN)), PLAN)
    other.compile(searcher.alpha_optimizer(0.05))
    with pytest.raises(InputError, match="cannot be loaded"):
        checkpoints.restore(other, RunFolder(str(tmp_path)))


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_space):
    folder = tmp_path_factory.mktemp("inputs")
    write_space(TINY, folder / "space.json", folder / "table.jsonl")
    return folder


def command(files, run_dir, steps):
    return [sys.executable, "-m", "pnas_tf.search", f"--space={files}/space.json", f"--table={files}/table.jsonl",
            "--batch_size=32", "--warmup_epochs=1", "--search_epochs=3", "--arch_every=1", "--front=2",
            f"--max_steps={steps}",
            "--checkpoint_minutes=0.001", f"--run_dir={run_dir}"]


def start(arguments):
    def take_signals():  # a shell's background job, as CI may be, ignores SIGINT, and so would what it starts
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            preexec_fn=take_signals, env={**os.environ, "PYTHONUNBUFFERED": "1"})


def finish(arguments):
    with start(arguments) as process:
        output = process.stdout.read()
    assert process.returncode == 0, output
    return output


def results(run_dir):
    """Bytes of arch.json and finalists.json, metrics without times, and bytes of the network's weights."""
    model = network.build_network(arch.load(str(run_dir / "arch.json")))
    model.load_weights(run_dir / "inherited.weights.h5")
    lines = [{k: v for k, v in line.items() if k not in TIMING} for line in RunFolder(str(run_dir)).read_metrics()]
    return ((run_dir / "arch.json").read_bytes(), (run_dir / "finalists.json").read_bytes(), lines,
            [value.tobytes() for value in model.get_weights()])


def wait_for(condition, process, seconds=600):
    """Waits until a condition holds; False if the process ends before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.0005)
    raise AssertionError("nothing happened")


def saved_steps(folder, steps_per_epoch):
    """Weight steps done at the newest checkpoint; 0 without a checkpoint."""
    names = sorted(name for name in os.listdir(folder) if name.startswith("epoch_")) if folder.exists() else []
    return int(names[-1][6:11]) * steps_per_epoch + int(names[-1][17:24] or 0) if names else 0


def kill_at(moment, process, run_dir, steps_per_epoch, dice):
    """Kills the process; whether it was alive until then, was writing a checkpoint, and was in the first epoch."""
    folder = run_dir / "checkpoints"
    if moment == "any":
        time.sleep(dice.uniform(0, 15))
    else:
        goal = saved_steps(folder, steps_per_epoch) + dice.randint(1, 18)
        wait_for(lambda: saved_steps(folder, steps_per_epoch) >= goal, process)
        if moment == "write":
            wait_for(lambda: any(folder.glob(".writing-*")), process)
        else:
            time.sleep(dice.uniform(0, 0.1))
    alive = process.poll() is None
    process.kill()
    process.communicate()
    return alive, any(folder.glob(".writing-*")), not (run_dir / "metrics.jsonl").exists()


@pytest.mark.parametrize("moments, steps", [
    pytest.param(["write", "step"], 120, marks=pytest.mark.slow),
    pytest.param(["step", "write", "any", "write", "step"] * 4 + ["step"], 1200, marks=pytest.mark.slow)],
    ids=["quick", "long"])
def test_killed_at_any_moment(moments, steps, files, tmp_path):
    finish(command(files, tmp_path / "whole", steps))
    expected, dice, kills, writes, early = results(tmp_path / "whole"), random.Random(1), 0, 0, 0
    for moment in moments:
        with start(command(files, tmp_path / "killed", steps)) as process:
            (tmp_path / "killed").mkdir(exist_ok=True)
            alive, writing, first_epoch = kill_at(moment, process, tmp_path / "killed", steps // 4, dice)
        kills, writes, early = kills + alive, writes + (alive and writing), early + (alive and first_epoch)
    output = finish(command(files, tmp_path / "killed", steps))
    print(f"\n{kills} kills, {writes} while a checkpoint was being written, {early} in the first epoch.")
    assert kills >= min(20, len(moments)) and writes and early and "Continuing after epoch" in output
    assert early < kills or len(moments) < 20
    assert results(tmp_path / "killed") == expected
    left = sorted(os.listdir(tmp_path / "killed" / "checkpoints"))
    assert len(left) == checkpoints.KEPT and not any(name.startswith(".writing") for name in left)


@pytest.mark.parametrize("number, code", [
    pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)])
def test_signals_save_and_stop(number, code, files, tmp_path):
    """The signal comes in the middle of an epoch; no step is done twice."""
    arguments = [*command(files, tmp_path / "run", 400), "--checkpoint_minutes=0"]
    with start(arguments) as process:
        for line in process.stdout:
            if line.startswith("epoch 1/4"):
                time.sleep(0.2)
                process.send_signal(number)
                break
        output = process.stdout.read()
    assert process.returncode == code, output
    assert "The same command continues" in output and "Traceback" not in output
    newest = sorted(os.listdir(tmp_path / "run" / "checkpoints"))[-1]
    assert newest.startswith("epoch_00001_step_")
    with start(arguments) as process, contextlib.closing(process.stdout):
        line = next(line for line in process.stdout if line.startswith("Continuing"))
        process.kill()
    assert line.startswith(f"Continuing after epoch 1 of 4 and {int(newest[17:24])} of 100 steps")


@pytest.mark.parametrize("signals, seen", [(2, KeyboardInterrupt), (1, RuntimeError)])
def test_an_error_made_of_a_signal_is_one(signals, seen):
    """TensorFlow's C++ replaces a KeyboardInterrupt that comes while it raises another error."""
    stop = stopping.Stop()
    with pytest.raises(seen), stop.after_step():
        for _ in range(signals):
            with contextlib.suppress(KeyboardInterrupt):
                stop.ask(signal.SIGINT)
        raise RuntimeError("pybind11::error_already_set: MISMATCH of original and normalized active exception types")


@pytest.mark.slow
def test_a_second_signal_stops_at_once(files, tmp_path):
    with start(command(files, tmp_path / "run", 400)) as process:
        wait_for((tmp_path / "run" / "logs").exists, process)
        time.sleep(0.5)  # within the first step, which is compiled
        process.send_signal(signal.SIGINT)
        next(line for line in process.stdout if "Stopping after this step" in line)
        process.send_signal(signal.SIGINT)
        output = process.stdout.read()
    assert process.returncode == 130 and "Traceback" not in output, output
