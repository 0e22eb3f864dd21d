"""Finalists that are timed before one is delivered: on simulated devices, and on this machine."""

import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from latency import build_table, compare, measure
from latency.search import network_timer
from pnas_tf.cost import goal as goals_lib
from pnas_tf.cost import latency_table, network_times
from pnas_tf.derive import device_check, finalists
from pnas_tf.errors import InputError
from pnas_tf.run_folder import folder as run_folder
from pnas_tf.space import arch
from tests.spaces import two_choices

ROOT = Path(__file__).parents[2]
OPS = ("mb_k3_e3", "mb_k5_e3", "mb_k3_e6", "mb_k5_e6", "zero")
TINY = two_choices(OPS)
ARCHS = {network.fingerprint(): network for network in (
    arch.Arch(TINY, dict(zip(TINY.choices, ops, strict=True))) for ops in itertools.product(OPS, OPS))}


def finalist_of(network, table_ms, loss, **more):
    return finalists.Finalist(run_folder.SAMPLE, network, 0.0, {"ms": table_ms}, True, loss, **more)


class Device:
    """A table in which network n takes 1 + n / 100 ms, and the true times of the networks.

    It suggests the networks that take 98 to 100 % of a goal's milliseconds.
    """

    def __init__(self, true_ms):
        self._true_ms, self.asked, self.timed = true_ms, [], []

    def suggest(self, goal):
        self.asked.append(goal.target_ms)
        every = [finalist_of(network, 1 + number / 100, loss=float(number))
                 for number, network in enumerate(ARCHS.values(), start=1)]
        return [finalist for finalist in every if 0.98 < finalist.costs["ms"] / goal.target_ms <= 1]

    def times(self, archs, folder):
        numbers = [1 + list(ARCHS).index(network.fingerprint()) for network in archs]
        self.timed.append(numbers)
        return [{"ms": self._true_ms(1 + number / 100)} for number in numbers]


def goal(target_ms):
    return goals_lib.Goal("device", None, target_ms)


def test_a_table_that_is_right_is_asked_once():
    """By hand: 98 % of 1.1 ms is 1.078 ms, so the networks of 1.08 to 1.10 ms fit."""
    device = Device(lambda ms: 0.999 * ms)
    ranked = device_check.run(device.suggest, goal(1.1), device.times, "folder")
    assert device.asked == [1.1] and device.timed == [[8, 9, 10]]
    assert [(finalist.costs["ms"], finalist.measured_ms, finalist.eligible) for finalist in ranked] == [
        (ms, pytest.approx(0.999 * ms), True) for ms in (1.08, 1.09, 1.1)]


@pytest.mark.parametrize("factor, target_ms, timed", [(1.05, 1.15, [[13, 14, 15], [8, 9]]),
                                                      (0.95, 1.10, [[8, 9, 10], [14, 15]])])
def test_a_table_that_is_off_is_asked_for_as_much_less_or_more(factor, target_ms, timed):
    """By hand: 1.15 / 1.05 = 1.095 and 1.1 / 0.95 = 1.158."""
    device = Device(lambda ms: factor * ms)
    ranked = device_check.run(device.suggest, goal(target_ms), device.times, "folder")
    assert device.asked == pytest.approx([target_ms, target_ms / factor]) and device.timed == timed
    fitting = [finalist for finalist in ranked if finalist.eligible]
    assert [finalist.costs["ms"] for finalist in fitting] == [1 + number / 100 for number in timed[1]]
    assert all(0.98 * target_ms <= finalist.measured_ms <= target_ms for finalist in fitting) and len(ranked) == 5
    assert [finalist.expected_loss for finalist in ranked] == sorted(each.expected_loss for each in ranked)


def test_a_table_that_knows_nothing_is_given_up():
    """Networks of 1.1 ms and more take 1.3 ms, the others 1.0 ms: none fits 1.15 ms. Each network is timed once."""
    device = Device(lambda ms: 1.0 if ms < 1.1 else 1.3)
    ranked = device_check.run(device.suggest, goal(1.15), device.times, "folder")
    numbers = [number for numbers in device.timed for number in numbers]
    assert len(device.asked) <= device_check.ROUNDS and len(numbers) == len(set(numbers))
    assert sum(finalist.eligible for finalist in ranked) == 1 and all(finalist.measured_ms for finalist in ranked)


@pytest.mark.parametrize("times, fitting", [
    ((1.99, 1.97, 2.01), (0, 1)), ((1.90, 1.96, 2.0), (1, 2)), ((2.01, None, 1.96), (2,)),
    ((1.90, 1.95, 2.001), (1,)),  # none fits: nearest below rather than nearer above
    ((2.3, 2.1, 2.2), (1,)), ((None, 1.5, None), (1,))])
