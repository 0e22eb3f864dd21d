"""The study of search quality: statistics of its results, and the networks it compares, by hand."""

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.quality import search_quality, study_networks, study_results
from benchmarks.quality import study as study_lib
from latency import build_table
from pnas_tf.cost import prices
from pnas_tf.errors import InputError
from pnas_tf.space import spaces
from pnas_tf.space.arch import Arch

QUICK = search_quality.Settings(width_mult=0.25, epochs=1, warmup_epochs=1, search_epochs=1)
RANDOM = [{"kind": "random", "target": "a", "number": number, "accuracy": accuracy}
          for number, accuracy in enumerate((0.10, 0.35, 0.20, 0.30, 0.40))]


@pytest.mark.parametrize("search, size, kept", [(4.0, 1, [0.10, 0.35, 0.20, 0.30, 0.40]), (10.0, 2, [0.35, 0.30]),
                                                (18.0, 3, [0.35]), (500.0, 51, [])])
def test_each_random_search_keeps_its_best_in_the_time_of_a_search_and_a_training(search, size, kept):
    found = study_results.random_search(RANDOM, "a", search, 10.0)
    assert [row["accuracy"] for row in found] == kept and all(row["of"] == size for row in found)
    assert study_results.random_search(RANDOM, "b", search, 10.0) == []


def test_time_is_that_of_the_whole_command(tmp_path):
    """Also of one that was interrupted; a failed command leaves none."""
    study = study_lib.Study(str(tmp_path), {}, 1, [])
    jobs = {"a": [], "b": []}
    with pytest.raises(InputError, match="no_such_module"):
        study.run_all("no_such_module", jobs, lambda folder: False)
    assert study.used("a") is None
    study.run_all("this", {"a": []}, lambda folder: False)
    assert set(study.used("a")) == {"seconds", "cpu_seconds"} and min(study.used("a").values()) > 0
    (tmp_path / "a" / "used.json").write_text('{"seconds": 1e6, "cpu_seconds": 2e6}')
    study.run_all("this", {"a": []}, lambda folder: False)
    assert study.used("a")["seconds"] > 1e6 and study.used("a")["cpu_seconds"] > 2e6


def test_difference_has_the_interval_of_welch():
    """Against the formula, with a quantile of Student's t from a printed table."""
    first, second = np.array([0.71, 0.73, 0.75]), np.array([0.70, 0.71])
    error = math.sqrt(0.0004 / 3 + 0.00005 / 2)
    freedom = error**4 / ((0.0004 / 3) ** 2 / 2 + (0.00005 / 2) ** 2 / 1)
    assert freedom == pytest.approx(2.643, abs=1e-2)
    gain, low, high = study_results.difference(first, second)
    assert gain == pytest.approx(0.025)
    assert (high - gain) / error == pytest.approx(stats.t.ppf(0.975, freedom))
    assert gain - low == pytest.approx(high - gain)
    assert 3.182 < (high - gain) / error < 4.303  # of 3 and 2 degrees of freedom
    assert study_results.gain(first, second) == f"+2.50 points (95 %: {100 * low:+.2f} to {100 * high:+.2f})"
    assert study_results.gain(first[:1], second) == "+0.50 points"


def test_random_rivals_hold_no_op_that_is_left_out(tmp_path, write_space):
    study = search_quality.Study(str(tmp_path), {"dataset": "cifar10"}, 1, [], QUICK)
    write_space(study.space, tmp_path / "copy.json", tmp_path / "host.jsonl")
    limit = study.limits()["mb_k5_e3"]
    ops = [{op for arch in study_networks.random_within(study.space, limit, 40, 1, without=without)
            for op in arch.ops.values()} for without in ("", "_k7_")]
    assert ops[0] >= {"mb_k7_e3", "mb_k7_e6"} and ops[1] and not ops[1] & {"mb_k7_e3", "mb_k7_e6"}


def test_mobilenet_shrinks_maps_at_the_same_depth_as_the_space():
    """cifar_mb shrinks at blocks 1, 4 and 10 of 13; of 17 blocks that is nearest to the stages at 1, 6 and 13.

    In a space for ImageNet, MobileNetV2 has the strides of its paper.
    """
    space = study_networks.study_space(0.75)
    blocks = study_networks.mobilenet_v2(space, 1.0).space.blocks
    assert [number for number, block in enumerate(blocks) if block.strides == 2] == [1, 6, 13]
    imagenet = study_networks.mobilenet_v2(spaces.load("proxyless_mobile"), 1.0).space.blocks
    assert [number for number, block in enumerate(imagenet) if block.strides == 2] == [1, 3, 6, 13]


def test_same_network_with_the_same_seed_is_trained_once(tmp_path):
    study = search_quality.Study(str(tmp_path), {"dataset": "cifar10"}, 1, [], QUICK)
    uniform = study_networks.uniform(study.space, "mb_k3_e3")
    same = Arch(study.space, dict(uniform.ops))
    assert study.training("gradient_a_1", uniform) == study.training("uniform_a_1", same)
    others = {study.training("gradient_a_0", uniform), study.training("gradient_a_1", uniform),
              study.training("gradient_a_1", study_networks.uniform(study.space, "mb_k3_e6"))}
    assert len(others) == 3


