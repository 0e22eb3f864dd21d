"""One front from those of several image sizes."""

import math

import numpy as np
import pytest

from pnas_tf.derive import front_of_sizes
from pnas_tf.run_folder.front_file import FrontNetwork


def network(ms, accuracy, error=0.01, delivered=False):
    return FrontNetwork(ms, f"{ms:.4g}ms", "arg-max", 0.0, error, delivered, {"ms": ms}, {"b01": "zero"}, 1.0,
                        accuracy)


def fronts(rng):
    """Random fronts of two sizes, each with one delivered network."""
    return {side: [network(ms, accuracy, delivered=number == 3) for number, (ms, accuracy) in enumerate(
        zip(rng.uniform(1, 9, 6), rng.uniform(0.2, 0.9, 6), strict=True))] for side in (96, 64)}


@pytest.mark.parametrize("seed", range(20))
def test_no_network_of_any_size_beats_one_that_is_kept(seed):
    """Against brute force over all pairs."""
    both = fronts(np.random.default_rng(seed))
    every = [(each.ms, each.accuracy) for front in both.values() for each in front]
    best = {pair for pair in every if not any(ms <= pair[0] and accuracy >= pair[1] and (ms, accuracy) != pair
                                              for ms, accuracy in every)}
    side = front_of_sizes.delivered_size(both)
    delivered = next(each for each in both[side] if each.delivered)
    found = front_of_sizes.joined(both, 400)
    assert {(each.ms, each.accuracy) for each in found} == best | {(delivered.ms, delivered.accuracy)}
    assert [each.ms for each in found] == sorted(each.ms for each in found)
    assert [(each.ms, each.image_size) for each in found if each.delivered] == [(delivered.ms, side)]
    assert delivered.accuracy == max(each.accuracy for front in both.values() for each in front if each.delivered)


def test_gains_are_those_beside_the_delivered_network_and_other_sizes_are_less_sure():
    both = {96: [network(6, 0.6, delivered=True), network(7, 0.7)],
            64: [network(2, 0.3), network(4, 0.5, delivered=True)]}
    found = front_of_sizes.joined(both, 100)
    assert [each.gain for each in found] == pytest.approx([0.3, 0.1, 0.0, -0.1])
    assert [each.gain_error for each in found] == pytest.approx(
        [math.sqrt(2 * 0.3 * 0.7 / 100), math.sqrt(2 * 0.5 * 0.5 / 100), 0.0, 0.01])
    lines = front_of_sizes.table(found, 6.5).splitlines()
    assert lines[1:] == ["         2 ms    64 px  -30.0 +- 6.5 points", "         4 ms    64 px  -10.0 +- 7.1 points",
                         "         6 ms    96 px   +0.0 +- 0.0 points  delivered",
                         "         7 ms    96 px  +10.0 +- 1.0 points  above the target"]


def test_two_networks_of_one_folder_leave_room_for_the_delivered_one():
    both = {96: [network(3.00001, 0.7, delivered=True)], 64: [network(3.00002, 0.8), network(1, 0.6, delivered=True)]}
    found = front_of_sizes.joined(both, 100)
    assert [(each.folder, each.image_size, each.delivered) for each in found] == [("1ms", 64, False), ("3ms", 96, True)]


def test_of_equally_accurate_networks_the_quicker_one_is_delivered():
    both = {96: [network(3, 0.7, delivered=True)], 64: [network(2, 0.7, delivered=True)]}
    assert front_of_sizes.delivered_size(both) == 64
    assert [each.ms for each in front_of_sizes.joined(both, 100)] == [2]


def test_a_damaged_front_without_accuracies_is_joined():
    both = {96: [network(3, None, delivered=True)], 64: [network(2, None, delivered=True)]}
    assert [each.ms for each in front_of_sizes.joined(both, 100)] == [2]