def test_what_may_be_delivered(times, fitting):
    """By hand: the target is 2 ms, so 1.96 to 2 ms fit."""
    timed = [finalist_of(network, 2.0, 1.0, measured_ms=ms)
             for network, ms in zip(ARCHS.values(), times, strict=False)]
    judged = device_check.judged(timed, goal(2.0))
    assert [finalist.arch for finalist in judged] == [finalist.arch for finalist in timed]
    assert [number for number, finalist in enumerate(judged) if finalist.eligible] == list(fitting)


def test_the_best_are_timed_until_enough_fit():
    """By hand: the target is 1.1 ms, so 1.078 to 1.1 ms fit, which are the networks 0, 3, 6 and 7."""
    true_ms = [1.08, 1.07, 1.2, 1.09, 1.3, 1.2, 1.085, 1.09, 1.0]

    def timed_with(order, enough):
        archs = list(ARCHS.values())[:len(true_ms)]
        every = [finalist_of(archs[number], 1.09, float(place)) for place, number in enumerate(order)]
        asked = []

        def times(group, folder):
            asked.append([archs.index(each) for each in group])
            return [{"ms": true_ms[number]} for number in asked[-1]]

        ranked = device_check.run(lambda aim: every, goal(1.1), times, "folder", enough)
        return asked, [archs.index(each.arch) for each in ranked if each.eligible]

    order = [1, 2, 4, 5, 3, 0, 8, 6, 7]
    assert timed_with(order, 1) == ([[1, 2, 4], [5, 3, 0]], [3, 0])
    assert timed_with(order, 3) == ([[1, 2, 4], [5, 3, 0], [8, 6]], [3, 0, 6])
    # The one that is delivered is that of all which fit, however many are timed.
    assert all(timed_with(order, enough)[1][0] == 3 for enough in (1, 2, 3, 8))
    assert timed_with([0, 3, 6, 7], 1) == ([[0, 3, 6]], [0, 3, 6])


def test_at_most_eight_are_timed_in_a_round_those_of_least_loss():
    every = [finalist_of(network, 1.0, float(-number)) for number, network in enumerate(ARCHS.values())]
    asked = []

    def times(archs, folder):
        asked.append(archs)
        return [{"ms": 0.99}] * len(archs)

    ranked = device_check.run(lambda aim: every, goal(1.0), times, "folder", enough=25)
    assert [each for group in asked for each in group] == [finalist.arch for finalist in reversed(every[-8:])]
    assert [finalist.eligible for finalist in ranked] == [place < 8 for place in range(len(every))]


def test_networks_that_break_a_limit_on_the_device_are_not_delivered():
    """By hand: of the networks of 1.08 to 1.10 ms, the first two need 900 bytes of SRAM and the best 1100."""
    device = Device(lambda ms: ms)

    def timer(archs, folder):
        return [{**costs, "sram_bytes": 900 if costs["ms"] > 1.085 else 1100} for costs in device.times(archs, folder)]

    def limited(bound):
        return dataclasses.replace(goal(1.1), whole=(("sram_bytes", bound),))

    ranked = device_check.run(device.suggest, limited(1000), timer, "folder")
    assert [(finalist.costs["sram_bytes"], finalist.eligible) for finalist in ranked] == [
        (1100, False), (900, True), (900, True)]
    with pytest.raises(InputError, match=r"keeps sram_bytes<=800 \(they have 900 to 1,100\)\. Raise the limit"):
        device_check.run(device.suggest, limited(800), timer, "folder")
    archs = list(ARCHS.values())[7:10]
    assert device_check.keeping_limits(archs, limited(1000), timer, "folder") == [False, True, True]
    assert device_check.keeping_limits(archs, goal(1.1), None, "folder") == [True, True, True]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The space, and its table as latency.build_table and latency.compare write it."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "space.json").write_text(json.dumps(TINY.to_json()))
    table = build_table.run(space=TINY, output=str(folder / "host.jsonl"), settings={"rounds": 2, "runs": 3})
    archs, others = compare.random_networks(TINY, 3, 2, 0)
    result = compare.run(table=table, archs=archs, others=others, times=str(folder / "host.networks.jsonl"))
    latency_table.annotate(table.path, rows={},
                           header={"accuracy": {latency_table.accuracy_name(TINY): result["figures"]}})
    return folder


def test_what_a_comparison_has_left(folder):
    """Three networks were judged, in two passes each, and two others timed; none of another width."""
    path = str(folder / "host.jsonl")
    lines = [json.loads(line) for line in (folder / "host.networks.jsonl").read_text().splitlines()[1:]]
    networks = network_times.compared(path, TINY)
    assert networks.settings == {"rounds": 2, "runs": 3} and networks.judged == 3 and len(networks.ms) == 5
    for network, ms in networks.ms:
        assert ms == next(line["median_ms"] for line in lines if line["ops"] == network.ops)
    twice = [line["ops"] for line in lines if line["pass"] == 2]
    assert all(network.ops in twice for network, _ in networks.ms[:3])
    assert network_times.compared(path, TINY.scaled(2.0)).ms == []
    assert network_times.compared(str(folder / "other.jsonl"), TINY) == network_times.ComparedNetworks({}, (), 0)


