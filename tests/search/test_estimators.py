"""Estimates of alpha's gradient, compared with enumeration: every network, pair of ops and path of a tiny supernet."""

import itertools
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.quality import estimator_quality, estimators
from pnas_tf.cost import expectation, prices
from pnas_tf.cost import goal as goals_lib
from pnas_tf.network import evaluate
from pnas_tf.search import arch_updaters, objective, observers, schedule
from pnas_tf.search import build as search_build
from pnas_tf.search.config import Method
from pnas_tf.space import blocks as blocks_lib
from pnas_tf.space.blocks import Block
from pnas_tf.supernet import gates, supernet

pytestmark = pytest.mark.usefixtures("search_graphs")
# Nine networks: the first choice has a shortcut and zero, the second has neither.
TINY = blocks_lib.Space(
    "tiny", input_size=6, input_channels=3, num_classes=4, stem=(Block("stem", ("conv_k3",), 8),),
    blocks=(Block("b01", ("conv_k1", "mb_k3_e1", "zero"), 8, shortcut=True),
            Block("b02", ("conv_k3", "mb_k3_e1", "mb_k5_e2"), 12)),
    head=(Block("classifier", ("classifier",), 4),))
ALPHA = np.array([[0.8, -0.5, 0.2], [-0.3, 0.6, 1.0]], np.float32)
PROBS = np.exp(ALPHA) / np.exp(ALPHA).sum(1, keepdims=True)
PATHS = list(itertools.product(range(3), repeat=2))
MS = prices.Cost(np.array([[1.0, 3.0, 0.0], [2.0, 0.5, 4.0]], np.float32), 0.25, np.ones((2, 3), bool))
EVERY = np.ones((2, 3), bool)


class Receiver:
    """Stands in for the optimizer: it keeps the gradient and leaves alpha as it is."""

    def __init__(self):
        self.gradient = tf.Variable(tf.zeros([2, 3]))

    def apply(self, gradients, variables):
        self.gradient.assign(gradients[0])


@pytest.fixture(scope="module")
def net(stir):
    """A supernet whose residual ops are not zero at the start, and whose ops differ so much that the losses do."""
    net = stir(supernet.Supernet(TINY, seed=1), seed=2, scale=0.3)
    net.alpha.assign(ALPHA)
    return net


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(3)
    return tf.constant(rng.normal(size=(8, 6, 6, 3)), tf.float32), tf.constant(rng.integers(0, 4, 8), tf.int32)


@pytest.fixture(scope="module")
def forward(net, batch):
    """Cross-entropy and accuracy of each path, from a forward pass."""
    logits_of = {path: net(batch[0], tf.constant(path)) for path in PATHS}
    return {path: (float(evaluate.cross_entropy(batch[1], logits)),
                   float(evaluate.accuracy_of(batch[1], logits))) for path, logits in logits_of.items()}


@pytest.fixture(scope="module")
def gate_gradients(net, batch):
    """Gradient of each gate for each path, [choices, ops]; tests of the supernet compare these with autodiff."""
    compute = tf.function(lambda path: observers.all_gate_gradients(net, *batch, path)[0], autograph=False)
    return {path: compute(tf.constant(path)).numpy().astype(np.float64) for path in PATHS}


def softmax(alpha):
    e = np.exp(alpha - np.max(alpha))
    return e / e.sum()


def exact_gradient(value_of):
    """Gradient by alpha of the expected value over paths, by finite differences."""

    def expected(alpha):
        probs = [softmax(row) for row in alpha]
        return sum(probs[0][a] * probs[1][b] * value_of[a, b] for a, b in PATHS)

    gradient = np.zeros((2, 3))
    for index in np.ndindex(2, 3):
        step = np.zeros((2, 3))
        step[index] = 1e-5
        gradient[index] = (expected(ALPHA + step) - expected(ALPHA - step)) / 2e-5
    return gradient


