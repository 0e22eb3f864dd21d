"""Costs that depend on several choices, as filters make them, against all networks of a small space."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from pnas_tf import network
from pnas_tf.cost import expectation, limits, prices, within_limits
from pnas_tf.cost.limits import Limit
from pnas_tf.errors import InputError
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import blocks, shape_layers, spaces
from tests.spaces import WIDE

COUNTS = blocks.op_mask(WIDE).sum(1)
PATHS = np.array(list(itertools.product(*map(range, COUNTS))), np.int32)


def of_key(seed):
    """A price that is different for every row."""
    rng, known = np.random.default_rng(seed), {}
    return lambda name, key: known.setdefault(key, float(rng.uniform(0.1, 1)))


@pytest.fixture(scope="module")
def costs():
    """Two costs of the space, each with the cost of every network by the rows of its own arch."""
    archs = [arch_lib.from_path(WIDE, path) for path in PATHS]
    found = []
    for seed in (1, 2):
        price = of_key(seed)
        found.append((prices.matrix(WIDE, price), np.array([prices.of_arch(arch, price) for arch in archs])))
    return found


@pytest.fixture(scope="module")
def probs():
    drawn = np.random.default_rng(0).dirichlet(np.full(3, 0.7), size=len(COUNTS)) * blocks.op_mask(WIDE)
    return drawn / drawn.sum(1, keepdims=True)


def chance(probs):
    return np.prod(probs[np.arange(len(COUNTS)), PATHS], axis=1)


def test_the_space_has_a_choice_for_each_stage():
    assert list(WIDE.choices) == ["b00/filters", "b01", "b02", "b02/filters", "mix/filters"]
    assert WIDE.size == len(PATHS) == 2 * 3 * 2 * 3 * 2
    assert not prices.matrix(spaces.SPACES["cifar_mb"], of_key(0)).terms


def test_every_network_costs_the_sum_of_its_own_rows(costs):
    for cost, every in costs:
        np.testing.assert_allclose(cost.of_paths(PATHS), every, rtol=1e-6)
        np.testing.assert_allclose([cost.of_path(path) for path in PATHS], every, rtol=1e-6)
        np.testing.assert_allclose(expectation.of_paths(cost, tf.constant(PATHS)), every, rtol=1e-6)
        assert cost.range == pytest.approx((every.min(), every.max()), rel=1e-6)


def test_the_expected_cost_is_the_mean_over_all_networks(costs, probs):
    cost, every = costs[0]
    mean = np.sum(chance(probs) * every)
    assert cost.expected(probs) == pytest.approx(mean, rel=1e-6)
    assert float(expectation.expected(cost, tf.constant(probs, tf.float32))) == pytest.approx(mean, rel=1e-5)


def test_slopes_are_the_mean_costs_of_networks_with_an_op(costs, probs):
    """Swapping two ops of a choice changes the expected cost by the difference of their slopes."""
    cost, every = costs[0]
    slopes, additive = expectation.slopes(cost, tf.constant(probs, tf.float32)).numpy(), cost.around(probs)
    np.testing.assert_allclose(additive.matrix, slopes, rtol=1e-5)
    assert additive.fixed + np.sum(probs * additive.matrix) == pytest.approx(cost.expected(probs), rel=1e-6)
    for choice, count in enumerate(COUNTS):
        given = [np.average(every[PATHS[:, choice] == op], weights=chance(probs)[PATHS[:, choice] == op])
                 for op in range(count)]
        np.testing.assert_allclose(slopes[choice, :count] - slopes[choice, 0], np.subtract(given, given[0]), atol=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("least", [0.0, 0.95])
def test_the_program_finds_the_best_of_all_networks(costs, probs, share, least):
    (ms, every_ms), (other, every_other) = costs
    bound, ceiling = np.quantile(every_ms, share), np.quantile(every_other, 0.7)
    keeps = (every_ms <= bound) & (every_other <= ceiling) & (every_ms >= least * bound)
    given = [Limit("ms", ms, bound), Limit("params", other, ceiling)]
    path = within_limits.most_probable(probs, given, least)
    assert tuple(path) == tuple(PATHS[keeps][np.argmax(np.log(chance(probs)[keeps]))])
    largest = within_limits.most_of(other, given, least)
    assert other.of_path(largest) == pytest.approx(every_other[keeps].max(), rel=1e-6)
    assert ms.of_path(within_limits.cheapest(ms, given[1:])) == pytest.approx(
        every_ms[every_other <= ceiling].min(), rel=1e-6)


def test_samples_keep_the_limits(costs, probs):
    ms, bound = costs[0][0], np.quantile(costs[0][1], 0.3)
    drawn = within_limits.samples(probs, [Limit("ms", ms, bound)], 0.9, 16, 0)
    assert len(drawn) >= 5 and np.all(within_limits.keeps(drawn, [Limit("ms", ms, bound)], 0.9))


def test_counts_of_derived_networks_are_exact():
    """Parameters and MACs, by the prices of all rows, by shapes, and of the Keras network."""
    params, macs = prices.matrix(WIDE, prices.params()), prices.matrix(WIDE, prices.macs())
    for path in PATHS[[0, 17, 40, 71]]:
        arch = arch_lib.from_path(WIDE, path)
        model = network.build_network(arch)
        counts = [shape_layers.count(key) for _, key in arch.op_keys()]
        assert params.of_path(path) == network.count_params(model) == sum(each.params for each in counts)
        assert macs.of_path(path) == network.count_macs(model) == sum(each.macs for each in counts)


def test_an_arch_has_plain_numbers_of_filters(tmp_path):
    arch = arch_lib.from_path(WIDE, [0, 1, 0, 2, 1])
    arch.save(str(tmp_path / "arch.json"))
    back = arch_lib.load(str(tmp_path / "arch.json"))
    assert [block.filters for block in back.space.all_blocks] == [8, 8, 8, 24, 24, 24, 4]
    assert back.ops == {"b01": "mb_k5_e2", "b02": "mb_k3_e2"} and not back.space.width_choices
    assert list(back.path_in(WIDE)) == [0, 1, 0, 2, 1]
    assert spaces.from_json(WIDE.to_json()) == WIDE
    with pytest.raises(InputError, match="one number of filters for each block: b00 has several"):
        arch_lib.Arch(WIDE, arch.ops)


@pytest.mark.parametrize("changes, expected", [
    ({"b01": [8, 16]}, "a shortcut needs the filters of its input, \\[8, 12\\], got \\[8, 16\\]"),
    ({"b01": 12}, "a shortcut needs the filters of its input, \\[8, 12\\], got 12"),
    ({"b02": [24, 16]}, "different whole numbers in ascending order"),
    ({"b02": [16, 16, 24]}, "different whole numbers in ascending order"),
    ({"b02": [16]}, "a number, or a list of 2 to 8"),
    ({"b02": list(range(8, 17))}, "a number, or a list of 2 to 8"),
    ({"b02": [True, 24]}, "different whole numbers"),
    ({"classifier": [2, 4]}, "not the classifier")])
def test_filters_that_make_no_network_are_one_line(changes, expected):
    data = WIDE.to_json()
    for block in (*data["blocks"], *data["head"]):
        block["filters"] = changes.get(block["name"], block["filters"])
    with pytest.raises(InputError, match=expected) as error:
        spaces.from_json(data, "space.json")
    assert "\n" not in str(error.value)


def test_odd_spaces_are_one_line_or_spaces():
    """Fields of random blocks replaced by values of any kind."""
    rng = np.random.default_rng(0)
    odd = [None, True, -1, 8, 12, 1.5, "24", [], [8], [8, 12], [12, 8], [8, "a"], [[8], 12], {"a": 1}, [8.0, 12]]
    for _ in range(300):
        data = WIDE.to_json()
        block = rng.choice([*data["stem"], *data["blocks"], *data["head"]])
        block[str(rng.choice([*block, "widths", "inputs"]))] = odd[rng.integers(len(odd))]
        try:
            space = spaces.from_json(data)
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert spaces.from_json(space.to_json()) == space


def test_names_and_numbers_of_rows_are_bounded():
    data = WIDE.to_json()
    data["blocks"][0]["name"] = "b02/filters"
    with pytest.raises(InputError, match="no name of a block may end in /filters"):
        spaces.from_json(data)
    ops = [f"mb_k{k}_e{e}" for k in (1, 3, 5, 7, 9, 11) for e in range(1, 13)]
    block = {"ops": ops, "filters": [8, 9, 10, 11, 12, 13, 14, 15], "strides": 1, "shortcut": False}
    data["blocks"] = [{"name": f"b{number}", **block} for number in range(30)]
    with pytest.raises(InputError, match="more than 100,000 table rows"):
        spaces.from_json(data)


def test_a_limit_on_peaks_is_refused_where_filters_are_searched():
    with pytest.raises(InputError, match="wide searches filters"):
        limits.within_peak(WIDE, limits.PEAK, 1e9, lambda name, key: 1.0)


def test_widths_are_scaled():
    assert WIDE.scaled(2.0).choices["b02/filters"].filters == (32, 40, 48)
    assert not WIDE.scaled(0.3).width_choices.get("b00")  # 8 and 12 become 8: one number
