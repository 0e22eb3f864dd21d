"""Tree-structured cells: the published CIFAR network, the space it comes from, and what is no space."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnas_tf import network
from pnas_tf.cost import latency_table, limits, prices
from pnas_tf.errors import InputError
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import blocks as blocks_lib
from pnas_tf.space import ops, spaces, tree_cells
from pnas_tf.space.blocks import Block, OpKey
from pnas_tf.supernet import candidate, supernet

SMALL = dataclasses.replace(tree_cells.tree_space("small", 1, 88), input_size=8)


@pytest.fixture(scope="module")
def tree_arch():
    """An arch in which every op occurs."""
    return arch_lib.from_path(SMALL, [number % len(tree_cells.OPS) for number in range(len(SMALL.choices))])


@pytest.mark.slow
def test_published_network_has_the_published_size():
    """5.73M parameters and 1213.2M multiply-accumulates, as in the authors' log; counted exactly by ours."""
    arch = arch_lib.load("proxyless_cifar")
    assert prices.of_arch(arch, prices.params()) == 5_731_530
    assert prices.of_arch(arch, prices.macs()) == 1_213_155_872


def test_published_network_uses_every_op_as_often_as_the_original():
    arch = arch_lib.load("proxyless_cifar")
    counts = {op: list(arch.ops.values()).count(op) for op in tree_cells.OPS}
    assert counts == {"sep_k7": 116, "identity": 96, "dil_k3": 90, "avg_k3": 89, "max_k3": 89, "sep_k5": 85,
                      "sep_k3": 83}


def test_space_of_the_paper():
    space = spaces.load("cifar_tree")
    assert len(space.choices) == 648 and space.size == 7**648
    assert tree_cells.widths(18, 400)[:12] == [72, 72, 80, 88, 96, 96, 104, 112, 120, 128, 128, 136]
    assert tree_cells.widths(18, 400)[-3:] == [384, 392, 400]
    assert [space.input_shapes()[name][:2] for name in ("b18", "b19", "b37", "mix")] == [(32, 32), (16, 16), (8, 8),
                                                                                        (8, 8)]
    assert spaces.from_json(json.loads(json.dumps(space.to_json()))) == space


@pytest.mark.parametrize("name, choices, side", [("cifar_tree_b1_f88", 36, 32), ("cifar_tree_b2_f136_s2", 72, 16)])
def test_spaces_of_other_sizes_go_by_their_names(name, choices, side):
    space = spaces.load(name)
    assert len(space.choices) == choices and space.input_shapes()["b01/in"] == (side, side, 16)


def test_pyramid_net_without_cells_has_the_parameters_of_its_formula():
    """Pre-activation bottlenecks (Han, Kim, Kim 2017): BN, 1x1, BN, 3x3, BN, 1x1, BN, all without biases."""
    space = tree_cells.plain("plain", 2, 136)
    channels, expected = 16, 3 * 3 * 3 * 16 + 2 * 16
    for width in tree_cells.widths(2, 136):
        inner = width // 4
        expected += 2 * channels + channels * inner + 2 * inner + 9 * inner**2 + 2 * inner + inner * width + 2 * width
        channels = width
    model = network.build_network(arch_lib.Arch(space, {}))
    assert model.count_params() - sum(np.size(weight) for weight in model.non_trainable_weights) == \
        expected + 2 * channels + 10 * channels + 10
    assert model(np.zeros([2, 32, 32, 3])).shape == (2, 10)
    assert not space.choices


@pytest.mark.parametrize("op", ["sep_k5", "dil_k3", "group_k3_g2", "bn", "max_k3", "mb_k3_e3"])
def test_a_candidate_like_another_is_as_one_built_alone(op):
    keras.utils.set_random_seed(0)
    key = OpKey(op, (8, 8, 32), 32, 1, False)
    alone = candidate.Candidate(key, "b01")
    like = candidate.Candidate(key, "b02", candidate.record(key, "b02", alone))
    weights, drawn = alone.layer_weights(), like.layer_weights()
    assert [name.replace("b01", "b02") for name in weights] == list(drawn)
    for mine, theirs in zip(weights.values(), drawn.values(), strict=True):
        for weight, other in zip(mine, theirs, strict=True):
            assert weight.shape == other.shape
            if np.ptp(weight) > 0:  # drawn at random: other values of the same spread
                assert not np.any(weight == other) and np.std(weight) == pytest.approx(np.std(other), rel=0.25)
            else:
                np.testing.assert_array_equal(weight, other)
    x = tf.random.stateless_normal([2, 8, 8, 32], [1, 2])
    if alone.kernel is not None:
        like.kernel.assign(alone.kernel)
    np.testing.assert_array_equal(alone.run(x), like.run(x))


