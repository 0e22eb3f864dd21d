"""The study of tree cells: the networks it compares, and the statistics of its results."""

import numpy as np
import pytest

from benchmarks.quality import tree_search
from pnas_tf.cost import prices
from pnas_tf.space import spaces
from pnas_tf.space.arch import Arch

SPACE = spaces.load("cifar_tree_b1_f88_s2")


def arch(seed):
    rng = np.random.default_rng(seed)
    return Arch(SPACE, {name: str(rng.choice(block.ops)) for name, block in SPACE.choices.items()})


@pytest.mark.slow
def test_plain_network_has_as_many_parameters_and_maps_of_the_same_sizes():
    archs = [arch(0), arch(1)]
    plain = tree_search.like_sized(archs, SPACE)
    mean_params = np.mean([prices.of_arch(searched, prices.params()) for searched in archs])
    assert prices.of_arch(plain, prices.params()) == pytest.approx(mean_params, rel=0.1)  # Widths are multiples of 8.
    for block in ("b01", "b03", "mix"):
        assert plain.space.input_shapes()[block][:2] == SPACE.input_shapes()[block][:2]


def test_network_counts_once_whatever_its_seeds():
    rows = [{"kind": "random", "network": number, "accuracy": accuracy, "params": 1, "macs": 1}
            for number, accuracy in ((0, 0.5), (0, 0.7), (1, 0.4))]
    np.testing.assert_allclose(tree_search.by_network(rows, "random"), [0.6, 0.4])
    assert "| random | 2 x 2 | 50.00 | 14.14 |" in tree_search.show(rows)
