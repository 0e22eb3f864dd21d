"""Half precision: the supernet against itself in float32, and the loss scale after an overflow."""

import numpy as np
import pytest
import tensorflow as tf

from pnas_tf.cost import prices as prices_lib
from pnas_tf.network import evaluate
from pnas_tf.search import arch_updaters, objective, searcher
from pnas_tf.search.schedule import Schedule
from pnas_tf.supernet import supernet
from pnas_tf.supernet.loss_scale import LossScale
from tests.spaces import SMALL

pytestmark = pytest.mark.usefixtures("search_graphs")
PATH = np.array([0, 5, 3, 6], np.int32)


def batch():
    rng = np.random.default_rng(6)
    return tf.constant(rng.normal(size=(16, 8, 8, 3)), tf.float32), tf.constant(rng.integers(0, 4, 16), tf.int32)


def gradients(precision, recompute=False):
    net = supernet.Supernet(SMALL, seed=3, precision=precision, recompute=recompute)
    images, labels = batch()

    @tf.function(autograph=False)
    def run():
        probes = net.probes()
        with tf.GradientTape() as tape:
            tape.watch(probes)
            logits = net.run_path(images, tf.constant(PATH), probes)
            loss = net.loss_scale.scaled(evaluate.cross_entropy(labels, logits))
        probe_gradients, _ = net.loss_scale.unscaled(tape.gradient(loss, probes))
        return logits, probe_gradients

    return net, *run()


@pytest.mark.parametrize("recompute", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("precision, tolerance", [
    pytest.param("mixed_bfloat16", 0.4, marks=pytest.mark.slow),
    pytest.param("mixed_float16", 0.15, marks=pytest.mark.slow)])
def test_half_precision_is_close_to_float32(precision, tolerance, recompute):
    _, logits, exact = gradients("float32")
    net, half_logits, half = gradients(precision, recompute)
    assert half_logits.dtype == tf.float32 and net.alpha.dtype == "float32"
    assert 0 < np.abs(half_logits - logits).max() < tolerance * np.abs(logits).max()
    for mine, theirs in zip(half, exact, strict=True):
        assert mine.dtype == tf.float32
        error = np.linalg.norm(mine - theirs) / max(np.linalg.norm(theirs), 1e-3)
        assert error < tolerance


@pytest.mark.parametrize("updater, precision", [
    ("two", "mixed_float16"),
    *(pytest.param(updater, precision, marks=pytest.mark.slow) for updater, precision in (
        ("two", "float32"), ("two", "mixed_bfloat16"), *(("reinforce", name) for name in supernet.PRECISIONS)))])
def test_steps_run_and_alphas_stay_float32(precision, updater):
    net = supernet.Supernet(SMALL, seed=3, precision=precision)
    prices = prices_lib.matrix(SMALL, lambda name, key: 1.0)
    updater = arch_updaters.ReinforceUpdater(net, prices, objective.reward("paper", 5.0), samples=2) \
        if updater == "reinforce" else arch_updaters.GradientUpdater(net, prices, objective.no_latency())
    model = searcher.Searcher(net, updater, Schedule(4, 1, 2, 1, 0.05, 0.05), seed=1)
    model.compile(searcher.alpha_optimizer(0.01))
    before = np.array(net.alpha)
    for _ in range(2):
        logs = model.train_step((batch(), batch()))
    assert all(np.isfinite(float(value)) for value in logs.values())
    assert net.alpha.dtype == "float32" and np.abs(np.array(net.alpha) - before).max() > 1e-3


def test_overflow_leaves_the_step_out_and_halves_the_factor():
    scale, applied = LossScale("float16", start=8.0, growth_steps=2), tf.Variable(tf.zeros(2))

    @tf.function
    def step(gradient):
        scale.descend([gradient], lambda gradients: applied.assign_add(gradients[0]))

    step(tf.constant([8.0, 16.0]))
    np.testing.assert_array_equal(applied, [1, 2])
    step(tf.constant([np.inf, 16.0]))
    np.testing.assert_array_equal(applied, [1, 2])
    assert float(scale.factor) == 4.0
    for _ in range(2):
        step(tf.constant([4.0, 0.0]))
    np.testing.assert_array_equal(applied, [3, 2])
    assert float(scale.factor) == 8.0


def test_float32_and_bfloat16_are_not_scaled():
    for dtype in ("float32", "bfloat16"):
        assert float(LossScale(dtype).scaled(tf.constant(3.0))) == 3.0
