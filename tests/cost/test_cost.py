"""Costs and losses, against enumeration, gradients by hand, and the formulas of the authors' code."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from pnas_tf import network
from pnas_tf.cost import expectation, latency_table, prices
from pnas_tf.errors import InputError
from pnas_tf.search import objective
from pnas_tf.space import arch, blocks, spaces

TINY = spaces.mb_space("tiny", input_size=8, num_classes=4, stem=blocks.Block("stem", ("conv_k3",), 8),
                      first=blocks.Block("b00", ("mb_k3_e1",), 8), stages=(spaces.Stage(8, 2, 1),), mix=16)


def priced(name, key):
    return 0.1 * len(name) + 0.01 * key.filters + {"k": 0.3}.get(key.op[-1], 0.0) + 0.001 * len(key.op) * key.input[2]


def test_expected_cost_is_the_mean_over_all_archs():
    each = prices.matrix(TINY, priced)
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(7), size=2).astype(np.float32)
    total = 0.0
    for path in itertools.product(range(7), repeat=2):
        net = arch.Arch(TINY, {name: block.ops[i] for (name, block), i in zip(TINY.choices.items(), path, strict=True)})
        assert each.of_path(np.array(path)) == pytest.approx(prices.of_arch(net, priced), abs=1e-5)
        total += probs[0, path[0]] * probs[1, path[1]] * prices.of_arch(net, priced)
    assert float(expectation.expected(each, tf.constant(probs))) == pytest.approx(total, abs=1e-5)


def test_range_is_that_of_all_archs():
    each = prices.matrix(TINY, priced)
    every = [each.of_path(np.array(path)) for path in itertools.product(range(7), repeat=2)]
    assert each.range == pytest.approx((min(every), max(every)), abs=1e-5)


@pytest.mark.parametrize("price, count", [(prices.params(), network.count_params), (prices.macs(), network.count_macs)])
def test_params_and_macs_are_additive(price, count):
    imagenet = spaces.SPACES["proxyless_imagenet"]
    net = arch.load("proxyless_gpu")
    assert prices.of_arch(net, price) == count(network.build_network(net))
    assert prices.matrix(TINY, price).fixed > 0
    assert len(imagenet.choices) == 21


def test_add_linear_and_mul_log_are_the_published_formulas():
    ce, ms = tf.constant(2.5), tf.constant(100.0)
    assert float(objective.add_linear(80.0)(ce, ms)) == pytest.approx(2.5 + 0.1 * 20 / 80)
    expected = 0.2 * 2.5 * (np.log(100) / np.log(80)) ** 0.3
    assert float(objective.mul_log(80.0)(ce, ms)) == pytest.approx(expected, rel=1e-6)


def test_mul_log_has_the_published_slope_at_its_target():
    """At 80 ms the relative slope is beta / (E ln E), 0.09 % of the loss per ms."""
    ms = tf.constant(80.0)
    with tf.GradientTape() as tape:
        tape.watch(ms)
        loss = objective.mul_log(80.0)(tf.constant(2.5), ms)
    assert float(tape.gradient(loss, ms) / loss) == pytest.approx(0.3 / (80 * np.log(80)), rel=1e-4)


@pytest.mark.parametrize("target", [0.5, 1.0])
def test_mul_log_refuses_targets_without_a_logarithm(target):
    with pytest.raises(InputError, match="add_linear"):
        objective.mul_log(target)
    assert np.isfinite(float(objective.mul_log(2.0)(tf.constant(1.0), tf.constant(0.3))))


def test_lagrangian_multiplier_follows_the_violation():
    loss = objective.Lagrangian(1.0, arch_steps=100)
    for _ in range(10):
        loss(tf.constant(1.0), tf.constant(1.4))
    high = float(loss.multiplier.numpy())
    assert high == pytest.approx(10 * 15 * 0.015 * 0.4 / 100, rel=1e-5)
    for _ in range(20):
        loss(tf.constant(1.0), tf.constant(0.2))
    assert float(loss.multiplier.numpy()) < high
    ms = tf.constant(1.4)
    with tf.GradientTape() as tape:
        tape.watch(ms)
        value = objective.Lagrangian(1.0, arch_steps=100)(tf.constant(1.0), ms)
    assert float(tape.gradient(value, ms)) == pytest.approx(2 * 0.015 * 0.4)


@pytest.mark.parametrize("ms, clipped", [(9.0, 0.5), (0.1, -0.5)])
def test_a_start_far_from_the_bound_moves_the_multiplier_no_faster(ms, clipped):
    loss = objective.Lagrangian(1.0, arch_steps=100)
    loss(tf.constant(1.0), tf.constant(ms))
    assert float(loss.multiplier.numpy()) == pytest.approx(15 * 0.015 * clipped / 100, rel=1e-5)


def test_unknown_price_is_an_error_that_names_the_row():
    table = latency_table.LatencyTable("t.jsonl", {"target": "phone"}, {}, {})
    with pytest.raises(InputError, match=r"no row for conv_k3 on 8x8x3 -> 8, stride 1.*--only=conv_k3"):
        prices.matrix(TINY, prices.milliseconds(table))


@pytest.mark.parametrize("op", ["classifier", "mlpclassifier_h32"])
def test_classifier_of_other_classes_is_priced_by_the_next_larger(op):
    def row(filters, ms):
        key = blocks.OpKey(op, (8, 8, 16), filters, 1, False)
        return key, latency_table.row(key, median_ms=ms, min_ms=ms, mean_ms=ms, std_ms=0.0, runs=1)

    rows = dict([row(10, 0.1), row(100, 0.5), row(1000, 2.0)])
    table = latency_table.LatencyTable("t", {"target": "phone"}, rows, {})
    assert table.ms("classifier", blocks.OpKey(op, (8, 8, 16), 60, 1, False)) == 0.5
    with pytest.raises(InputError):
        table.ms("classifier", blocks.OpKey(op, (8, 8, 16), 2000, 1, False))


@pytest.mark.parametrize("name, expected", [("paper", 0.7 * (80 / 100) ** 0.1), ("mnas", 0.7 * (100 / 80) ** -0.07),
                                            ("abs", 0.7 - 0.07 * 0.25), ("accuracy", 0.7)])
def test_rewards_are_the_published_forms(name, expected):
    reward = objective.reward(name, 80.0)
    assert float(reward(tf.constant(0.7), tf.constant(100.0))) == pytest.approx(expected, rel=1e-6)


def test_one_sided_multiplier_rests_below_the_bound():
    loss = objective.Lagrangian(1.0, arch_steps=100, one_sided=True)
    assert float(loss(tf.constant(2.0), tf.constant(0.5))) == 2.0
    assert float(loss.multiplier.numpy()) == 0.0
    assert float(loss(tf.constant(2.0), tf.constant(1.5))) > 2.0
    assert float(loss.multiplier.numpy()) > 0.0
