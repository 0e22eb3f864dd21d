"""The front of a pool whose losses are known: against all networks of a small space."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

from pnas_tf.cost import prices
from pnas_tf.cost.goal import Goal
from pnas_tf.cost.limits import Limit
from pnas_tf.derive import deliver, front
from pnas_tf.derive.pool import Pool
from pnas_tf.derive.scores import SET_BATCHES, Scores
from pnas_tf.errors import InputError
from pnas_tf.network.evaluate import Score
from pnas_tf.run_folder import RunFolder, front_file
from pnas_tf.run_folder import folder as run_folder
from pnas_tf.space import blocks
from tests.derive.test_op_effects import EVERY, SPACE

MASK = blocks.op_mask(SPACE)
MACS = prices.matrix(SPACE, prices.macs())
EVEN = np.where(MASK, 1 / MASK.sum(1, keepdims=True), 0).astype(np.float32)


class Truth:
    """A scorer whose losses are planted: a sum of effects, a difficulty for each batch, and noise of each network."""

    def __init__(self, seed, noise=0.0):
        rng = np.random.default_rng(seed)
        self.effects = rng.uniform(0, 0.2, MASK.shape)
        self._noise = dict(zip(map(bytes, EVERY.astype(np.int32)), rng.normal(0, noise, len(EVERY)), strict=True))
        self.num_batches, self.labels, self.asked = 2 * SET_BATCHES, np.arange(12) % 4, []

    def of(self, path):
        return float(self.effects[np.arange(6), path].sum())

    def leaning(self, path):
        """The sum less the lean, by its deviations over all networks: 0.2 of theirs for each deviation of MACs."""
        sums, macs = self.effects[np.arange(6), EVERY].sum(1), MACS.of_paths(EVERY)
        return self.of(path) - 0.2 * sums.std() * (MACS.of_path(path) - macs.mean()) / macs.std()

    def score(self, path, batches=None, first=0):
        self.asked.append((tuple(path), batches, first))
        difficulty = 0.15 if batches is None else {0: 0.0, SET_BATCHES: 0.3}[first]
        loss = float(np.exp(self.of(path) + difficulty + self._noise[np.asarray(path, np.int32).tobytes()]))
        return Score(loss, 0.9 - 0.2 * loss, 12)

    def score_images(self, path):
        rng = np.random.default_rng(int(1000 * self.of(path)))
        return self.score(path), rng.random(12) < 0.7


def cost(seed):
    rng = np.random.default_rng(seed)
    return prices.Cost((rng.uniform(0.1, 1, MASK.shape) * MASK).astype(np.float32), 0.5, MASK)


def goal_of(ms, target_ms, *limits):
    """A goal with the range of milliseconds of all networks that keep the limits."""
    costs = ms.of_paths(EVERY[np.all([limit.cost.of_paths(EVERY) <= limit.bound for limit in limits], axis=0)]
                        if limits else EVERY)
    return Goal("phone", ms, target_ms, limits, range_ms=(float(costs.min()) * (1 + 1e-6), float(costs.max())))


def explored(truth, goal, count=4, probs=EVEN):
    pool = Pool(goal, probs, Scores(SPACE, truth))
    bounds = front.budgets(goal, count)
    front.explore(pool, bounds, seed=0)
    return pool, bounds


def best_of_all(truth, ms, bound, other=None, other_bound=np.inf):
    fitting = [path for path in EVERY if ms.of_path(path) <= bound * (1 + 1e-9)
               and (other is None or other.of_path(path) <= other_bound)]
    return tuple(min(fitting, key=truth.leaning))


def test_budgets_by_hand():
    goal = Goal("t", cost(0), 4.0, range_ms=(1.0, 8.0))
    assert front.budgets(goal, 3) == pytest.approx([1, 2, 4, 4.4])
    assert front.budgets(dataclasses.replace(goal, keeps_ms=False), 4) == pytest.approx([1, 2, 4, 8])
    assert front.budgets(goal, 1) == [4.0] and front.budgets(dataclasses.replace(goal, target_ms=1.0), 8) == [1.0]
    assert front.budgets(dataclasses.replace(goal, target_ms=9.0), 2) == pytest.approx([1, 8])


@pytest.mark.parametrize("seed", range(4))
def test_the_best_of_all_networks_at_each_budget(seed):
    """The pool holds a part of the networks, and still finds the best at every budget."""
    truth, ms, params = Truth(seed), cost(seed), cost(10 + seed)
    goal = goal_of(ms, 3.0, Limit("params", params, 3.4))
    pool, bounds = explored(truth, goal)
    assert len(pool.networks()) < len(EVERY)
    for bound in bounds:
        found = pool.best(bound)
        assert tuple(found.arch.path) == best_of_all(truth, ms, bound, params, 3.4)
        assert found.expected_loss == pytest.approx(np.exp(truth.leaning(found.arch.path) + 0.15), rel=0.02)
    finalists = pool.finalists(goal)
    assert [each.eligible for each in finalists] == [
        each.costs["ms"] <= 3.0 * (1 + 1e-9) and each.costs["params"] <= 3.4 for each in finalists]
    hows = {each.how for each in finalists}
    assert {run_folder.MOST_MACS, run_folder.MOST_PROBABLE, run_folder.ARG_MAX} <= hows
    assert len(truth.asked) == len(set(truth.asked))  # no network was scored twice on the same images


def test_networks_that_the_probabilities_prefer_have_no_part_in_the_effects():
    """The supernet has trained them most, so their ops would look better than they are."""
    prefer = np.where(np.arange(3) == 0, 0.98, 0.01) * MASK
    prefer = (prefer / prefer.sum(1, keepdims=True)).astype(np.float32)
    (even, _), (preferring, _) = (explored(Truth(0, noise=0.05), goal_of(cost(0), 3.0), probs=probs)
                                  for probs in (EVEN, prefer))
    np.testing.assert_array_equal(preferring.scores.effects.mean, even.scores.effects.mean)
    suggested = [{tuple(each.arch.path) for each in pool.networks() if each.how == run_folder.SAMPLE}
                 for pool in (even, preferring)]
    assert suggested[0] != suggested[1] and all(len(paths) > 5 for paths in suggested)


def test_goals_share_scores():
    truth = Truth(0)
    scores = Scores(SPACE, truth)
    for target_ms in (3.0, 2.5):
        goal = goal_of(cost(0), target_ms)
        front.explore(Pool(goal, EVEN, scores), front.budgets(goal, 3), seed=0)
    assert len(truth.asked) == len(set(truth.asked))
    first_looks = [(path, first) for path, batches, first in truth.asked if batches]
    assert len(first_looks) == len({path for path, _ in first_looks}) and {first for _, first in first_looks} == {
        0, SET_BATCHES}


def test_losses_of_further_images_rank_and_accuracies_stay_held_out():
    held_out, further, ms = Truth(0), Truth(1), cost(0)
    pool = Pool(goal_of(ms, 3.0), EVEN, Scores(SPACE, held_out, further))
    front.explore(pool, bounds := front.budgets(pool.goal, 4), seed=0)
    for bound in bounds:
        assert tuple(pool.best(bound).arch.path) == best_of_all(further, ms, bound)
    looked_at = pool.look_closely(pool.best(3.0))
    assert looked_at.loss == further.score(looked_at.arch.path).loss
    assert looked_at.accuracy == held_out.score(looked_at.arch.path).accuracy
    np.testing.assert_array_equal(pool.scores.labels, held_out.labels)


def test_a_quicker_network_that_is_as_good_is_delivered():
    """Effects that no network can tell from 0 are not worth milliseconds; large ones are."""
    quicker = 0
    for seed in range(6):
        truth = Truth(seed, noise=0.02)
        truth.effects[:, :] = (0.001, 0.0, 0.5)  # zero is bad, the two others are nearly equal
        ms = prices.Cost(np.where(MASK, np.array([0.2, 0.6, 0.0], np.float32), 0).astype(np.float32), 0.5, MASK)
        pool, _ = explored(truth, goal_of(ms, 4.2))
        finalists = pool.finalists(pool.goal)
        chosen, best = front.ordered(pool, finalists, False)[0], front.ordered(pool, finalists, True)[0]
        assert best.expected_loss == min(each.expected_loss for each in finalists if each.eligible)
        assert chosen.expected_loss - best.expected_loss <= pool.error(chosen, best)
        assert all(each.expected_loss - best.expected_loss > pool.error(each, best) for each in finalists
                   if each.costs["ms"] < chosen.costs["ms"])
        assert "zero" not in chosen.arch.ops.values()
        quicker += chosen.costs["ms"] < best.costs["ms"]
        # Around a pretrained network, it is the slowest that is as good.
        pool.scores.space = dataclasses.replace(SPACE, pretrained="efficientnet_lite0")
        slowest = front.ordered(pool, finalists, False)[0]
        assert slowest.costs["ms"] == max(each.costs["ms"] for each in finalists if each.eligible and
                                          each.expected_loss - best.expected_loss <= pool.error(each, best))
    assert quicker >= 1


def test_where_latency_is_free_the_best_is_delivered_whatever_it_takes():
    """Effects of nearly equal ops and noise, as above: within a target, a quicker one would be delivered."""
    choice, differ = deliver.LastChoice(32), 0
    for seed in range(6):
        truth = Truth(seed, noise=0.02)
        truth.effects[:, :] = (0.001, 0.0, 0.5)
        ms = prices.Cost(np.where(MASK, np.array([0.2, 0.6, 0.0], np.float32), 0).astype(np.float32), 0.5, MASK)
        goal = dataclasses.replace(goal_of(ms, 4.2), keeps_ms=False)
        pool, _ = explored(truth, goal)
        chosen = deliver.by_table(pool, choice)[0]
        assert chosen == min(pool.finalists(goal), key=lambda each: each.expected_loss)
        differ += chosen != front.ordered(pool, pool.finalists(goal), False)[0]
    assert differ >= 1


def test_no_network_is_compared_by_its_own_loss():
    """What it has beyond the effects of its ops is gone after a training of its own."""
    pool, _ = explored(Truth(2, noise=0.05), goal_of(cost(2), 3.5))
    best = pool.look_closely(pool.best(3.5))
    expected = pool.scores.leaning.loss(best.arch.path[None])[0]
    assert best.loss != pytest.approx(expected, rel=1e-6)
    assert pool.best(3.5).expected_loss == best.expected_loss == pytest.approx(expected, rel=1e-12)


def test_the_file_and_the_text_say_what_more_milliseconds_gain(tmp_path):
    truth, ms = Truth(1, noise=0.01), cost(1)
    truth.effects = 0.3 - 0.2 * ms.matrix  # slower ops are better
    goal = goal_of(ms, 3.0)
    pool, bounds = explored(truth, goal)
    ranked = front.ordered(pool, pool.finalists(goal), False)
    picks = front.picks(pool, bounds, ranked[0])
    assert [pick.ms for pick in picks] == sorted(pick.ms for pick in picks) and max(pick.ms for pick in picks) > 3.0
    within = [pick for pick in picks if pick.ms <= 3.0]
    assert min(pick.gain for pick in within) == 0 and all(pick.gain_error >= 0 for pick in picks)
    best = min(within, key=lambda pick: pick.gain)
    for pick in picks:  # by hand: accuracy is 0.9 - 0.2 * loss
        difference = pick.finalist.expected_loss - best.finalist.expected_loss
        assert pick.gain == pytest.approx(0.2 * difference, rel=0.05, abs=1e-9)
    # The error holds that of the effects, and that of few images: those that two networks do not classify alike.
    slope, right = picks[0].gain / (picks[0].finalist.expected_loss - best.finalist.expected_loss), [
        truth.score_images(each.finalist.arch.path)[1].astype(int) for each in (picks[0], best)]
    assert slope == pytest.approx(0.2, rel=0.05)
    of_effects, of_images = slope * pool.error(picks[0].finalist, best.finalist), np.std(
        right[0] - right[1], ddof=1) / np.sqrt(12)
    assert picks[0].gain_error == pytest.approx(np.sqrt(of_effects ** 2 + of_images ** 2)) and best.gain_error == 0
    archs = [pick.finalist.arch.with_costs(params=1000, macs=2000) for pick in picks]
    front.save(str(tmp_path / "front.json"), goal, picks, ranked[0], archs, SPACE)
    assert json.loads((tmp_path / "front.json").read_text())["target"] == "phone"
    networks = front_file.read(str(tmp_path / "front.json"))
    assert [network.ms for network in networks] == [pick.ms for pick in picks]
    assert [network.ops for network in networks] == [pick.finalist.arch.ops for pick in picks]
    assert all(network.costs["params"] == 1000 for network in networks)
    delivered = [network for network in networks if network.delivered]
    assert len(delivered) == 1 and delivered[0].ms == ranked[0].costs["ms"]
    text = front.table(picks, ranked[0], goal, 1000)
    assert "held-out images" not in text
    few = front.table(picks, ranked[0], goal, 20)
    assert "20 held-out images, of which one is\n5.0 points" in few and max(map(len, few.splitlines())) <= 80
    assert text.count("delivered") == 1 and "above the target" in text
    assert ("would gain" in text) == (best.ms > delivered[0].ms)
    assert all(len(line) <= 80 for line in text.splitlines())


def front_of(path, networks):
    """A run folder with a front whose networks are there."""
    folder = RunFolder(str(path / "run"))
    front_file.save(folder.front, "t", None, networks)
    for network in networks:
        os.makedirs(folder.file("front", network.folder))
        (path / "run" / "front" / network.folder / "arch.json").write_text("{}")
    return folder


@pytest.mark.parametrize("text, expected", [
    ("0.2131ms", 0.21314), ("0.2134", 0.21337), ("0.213ms", 0.21337), ("0.25ms", 0.21337), ("0.125ms", 0.12496),
    ("0.13ms", 0.12496)])
def test_a_pick_is_the_network_that_was_printed_so_or_the_largest_within(tmp_path, text, expected):
    """The 0.21337 ms beside 0.21314 were picked for 0.2131 before: both are within half a percent of it."""
    networks = [front_file.FrontNetwork(ms, f"{ms:.4g}ms", None, 0.0, 0.0, False, {}, {})
                for ms in (0.12496, 0.21314, 0.21337, 0.3)]
    folder = front_of(tmp_path, networks)
    assert os.path.basename(front_file.picked(folder, text).path) == f"{expected:.4g}ms"


def test_a_pick_whose_folder_is_missing_or_elsewhere_is_refused(tmp_path):
    networks = [front_file.FrontNetwork(ms, f"{ms:.4g}ms", None, 0.0, 0.0, False, {}, {}) for ms in (1.0, 2.0)]
    folder = front_of(tmp_path, networks)
    shutil.move(folder.file("front", "2ms"), tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"front\.json names the network .*2ms, which is missing\. Search again"):
        front_file.picked(folder, "2ms")
    os.symlink(tmp_path / "elsewhere", folder.file("front", "2ms"))
    with pytest.raises(InputError, match="2ms is a link to another folder"):
        front_file.picked(folder, "2ms")
    assert front_file.picked(folder, "1ms").path == folder.file("front", "1ms")


@pytest.mark.parametrize("accuracy, expected", [(0.0, 0.0), (1.0, 1.0), (1.5, None), (-0.5, None), ("1", None)])
def test_an_accuracy_in_a_front_is_a_share_or_nothing(tmp_path, accuracy, expected):
    front_file.save(str(tmp_path / "front.json"), "t", None, [front_file.FrontNetwork(
        1.0, "1ms", None, 0.0, 0.0, False, {}, {}, accuracy=accuracy)])
    assert [each.accuracy for each in front_file.read(str(tmp_path / "front.json"))] == [expected]


@pytest.mark.parametrize("seed", [1, 2, 5])
def test_a_network_that_uses_all_milliseconds_keeps_the_target(seed):
    """Also where none that effects and probabilities suggest uses all: 0.124 ms were once delivered for 0.113."""
    ms, choice = cost(seed), deliver.LastChoice(batch_size=4, use_all_ms=True)
    costs = np.sort(ms.of_paths(EVERY))
    for alone in 1 + np.flatnonzero(costs[1:] > 1.012 * costs[:-1]):  # the only network that uses nearly all
        target = 1.0001 * float(costs[alone])
        pool, _ = explored(Truth(seed), goal_of(ms, target), count=8)
        chosen = deliver.by_table(pool, choice)[0]
        assert chosen.eligible and chosen.costs["ms"] == pytest.approx(target, rel=2e-4)
