"""Effects of ops against planted effects and against the normal equations."""

import dataclasses
import itertools

import numpy as np
import pytest

from pnas_tf.cost import prices, within_limits
from pnas_tf.cost.limits import Limit
from pnas_tf.derive.op_effects import OpEffects, features
from pnas_tf.space.blocks import Block, Space, op_mask
from tests.spaces import WIDE

OPS = ("mb_k3_e3", "mb_k5_e3", "zero")
SPACE = Space(
    "six", input_size=8, input_channels=3, num_classes=4, stem=(Block("stem", ("conv_k3",), 8),),
    blocks=(*(Block(f"b{number}", OPS, 8, shortcut=True) for number in range(1, 6)),
            Block("b6", ("mb_k3_e3", "mb_k5_e3"), 16, strides=2)),
    head=(Block("mix", ("conv_k1",), 16), Block("classifier", ("classifier",), 4)))
EVERY = np.array(list(itertools.product(*(range(len(block.ops)) for block in SPACE.choices.values()))))


def planted(seed, noise, count):
    """Random networks, their losses with random effects and noise, their sets of images, and all networks' losses."""
    rng = np.random.default_rng(seed)
    effects = rng.normal(0, 0.1, (6, 3))
    truth = effects[np.arange(6), EVERY].sum(1)
    chosen = rng.choice(len(EVERY), count, replace=False)
    images = rng.integers(0, 3, count)
    losses = np.exp(truth[chosen] + np.array([0.1, 0.5, -0.3])[images] + rng.normal(0, noise, count))
    return EVERY[chosen], losses, images, truth, effects


def test_planted_effects_are_found_whatever_the_images():
    paths, losses, images, truth, effects = planted(0, 1e-4, 60)
    fitted = OpEffects.fit(SPACE, paths, losses, images)
    found = np.log(fitted.loss(EVERY))
    np.testing.assert_allclose(found - found.mean(), truth - truth.mean(), atol=2e-3)
    np.testing.assert_allclose(np.diff(fitted.difficulty), [0.4, -0.8], atol=2e-3)
    matrix = fitted.matrix()
    np.testing.assert_allclose(matrix[:5] - matrix[:5, :1], effects[:5] - effects[:5, :1], atol=2e-3)
    assert matrix.shape == (6, 3) and matrix[5, 2] == 0
    np.testing.assert_allclose(matrix[np.arange(6), EVERY].sum(1) + fitted.difficulty.mean(), found, atol=1e-9)


def places(paths):
    """Where networks are among all."""
    return [int(np.flatnonzero((path == EVERY).all(1))[0]) for path in paths]


DEPTH = ((EVERY != 2) | (np.arange(6) == 5)).sum(1)  # zero is op 2 of the first five choices
OFF = np.abs(DEPTH - (5 * 2 / 3 + 1)) / np.sqrt(5 * 2 / 9)


def bent(seed, bend):
    """Effects fitted to losses with a planted term for depth; and the true losses of all networks, as logarithms."""
    paths, losses, images, truth, _ = planted(seed, 1e-4, 80)
    term = bend * np.where(OFF <= 3, OFF**2, 6 * OFF - 9)
    return OpEffects.fit(SPACE, paths, losses * np.exp(term[places(paths)]), images), truth + term


def test_planted_term_for_depth_is_found():
    fitted, truth = bent(3, 0.03)
    found = np.log(fitted.loss(EVERY))
    np.testing.assert_allclose(found - found.mean(), truth - truth.mean(), atol=3e-3)


@pytest.mark.parametrize("seed", range(5))
def test_best_network_of_a_budget_is_found_in_spite_of_the_term_for_depth(seed):
    """By brute force, with random costs: sums near single depths would miss it, since the term is convex."""
    fitted, _ = bent(seed, 0.08)
    cost = prices.Cost(np.random.default_rng(seed).uniform(0, 1, (6, 3)).astype(np.float32), 0.0, op_mask(SPACE))
    gains = [prices.Cost(-matrix, -constant, cost.mask) for matrix, constant in fitted.tangents()]
    found = np.log(fitted.loss(EVERY)) - fitted.difficulty.mean()
    touching = np.max([matrix[np.arange(6), EVERY].sum(1) + constant for matrix, constant in fitted.tangents()], axis=0)
    assert np.all(touching <= found + 1e-9) and np.max(found - touching) < 0.08 * 0.25**2 + 1e-3
    for bound in np.quantile(cost.of_paths(EVERY), np.linspace(0.05, 0.95, 9)):
        path = within_limits.most_of_least(gains, [Limit("ms", cost, float(bound))])
        best = found[cost.of_paths(EVERY) <= bound].min()
        assert found[(path == EVERY).all(1)] <= best + 0.08 * 0.25**2 + 1e-3