@pytest.mark.parametrize("name", ["cifar_tree_b0_f88", "cifar_tree_b19_f88", "cifar_tree_b1_f8", "cifar_tree_b1",
                                  "cifar_tree_b1_f\u0668\u0668"])
def test_names_of_no_space_are_refused(name):
    with pytest.raises(InputError, match="Unknown space"):
        spaces.load(name)


def test_chains_are_written_as_before():
    """Files and digests of spaces without cells do not change: no field is added."""
    entry = spaces.SPACES["quickstart"].to_json()["blocks"][0]
    assert entry == {"name": "b00", "ops": ["mb_k3_e1"], "filters": 16, "strides": 1, "shortcut": False}


def test_two_grouped_convolutions_are_one_with_shuffle_and_split():
    """The paper's cell: a 2-group convolution to twice the channels, channel shuffle, halves."""
    channels, rng = 6, np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 5, 5, channels)), rng.normal(size=(3, 3, channels // 2, 2 * channels))
    y = tf.nn.conv2d(x, tf.constant(kernel), 1, "SAME").numpy()
    shuffled = y.reshape(2, 5, 5, 2, channels).swapaxes(3, 4).reshape(2, 5, 5, 2 * channels)
    order = np.arange(2 * channels).reshape(2, channels).T.reshape(-1)
    for half, mine in zip((shuffled[..., :channels], shuffled[..., channels:]),
                          (order[:channels], order[channels:]), strict=True):
        by_group = np.argsort(mine >= channels, kind="stable")
        model = network.build_op(OpKey("group_k3_g2", (5, 5, channels), channels, 1, False))
        model.layers[-1].set_weights([kernel[..., mine[by_group]]])
        np.testing.assert_allclose(model(x.astype(np.float32)), half[..., by_group], atol=1e-5)


def test_network_is_the_cell_of_the_paper(tree_arch):
    """One cell by hand, from the outputs of its edges: two levels of copies and sums, batch norm and a residual add."""
    model = network.build_network(tree_arch)
    rng = np.random.default_rng(1)
    model.set_weights([w + 0.1 * rng.uniform(size=w.shape) for w in model.get_weights()])
    images = rng.normal(size=(2, 8, 8, 3)).astype(np.float32)

    def edge(number, x):
        op = tree_arch.ops[f"b01/n{number}"]
        for layer in model.layers:
            if layer.name.startswith(f"b01_n{number}_{op}_"):
                x = layer(x)
        return x

    def output(name):
        return keras.Model(model.input, model.get_layer(name).output)(images)

    total = 0.0
    for branch, first in (("left", 1), ("right", 7)):
        x = output(f"b01_{branch}_group_k3_g2_conv")
        left, right = edge(first, x), edge(first + 1, x)
        subtree = edge(first + 2, left) + edge(first + 3, left) + edge(first + 4, right) + edge(first + 5, right)
        total += x + model.get_layer(f"b01_{branch}_norm_bn_bn")(subtree)
    np.testing.assert_allclose(output("b01_out_expand_k1_sum"), total, rtol=1e-4, atol=1e-5)
    widened = output("b01_skip_widen_zeros").numpy()
    np.testing.assert_array_equal(widened[..., 16:], 0.0)
    np.testing.assert_array_equal(widened[..., :16], output("stem_linear_k3_bn"))


def test_costs_of_a_tree_add_up(tree_arch):
    model = network.build_network(tree_arch)
    assert prices.of_arch(tree_arch, prices.params()) == network.count_params(model)
    assert prices.of_arch(tree_arch, prices.macs()) == network.count_macs(model)
    assert not any(key.op == "identity" for _, key in tree_arch.op_keys())
    assert {key.summed for _, key in tree_arch.op_keys()} == {1, 2, 4}


def test_rows_of_sums_keep_their_number_of_inputs():
    key = OpKey("bn", (8, 8, 16), 16, 1, False, 4)
    header = json.dumps(latency_table.header("t"))
    row = latency_table.row(key, median_ms=1.0)
    assert list(latency_table.parse(f"{header}\n{json.dumps(row)}\n", "t").rows) == [key]
    assert "summed" not in latency_table.row(dataclasses.replace(key, summed=1), median_ms=1.0)
    with pytest.raises(InputError, match="summed"):
        latency_table.parse(f"{header}\n{json.dumps({**row, 'summed': 0})}\n", "t")


def test_derived_network_equals_the_supernet_path(tree_arch, stir):
    net = stir(supernet.Supernet(SMALL, seed=1), seed=2, scale=0.1)
    model = network.assemble(tree_arch, layers=keras.layers)
    net.copy_weights_to(model, tree_arch)
    images = np.random.default_rng(3).normal(size=(8, 8, 8, 3)).astype(np.float32)
    run = tf.function(lambda path: net(images, path), autograph=False)
    np.testing.assert_allclose(run(tf.constant(net.path(tree_arch))), model(images, training=True), atol=2e-3)


def changed(index, **change):
    blocks = list(SMALL.blocks)
    blocks[index] = dataclasses.replace(blocks[index], **change)
    return dataclasses.replace(SMALL, blocks=tuple(blocks))


INDEX = {block.name: number for number, block in enumerate(SMALL.blocks)}


@pytest.mark.parametrize("name, change, message", [
    ("b01/in", {"inputs": ("b01",)}, "earlier block"),  # a cycle
    ("b01/n3", {"inputs": ("b01/n3",)}, "earlier block"),
    ("b01/n3", {"inputs": ("nothing",)}, "earlier block"), ("b01/n3", {"inputs": (7,)}, "earlier block"),
    ("b01/n3", {"inputs": ("b01/n1", "b01/n1")}, "twice"),
    ("b01/n3", {"inputs": ("b01/n1", "stem")}, "no later block|need one shape|as many"),
    ("b01/out", {"inputs": ("b01/left", "stem")}, "need one shape"),
    ("b01/left", {"filters": 17}, "groups"), ("b01/n1", {"filters": 20}, "identity needs as many filters"),
    ("b01/skip", {"filters": 8}, "at least as many"), ("b01/n1", {"strides": 2}, "identity needs"),
    ("b01/out", {"inputs": ("b01/left", "b01/right")}, "no later block reads"),
    ("b01/n1", {"name": "b01_in"}, "twice"), ("b01/n1", {"name": "b01/n1/x"}, "name is a short"),
    ("b01/n1", {"name": "/n1"}, "name is a short"), ("b01/n1", {"inputs": ("stem",) * 17}, "at most 16"),
    ("b01", {"ops": ("join", "zero"), "shortcut": True}, "zero needs")])
def test_what_is_no_network_is_one_line(name, change, message):
    with pytest.raises(InputError, match=message) as error:
        changed(INDEX[name], **change)
    assert "\n" not in str(error.value)


def test_odd_channels_have_no_two_groups():
    with pytest.raises(InputError, match=r"group_k3_g2 needs channels and filters in 2 equal groups, got 9 channels"):
        ops.check("group_k3_g2", "block 'x'", 9, 9, 1)


def test_what_holds_of_chains_alone_is_refused_for_trees():
    with pytest.raises(InputError, match="only for chains of blocks"):
        limits.within_peak(SMALL, limits.PEAK, 1e9, prices.peak_activation_bytes("float32"))
    with pytest.raises(InputError, match="cifar_tree_b2_f88"):
        SMALL.scaled(0.5)


def test_drop_path_leaves_out_residual_branches_in_training_alone(tree_arch):
    model = network.build_network(tree_arch, drop_path=0.6)
    rates = {layer.name: layer.rate for layer in model.layers if "drop_path" in layer.name}
    assert rates == pytest.approx({"b01_join_drop_path0": 0.2, "b02_join_drop_path0": 0.4, "b03_join_drop_path0": 0.6})
    layer = model.get_layer("b03_join_drop_path0")
    x = np.ones((400, 2, 2, 3), np.float32)
    dropped = np.asarray(layer(x, training=True))
    assert set(np.unique(dropped.round(4))) == {0.0, 2.5}  # whole branches, and the others by 1 / 0.4
    assert np.all(dropped.min((1, 2, 3)) == dropped.max((1, 2, 3))) and 0.5 < np.mean(dropped[:, 0, 0, 0] == 0) < 0.7
    np.testing.assert_array_equal(layer(x, training=False), x)
    chain = arch_lib.load("mobilenet_v2")
    names = [layer.name for layer in network.build_network(chain, drop_path=0.2, input_shape=(32, 32, 3)).layers]
    assert sum(name.endswith("_drop_path") for name in names) == sum(block.shortcut for block, _ in chain.blocks())


def test_a_block_may_read_any_earlier_block():
    """An MBConv network with a sum over two blocks, by hand."""
    blocks = (Block("b01", ("mb_k3_e3", "mb_k5_e3"), 8), Block("b02", ("mb_k3_e3",), 8),
              Block("b03", ("join",), 8, inputs=("b02", "stem")))
    space = blocks_lib.Space("long", 8, 3, 4, (Block("stem", ("conv_k3",), 8),), blocks,
                            (Block("classifier", ("classifier",), 4),))
    model = network.build_network(arch_lib.Arch(space, {"b01": "mb_k5_e3"}))
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    outputs = keras.Model(model.input, [model.get_layer(name).output for name in (
        "b02_mb_k3_e3_project_bn", "stem_conv_k3_relu", "b03_join_sum")])(images)
    np.testing.assert_allclose(outputs[0] + outputs[1], outputs[2], atol=1e-6)
