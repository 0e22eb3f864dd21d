"""The benchmark on NAS-Bench-Macro, on a truth that this test makes up: regrets and ranks by hand, and a whole run."""

import itertools
import json

import numpy as np
import pytest

from benchmarks.quality import macro_evolution, macro_methods, macro_results, macro_truth, nas_bench_macro
from pnas_tf import files
from pnas_tf.cost import prices
from pnas_tf.errors import InputError
from pnas_tf.space import blocks

SPACE = macro_truth.space()
MASK = blocks.op_mask(SPACE)


@pytest.fixture(scope="module")
def truth_file(tmp_path_factory):
    """A truth in the published format: accuracy grows with MACs, except that op 1 at b1 costs a point."""
    path = tmp_path_factory.mktemp("truth") / "truth.json"
    paths = np.array(list(itertools.product(range(3), repeat=8)))
    params, macs = (prices.matrix(SPACE, price).of_paths(paths) for price in (prices.params(), prices.macs()))
    accuracy = 80 + 1e-7 * macs - (paths[:, 0] == 1)
    path.write_text(json.dumps({"".join(map(str, each)): {
        "test_acc": [a - 0.1, a, a + 0.1], "mean_acc": a, "std": 0.1, "params": int(p), "flops": int(m)}
        for each, a, p, m in zip(paths, accuracy, params, macs, strict=True)}))
    return path


def test_both_spaces_have_the_published_networks():
    """By hand: 3^8 networks; the largest published one has 105,660,928 MACs, and maps of half the side a quarter."""
    half = macro_truth.space("nas_bench_macro_half")
    assert SPACE.size == half.size == 6561 and [block.ops for block in SPACE.blocks] == [
        block.ops for block in half.blocks]
    cost = prices.matrix(SPACE, prices.macs())
    assert cost.range == (7713280, 105660928)
    assert 0.24 < prices.matrix(half, prices.macs()).range[1] / cost.range[1] < 0.26


def test_regret_and_rank_by_hand(truth_file):
    truth = macro_truth.read(str(truth_file), SPACE)
    assert len(truth.paths) == 6561 and macro_truth.largest_difference(truth, SPACE) == (0, 0)
    free = prices.Cost(np.where(np.arange(3) == 2, 1.0, 0.0) * MASK, 0.0, MASK)  # cost: number of ops 2
    # Within a cost of 1, networks have at most one op 2; the best has op 1 elsewhere, but op 0 or 2 at b1.
    fitting = [truth.of(path) for path in truth.paths if (path == 2).sum() <= 1]
    order = sorted(fitting, key=lambda index: -truth.accuracy[index])
    assert truth.regret(truth.paths[order[0]], free, 1.0) == 0 and truth.rank(truth.paths[order[0]], free, 1.0) == 0
    third = truth.paths[order[2]]
    assert truth.regret(third, free, 1.0) == pytest.approx(truth.accuracy[order[0]] - truth.accuracy[order[2]])
    assert truth.rank(third, free, 1.0) == pytest.approx(2 / len(fitting))
    most = macro_truth.most_macs(truth, free, 1.0)
    assert truth.macs[truth.of(most)] == max(truth.macs[index] for index in fitting)
    unskipped = macro_truth.most_macs(truth, free, 1.0, True, SPACE)
    assert not any(unskipped[row] == 0 for row in (1, 3, 4, 6, 7))
    assert macro_truth.best_of_random(truth, free, 1.0, 20_000, truth.accuracy) < 0.01
    assert macro_truth.best_of_random(truth, free, 1.0, 4, truth.accuracy) > 0.1


def test_one_training_of_every_network_is_judged_by_the_others():
    """By hand: training 0 chooses network 2, training 1 network 1; network 3 is above the bound."""
    paths = np.array([[0], [1], [2], [3]], np.int32)
    trainings = np.array([[80.0, 84.0], [81.0, 87.0], [85.0, 81.0], [99.0, 99.0]])
    truth = macro_truth.Truth(paths, trainings.mean(1), trainings, np.zeros(4), np.zeros(4))
    cost = prices.Cost(np.array([[0, 1, 2, 3]], np.float32), 0.0, np.ones((1, 4), bool))
    assert macro_truth.best_by_one_training(truth, cost, 2.0) == [
        (pytest.approx(84 - 81), pytest.approx(3 / 3)), (pytest.approx(84 - 81), pytest.approx(3 / 3))]