class Paced:
    """A device on which each network takes its time of the comparison, times the pace of the call."""

    def __init__(self, then, paces):
        self._then, self._paces, self.calls = then, iter(paces), 0

    def facts(self):
        return {"target": "paced", "rounds": 1}

    def measure(self, builds, between, visited):
        self.calls, pace = self.calls + 1, next(self._paces)
        for name in builds:
            yield name, {"median_ms": pace * self._then.get(name, 5.0)}


def test_times_are_at_the_pace_of_the_comparison(folder, tmp_path, monkeypatch):
    """The device is 30 % slower in the first call and 20 % faster in the second: 5 ms stay 5 ms in both."""
    table = latency_table.read(str(folder / "host.jsonl"))
    then = {network_times.digest(one): ms for one, ms in network_times.compared(table.path, TINY).ms}
    device = Paced(then, [1.3, 0.8])
    monkeypatch.setattr(measure, "from_header", lambda header, path: device)
    new = {network_times.digest(one): one for one in ARCHS.values()}
    first, second, third = [one for name, one in new.items() if name not in then][:3]
    timer = network_timer(table, TINY)
    folder_of_times = run_folder.RunFolder(str(tmp_path))
    for archs in ([first, second], [second, third], [first, second]):
        assert timer(archs, folder_of_times) == [{"ms": pytest.approx(5.0)}] * 2
    assert device.calls == 2


def test_without_a_comparison_times_are_as_they_are(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "bare.jsonl").write_bytes((folder / "host.jsonl").read_bytes())
    monkeypatch.setattr(measure, "from_header", lambda header, path: Paced({}, [1.3]))
    timer = network_timer(latency_table.read(str(tmp_path / "bare.jsonl")), TINY)
    assert "To correct them, first run: python -m latency.compare" in capsys.readouterr().out
    assert timer(list(ARCHS.values())[:1], run_folder.RunFolder(str(tmp_path))) == [{"ms": pytest.approx(6.5)}]


def test_a_device_that_is_not_at_hand_is_missed_before_the_search(folder, tmp_path):
    lines = (folder / "host.jsonl").read_text().splitlines()
    header = json.dumps({**json.loads(lines[0]), "device": "another machine"})
    (tmp_path / "far.jsonl").write_text("\n".join([header, *lines[1:]]) + "\n")
    with pytest.raises(InputError, match="measurements of another target: device 'another machine' there"):
        network_timer(latency_table.read(str(tmp_path / "far.jsonl")), TINY)


@pytest.mark.slow
def test_a_search_whose_finalists_are_timed(folder, tmp_path):
    """The command on this machine; the same command again; and on the folder of a search with trials but no timing."""
    def searched(module, run_dir, *more):
        done = subprocess.run(
            [sys.executable, "-m", module, "--flagfile=quickstart.flags", f"--space={folder}/space.json",
             "--dataset=fashion_mnist_small", "--max_steps=8", f"--table={folder}/host.jsonl", *more,
             f"--run_dir={run_dir}"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    output = searched("latency.search", tmp_path / "timed")
    ranked = json.loads((tmp_path / "timed" / "finalists.json").read_text())["finalists"]
    delivered = arch.load(str(tmp_path / "timed" / "arch.json"))
    assert "Timing" in output and f"{delivered.costs['measured_ms']:.3g} ms measured" in output
    assert ranked[0]["ops"] == delivered.ops and ranked[0]["measured_ms"] == delivered.costs["measured_ms"]
    target_ms, timed = delivered.costs["target_ms"], [finalist for finalist in ranked if "measured_ms" in finalist]
    fitting = [finalist for finalist in timed if 0.98 * target_ms <= finalist["measured_ms"] <= target_ms]
    assert [finalist for finalist in ranked if finalist["eligible"]] == (fitting or ranked[:1])
    assert ranked[0]["loss"] == min(finalist["loss"] for finalist in fitting or ranked[:1] if "loss" in finalist)
    before = {name: (tmp_path / "timed" / name).read_bytes() for name in ("arch.json", "finalist_times.jsonl")}
    searched("latency.search", tmp_path / "timed")
    assert before == {name: (tmp_path / "timed" / name).read_bytes() for name in before}

    trial = ("--trials=2", "--trial_epochs=1")
    searched("pnas_tf.search", tmp_path / "plain", *trial)
    assert not (tmp_path / "plain" / "finalist_times.jsonl").exists()
    assert "Timing" in searched("latency.search", tmp_path / "plain", *trial)
    ranked = json.loads((tmp_path / "plain" / "finalists.json").read_text())["finalists"]
    assert ranked[0]["eligible"] and "measured_ms" in ranked[0] and "trial_accuracy" in ranked[0]