def test_mobilenet_is_compared_at_equal_measured_milliseconds(tmp_path, write_space):
    """Its milliseconds equal the table's prediction until the searched networks are timed, then their measured ones."""
    study = search_quality.Study(str(tmp_path), {"dataset": "cifar10"}, 1, [], QUICK)
    write_space(study.space, tmp_path / "copy.json", tmp_path / "host.jsonl")
    target = study.targets()["mb_k5_e3"]
    (tmp_path / "widths.json").write_text(json.dumps({"0.25": target, "0.50": 3 * target}))
    slim, wide = (study_networks.mobilenet_v2(study.space, width) for width in (0.25, 0.50))
    assert study.rivals()["mobilenetv2_mb_k5_e3_0"] == slim
    (tmp_path / "measured.json").write_text(json.dumps({"gradient_mb_k5_e3_0": 2.5 * target,
                                                        "gradient_mb_k5_e3_1": 3.5 * target, "random_mb_k5_e3_0": 0.1}))
    assert study.rivals()["mobilenetv2_mb_k5_e3_0"] == wide


def test_trade_off_is_labelled_by_plain_numbers():
    rows = [{"kind": "random", "accuracy": 0.1 * n, "ms": ms} for n, ms in enumerate((0.09, 0.19, 1.7))]
    drawn = study_results.trade_off(rows, {"a": 0.1})
    assert "mathdefault" not in drawn and all(f"<!-- {ms} -->" in drawn for ms in ("0.1", "0.2", "1"))


def test_seconds_are_labelled_in_full():
    rows = [{"kind": "random", "accuracy": 0.1, "ms": ms} for ms in (90.0, 3000.0)]
    drawn = study_results.trade_off(rows, {"a": 100.0})
    assert all(f"<!-- {ms} -->" in drawn for ms in ("100", "1000", "2000"))


def test_part_of_the_study_has_the_chosen_networks(tmp_path, write_space):
    settings = dataclasses.replace(QUICK, target_ops=["mb_k3_e6"], kinds=["random", "uniform", "biggest"])
    part = search_quality.Study(str(tmp_path), {"dataset": "cifar10"}, 1, [], settings)
    write_space(part.space, tmp_path / "copy.json", tmp_path / "host.jsonl")
    (tmp_path / "widths.json").write_text(json.dumps({"0.25": 1.0}))
    assert sorted(part.networks()) == ["biggest_0", *sorted(f"random_mb_k3_e6_{number}" for number in range(15)),
                                       *(f"uniform_mb_k3_e6_{seed}" for seed in range(5))]
    assert study_results.target_table([{"target": "mb_k3_e6", "kind": "none"}], "mb_k5_e3", 1.0) == ""


def test_target_admits_the_network_it_is_named_for(tmp_path, write_space):
    """If it were rounded to the nearest number, it could lie below the milliseconds of that network."""
    study = search_quality.Study(str(tmp_path), {"dataset": "cifar10"}, 1, [], QUICK)
    write_space(study.space, tmp_path / "copy.json", tmp_path / "host.jsonl")
    for op, target_ms in study.targets().items():
        ms = prices.of_arch(study_networks.uniform(study.space, op), prices.milliseconds(study.table()))
        assert ms <= target_ms * (1 + 1e-12) and target_ms <= ms * (1 + 1e-4)


@pytest.mark.slow
def test_networks_and_widths_are_timed_together_and_again_if_there_are_more(tmp_path):
    """Real times of a tiny space: without new networks `measured.json` stays. The table has an older statistic."""
    settings = dataclasses.replace(QUICK, target_ops=["mb_k5_e3"], kinds=["uniform"])
    study = search_quality.Study(str(tmp_path), {"dataset": "cifar10"}, 1, [], settings)
    build_table.run(space=study.space, output=study.table_path, settings={"rounds": 1, "runs": 1})
    header, *rows = (tmp_path / "host.jsonl").read_text().splitlines(keepends=True)
    older = json.dumps({**json.loads(header), "statistic": "median_ms is the least visit"}) + "\n"
    (tmp_path / "host.jsonl").write_text(older + "".join(rows))
    target = study.targets()["mb_k5_e3"]
    (tmp_path / "widths.json").write_text(json.dumps({"0.30": target, "0.35": 1.2 * target, "2.00": 100.0}))
    study.time_all()
    first, widths, times = (json.loads((tmp_path / name).read_text().splitlines()[-1] if name == "times.jsonl" else
                                       (tmp_path / name).read_text())
                            for name in ("measured.json", "widths.json", "times.jsonl"))
    assert set(first) == {f"uniform_mb_k5_e3_{seed}" for seed in range(5)} and times["median_ms"] > 0
    assert widths["2.00"] == 100.0 and widths["0.30"] != target and widths["0.35"] != 1.2 * target
    study.time_all()
    assert json.loads((tmp_path / "measured.json").read_text()) == first
    more = search_quality.Study(str(tmp_path), {"dataset": "cifar10"}, 1, [],
                                dataclasses.replace(settings, kinds=["uniform", "biggest"]))
    more.time_all()
    second = json.loads((tmp_path / "measured.json").read_text())
    assert set(second) == {*first, "biggest_0"} and second["uniform_mb_k5_e3_0"] != first["uniform_mb_k5_e3_0"]


def test_delivered_networks_are_found_by_the_kind_of_their_search(tmp_path, write_space):
    study = search_quality.Study(str(tmp_path), {"dataset": "cifar10"}, 1, [], QUICK)
    write_space(study.space, tmp_path / "copy.json", tmp_path / "host.jsonl")
    (tmp_path / "widths.json").write_text(json.dumps({"0.25": 1.0}))
    delivered = study_networks.uniform(study.space, "mb_k5_e6")
    for search in study.searches():
        for target, folder in study.goal_folders(search).items():
            (tmp_path / folder).mkdir(parents=True)
            delivered.with_costs(params=1).save(str(tmp_path / folder / "arch.json"))
            (tmp_path / folder / "inherited.weights.h5").touch()
            assert target in (*study.targets(), "unaware")
    named = study.networks()
    for name in ("gradient_mb_k5_e3_4", "gradient_mb_k3_e6_0", "unaware_0", "reinforce_mb_k5_e3_0"):
        assert named[name].ops == delivered.ops
