"""One front from those of several image sizes."""

import math

import numpy as np
import pytest

from pnas_tf.derive import front_of_sizes
from pnas_tf.run_folder.front_file import FrontNetwork


def network(ms, loss, accuracy=0.5, error=0.01, delivered=False):
    return FrontNetwork(ms, f"{ms:.4g}ms", "arg-max", 0.0, error, delivered, {"ms": ms}, {"b01": "zero"}, loss,
                        accuracy)


def fronts(rng):
    """Random fronts of two sizes, each with one delivered network."""
    made = {}
    for side in (96, 64):
        each = [network(ms, loss, 1 - loss / 3) for ms, loss in zip(rng.uniform(1, 9, 6), rng.uniform(0.5, 2, 6),
                                                                     strict=True)]
        within = min((one for one in each if one.ms <= 7), key=lambda one: one.expected_loss, default=each[0])
        made[side] = [one if one is not within else network(one.ms, one.expected_loss, one.accuracy, delivered=True)
                      for one in each]
    return made


@pytest.mark.parametrize("seed", range(20))
def test_no_network_of_any_size_beats_one_that_is_kept(seed):
    """Against brute force over all pairs."""
    both = fronts(np.random.default_rng(seed))
    every = [(each.ms, each.expected_loss) for front in both.values() for each in front]
    best = {pair for pair in every if not any(ms <= pair[0] and loss <= pair[1] and (ms, loss) != pair
                                              for ms, loss in every)}
    side = front_of_sizes.delivered_size(both)
    delivered = next(each for each in both[side] if each.delivered)
    found = front_of_sizes.joined(both, 7.0, 400)
    assert {(each.ms, each.expected_loss) for each in found} == best | {(delivered.ms, delivered.expected_loss)}
    assert [each.ms for each in found] == sorted(each.ms for each in found)
    assert [(each.ms, each.image_size) for each in found if each.delivered] == [(delivered.ms, side)]
    assert delivered.expected_loss == min(each.expected_loss for front in both.values() for each in front
                                          if each.delivered)


def test_gains_are_those_beside_the_best_within_the_target_and_other_sizes_are_less_sure():
    """Losses 0.8, 1.0 and 1.4 with accuracies 0.6, 0.5 and 0.3 lie on a line: 0.5 of accuracy for a nat."""
    both = {96: [network(6, 0.8, 0.6, delivered=True)],
            64: [network(2, 1.4, 0.3), network(4, 1.0, 0.5, delivered=True)]}
    found = front_of_sizes.joined(both, 7.0, 100)
    assert [each.gain for each in found] == pytest.approx([0.3, 0.1, 0.0])
    assert [each.gain_error for each in found] == pytest.approx(
        [math.hypot(0.01, math.sqrt(2 * 0.3 * 0.7 / 100)), math.hypot(0.01, math.sqrt(2 * 0.5 * 0.5 / 100)), 0.01])
    text = front_of_sizes.table(found, 5.0)
    assert "6 ms    96 px   +0.0 +- 1.0 points  delivered" in text and "4 ms    64 px  -10.0 +- 7.1 points\n" in text


def test_two_networks_of_one_folder_leave_room_for_the_delivered_one():
    both = {96: [network(3.00001, 0.9, delivered=True)], 64: [network(3.00002, 0.8), network(1, 1.0, delivered=True)]}
    found = front_of_sizes.joined(both, 7.0, 100)
    assert [(each.folder, each.image_size, each.delivered) for each in found] == [("1ms", 64, False), ("3ms", 96, True)]