def test_term_that_would_favour_the_extremes_does_not_count():
    fitted, truth = bent(4, -0.03)
    assert fitted.mean[-1] == 0 and len(fitted.tangents()) == 1
    assert np.corrcoef(np.log(fitted.loss(EVERY)), truth)[0, 1] > 0.8


def test_depth_is_that_of_the_ops_whatever_their_filters():
    """By hand: mb_k3_e1, mb_k5_e2, mb_k3_e2 and mbse_k3_e2 have one convolution larger than 1x1, zero has none."""
    rng = np.random.default_rng(0)
    paths = rng.integers([len(choice.ops) for choice in WIDE.choices.values()], size=(60, len(WIDE.choices)))
    skips = paths[:, list(WIDE.choices).index("b01")] == 2
    assert WIDE.choices["b01"].ops[2] == "zero" and 0 < skips.sum() < 60
    terms = features(WIDE, paths)[:, -1]
    np.testing.assert_allclose(terms[~skips], ((2 / 3 - 1) ** 2) / (2 / 9), atol=1e-5)
    np.testing.assert_allclose(terms[skips], ((2 / 3) ** 2) / (2 / 9), atol=1e-5)


def test_depth_does_not_count_where_all_networks_are_equally_deep():
    space = dataclasses.replace(SPACE, blocks=tuple(
        dataclasses.replace(block, ops=OPS[:2]) for block in SPACE.blocks))
    every = np.array(list(itertools.product((0, 1), repeat=6)))
    assert not features(space, every)[:, -1].any()
    fitted = OpEffects.fit(space, every, np.exp(every.sum(1) / 10), np.zeros(len(every), int))
    assert len(fitted.tangents()) == 1


def test_noise_that_single_losses_have_is_taken_off():
    """With noise as large as the effects, the sums are nearer to the truth than the losses themselves."""
    paths, losses, _, truth, _ = planted(1, 0.1, 150)
    fitted = OpEffects.fit(SPACE, paths, losses, np.zeros(len(paths), int))
    own = truth[places(paths)]
    assert 0.05 < fitted.noise < 0.5
    assert np.corrcoef(fitted.loss(paths), own)[0, 1] > np.corrcoef(losses, own)[0, 1] + 0.1


@pytest.mark.parametrize("count", [5, 40])
def test_mean_and_error_are_those_of_the_normal_equations(count):
    """The same posterior, by the other formula: (X'X + prior^-1)^-1, features instead of networks."""
    paths, losses, images, _, _ = planted(2, 0.05, count)
    fitted = OpEffects.fit(SPACE, paths, losses, images)
    sets = (images[:, None] == np.arange(images.max() + 1)).astype(float)
    used = fitted.prior > 0
    x = np.concatenate([sets, features(SPACE, paths)[:, used]], axis=1)
    precision = x.T @ x + np.diag(np.concatenate([np.full(sets.shape[1], 1e-4), 1 / fitted.prior[used]]))
    y = np.log(losses)
    mean = np.linalg.solve(precision, x.T @ (y - y.mean()))
    np.testing.assert_allclose(fitted.mean[used], mean[sets.shape[1]:], atol=1e-6)
    np.testing.assert_allclose(fitted.difficulty, y.mean() + mean[:sets.shape[1]], atol=1e-5)
    covariance = fitted.noise**2 * np.linalg.inv(precision)[sets.shape[1]:, sets.shape[1]:]
    difference = (features(SPACE, EVERY[[7]]) - features(SPACE, EVERY[[300]]))[0, used]
    expected = np.sqrt(difference @ covariance @ difference) * fitted.loss(EVERY[[7]])[0]
    assert fitted.error(EVERY[7], EVERY[300]) == pytest.approx(expected, rel=1e-4)
    assert fitted.error(EVERY[7], EVERY[7]) == 0


def test_errors_cover_the_truth_as_often_as_they_say():
    """Of 200 differences in 20 draws of effects, about 95 % are within two errors."""
    inside = []
    for seed in range(20):
        paths, losses, images, truth, _ = planted(seed, 0.05, 50)
        fitted = OpEffects.fit(SPACE, paths, losses, images)
        rng = np.random.default_rng(seed)
        for one, other in rng.integers(0, len(EVERY), (10, 2)):
            if one != other:
                found = np.subtract(*np.log(fitted.loss(EVERY[[one, other]])))
                error = fitted.error(EVERY[one], EVERY[other]) / fitted.loss(EVERY[[one]])[0]
                inside.append(abs(found - (truth[one] - truth[other])) < 2 * error)
    assert 0.88 < np.mean(inside) <= 1
