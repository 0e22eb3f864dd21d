"""The study of search quality: statistics of its results, and the networks it compares, by hand."""

import dataclasses
import json
import math

import pytest
from scipy import stats

from benchmarks.quality import search_quality, study_networks, study_results
from latency import build_table
from pnas_tf.cost import prices
from pnas_tf.space.arch import Arch

QUICK = search_quality.Settings(width_mult=0.25, epochs=1, warmup_epochs=1, search_epochs=1)
RANDOM = [{"kind": "random", "target": "a", "accuracy": accuracy, "held_out_accuracy": held_out, "seconds": 10.0}
          for accuracy, held_out in ((0.10, 0.1), (0.20, 0.3), (0.35, 0.2))]


def test_random_search_is_the_mean_over_all_subsets():
    assert study_results.random_search(RANDOM, "a", 25.0) == (2, pytest.approx((0.20 + 0.35 + 0.20) / 3))
    assert study_results.random_search(RANDOM, "a", 5.0) == (1, pytest.approx(0.65 / 3))
    assert study_results.random_search(RANDOM, "a", 500.0) == (3, pytest.approx(0.20))


def test_difference_has_the_error_of_welch():
    first, second = study_results.of(RANDOM, "random", "a"), study_results.of(RANDOM[:2], "random", "a")
    gain, error = study_results.difference(first, second)
    assert gain / error == pytest.approx(stats.ttest_ind(first, second, equal_var=False).statistic)
    assert math.isnan(study_results.difference(first[:1], second[:1])[1])


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
    settings = dataclasses.replace(QUICK, target_ops=["mb_k5_e6"], kinds=["random", "uniform", "biggest"])
    part = search_quality.Study(str(tmp_path), {"dataset": "cifar10"}, 1, [], settings)
    write_space(part.space, tmp_path / "copy.json", tmp_path / "host.jsonl")
    (tmp_path / "widths.json").write_text(json.dumps({"0.25": 1.0}))
    assert sorted(part.networks()) == ["biggest_0", *(f"random_mb_k5_e6_{number}" for number in range(8)),
                                       *(f"uniform_mb_k5_e6_{seed}" for seed in range(3))]
    assert study_results.target_table([{"target": "mb_k5_e6", "kind": "none"}], "mb_k5_e3", 1.0) == ""


def test_longer_search_goes_on_with_the_weights_of_the_search_for_both_targets(tmp_path, write_space):
    study = search_quality.Study(str(tmp_path), {"dataset": "cifar10"}, 1, [], QUICK)
    write_space(study.space, tmp_path / "copy.json", tmp_path / "host.jsonl")
    flags = study.searches()["longer_mb_k5_e6_2"]
    assert f"--init_weights={tmp_path}/searches/gradient_2" in flags
    assert f"--target_ms={study.targets()['mb_k5_e6']}" in flags and "--seed=2" in flags
    assert study.goal_folders("longer_mb_k5_e6_2") == {"mb_k5_e6": "searches/longer_mb_k5_e6_2"}


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
    assert set(first) == {f"uniform_mb_k5_e3_{seed}" for seed in range(3)} and times["median_ms"] > 0
    assert widths["2.00"] == 100.0 and widths["0.30"] != target and widths["0.35"] != 1.2 * target
    study.time_all()
    assert json.loads((tmp_path / "measured.json").read_text()) == first
    more = search_quality.Study(str(tmp_path), {"dataset": "cifar10"}, 1, [],
                                dataclasses.replace(settings, kinds=["uniform", "biggest"]))
    more.time_all()
    second = json.loads((tmp_path / "measured.json").read_text())
    assert set(second) == {*first, "biggest_0"} and second["uniform_mb_k5_e3_0"] != first["uniform_mb_k5_e3_0"]


def test_networks_that_trials_chose_are_a_kind_of_their_own(tmp_path, write_space):
    study = search_quality.Study(str(tmp_path), {"dataset": "cifar10"}, 1, [], QUICK)
    write_space(study.space, tmp_path / "copy.json", tmp_path / "host.jsonl")
    (tmp_path / "widths.json").write_text(json.dumps({"0.25": 1.0}))
    least, delivered = (study_networks.uniform(study.space, op) for op in ("mb_k3_e3", "mb_k5_e6"))
    for search in study.searches():
        for target, folder in study.goal_folders(search).items():
            (tmp_path / folder).mkdir(parents=True)
            delivered.with_costs(params=1).save(str(tmp_path / folder / "arch.json"))
            (tmp_path / folder / "inherited.weights.h5").touch()
            (tmp_path / folder / "finalists.json").write_text(json.dumps({"finalists": [
                {"ops": delivered.ops, "loss": 2.0, "eligible": True},
                {"ops": least.ops, "loss": 1.0, "eligible": True},
                {"ops": delivered.ops, "loss": 0.5, "eligible": False}]}))
            assert target in (*study.targets(), "unaware")
    named = study.networks()
    for kind, ops in (("gradient", least.ops), ("trials", delivered.ops), ("longer", least.ops),
                      ("longertrials", delivered.ops)):
        assert named[f"{kind}_mb_k5_e6_1"].ops == ops
    assert named["unaware_0"].ops == delivered.ops and named["reinforce_mb_k5_e3_0"].ops == least.ops
