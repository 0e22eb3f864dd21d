"""Finalists that are timed before one is taken: on devices that differ from their tables in known ways, and here."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from latency import build_table, compare, measure, network_timer, timed_networks
from pnas_tf.cost import goal as goals_lib
from pnas_tf.cost import latency_table
from pnas_tf.derive import device_check, finalists
from pnas_tf.errors import InputError
from pnas_tf.network import evaluate
from pnas_tf.run_folder import folder as run_folder
from pnas_tf.space import arch
from tests.spaces import two_choices

ROOT = Path(__file__).parents[2]
OPS = ("mb_k3_e3", "mb_k5_e3", "mb_k3_e6", "mb_k5_e6", "zero")
TINY = two_choices(OPS)
ARCHS = {one.fingerprint(): one for one in (arch.Arch(TINY, dict(zip(TINY.choices, ops, strict=True)))
                                            for ops in itertools.product(OPS, OPS))}


def finalist(one, table_ms, loss, **more):
    look = evaluate.Score(loss, 0.5, 100)
    return finalists.Finalist(run_folder.SAMPLE, one, 0.0, {"ms": table_ms}, True, look, **more)


class Device:
    """A table that has network n at 1 + n / 100 ms and finds those above 98 % of a goal; and their true times."""

    def __init__(self, true_ms):
        self._true_ms, self.asked, self.timed = true_ms, [], []

    def suggest(self, goal):
        self.asked.append(goal.target_ms)
        every = [finalist(one, 1 + number / 100, loss=float(number))
                 for number, one in enumerate(ARCHS.values(), start=1)]
        return [one for one in every if 0.98 < one.costs["ms"] / goal.target_ms <= 1]

    def times(self, archs, folder):
        numbers = [1 + list(ARCHS).index(one.fingerprint()) for one in archs]
        self.timed.append(numbers)
        return [self._true_ms(1 + number / 100) for number in numbers]


def goal(target_ms):
    return goals_lib.Goal("device", None, target_ms)


def test_a_table_that_is_right_is_asked_once():
    """1.08 to 1.10 ms are found for 1.1; 98 % of that is 1.078."""
    device = Device(lambda ms: 0.999 * ms)
    found = device_check.run(device.suggest, goal(1.1), device.times, "folder")
    assert device.asked == [1.1] and device.timed == [[8, 9, 10]]
    assert [(one.costs["ms"], one.measured_ms, one.eligible) for one in found] == [
        (ms, pytest.approx(0.999 * ms), True) for ms in (1.08, 1.09, 1.1)]


@pytest.mark.parametrize("factor, wanted, timed", [(1.05, 1.15, [[13, 14, 15], [8, 9]]),
                                                   (0.95, 1.10, [[8, 9, 10], [14, 15]])])
def test_a_table_that_is_off_is_asked_for_as_much_less_or_more(factor, wanted, timed):
    """By hand: 1.15 / 1.05 = 1.095 and 1.1 / 0.95 = 1.158."""
    device = Device(lambda ms: factor * ms)
    found = device_check.run(device.suggest, goal(wanted), device.times, "folder")
    assert device.asked == pytest.approx([wanted, wanted / factor]) and device.timed == timed
    fitting = [one for one in found if one.eligible]
    assert [one.costs["ms"] for one in fitting] == [1 + number / 100 for number in timed[1]]
    assert all(0.98 * wanted <= one.measured_ms <= wanted for one in fitting) and len(found) == 5
    assert [one.first_loss for one in found] == sorted(one.first_loss for one in found)


def test_a_table_that_knows_nothing_is_given_up():
    """What is said to take 1.1 ms takes 1.3, and less than that 1.0: nothing fits 1.15. Each network is timed once."""
    device = Device(lambda ms: 1.0 if ms < 1.1 else 1.3)
    found = device_check.run(device.suggest, goal(1.15), device.times, "folder")
    numbers = [number for numbers in device.timed for number in numbers]
    assert len(device.asked) <= device_check.ROUNDS and len(numbers) == len(set(numbers))
    assert [one.eligible for one in found].count(True) == 1 and all(one.measured_ms for one in found)


@pytest.mark.parametrize("times, fitting", [
    ((1.99, 1.97, 2.01), (0, 1)), ((1.90, 1.96, 2.0), (1, 2)), ((2.01, None, 1.96), (2,)),
    ((1.90, 1.95, 2.001), (1,)),  # none fits: nearest below rather than nearer above
    ((2.3, 2.1, 2.2), (1,)), ((None, 1.5, None), (1,))])
def test_what_may_be_delivered(times, fitting):
    """By hand: 2 ms are wanted, 1.96 to 2 fit."""
    found = [finalist(one, 2.0, 1.0, measured_ms=ms) for one, ms in zip(ARCHS.values(), times, strict=False)]
    judged = device_check.judged(found, goal(2.0))
    assert [one.arch for one in judged] == [one.arch for one in found]
    assert [number for number, one in enumerate(judged) if one.eligible] == list(fitting)


def test_at_most_eight_are_timed_in_a_round_those_of_least_loss():
    every = [finalist(one, 1.0, float(-number)) for number, one in enumerate(ARCHS.values())]
    asked = []

    def times(archs, folder):
        asked.append(archs)
        return [0.99] * len(archs)

    found = device_check.run(lambda aim: every, goal(1.0), times, "folder")
    assert asked == [[one.arch for one in reversed(every[-8:])]]
    assert [one.eligible for one in found] == [place < 8 for place in range(len(every))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The space, and a table of it as latency.build_table and latency.compare leave it."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "space.json").write_text(json.dumps(TINY.to_json()))
    table = build_table.run(space=TINY, output=str(folder / "host.jsonl"), settings={"rounds": 2, "runs": 3})
    archs, others = compare.random_networks(TINY, 3, 2, 0)
    result = compare.run(table=table, archs=archs, others=others, times=str(folder / "host.networks.jsonl"))
    latency_table.annotate(table.path, calibrated_ms={},
                           accuracy={latency_table.accuracy_name(TINY): result["figures"]})
    return folder


def test_what_a_comparison_has_left(folder):
    """Three judged, twice each, and two others; of another width none."""
    path = str(folder / "host.jsonl")
    lines = [json.loads(line) for line in (folder / "host.networks.jsonl").read_text().splitlines()[1:]]
    known = timed_networks.known(path, TINY)
    assert known.settings == {"rounds": 2, "runs": 3} and known.judged == 3 and len(known.ms) == 5
    for one, ms in known.ms:
        assert ms == next(line["median_ms"] for line in lines if line["ops"] == one.ops)
    twice = [line["ops"] for line in lines if line["pass"] == 2]
    assert all(one.ops in twice for one, _ in known.ms[:3])
    assert timed_networks.known(path, TINY.scaled(2.0)).ms == []
    assert timed_networks.known(str(folder / "other.jsonl"), TINY) == timed_networks.Known({}, (), 0)


class Paced:
    """A device on which every network takes what it took in a comparison, times a pace that is told for each call."""

    def __init__(self, then, paces):
        self._then, self._paces, self.calls = then, iter(paces), 0

    def facts(self):
        return {"target": "paced"}

    def measure(self, builds):
        self.calls, pace = self.calls + 1, next(self._paces)
        for name in builds:
            yield name, {"median_ms": pace * self._then.get(name, 5.0)}


def test_times_are_at_the_pace_of_the_comparison(folder, tmp_path, monkeypatch):
    """A device that is 30 % slower at first, then 20 % faster: a network of 5 ms has taken 5 ms both times."""
    table = latency_table.read(str(folder / "host.jsonl"))
    then = {timed_networks.digest(one): ms for one, ms in timed_networks.known(table.path, TINY).ms}
    device = Paced(then, [1.3, 0.8])
    monkeypatch.setattr(measure, "from_header", lambda header, path: device)
    new = {timed_networks.digest(one): one for one in ARCHS.values()}
    first, second, third = [one for name, one in new.items() if name not in then][:3]
    timer = network_timer.of(table, TINY)
    assert timer([first, second], str(tmp_path)) == pytest.approx([5.0, 5.0])
    assert timer([second, third], str(tmp_path)) == pytest.approx([5.0, 5.0])
    assert timer([first, second], str(tmp_path)) == pytest.approx([5.0, 5.0]) and device.calls == 2


def test_without_a_comparison_times_are_as_they_are(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "bare.jsonl").write_bytes((folder / "host.jsonl").read_bytes())
    monkeypatch.setattr(measure, "from_header", lambda header, path: Paced({}, [1.3]))
    timer = network_timer.of(latency_table.read(str(tmp_path / "bare.jsonl")), TINY)
    assert "Compare it before: python -m latency.compare" in capsys.readouterr().out
    assert timer(list(ARCHS.values())[:1], str(tmp_path)) == pytest.approx([6.5])


def test_a_device_that_is_not_at_hand_is_missed_before_the_search(folder, tmp_path):
    lines = (folder / "host.jsonl").read_text().splitlines()
    header = json.dumps({**json.loads(lines[0]), "device": "another machine"})
    (tmp_path / "far.jsonl").write_text("\n".join([header, *lines[1:]]) + "\n")
    with pytest.raises(InputError, match="measurements of another target: device 'another machine' there"):
        network_timer.of(latency_table.read(str(tmp_path / "far.jsonl")), TINY)


@pytest.mark.slow
def test_a_search_whose_finalists_are_timed(folder, tmp_path):
    """By the command, on this machine; again; and on the folder of a plain search with trials, which come after."""
    def searched(module, run_dir, *more):
        done = subprocess.run(
            [sys.executable, "-m", module, f"--flagfile={ROOT}/quickstart.flags", f"--space={folder}/space.json",
             "--dataset=fashion_mnist_small", "--max_steps=8", f"--table={folder}/host.jsonl", *more,
             f"--run_dir={run_dir}"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = searched("latency.search", tmp_path / "timed")
    found = json.loads((tmp_path / "timed" / "finalists.json").read_text())["finalists"]
    taken = arch.load(str(tmp_path / "timed" / "arch.json"))
    assert "Timing" in said and f"{taken.costs['measured_ms']:.3g} ms measured" in said
    assert found[0]["ops"] == taken.ops and found[0]["measured_ms"] == taken.costs["measured_ms"]
    wanted, timed = taken.costs["target_ms"], [one for one in found if "measured_ms" in one]
    fitting = [one for one in timed if 0.98 * wanted <= one["measured_ms"] <= wanted]
    assert [one for one in found if one["eligible"]] == (fitting or found[:1])
    assert found[0]["loss"] == min(one["loss"] for one in fitting or found[:1] if "loss" in one)
    before = {name: (tmp_path / "timed" / name).read_bytes() for name in ("arch.json", "finalist_times.jsonl")}
    searched("latency.search", tmp_path / "timed")
    assert before == {name: (tmp_path / "timed" / name).read_bytes() for name in before}

    trial = ("--trials=2", "--trial_epochs=1")
    searched("pnas_tf.search", tmp_path / "plain", *trial)
    assert not (tmp_path / "plain" / "finalist_times.jsonl").exists()
    assert "Timing" in searched("latency.search", tmp_path / "plain", *trial)
    found = json.loads((tmp_path / "plain" / "finalists.json").read_text())["finalists"]
    assert found[0]["eligible"] and "measured_ms" in found[0] and "trial_accuracy" in found[0]
