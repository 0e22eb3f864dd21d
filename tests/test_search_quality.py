"""What the study of search quality makes of its numbers."""

import json
import math

import pytest
from scipy import stats

from benchmarks import search_quality, study_networks, study_results
from pnas_tf.arch import Arch

RANDOM = [{"kind": "random", "target": "a", "accuracy": accuracy, "held_out_accuracy": held_out, "seconds": 10.0}
          for accuracy, held_out in ((0.10, 0.1), (0.20, 0.3), (0.35, 0.2))]


def test_random_search_is_the_mean_over_what_might_have_been_tried():
    assert study_results.random_search(RANDOM, "a", 25.0) == (2, pytest.approx((0.20 + 0.35 + 0.20) / 3))
    assert study_results.random_search(RANDOM, "a", 5.0) == (1, pytest.approx(0.65 / 3))
    assert study_results.random_search(RANDOM, "a", 500.0) == (3, pytest.approx(0.20))


def test_a_difference_has_the_error_of_welch():
    first, second = study_results.of(RANDOM, "random", "a"), study_results.of(RANDOM[:2], "random", "a")
    gain, error = study_results.difference(first, second)
    assert gain / error == pytest.approx(stats.ttest_ind(first, second, equal_var=False).statistic)
    assert math.isnan(study_results.difference(first[:1], second[:1])[1])


def test_the_same_network_with_the_same_seed_is_trained_once(tmp_path):
    study = search_quality.Study(str(tmp_path), 0.25, {"dataset": "cifar10"}, 1, (1, 1), 1, [])
    uniform = study_networks.uniform(study.space, "mb_k3_e3")
    same = Arch(study.space, dict(uniform.ops))
    assert study.training("gradient_a_1", uniform) == study.training("uniform_a_1", same)
    others = {study.training("gradient_a_0", uniform), study.training("gradient_a_1", uniform),
              study.training("gradient_a_1", study_networks.uniform(study.space, "mb_k3_e6"))}
    assert len(others) == 3


def test_mobilenet_is_compared_at_equal_measured_milliseconds(tmp_path, write_space):
    """Once the networks found are timed; at the table's milliseconds before."""
    study = search_quality.Study(str(tmp_path), 0.25, {"dataset": "cifar10"}, 1, (1, 1), 1, [])
    write_space(study.space, tmp_path / "copy.json", tmp_path / "host.jsonl")
    target = study.targets()["mb_k5_e3"]
    (tmp_path / "widths.json").write_text(json.dumps({"0.25": target, "0.50": 3 * target}))
    slim, wide = (study_networks.mobilenet_v2(study.space, width) for width in (0.25, 0.50))
    assert study.rivals()["mobilenetv2_mb_k5_e3_0"] == slim
    (tmp_path / "measured.json").write_text(json.dumps({"gradient_mb_k5_e3_0": 2.5 * target,
                                                        "gradient_mb_k5_e3_1": 3.5 * target, "random_mb_k5_e3_0": 0.1}))
    assert study.rivals()["mobilenetv2_mb_k5_e3_0"] == wide


def test_the_trade_off_is_labelled_by_plain_numbers():
    rows = [{"kind": "random", "accuracy": 0.1 * n, "ms": ms} for n, ms in enumerate((0.09, 0.19, 1.7))]
    drawn = study_results.trade_off(rows, {"a": 0.1})
    assert "mathdefault" not in drawn and all(f"<!-- {ms} -->" in drawn for ms in ("0.1", "0.2", "1"))


def test_seconds_are_labelled_in_full():
    rows = [{"kind": "random", "accuracy": 0.1, "ms": ms} for ms in (90.0, 3000.0)]
    drawn = study_results.trade_off(rows, {"a": 100.0})
    assert all(f"<!-- {ms} -->" in drawn for ms in ("100", "1000", "2000"))


def test_a_part_of_the_study_has_the_networks_asked_for(tmp_path, write_space):
    part = search_quality.Study(str(tmp_path), 0.25, {"dataset": "cifar10"}, 1, (1, 1), 1, [],
                                target_ops=["mb_k5_e6"], kinds=["random", "uniform", "biggest"])
    write_space(part.space, tmp_path / "copy.json", tmp_path / "host.jsonl")
    (tmp_path / "widths.json").write_text(json.dumps({"0.25": 1.0}))
    assert sorted(part.networks()) == ["biggest_0", *(f"random_mb_k5_e6_{number}" for number in range(8)),
                                       "uniform_mb_k5_e6_0", "uniform_mb_k5_e6_1"]
    assert study_results.target_table([{"target": "mb_k5_e6", "kind": "none"}], "mb_k5_e3", 1.0) == ""


def test_a_longer_search_goes_on_with_the_weights_of_the_one_for_both(tmp_path, write_space):
    study = search_quality.Study(str(tmp_path), 0.25, {"dataset": "cifar10"}, 1, (1, 1), 1, [])
    write_space(study.space, tmp_path / "copy.json", tmp_path / "host.jsonl")
    flags = study.searches()["longer_mb_k5_e6_2"]
    assert f"--init_weights={tmp_path}/searches/gradient_2" in flags
    assert f"--target_ms={study.targets()['mb_k5_e6']}" in flags and "--seed=2" in flags
    assert study.goal_folders("longer_mb_k5_e6_2") == {"mb_k5_e6": "searches/longer_mb_k5_e6_2"}


def test_of_two_trained_networks_the_better_by_held_out_images_counts():
    rows = [{"kind": kind, "target": "a", "number": number, "accuracy": accuracy, "held_out_accuracy": held_out}
            for kind, number, accuracy, held_out in (
                ("longer", 0, 0.5, 0.6), ("mostmacs", 0, 0.7, 0.5), ("longer", 1, 0.3, 0.2), ("mostmacs", 1, 0.4, 0.3),
                ("longer", 2, 0.9, 0.9), ("random", 0, 1.0, 1.0))]
    assert sorted(study_results.better_by_held_out(rows, "a", "longer", "mostmacs")) == [0.4, 0.5]
    said = study_results.comparisons(rows, "a", "longer")
    assert "2 pairs" in said and "-55.00 points" in said  # 45 % against the random network's 100 %
