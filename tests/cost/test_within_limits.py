"""Networks within limits, against all archs of a small space."""

import itertools

import numpy as np
import pytest

from pnas_tf.cost import prices, within_limits
from pnas_tf.cost.limits import Limit
from pnas_tf.errors import InputError
from pnas_tf.space import blocks, spaces
from tests.spaces import SMALL

COUNTS = [len(block.ops) for block in SMALL.choices.values()]
PATHS = np.array(list(itertools.product(*map(range, COUNTS))))


def problem(seed):
    """Random probabilities, milliseconds, and a second cost."""
    rng = np.random.default_rng(seed)
    mask = blocks.op_mask(SMALL)
    probs = rng.dirichlet(np.full(7, 0.5), size=4) * mask
    costs = [prices.Cost((rng.uniform(0, 1, (4, 7)) * mask).astype(np.float32), fixed, mask) for fixed in (0.3, 2.0)]
    return probs / probs.sum(1, keepdims=True), *costs


def costs_of(cost):
    return cost.fixed + cost.matrix.astype(np.float64)[np.arange(4), PATHS].sum(1)


def log_probs_of(probs):
    return np.log(np.maximum(probs[np.arange(4), PATHS], 1e-30)).sum(1)


def best(values, allowed):
    return tuple(PATHS[allowed][np.argmax(values[allowed])]) if allowed.any() else None


def test_most_probable_takes_each_largest():
    probs, *_ = problem(0)
    assert tuple(within_limits.most_probable(probs)) == tuple(probs.argmax(1))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("bound", [0.7, 1.2, 2.0, 9.0])
@pytest.mark.parametrize("least", [0.0, 0.97])
def test_within_a_limit_it_is_the_best_of_all(seed, bound, least):
    probs, ms, _ = problem(seed)
    path = within_limits.most_probable(probs, [Limit("ms", ms, bound)], least)
    used = costs_of(ms)
    expected = best(log_probs_of(probs), (used <= bound) & (used >= least * bound))
    assert (None if path is None else tuple(path)) == expected


@pytest.mark.parametrize("seed", range(6))
def test_least_gain_of_several_is_the_largest_of_all(seed):
    _, ms, other = problem(seed)
    third = prices.Cost(-other.matrix, 4.0, other.mask)
    least = np.minimum(costs_of(other), costs_of(third))
    for bound in (0.7, 1.5, 9.0):
        path = within_limits.most_of_least([other, third], [Limit("ms", ms, bound)])
        allowed = costs_of(ms) <= bound
        if not allowed.any():
            assert path is None
        else:
            assert least[(path == PATHS).all(1)] == pytest.approx(least[allowed].max(), abs=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_within_two_limits_it_is_the_best_of_all(seed):
    probs, ms, other = problem(seed)
    path = within_limits.most_probable(probs, [Limit("ms", ms, 1.9), Limit("params", other, 3.9)])
    assert tuple(path) == best(log_probs_of(probs), (costs_of(ms) <= 1.9) & (costs_of(other) <= 3.9))


@pytest.mark.parametrize("seed", range(6))
def test_cheapest_is_the_cheapest_of_all_that_keep_the_limits(seed):
    _, ms, other = problem(seed)
    path = within_limits.cheapest(ms, [Limit("params", other, 2.8)])
    assert tuple(path) == best(-costs_of(ms), costs_of(other) <= 2.8)
    assert within_limits.cheapest(ms, [Limit("params", other, 2.0)]) is None


def test_samples_keep_every_limit_and_use_most_of_the_first():
    for seed in range(6):
        probs, ms, other = problem(seed)
        limits = [Limit("ms", ms, 1.9), Limit("params", other, 4.2)]
        allowed = (costs_of(ms) <= 1.9) & (costs_of(ms) >= 0.9 * 1.9) & (costs_of(other) <= 4.2)
        samples = [tuple(path) for path in within_limits.samples(probs, limits, 0.9, 64, seed)]
        assert len(set(samples)) == len(samples) <= 64
        assert set(samples) <= {tuple(path) for path in PATHS[allowed]}
        assert samples or not allowed.any()


def test_tilting_keeps_the_odds_of_networks_of_equal_cost():
    """A network that is twice as probable as another of equal cost is drawn twice as often."""
    mask = blocks.op_mask(SMALL)
    probs, ms = problem(1)[0], prices.Cost(np.where(mask, 0.25, 0).astype(np.float32), 0.0, mask)
    probs = probs.copy()
    probs[0] = [0.5, 0.25, 0.25, 0, 0, 0, 0]
    tilted = within_limits._tilted(probs, Limit("ms", ms, 0.8), 0.99)
    np.testing.assert_allclose(tilted, probs, atol=1e-6)


def test_a_program_that_takes_too_long_is_no_network_that_does_not_exist(monkeypatch):
    imagenet = spaces.SPACES["proxyless_imagenet"]
    macs, params = (prices.matrix(imagenet, price()) for price in (prices.macs, prices.params))
    monkeypatch.setattr(within_limits, "SECONDS", 0.0)
    with pytest.raises(InputError, match="not found in 0 s"):
        within_limits.most_of(macs, [Limit("params", params, 4e6)])


def test_large_space_is_solved_exactly_and_keeps_the_limit():
    imagenet = spaces.SPACES["proxyless_imagenet"]
    rng, mask = np.random.default_rng(0), blocks.op_mask(imagenet)
    probs = rng.dirichlet(np.ones(7), size=21) * mask
    ms = prices.Cost((rng.uniform(0, 4, (21, 7)) * mask).astype(np.float32), 5.0, mask)
    path = within_limits.most_probable(probs, [Limit("ms", ms, 30.0)], 0.99)
    assert 0.99 * 30 <= ms.of_path(path) <= 30.0
    # No exchange of two ops makes it more probable within the limit.
    score = np.log(np.maximum(probs, 1e-30))
    for (a, i), (b, j) in itertools.product(np.argwhere(mask), repeat=2):
        if a < b:
            other = path.copy()
            other[[a, b]] = i, j
            if 0.99 * 30 <= ms.of_path(other) <= 30.0 - 1e-4:
                assert score[np.arange(21), other].sum() <= score[np.arange(21), path].sum() + 1e-6
