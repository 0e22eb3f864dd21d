"""The lean towards large networks, against all networks of a small space."""

import numpy as np
import pytest

from pnas_tf.cost import prices
from pnas_tf.derive import lean
from pnas_tf.derive.op_effects import OpEffects
from tests.derive.test_op_effects import EVERY, SPACE, planted

MACS = prices.matrix(SPACE, prices.macs())


def fitted():
    paths, losses, images, *_ = planted(3, 0.01, 120)
    return OpEffects.fit(SPACE, paths, losses, images)


def test_it_is_a_fifth_of_a_deviation_for_each_deviation_of_macs():
    effects, macs = fitted(), MACS.of_paths(EVERY)
    before, after = np.log(effects.loss(EVERY)), np.log(lean.towards(MACS, effects).loss(EVERY))
    np.testing.assert_allclose(after, before - 0.2 * before.std() * (macs - macs.mean()) / macs.std(), atol=1e-9)
    matrix = lean.towards(MACS, effects).matrix()
    np.testing.assert_allclose(matrix[np.arange(6), EVERY].sum(1), after - effects.difficulty.mean(), atol=1e-9)
    error = effects.error(EVERY[7], EVERY[300]) / np.exp(before[7])
    lean_of_both = (after - before)[7] - (after - before)[300]
    assert lean.towards(MACS, effects).error(EVERY[7], EVERY[300]) == pytest.approx(
        np.hypot(error, lean_of_both) * np.exp(after[7]))


def test_a_cost_that_all_networks_share_changes_nothing():
    effects = fitted()
    same = prices.Cost(MACS.mask.astype(np.float32), 5.0, MACS.mask)
    np.testing.assert_array_equal(lean.towards(same, effects).mean, effects.mean)
