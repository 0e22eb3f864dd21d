"""Gates against numbers of the original implementation, finite differences and counted samples."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnas_tf.search import searcher
from pnas_tf.supernet import gates

pytestmark = pytest.mark.usefixtures("search_graphs")
# One choice of four ops; the expected numbers below come from the original implementation.
ALPHA = np.array([[0.1, -0.2, 0.3, 0.0]], np.float32)
GATE_GRADIENT = np.array([[1.0, -2.0, 0.5, 0.0]], np.float32)
EVERY = np.ones((1, 4), bool)


def test_probabilities_golden():
    probs = gates.probabilities(ALPHA, EVERY)[0]
    np.testing.assert_allclose(probs, [0.258594, 0.191572, 0.315848, 0.233986], atol=1e-6)


def test_masked_ops_have_probability_zero():
    probs = gates.probabilities(ALPHA, np.array([[True, False, True, False]])).numpy()[0]
    assert probs[1] == probs[3] == 0
    assert probs.sum() == pytest.approx(1)


def test_alpha_gradient_of_all_ops_golden():
    involved = np.array([[0, 1, 2, 3]], np.int32)
    gradient = gates.alpha_gradient(ALPHA, involved, GATE_GRADIENT)
    np.testing.assert_allclose(gradient[0], [0.249964, -0.389537, 0.147382, -0.007809], atol=1e-6)


def test_alpha_gradient_of_a_pair_golden():
    gradient = gates.alpha_gradient(ALPHA, np.array([[0, 2]], np.int32), np.array([[1.0, 0.5]], np.float32))
    np.testing.assert_allclose(gradient[0], [0.123758, 0, -0.123758, 0], atol=1e-6)


def test_alpha_gradient_ignores_absent_ops():
    gradient = gates.alpha_gradient(ALPHA, np.array([[0, 2, -1]], np.int32), np.array([[1.0, 0.5, 9.0]], np.float32))
    np.testing.assert_allclose(gradient[0], [0.123758, 0, -0.123758, 0], atol=1e-6)


def test_adam_and_rescale_golden():
    alpha = keras.Variable(ALPHA)
    optimizer = searcher.alpha_optimizer(1e-3)
    optimizer.build([alpha])
    pair = np.array([[0, 2]], np.int32)
    gradient = gates.alpha_gradient(ALPHA, pair, np.array([[1.0, 0.5]], np.float32))
    optimizer.apply([gradient], [alpha])
    np.testing.assert_allclose(alpha.numpy()[0], [0.099, -0.2, 0.301, 0], atol=1e-6)
    rescaled = gates.rescale(alpha.value, ALPHA, pair)
    np.testing.assert_allclose(rescaled[0], [0.098900, -0.2, 0.300900, 0], atol=1e-6)
    probs = gates.probabilities(rescaled, EVERY)[0]
    np.testing.assert_allclose(probs, [0.258310, 0.191572, 0.316132, 0.233986], atol=1e-6)


def test_adam_leaves_alphas_without_gradient_alone():
    alpha = keras.Variable(ALPHA)
    optimizer = searcher.alpha_optimizer(0.1)
    optimizer.build([alpha])
    optimizer.apply([tf.constant([[1.0, 1.0, 1.0, 1.0]])], [alpha])
    before = alpha.numpy()
    optimizer.apply([tf.constant([[0.0, 1.0, 0.0, 1.0]])], [alpha])
    np.testing.assert_array_equal(alpha.numpy()[0, [0, 2]], before[0, [0, 2]])


def test_rescale_keeps_every_unsampled_probability():
    rng = np.random.default_rng(0)
    old = rng.normal(size=(50, 7)).astype(np.float32)
    pairs = np.stack([rng.choice(7, 2, replace=False) for _ in range(50)]).astype(np.int32)
    new = old.copy()
    np.put_along_axis(new, pairs, np.take_along_axis(old, pairs, 1) + rng.normal(size=(50, 2)).astype(np.float32), 1)
    mask = np.ones_like(old, bool)
    before, after = (gates.probabilities(a, mask).numpy() for a in (old, gates.rescale(new, old, pairs)))
    unsampled = np.ones_like(mask)
    np.put_along_axis(unsampled, pairs, False, 1)
    np.testing.assert_allclose(after[unsampled], before[unsampled], atol=1e-6)


def test_entropy():
    probs = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]], np.float32)
    assert float(gates.entropy(probs)) == pytest.approx(np.log(2) / 2)


def test_binary_gate_is_the_active_output_and_yields_every_gate_gradient():
    rng = np.random.default_rng(1)
    outputs = [tf.constant(rng.normal(size=(2, 3, 3, 4)), tf.float32) for _ in range(3)]
    weights = tf.constant(rng.normal(size=(2, 3, 3, 4)), tf.float32)
    gate = tf.constant([1.0, 0.0, 0.0])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([gate, *outputs])
        value = gates.binary_gate(gate, outputs[0],
                                  lambda upstream, _: tf.stack([gates.product(upstream, o) for o in outputs]))
        loss = tf.reduce_sum(weights * tf.sin(value))
        brute = tf.reduce_sum(weights * tf.sin(tf.add_n([gate[j] * outputs[j] for j in range(3)])))
    np.testing.assert_array_equal(value, outputs[0])
    np.testing.assert_allclose(tape.gradient(loss, gate), tape.gradient(brute, gate), rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, outputs[0]), tape.gradient(brute, outputs[0]), rtol=1e-5)
    assert tape.gradient(loss, outputs[1]) is None


def _sample(function, alpha, mask, count, **kwargs):
    seeds = tf.stack([tf.fill([count], 7), tf.range(count)], axis=1)
    return tf.vectorized_map(lambda seed: function(alpha, mask, seed, **kwargs), seeds).numpy()


ROW = np.array([[0.5, -1.0, 1.2, 9.0], [0.0, 0.3, -0.4, 0.8]], np.float32)
MASK = np.array([[True, True, True, False], [True] * 4])


def test_path_frequencies_match_probabilities():
    paths = _sample(gates.sample_path, ROW, MASK, 20000)
    probs = gates.probabilities(ROW, MASK).numpy()
    for choice in range(2):
        frequency = np.bincount(paths[:, choice], minlength=4) / len(paths)
        # Five standard deviations of a binomial share.
        np.testing.assert_allclose(frequency, probs[choice], atol=5 * np.sqrt(0.25 / len(paths)))
    assert not np.any(paths[:, 0] == 3)


@pytest.mark.parametrize("active_draw", gates.ACTIVE_DRAWS)
def test_pair_frequencies_match_sampling_without_replacement(active_draw):
    pairs = _sample(gates.sample_pairs, ROW, MASK, 20000, active_draw=active_draw)
    probs = gates.probabilities(ROW, MASK).numpy()
    assert np.all(pairs[..., 0] != pairs[..., 1])
    for choice in range(2):
        for i in range(4):
            for j in range(4):
                p, q = probs[choice, i], probs[choice, j]
                unordered = p * q / (1 - p) + p * q / (1 - q) if i != j else 0.0
                share = 0.5 if active_draw == "even" else np.exp(ROW[choice, i]) / (
                    np.exp(ROW[choice, i]) + np.exp(ROW[choice, j]))
                frequency = np.mean((pairs[:, choice, 0] == i) & (pairs[:, choice, 1] == j))
                assert frequency == pytest.approx(unordered * share, abs=5 * np.sqrt(0.25 / len(pairs)))


def test_sampling_is_a_function_of_the_seed():
    first, again, other = (gates.sample_path(np.zeros((50, 7), np.float32), np.ones((50, 7), bool), tf.constant(seed))
                           for seed in ([3, 4], [3, 4], [3, 5]))
    np.testing.assert_array_equal(first, again)
    assert np.any(first.numpy() != other.numpy())


def test_reinforce_estimates_the_gradient_of_the_expected_reward():
    """Compared with the exact expectation over all 12 paths, differentiated by finite differences."""
    rewards = np.random.default_rng(3).uniform(size=(3, 4))

    def expected(row):
        probs = gates.probabilities(row.astype(np.float32), MASK).numpy()
        return float(probs[0, :3] @ rewards @ probs[1])

    exact = np.zeros((2, 4))
    for index in np.ndindex(2, 4):
        step = np.zeros((2, 4))
        step[index] = 1e-2
        exact[index] = (expected(ROW + step) - expected(ROW - step)) / 2e-2
    paths = _sample(gates.sample_path, ROW, MASK, 40000)
    gained = rewards[paths[:, 0], paths[:, 1]]
    for baseline in (0.0, gained.mean()):
        estimate = gates.policy_gradient(gates.probabilities(ROW, MASK), paths, (gained - baseline).astype(np.float32))
        np.testing.assert_allclose(estimate, -exact, atol=5 / np.sqrt(len(paths)))


def test_all_path_gradient_is_exact_for_a_loss_that_is_linear_in_the_gates():
    """If dL/dgate is the loss of each op, the estimate is the exact gradient of the expected loss."""
    losses = np.array([[0.3, -1.0, 2.0, 0.5]], np.float32)
    alpha = tf.constant(ALPHA)
    with tf.GradientTape() as tape:
        tape.watch(alpha)
        expected = tf.reduce_sum(tf.nn.softmax(alpha) * losses)
    estimate = gates.alpha_gradient(ALPHA, np.array([[0, 1, 2, 3]], np.int32), losses)
    np.testing.assert_allclose(estimate, tape.gradient(expected, alpha), atol=1e-6)


def test_two_path_gradient_is_exact_for_each_pair_of_a_linear_loss():
    """For every pair, the estimate is the exact gradient of the expected loss given that pair."""
    losses = np.array([0.3, -1.0, 2.0, 0.5], np.float32)
    for pair in [(0, 1), (2, 0), (3, 1)]:
        alpha = tf.constant(ALPHA)
        with tf.GradientTape() as tape:
            tape.watch(alpha)
            probs = tf.nn.softmax(tf.gather(alpha[0], pair))
            expected = tf.reduce_sum(probs * losses[list(pair)])
        estimate = gates.alpha_gradient(ALPHA, np.array([pair], np.int32), losses[list(pair)][None])
        np.testing.assert_allclose(estimate, tf.convert_to_tensor(tape.gradient(expected, alpha)), atol=1e-6)
