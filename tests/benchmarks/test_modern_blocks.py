"""The comparison of ways to search: its spaces, and the statistics of its results."""

import json
import os

import numpy as np
import pytest
from scipy import stats

from benchmarks.quality import modern_blocks, modern_results, study_results
from benchmarks.quality.modern_results import LARGE, SMALL, WAYS
from pnas_tf import files

ACCURACY = {("mb", SMALL): (0.70, 0.71, 0.72), ("uib", SMALL): (0.72, 0.72, 0.76), ("mb", LARGE): (0.75,),
            ("uib", LARGE): (0.74,), ("one", LARGE): (0.75, 0.74)}
ROWS = [{"way": way, "target": target, "seed": seed, "accuracy": accuracy, "params": 1000, "macs": 2_000_000,
         **({"int8_accuracy": accuracy - 0.01, "float32_ms": 0.1, "int8_ms": 0.05} if target == SMALL else {})}
        for (way, target), values in ACCURACY.items() for seed, accuracy in enumerate(values)]


def test_spaces_differ_in_what_is_compared_alone():
    spaces = {way: modern_blocks.quick_space(WAYS[way].space) for way in WAYS}
    assert spaces["one"] == spaces["two"]
    for way, space in spaces.items():
        assert space.stem[0].strides == 2
        # Widths of cifar_mb by three quarters, in multiples of 8; where filters are searched, they lie around these.
        own = [block.widths[1] if block.widths else block.filters for block in space.blocks]
        assert own == [16] + 3 * [24] + 3 * [32] + 3 * [64] + 3 * [96], way
        assert space.input_shapes()["mix"][:2] == (2, 2)
    assert len(spaces["mb"].choices) == len(spaces["uib"].choices) == 12
    assert all(op.startswith("uib_") or op == "zero" for choice in spaces["uib"].choices.values() for op in choice.ops)


def test_interval_is_that_of_a_paired_t_test():
    differences = modern_results.paired(ROWS, "mb", "uib", SMALL, "accuracy")
    np.testing.assert_allclose(differences, [0.02, 0.01, 0.04], atol=1e-12)
    low, high = 100 * np.array(stats.ttest_rel(ACCURACY["uib", SMALL], ACCURACY["mb", SMALL]).confidence_interval(0.95))
    assert modern_results.interval(differences) == f"{7 / 3:+.2f} [{low:+.2f}, {high:+.2f}]"


def test_random_networks_are_compared_by_welch():
    """Against the formulas of Welch (1947)."""
    first, second = np.array([0.70, 0.71, 0.72, 0.73]), np.array([0.72, 0.76, 0.74, 0.74])
    errors = first.var(ddof=1) / 4, second.var(ddof=1) / 4
    freedom = sum(errors) ** 2 / sum(error ** 2 / 3 for error in errors)
    low, high = 2.5 + 100 * stats.t.ppf(0.975, freedom) * np.sqrt(sum(errors)) * np.array([-1, 1])
    assert modern_results.unpaired(first, second) == f"+2.50 [{low:+.2f}, {high:+.2f}]"


def test_best_of_random_networks_has_other_seeds(tmp_path, write_space):
    space = modern_blocks.quick_space("cifar_mb")
    write_space(space, tmp_path / "cifar_mb.json", tmp_path / "cifar_mb.jsonl")
    study = modern_blocks.Comparison(str(tmp_path), {}, 1, [], epochs=1, ways=["mbrandom", "mbbest"], search_flags=[])
    random = study.networks()
    assert list(random) == [f"mbrandom_{SMALL}_{seed}" for seed in range(modern_blocks.RANDOM)]
    for seed, (name, arch) in enumerate(random.items()):
        folder = study.folder(study.training(name, arch))
        os.makedirs(os.path.dirname(folder.training_facts))
        files.write_text(folder.training_facts, json.dumps({"test_accuracy": 0.7 + 0.01 * (seed == 5)}))
    named = study.networks()
    assert {name: arch for name, arch in named.items() if name not in random} == {
        f"mbbest_{SMALL}_{seed}": random[f"mbrandom_{SMALL}_5"] for seed in (8, 9)}


@pytest.mark.parametrize("pairs, quantile", [(2, 12.706), (3, 4.303), (4, 3.182), (5, 2.776)])
def test_quantiles(pairs, quantile):
    """Quantiles of a printed table of Student's t distribution."""
    values = np.arange(pairs) ** 2.0
    ends = (np.array(study_results.interval(values)) - values.mean()) / (values.std(ddof=1) / np.sqrt(pairs))
    assert ends == pytest.approx([-quantile, quantile], abs=6e-4)


def test_only_seeds_that_both_ways_have_are_compared():
    assert len(modern_results.paired(ROWS, "mb", "one", LARGE, "accuracy")) == 1
    assert len(modern_results.paired(ROWS, "one", "two", LARGE, "accuracy")) == 0
    assert len(modern_results.paired(ROWS, "mb", "uib", LARGE, "int8_accuracy")) == 0


def test_results_show_what_there_is():
    text = modern_results.show(ROWS, {SMALL: 0.1, LARGE: 0.2}, {"mb_0": 61.4})
    assert "| MBConvs | 3 | 71.00 | 70.00 | 0.1000 | 0.0500 | 1,000 | 2,000,000 |" in text
    assert "| universal inverted bottlenecks | 1 | 74.00 |  |  |  | 1,000 | 2,000,000 |" in text
    assert f"{LARGE}, float32: -1.00 (1 pair)" in text and "two stages" not in text
    assert f"{SMALL}, int8: +2.33 [" in text and "- search mb_0: 61 s" in text
    assert modern_results.show([], {SMALL: 0.1}, {}) == "Nothing is trained yet."
