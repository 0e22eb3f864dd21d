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