def pair_gradient(choice, pair, gate_gradient):
    """Gradient that a two-path step hands to the optimizer for one choice: equation 4 of the paper for the pair."""
    q = softmax(ALPHA[choice, list(pair)].astype(np.float64))
    row = np.zeros(3)
    difference = gate_gradient[pair[0]] - gate_gradient[pair[1]]
    row[pair[0]], row[pair[1]] = q[0] * q[1] * difference, -q[0] * q[1] * difference
    return row


def ordered_pairs(choice, active_draw):
    """Each pair, active op first, and its probability: both ops are drawn in turn, then the active one of them."""
    probs = PROBS[choice].astype(np.float64)
    for first, second in itertools.permutations(range(3), 2):
        drawn = probs[first] * probs[second] / (1 - probs[first])
        first_active = 0.5 if active_draw == "even" else probs[first] / (probs[first] + probs[second])
        yield (first, second), drawn * first_active
        yield (second, first), drawn * (1 - first_active)


def mean_two_path(gate_gradients, active_draw):
    total = np.zeros((2, 3))
    for (first, p), (second, q) in itertools.product(ordered_pairs(0, active_draw), ordered_pairs(1, active_draw)):
        at_path = gate_gradients[first[0], second[0]]
        total += p * q * np.stack([pair_gradient(0, first, at_path[0]), pair_gradient(1, second, at_path[1])])
    return total


def average(updater, batch, steps, before=lambda: None):
    """Mean gradient of many steps, and its standard error."""
    receiver, gradients = Receiver(), []
    for number in range(steps):
        before()
        updater.update(*batch, tf.constant([5, number]), receiver)
        updater._supernet.alpha.assign(ALPHA)
        gradients.append(receiver.gradient.numpy())
    return np.mean(gradients, 0), np.std(gradients, 0) / np.sqrt(steps)


def assert_within_errors(mean, error, expected):
    """Checks a mean to 4.5 standard errors, which six numbers exceed once in 20,000 runs, and that zero would fail."""
    assert np.all(np.abs(mean - expected) <= 4.5 * error + 1e-7), (mean, expected, error)
    assert np.max(np.abs(expected) / (error + 1e-12)) > 9


@pytest.mark.parametrize("active_draw", ["even", pytest.param("softmax", marks=pytest.mark.slow)])
def test_two_path_steps_average_to_the_sum_over_pairs(net, batch, gate_gradients, active_draw):
    updater = arch_updaters.GradientUpdater(net, MS, objective.no_latency(), Method(active_draw=active_draw))
    mean, error = average(updater, batch, 1500)
    assert_within_errors(mean, error, mean_two_path(gate_gradients, active_draw))


def test_means_of_the_two_draws_differ(gate_gradients):
    even, by_softmax = (mean_two_path(gate_gradients, draw) for draw in gates.ACTIVE_DRAWS)
    assert np.max(np.abs(even - by_softmax)) > 0.1 * np.max(np.abs(even))


@pytest.mark.parametrize("active_draw", gates.ACTIVE_DRAWS)
def test_formula_of_the_mean_two_path_gradient_equals_the_sum_over_pairs(gate_gradients, active_draw):
    """The formula of docs/method.md, summed over the active ops of the other choice."""
    formula = np.zeros((2, 3))
    for other in range(3):
        first = np.array([gate_gradients[active, other][0] for active in range(3)])
        second = np.array([gate_gradients[other, active][1] for active in range(3)])
        formula[0] += estimators.active_shares(PROBS[1], active_draw)[other] * estimators.two_path(
            PROBS[0], first, active_draw)
        formula[1] += estimators.active_shares(PROBS[0], active_draw)[other] * estimators.two_path(
            PROBS[1], second, active_draw)
    np.testing.assert_allclose(formula, mean_two_path(gate_gradients, active_draw), atol=1e-7)


