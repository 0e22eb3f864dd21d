"""Limits on size and memory, against exported files and against all archs of a small space."""

import dataclasses
import itertools

import numpy as np
import pytest

from export import convert, graph
from pnas_tf import network
from pnas_tf.cost import latency_table, limits, prices
from pnas_tf.errors import InputError
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import blocks, spaces

SMALL = spaces.mb_space("small", input_size=16, num_classes=4, stem=blocks.Block("stem", ("conv_k3",), 8),
                       first=blocks.Block("b00", ("mb_k3_e1",), 8),
                       stages=(spaces.Stage(8, 2, 1), spaces.Stage(16, 1, 2)), mix=16)


def random_network(name, seed):
    """A random arch, and its network with random weights: equal weights would be stored only once in a file."""
    search_space, rng = spaces.SPACES[name], np.random.default_rng(seed)
    arch = arch_lib.from_path(search_space, [rng.integers(len(b.ops)) for b in search_space.choices.values()])
    model = network.build_network(arch)
    for weight in model.weights:
        weight.assign(np.abs(rng.normal(size=weight.shape)) + 0.1)
    return arch, model


@pytest.mark.parametrize("mode", ["float32", "float16", "int8"])
@pytest.mark.parametrize("name", ["quickstart", "cifar_mb"])
def test_size_is_that_of_the_exported_file(name, mode):
    arch, model = random_network(name, 3)
    size = len(convert.to_time(model, mode))
    assert prices.of_arch(arch, prices.size_bytes(mode)) == pytest.approx(size, rel=0.02)
    assert network.count_size_bytes(model, mode) == pytest.approx(size, rel=0.02)


@pytest.mark.parametrize("name, mode, seed", [("quickstart", "float32", 0), ("quickstart", "int8", 1),
                                              ("cifar_mb", "float32", 2), ("cifar_mb", "int8", 3)])
def test_peak_is_that_of_the_exported_graph_and_of_the_largest_block(name, mode, seed):
    arch, model = random_network(name, seed)
    contents = graph.describe(convert.to_time(model, mode))
    exported = graph.peak_activation_bytes(contents)
    assert graph.count_macs(contents) == network.count_macs(model)
    price = prices.peak_activation_bytes(mode)
    assert network.peak_activation_bytes(model, mode) == exported
    assert max(price(block.name, key) for block, key in arch.op_keys()) == exported


def test_space_within_a_peak_holds_just_the_networks_within_it():
    price = prices.peak_activation_bytes("float32")
    archs = [arch_lib.from_path(SMALL, path)
             for path in itertools.product(*(range(len(block.ops)) for block in SMALL.choices.values()))]
    peaks = [max(price(block.name, key) for block, key in arch.op_keys()) for arch in archs]
    bound = float(sorted(set(peaks))[-2])
    kept = limits.within_peak(SMALL, limits.PEAK, bound, price)
    inside = {tuple(arch.ops.items()) for arch, peak in zip(archs, peaks, strict=True) if peak <= bound}
    fixed = {block.name: block.ops[0] for block in kept.all_blocks if block.name not in kept.choices}
    allowed = {tuple((name, {**fixed, **dict(zip(kept.choices, ops, strict=True))}[name]) for name in SMALL.choices)
               for ops in itertools.product(*(block.ops for block in kept.choices.values()))}
    assert allowed == inside and 0 < len(inside) < len(archs)


def test_a_peak_that_no_network_keeps_names_the_block():
    with pytest.raises(InputError, match=r"small keeps peak_activation_bytes<=100: block \w+ alone needs"):
        limits.within_peak(SMALL, limits.PEAK, 100, prices.peak_activation_bytes("float32"))


def test_costs_of_limits_are_the_counts_of_networks():
    additive = limits.additive(SMALL, [("params", 1e5), ("macs", 1e7)], "float32")
    arch = arch_lib.from_path(SMALL, [1, 0, 2])
    model = network.build_network(arch)
    assert [limit.cost.of_path(np.array([1, 0, 2])) for limit in additive] == [
        network.count_params(model), network.count_macs(model)]


@pytest.mark.parametrize("text, expected", [("params<=3e6", ("params", 3e6)), ("macs <= 300e6", ("macs", 3e8)),
                                            ("size_bytes<=4000000", ("size_bytes", 4e6)),
                                            ("peak_activation_bytes<=1e5", ("peak_activation_bytes", 1e5))])
def test_a_limit_is_read(text, expected):
    assert limits.parse(text) == expected


@pytest.mark.parametrize("text", ["", "params", "params<3", "params>=3", "params<=", "params<=-1", "params<=nan",
                                  "params<=inf", "ms<=3", "what<=3", "<=3", "params<=0"])
def test_a_text_that_is_not_a_limit_is_an_error_that_shows_the_form(text):
    with pytest.raises(InputError, match="NAME<=NUMBER"):
        limits.parse(text)


def test_a_limit_below_every_network_states_what_they_have():
    with pytest.raises(InputError, match=r"keeps params<=10: they have [\d,]+ to [\d,]+"):
        limits.additive(SMALL, [("params", 10)], "float32")


@pytest.mark.parametrize("dtype", ["dynamic", "int4", None])
def test_a_target_of_another_dtype_is_sized_as_the_largest(dtype):
    """No delivered network may exceed its limit, so an unknown dtype counts as float32."""
    bounds = [("size_bytes", 1e9)]
    sizes, float32_sizes = (limits.additive(SMALL, bounds, each)[0].cost for each in (dtype, "float32"))
    np.testing.assert_array_equal(sizes.matrix, float32_sizes.matrix)
    table = latency_table.LatencyTable("t.jsonl", {"target": "t", "dtype": dtype}, {}, {})
    assert limits.within_peaks(SMALL, [("peak_activation_bytes", 1e9)], [table]) == SMALL


def test_limit_on_sram_removes_ops_by_their_rows():
    """By hand: one op needs 2000 bytes wherever it is, the others 1000."""
    def row(key):
        return latency_table.row(key, median_ms=1.0, sram_bytes=2000 if key.op == "mb_k5_e6" else 1000)

    keys = {key for _, key in SMALL.op_keys()}
    table = latency_table.LatencyTable("t.jsonl", {"target": "t", "dtype": "int8"}, {key: row(key) for key in keys}, {})
    kept = limits.within_peaks(SMALL, [limits.parse("sram_bytes<=1500"), ("params", 1e9)], [table])
    assert {key for _, key in kept.op_keys()} == {key for key in keys if key.op != "mb_k5_e6"}
    with pytest.raises(InputError, match=r"small keeps sram_bytes<=999: block \w+ alone needs 1,000 bytes"):
        limits.within_peaks(SMALL, [("sram_bytes", 999)], [table])
    bare = dataclasses.replace(table, rows={key: latency_table.row(key, median_ms=1.0) for key in keys})
    with pytest.raises(InputError, match=r"does not have the SRAM of .* --measurer=vela"):
        limits.within_peaks(SMALL, [("sram_bytes", 1500)], [bare])


def test_limit_on_sram_is_for_searches_that_compile_whole_networks():
    bounds = [("params", 1e9), ("sram_bytes", 1e9)]
    assert limits.of_whole_networks(bounds) == (("sram_bytes", 1e9),)
    with pytest.raises(InputError, match=r"sram_bytes of a network .* python -m latency\.search"):
        limits.refuse_whole_networks(bounds)
    limits.refuse_whole_networks(bounds[:1])