def test_evolution_finds_the_least_loss_within_the_target():
    """A loss that is a sum, of which 64 random networks hold no minimum; networks with an op 2 at b1 do not fit."""
    rng, paths = np.random.default_rng(0), np.array(list(itertools.product(range(3), repeat=8)))
    effects = rng.uniform(0, 1, (8, 3))

    def loss(path):
        return float(effects[np.arange(8), path].sum())

    losses = effects[np.arange(8), paths].sum(1)
    random = rng.permutation(len(paths))[:200]
    first = [index for index in random if paths[index, 0] != 2][:64]
    best = macro_evolution.evolve(paths[random], losses[random], loss, lambda path: path[0] != 2, [3] * 8, seed=1)
    assert best[0] != 2 and loss(best) < losses[first].min() - 0.1
    assert loss(best) < np.quantile(losses[paths[:, 0] != 2], 0.002)
    assert macro_evolution.evolve(paths[random], losses[random], loss, lambda path: False, [3] * 8, seed=1) is None


def test_other_files_are_refused(tmp_path):
    (tmp_path / "other.json").write_text('{"00000000": {"mean_acc": 50}}')
    with pytest.raises(InputError, match="expected the 6,561 networks"):
        macro_truth.read(str(tmp_path / "other.json"), SPACE)


def test_ranking_of_the_truth_itself_is_perfect(truth_file):
    truth = macro_truth.read(str(truth_file), SPACE)
    ranked = macro_results.ranking(truth, truth.paths, -truth.accuracy)
    assert ranked == {"all": pytest.approx(1), "bands": pytest.approx(1), "better": pytest.approx(1)}


@pytest.mark.slow
def test_a_whole_run_is_resumed_where_it_stopped(truth_file, tmp_path, monkeypatch):
    """One seed with a few steps on random images; the second run finds everything there."""
    monkeypatch.setattr(macro_methods, "STEPS", 2)
    monkeypatch.setattr(macro_methods, "TIMED", 1)
    monkeypatch.setattr(nas_bench_macro, "INHERITED", 100)
    images = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", x_train=images.integers(0, 255, (400, 32, 32, 3), np.uint8),
             y_train=np.arange(400) % 10, x_test=images.integers(0, 255, (40, 32, 32, 3), np.uint8),
             y_test=np.arange(40) % 10)
    benchmark = nas_bench_macro.Benchmark(str(tmp_path / "out"), str(truth_file),
                                          [f"--dataset=npz:{tmp_path}/images.npz"],
                                          ["--max_steps=6", "--held_out_size=100"])
    table = benchmark.host_table()
    assert len(table.targets) == 8 and list(table.targets) == sorted(table.targets)
    for _ in range(2):
        benchmark.judge(0, table, benchmark.search(0, table))
    rows = files.read_lines(benchmark.log)
    choices = [row for row in rows if "path" in row]
    assert len({(row["table"], row["target_ms"], row["way"]) for row in choices}) == len(choices)
    tables = {table.name, benchmark.host_table("int8").name, *(f"made_up_{seed}" for seed in nas_bench_macro.MADE_UP)}
    assert {row["table"] for row in choices} == tables and len(tables) == 7
    learned = [row for row in choices if "steps" in row]
    assert {row["way"] for row in learned} == {f"alpha by {name}" for name in macro_methods.METHODS}
    assert len(learned) == 4 * 8 and all(row["steps"] >= 1 for row in learned)
    found = [row for row in choices if row["way"] in ("found", "delivered")]
    assert all(row["ms"] <= row["target_ms"] * (1 + 1e-6) and row["regret"] >= 0 for row in found)
    text = macro_results.write(str(tmp_path / "out"), rows, benchmark.truth, table.ms)
    assert "| found |" in text and (tmp_path / "out" / "trade_off.svg").exists()