def all_path_gradient(probs, active, gate_gradient, active_draw):
    """Gradient by an all-path step for one choice: equation 4, or half of each swap with the active op."""
    if active_draw == "softmax":
        return probs * (gate_gradient - probs @ gate_gradient)
    total = np.zeros(3)
    for op in range(3):
        total += 0.5 * probs[op] * (gate_gradient[op] - gate_gradient[active]) * (np.eye(3)[op] - np.eye(3)[active])
    return total


@pytest.mark.slow
@pytest.mark.parametrize("active_draw", ["even", pytest.param("softmax", marks=pytest.mark.slow)])
def test_all_path_steps_average_to_the_sum_over_paths(net, batch, gate_gradients, active_draw):
    expected, formula = np.zeros((2, 3)), np.zeros((2, 3))
    for path, gradient in gate_gradients.items():
        for choice in range(2):
            expected[choice] += PROBS[0, path[0]] * PROBS[1, path[1]] * all_path_gradient(
                PROBS[choice], path[choice], gradient[choice], active_draw)
    for other in range(3):
        first = np.array([gate_gradients[active, other][0] for active in range(3)])
        second = np.array([gate_gradients[other, active][1] for active in range(3)])
        formula[0] += PROBS[1, other] * estimators.all_path(PROBS[0], first, active_draw)
        formula[1] += PROBS[0, other] * estimators.all_path(PROBS[1], second, active_draw)
    np.testing.assert_allclose(formula, expected, atol=1e-7)
    updater = arch_updaters.GradientUpdater(net, MS, objective.no_latency(),
                                            Method(paths="all", active_draw=active_draw))
    mean, error = average(updater, batch, 1500)
    assert_within_errors(mean, error, expected)


@pytest.mark.parametrize("count", [2, 5])
def test_two_sided_all_path_steps_average_to_the_exact_gradient_of_a_quadratic_loss(count):
    losses, gate_gradients = quadratic(count, 4)
    alpha = np.random.default_rng(count).normal(size=(1, count)).astype(np.float32)
    probs, mask = softmax(alpha[0].astype(np.float64)), np.ones((1, count), bool)
    mean = sum(probs[active] * gates.two_sided_gradient(
        alpha, mask, np.array([active]), gate_gradients[active][None].astype(np.float32)).numpy()[0]
        for active in range(count))
    exact = estimators.exact(probs, losses)
    np.testing.assert_allclose(mean, exact, atol=1e-4)
    assert np.max(np.abs(estimators.all_path(probs, gate_gradients, "softmax") - exact)) > 0.1


def quadratic(count, seed):
    """A loss 0.5 y'Ay + b'y, where each op has its own output y: losses [ops], gate gradients [ops, ops]."""
    rng = np.random.default_rng(seed)
    outputs, root, linear = rng.normal(size=(count, 6)), rng.normal(size=(6, 6)), rng.normal(size=6)
    slopes = outputs @ (root @ root.T) + linear
    return 0.5 * np.einsum("ij,ij->i", outputs @ (root @ root.T), outputs) + outputs @ linear, slopes @ outputs.T


def test_two_sided_estimate_is_exact_for_a_quadratic_loss():
    losses, gate_gradients = quadratic(5, 0)
    change = losses[None] - losses[:, None]
    np.testing.assert_allclose(estimators.two_sided(gate_gradients), change, atol=1e-9)
    assert np.max(np.abs(estimators.one_sided(gate_gradients) - change)) > 1


def test_two_path_steps_on_two_ops_average_to_the_exact_gradient_of_a_quadratic_loss():
    losses, gate_gradients = quadratic(2, 1)
    for probs in ([0.5, 0.5], [0.9, 0.1]):
        exact = estimators.exact(np.array(probs), losses)
        np.testing.assert_allclose(estimators.two_path(np.array(probs), gate_gradients), exact, atol=1e-9)
        one_sided = estimators.two_path(np.array(probs), gate_gradients, "softmax")
        assert (np.max(np.abs(one_sided - exact)) > 1e-3) == (probs[0] != 0.5)


def test_uniform_probabilities_only_scale_the_gradient_of_two_path_steps():
    losses, gate_gradients = quadratic(7, 2)
    probs = np.full(7, 1 / 7)
    np.testing.assert_allclose(estimators.two_path(probs, gate_gradients),
                               7 / 12 * estimators.exact(probs, losses), atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_every_rescaled_step_with_the_right_sign_lowers_the_expected_loss(seed):
    """It holds for all probabilities and all sizes of the optimizer's step, see docs/method.md."""
    rng = np.random.default_rng(seed)
    losses, alpha = rng.normal(size=6), rng.normal(size=(1, 6)).astype(np.float32)
    for pair in itertools.combinations(range(6), 2):
        pair = np.array([pair], np.int32)
        gradient = gates.alpha_gradient(alpha, pair, losses[pair].astype(np.float32)).numpy()
        # An optimizer such as Adam scales each alpha's step on its own.
        stepped = alpha - rng.uniform(0.01, 0.3, size=alpha.shape).astype(np.float32) * gradient
        after = gates.rescale(stepped, alpha, pair).numpy()
        assert softmax(after[0]) @ losses < softmax(alpha[0]) @ losses


# Latency in the gradient.

@pytest.mark.parametrize("paths, active_draw", itertools.product(("two", "all"), gates.ACTIVE_DRAWS))
def test_every_step_is_the_formula_of_its_ops_with_zero_like_any_other(net, batch, gate_gradients, paths, active_draw):
    """Cross-entropy and latency together, also where zero is active or observed."""
    slope_ce, slope_ms = 0.7, 0.05
    updater = arch_updaters.GradientUpdater(net, MS, lambda ce, ms: slope_ce * ce + slope_ms * ms,
                                            Method(paths=paths, active_draw=active_draw))
    receiver, active_zero, observed_zero = Receiver(), 0, 0
    for number in range(30):
        seed = tf.constant([9, number])
        updater.update(*batch, seed, receiver)
        net.alpha.assign(ALPHA)
        if paths == "two":
            pairs = gates.sample_pairs(ALPHA, EVERY, seed, active_draw).numpy()
            active, involved = tuple(pairs[:, 0]), pairs
        else:
            active, involved = tuple(gates.sample_path(ALPHA, EVERY, seed).numpy()), np.tile(np.arange(3), (2, 1))
        value, expected = slope_ce * gate_gradients[active] + slope_ms * MS.matrix, np.zeros((2, 3))
        for choice in range(2):
            own = involved[choice]
            q = softmax(ALPHA[choice, own])
            expected[choice, own] = q * (value[choice, own] - q @ value[choice, own])
            if (paths, active_draw) == ("all", "even"):
                ms = MS.matrix[choice]
                expected[choice] = slope_ms * q * (ms - q @ ms) + slope_ce * all_path_gradient(
                    q, active[choice], gate_gradients[active][choice], "even")
        np.testing.assert_allclose(receiver.gradient.numpy(), expected, atol=2e-6)
        if 2 in involved[0]:
            assert abs(expected[0, 2]) > 1e-4
            active_zero += active[0] == 2
            observed_zero += active[0] != 2
    assert active_zero and observed_zero


@pytest.mark.parametrize("expected_latency", ("full", "pair"))
def test_latency_gradient_is_that_of_the_expectation_in_the_loss(net, batch, expected_latency):
    """Compared with finite differences of the loss ms ** 2, which is not linear, where the pair moves."""
    updater = arch_updaters.GradientUpdater(net, MS, lambda ce, ms: 0.0 * ce + ms ** 2,
                                            Method(expected_latency=expected_latency))
    receiver, slopes = Receiver(), set()
    full = 0.25 + np.sum(PROBS * MS.matrix)
    for number in range(5):
        seed = tf.constant([4, number])
        logs = updater.update(*batch, seed, receiver)
        net.alpha.assign(ALPHA)
        pairs = gates.sample_pairs(ALPHA, EVERY, seed).numpy()

        def of_pair(alpha, pairs=pairs):
            return 0.25 + sum(softmax(alpha[c, pairs[c]]) @ MS.matrix[c, pairs[c]] for c in range(2))

        base = full if expected_latency == "full" else of_pair(ALPHA)
        for index in np.ndindex(2, 3):
            step = np.zeros((2, 3))
            step[index] = 1e-4
            change = (of_pair(ALPHA + step) - of_pair(ALPHA - step)) / 2e-4
            assert receiver.gradient.numpy()[index] == pytest.approx(2 * base * change, abs=2e-3)
        slopes.add(round(2 * base, 3))
        assert float(logs["expected_ms"]) == pytest.approx(full, rel=1e-6)
    assert (len(slopes) == 1) == (expected_latency == "full")


@pytest.mark.parametrize("expected_latency", ("full", "pair"))
def test_latency_gradient_by_pencil(net, batch, expected_latency):
    """Equal alphas and the loss ms ** 2: an alpha's gradient is 1/4 (ms - ms of the other) 2 E.

    E is 1/4 + (1 + 3 + 0) / 3 + (2 + 1/2 + 4) / 3 = 3.75 in full, and 1/4 + 2 + 1.25 = 3.5 for the pairs of ops 0, 1.
    """
    updater = arch_updaters.GradientUpdater(net, MS, lambda ce, ms: 0.0 * ce + ms ** 2,
                                            Method(expected_latency=expected_latency))
    receiver, level = np.zeros((2, 3), np.float32), {"full": 3.75, "pair": 3.5}[expected_latency]
    seed = next(seed for seed in (tf.constant([0, number]) for number in range(200))
                if np.all(gates.sample_pairs(receiver, EVERY, seed).numpy().sum(1) == 1))
    receiver = Receiver()
    net.alpha.assign(np.zeros((2, 3)))
    updater.update(*batch, seed, receiver)
    net.alpha.assign(ALPHA)
    np.testing.assert_allclose(receiver.gradient.numpy(), level / 2 * np.array([[-2, 2, 0], [1.5, -1.5, 0]]), rtol=1e-5)


def test_unknown_settings_are_refused(net):
    with pytest.raises(ValueError, match="expected_latency must be one of"):
        arch_updaters.GradientUpdater(net, MS, objective.no_latency(), Method(expected_latency="half"))
    with pytest.raises(ValueError, match="active_draw must be one of"):
        arch_updaters.GradientUpdater(net, MS, objective.no_latency(), Method(active_draw="odd"))
    with pytest.raises(ValueError, match="paths must be one of"):
        arch_updaters.GradientUpdater(net, MS, objective.no_latency(), Method(paths="three"))


# What a step leaves behind.

def test_rescaling_keeps_unsampled_probabilities_where_the_bare_step_does_not(net, batch):
    updater = arch_updaters.GradientUpdater(net, MS, lambda ce, ms: ce + ms)
    kept = dict.fromkeys((True, False), 0.0)
    optimizer, receiver = keras.optimizers.SGD(0.5), Receiver()
    optimizer.build([net.alpha])
    for number in range(10):
        seed = tf.constant([3, number])
        pairs = gates.sample_pairs(ALPHA, EVERY, seed)
        unsampled = ~gates.members(pairs, 3).numpy()
        updater.update(*batch, seed, optimizer)
        assert np.all(net.alpha.numpy()[unsampled] == ALPHA[unsampled])
        kept[True] = max(kept[True], np.max(np.abs(net.probs().numpy() - PROBS)[unsampled]))
        net.alpha.assign(ALPHA)
        updater.update(*batch, seed, receiver)
        bare = gates.probabilities(ALPHA - 0.5 * receiver.gradient.numpy(), EVERY).numpy()
        kept[False] = max(kept[False], np.max(np.abs(bare - PROBS)[unsampled]))
        net.alpha.assign(ALPHA)
    assert kept[True] < 1e-6 and kept[False] > 1e-3


# REINFORCE.

def rewards_of(forward, reward):
    return {(a, b): float(reward(tf.constant(forward[a, b][1]), tf.constant(MS.of_path(np.array([a, b])), tf.float32)))
            for a, b in PATHS}


@pytest.mark.parametrize("name", objective.REWARDS)
def test_reinforce_averages_to_the_exact_gradient_of_the_expected_reward(net, batch, forward, name):
    reward = objective.reward(name, 3.0)
    updater = arch_updaters.ReinforceUpdater(net, MS, reward, samples=4)

    def before():
        updater.updates.assign(1)
        updater.baseline.assign(0.1)

    mean, error = average(updater, batch, 400, before)
    assert_within_errors(mean, error, -exact_gradient(rewards_of(forward, reward)))


def test_first_reinforce_update_is_short_by_one_sample(net, batch, forward):
    """Its baseline is the mean of its own rewards, so the gradient loses its share 1 / samples."""
    reward = objective.reward("paper", 3.0)
    updater = arch_updaters.ReinforceUpdater(net, MS, reward, samples=3)
    mean, error = average(updater, batch, 600, lambda: updater.updates.assign(0))
    exact = -exact_gradient(rewards_of(forward, reward))
    assert_within_errors(mean, error, 2 / 3 * exact)
    assert np.any(np.abs(mean - exact) > 4.5 * error)


def test_reinforce_update_is_the_mean_over_its_samples(net, batch, forward):
    reward, seed = objective.reward("mnas", 3.0), tf.constant([8, 1])
    updater = arch_updaters.ReinforceUpdater(net, MS, reward, samples=5)
    updater.updates.assign(1)
    updater.baseline.assign(0.2)
    receiver, rewards = Receiver(), rewards_of(forward, reward)
    logs = updater.update(*batch, seed, receiver)
    paths = [tuple(gates.sample_path(ALPHA, EVERY, part).numpy()) for part in tf.random.split(seed, 5)]
    assert len(set(paths)) > 1
    expected = np.mean([(rewards[path] - 0.2) * (PROBS - np.eye(3)[list(path)]) for path in paths], axis=0)
    np.testing.assert_allclose(receiver.gradient.numpy(), expected, atol=1e-6)
    assert float(logs["reward"]) == pytest.approx(np.mean([rewards[path] for path in paths]), rel=1e-6)
    assert float(logs["held_out_loss"]) == pytest.approx(np.mean([forward[path][0] for path in paths]), rel=1e-5)


@pytest.mark.parametrize("keeps_ms", [True, False])
def test_reinforce_is_rewarded_for_milliseconds_unless_they_are_free(net, batch, keeps_ms):
    """The same networks are rewarded again, at a tenth of their milliseconds."""
    method, plan, moved = Method(arch_update="reinforce"), schedule.Schedule(10, 0, 1, 1, 0.1, 0.1), []
    for factor in (1.0, 0.1):
        goal = goals_lib.Goal("t", prices.Cost(factor * MS.matrix, factor * MS.fixed, MS.mask), 3.0, keeps_ms=keeps_ms)
        updater, receiver = next(search_build.updaters(method, net, [goal], plan)), Receiver()
        updater.update(*batch, tf.constant([8, 1]), receiver)
        moved.append(receiver.gradient.numpy())
    assert np.allclose(*moved, atol=1e-7) != keeps_ms and np.any(moved[0])


def test_baseline_is_a_moving_average_of_earlier_rewards(net, batch):
    """By hand: with decay 0.9 and rewards 1, 0, 0.5 the baselines are 1, 0.9, 0.86.

    The first update subtracts its own baseline, each later update the baseline before it.
    """
    reward = tf.Variable(0.0)
    updater = arch_updaters.ReinforceUpdater(net, MS, lambda accuracy, ms: 0.0 * accuracy + reward, samples=1)
    receiver = Receiver()
    for number, (value, subtracted, baseline) in enumerate([(1.0, 1.0, 1.0), (0.0, 1.0, 0.9), (0.5, 0.9, 0.86)]):
        reward.assign(value)
        seed = tf.constant([2, number])
        updater.update(*batch, seed, receiver)
        path = gates.sample_path(ALPHA, EVERY, tf.random.split(seed, 1)[0]).numpy()
        np.testing.assert_allclose(receiver.gradient.numpy(), (value - subtracted) * (PROBS - np.eye(3)[path]),
                                   atol=1e-6)
        assert float(updater.baseline.numpy()) == pytest.approx(baseline, rel=1e-6)
    assert int(updater.updates.numpy()) == 3


# The benchmark.

def test_benchmark_finds_the_two_sided_estimate_exact_where_it_is():
    blocks = []
    for seed in range(4):
        losses, gate_gradients = quadratic(4, 10 + seed)
        names = ["mb_k3_e3", "mb_k5_e3", "mb_k7_e3", "zero" if seed % 2 else "mb_k3_e6"]
        blocks.append({"path": seed, "choice": "b01", "shortcut": bool(seed % 2), "ops": names,
                       "losses": losses.tolist(), "gate_gradients": gate_gradients.tolist()})
    summary = estimator_quality.summarise(blocks, seed=0)
    table = summary["swaps"]
    assert [table[kind]["count"] for kind in ("all", *estimator_quality.KINDS)] == [24, 12, 6, 6]
    for rows in table.values():
        exact = rows["two-sided"]
        assert (exact["correlation"], exact["sign_right"], exact["slope"]) == pytest.approx((1, 1, 1))
        assert rows["true_mean"] == pytest.approx(exact["mean"]) and rows["true_sd"] == pytest.approx(exact["sd"])
    assert table["all"]["one-sided"]["correlation"] < 0.9
    to_zero = [np.array(block["losses"])[3] - np.array(block["losses"])[:3] for block in blocks if block["shortcut"]]
    assert table["shortcut, op to zero"]["true_mean"] == pytest.approx(np.mean(to_zero))
    for gradients in summary["gradients"].values():
        assert gradients["all paths, even"] == pytest.approx({"cosine": 1, "cosine_low": 1, "length": 1})
    assert gradients["all paths, softmax"]["cosine"] < 0.95


@pytest.mark.slow
def test_benchmark_runs_on_the_embedded_data_and_reads_its_supernet_again(tmp_path):
    command = [sys.executable, "-m", "benchmarks.quality.estimator_quality", "--warmup_epochs=1", "--images=40",
               "--paths=1", f"--supernet={tmp_path}/w.weights.h5", f"--json={tmp_path}/q.json",
               f"--plot={tmp_path}/q.png"]
    first, again = (subprocess.run(command, capture_output=True, text=True) for _ in range(2))
    assert first.returncode == again.returncode == 0, first.stderr[-2000:] + again.stderr[-2000:]
    assert "warm-up 1/1" in first.stdout and "warm-up" not in again.stdout
    assert first.stdout.partition("\nquickstart")[2] == again.stdout.partition("\nquickstart")[2] != ""
    assert (tmp_path / "q.png").read_bytes()[:4] == b"\x89PNG" and (tmp_path / "q.json").stat().st_size > 1000
    other = subprocess.run([*command, "--width_mult=0.5"], capture_output=True, text=True)
    assert other.returncode == 1 and "not the weights of supernet quickstart" in other.stderr


@pytest.mark.parametrize("paths", ("two", "all"))
def test_measured_swaps_are_the_mean_of_both_sides(net, batch, gate_gradients, paths):
    """Compared with the gate gradients of every path: all choices swap at once, there and back."""
    net.alpha.assign(ALPHA)
    pairs, changes = arch_updaters.GradientUpdater(net, MS, objective.no_latency(), Method(paths=paths)).measure_swaps(
        *batch, tf.constant([3, 4]), draws=6)
    assert pairs.shape == (6, 2, 2) and changes.shape == (6, 2)
    for (first, second), change in zip(pairs, changes, strict=True):
        (a, b), (c, d) = first, second
        there, back = gate_gradients[a, c], gate_gradients[b, d]
        expected = [0.5 * ((there[0, b] - there[0, a]) - (back[0, a] - back[0, b])),
                    0.5 * ((there[1, d] - there[1, c]) - (back[1, c] - back[1, d]))]
        np.testing.assert_allclose(change, expected, rtol=1e-3, atol=1e-5)


def test_multipliers_are_scaled_to_the_typical_change_of_loss(net):
    loss = objective.Lagrangian(2.0, 100, name="ms")
    other = objective.Lagrangian(50.0, 100, one_sided=True, name="params")
    params = prices.Cost(10 * MS.matrix, 0.0, MS.mask)
    updater = arch_updaters.GradientUpdater(net, MS, loss, limits=[(params, other)])
    pairs, changes = np.array([[[0, 1], [0, 1]], [[2, 0], [1, 2]], [[1, 2], [2, 0]]]), \
        np.array([[0.01, -0.03], [0.02, 0.05], [-0.02, 0.01]])
    updater.calibrate(pairs, changes)
    differences = [abs(MS.matrix[c, b] - MS.matrix[c, a]) for both in pairs for c, (a, b) in enumerate(both)]
    assert float(loss.scale.numpy()) == pytest.approx(0.02 / (np.median(differences) / 2.0), rel=1e-5)
    assert float(other.scale.numpy()) == pytest.approx(0.02 / (10 * np.median(differences) / 50.0), rel=1e-5)


def test_limits_join_the_gradient_by_their_multipliers(net, batch):
    """The gradients of ms and of a limit, each times its multiplier, compared with finite differences."""
    net.alpha.assign(ALPHA)
    params = prices.Cost(MS.matrix[:, ::-1].copy(), 1.0, MS.mask)
    limit = objective.Lagrangian(2.0, 1000, one_sided=True, name="params")
    limit.multiplier.assign(5.0)
    receiver = Receiver()
    updater = arch_updaters.GradientUpdater(net, MS, lambda ce, ms: 0.0 * ce + 3.0 * ms,
                                            Method(paths="all", active_draw="softmax"),
                                            limits=[(params, limit)])
    updater.update(*batch, tf.constant([1, 2]), receiver)

    def gradient_of(cost):
        return exact_gradient({path: cost.of_path(np.array(path)) for path in PATHS})

    expected = float(expectation.expected(params, tf.constant(PROBS, tf.float32)))
    strength = 5.0 + 2.0 * 0.015 * min(0.5, expected / 2.0 - 1.0)
    gradient = 3.0 * gradient_of(MS) + strength / 2.0 * gradient_of(params)
    np.testing.assert_allclose(receiver.gradient.numpy(), gradient, atol=2e-4)


def test_each_goal_has_its_own_alpha(batch):
    """Two goals in one supernet start with equal alphas, and a step of one leaves the alpha of the other as it is."""
    both = supernet.Supernet(TINY, seed=1, goals=2)
    first, second = (alpha.numpy() for alpha in both.alphas)
    np.testing.assert_array_equal(first, second)
    observe = observers.observer(both)
    updaters = [arch_updaters.GradientUpdater(both, MS, objective.no_latency(), alpha=alpha, observe=observe)
                for alpha in both.alphas]
    optimizer = keras.optimizers.Adam(0.1, beta_1=0.0)
    optimizer.build([both.alphas[1]])
    updaters[1].update(*batch, tf.constant([1, 2]), optimizer)
    np.testing.assert_array_equal(both.alphas[0].numpy(), first)
    assert not np.array_equal(both.alphas[1].numpy(), second)
