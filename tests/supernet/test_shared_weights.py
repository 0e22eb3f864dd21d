"""Shared weights against the definition of a slice, plain Keras networks and brute force."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnas_tf import network
from pnas_tf.network import evaluate, slicing
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import spaces
from pnas_tf.supernet import shared_weights, supernet
from tests.spaces import SMALL
from tests.supernet.test_supernet import DECAY, LR, MOMENTUM, brute_force_gate_gradients, gate_gradients, weight_step


@pytest.fixture
def net():
    net = supernet.Supernet(SMALL, seed=3, share="kernels")
    random = np.random.default_rng(5)
    for variable in [kernel for mixed_op in net.mixed_ops for shared in mixed_op.shared for kernel in shared.kernels]:
        variable.assign(np.asarray(variable) + 0.1 * random.normal(size=variable.shape))
    return net


@pytest.fixture
def batch():
    random = np.random.default_rng(6)
    return tf.constant(random.normal(size=(16, 8, 8, 3)), tf.float32), tf.constant(random.integers(0, 4, 16), tf.int32)


def layers_of(net, block, op):
    """Weights by layer name without block and op, with batch norm statistics left out."""
    mixed_op = next(each for each in net.mixed_ops if each.block.name == block)
    candidate = mixed_op.candidates[mixed_op.block.ops.index(op)]
    return {name.removeprefix(candidate.prefix): values[:2] for name, values in candidate.layer_weights().items()}


def test_a_slice_is_the_centre_and_the_first_channels():
    kernel = np.arange(5 * 5 * 6).reshape(5, 5, 6, 1)
    assert slicing.cut(kernel, (3, 3, 2, 1))[:, :, 0, 0].tolist() == [
        [36, 42, 48], [66, 72, 78], [96, 102, 108]]
    assert slicing.cut(np.arange(6), (2,)).tolist() == [0, 1]
    assert slicing.cut(np.arange(12).reshape(1, 1, 6, 2), (1, 1, 3, 2)).ravel().tolist() == [0, 1, 2, 3, 4, 5]


def assert_every_op_is_a_slice(net):
    for block in ("b01", "b02"):
        whole = layers_of(net, block, "mb_k7_e6")
        for op in spaces.MB_OPS:
            for name, values in layers_of(net, block, op).items():
                for mine, all_of_it in zip(values, whole[name], strict=True):
                    np.testing.assert_array_equal(mine, slicing.cut(all_of_it, mine.shape), err_msg=op + name)


def test_every_op_is_a_slice_of_the_largest_before_and_after_steps(net, batch):
    assert_every_op_is_a_slice(net)
    before = layers_of(net, "b01", "mb_k7_e6")
    step = tf.function(lambda path: weight_step(net, batch, path), autograph=False)
    for path in ([0, 1, 2, 3], [5, 2, 4, 0], [2, 0, 1, 5]):
        step(tf.constant(path))
    assert_every_op_is_a_slice(net)
    assert np.any(layers_of(net, "b01", "mb_k7_e6")["_expand"][0] != before["_expand"][0])


UIB_OPS = ("uib_s0_m3_e2", "uib_s0_m5_e4", "uib_s5_m0_e2", "uib_s3_m3_e3", "uib_s3_m5_e2", "uib_s0_m0_e4")


@pytest.fixture
def bottlenecks():
    blocks = [dataclasses.replace(block, ops=UIB_OPS[:5] if block.strides > 1 else (*UIB_OPS, "zero"))
              if len(block.ops) > 1 else block for block in SMALL.blocks]
    return supernet.Supernet(dataclasses.replace(SMALL, blocks=tuple(blocks)), seed=3, share="kernels")


def test_bottlenecks_share_weights_with_those_of_the_same_layers(bottlenecks):
    """Four kinds of block have different layers; a kind of which there is one op has its weights to itself."""
    mixed_op = next(each for each in bottlenecks.mixed_ops if each.block.name == "b01")
    assert [tuple(shared.slices) for shared in mixed_op.shared] == [UIB_OPS[:2], UIB_OPS[3:5]]
    # Channels 8 -> 24 -> 8 of uib_s3_m3_e3, and the 5x5 of uib_s3_m5_e2 beyond 3x3 on its 16 channels.
    assert mixed_op.shared[1].weights_count == 9 * 8 + 8 * 24 + 9 * 24 + 24 * 8 + 2 * (8 + 24 + 24 + 8) + 16 * 16


def test_the_supernet_is_as_large_as_its_largest_ops():
    largest = sum(size_of(key) for key in largest_ops(SMALL))
    assert supernet.Supernet(SMALL, share="kernels").count_weights() == largest


def largest_ops(space):
    return [space.op_key(block, "mb_k7_e6" if len(block.ops) > 1 else block.ops[0]) for block in space.all_blocks]


def size_of(key):
    return sum(int(np.prod(v.shape)) for v in network.build_op(key, layers=keras.layers).trainable_variables)


@pytest.mark.parametrize("path", [
    [0, 1, 2, 3], pytest.param([5, 6, 4, 6], marks=pytest.mark.slow)])
def test_weight_step_equals_that_of_a_plain_keras_network(net, batch, path):
    assert_step_is_that_of_keras(net, batch, path)


@pytest.mark.slow
@pytest.mark.parametrize("path", [[0, 4, 3, 5], [1, 2, 0, 3]])
def test_weight_step_of_bottlenecks_equals_that_of_a_plain_keras_network(bottlenecks, batch, path):
    assert_step_is_that_of_keras(bottlenecks, batch, path)


@pytest.mark.slow
def test_a_step_of_mobile_2024_has_the_loss_of_mobilenet_v4():
    """Not compiled: 29 ops in each of 12 choices take minutes to trace."""
    space, small = (each.for_data(64, 3, 2) for each in (
        spaces.SPACES["mobile_2024"], arch_lib.load("mobilenet_v4_conv_small")))
    net, arch = supernet.Supernet(space, seed=3, share="kernels"), arch_lib.Arch(space, small.ops)
    images = tf.constant(np.random.default_rng(0).normal(size=(4, 64, 64, 3)), tf.float32)
    batch = images, tf.constant([0, 1, 1, 0], tf.int32)
    model = network.assemble(arch, layers=keras.layers)
    net.copy_weights_to(model, arch)
    expected = float(evaluate.cross_entropy(batch[1], model(images, training=True)))
    losses = [float(weight_step(net, batch, tf.constant(arch.path))) for _ in range(2)]
    assert losses[0] == pytest.approx(expected, abs=1e-4) and np.isfinite(losses[1]) and losses[1] != losses[0]


def assert_step_is_that_of_keras(net, batch, path):
    arch = net.arch(np.array(path))
    model = network.assemble(arch, layers=keras.layers)
    net.copy_weights_to(model, arch)
    step = tf.function(lambda: weight_step(net, batch, tf.constant(path)), autograph=False)
    velocity = [np.zeros(v.shape) for v in model.trainable_variables]
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = evaluate.cross_entropy(batch[1], model(batch[0], training=True))
        for number, (variable, gradient) in enumerate(
                zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True)):
            gradient = gradient.numpy() + DECAY * variable.numpy()
            velocity[number] = MOMENTUM * velocity[number] + gradient
            variable.assign(variable.numpy() - LR * (gradient + MOMENTUM * velocity[number]))
        assert float(step()) == pytest.approx(float(loss), abs=1e-5)
    twin = network.assemble(arch, layers=keras.layers)
    net.copy_weights_to(twin, arch)
    for mine, plain in zip(twin.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_allclose(mine.numpy(), plain.numpy(), atol=2e-5, err_msg=plain.path)


def test_gate_gradients_equal_brute_force(net, batch):
    pairs = np.array([[0, 1], [6, 2], [3, 5], [1, 6]], np.int32)
    loss, gradients = gate_gradients(net, batch, pairs[:, 0], [[tf.constant(pair[1])] for pair in pairs])
    expected_loss, expected = brute_force_gate_gradients(net, batch, pairs[:, 0])
    assert float(loss) == pytest.approx(float(expected_loss), abs=1e-5)
    for mine, brute, pair in zip(gradients, expected, pairs, strict=True):
        np.testing.assert_allclose(mine, brute.numpy()[pair], atol=1e-5)


def test_what_the_sampled_op_does_not_use_stays_bitwise_unchanged(net, batch):
    for mixed_op in net.mixed_ops:
        for shared in mixed_op.shared:
            for momentum in shared.momenta:
                momentum.assign(np.full(momentum.shape, 0.25))
    before = {block: layers_of(net, block, "mb_k7_e6") for block in ("b01", "b02")}
    stats = [np.asarray(candidate.stats) for candidate in net.mixed_ops[2].candidates if candidate]
    path = np.array([0, 3, 3, 0], np.int32)  # b01: mb_k3_e3, b02: mb_k5_e6
    tf.function(lambda: weight_step(net, batch, tf.constant(path)), autograph=False)()
    after = {block: layers_of(net, block, "mb_k7_e6") for block in ("b01", "b02")}

    filters, old = after["b01"]["_depthwise"][0], before["b01"]["_depthwise"][0]
    half = filters.shape[2] // 2
    changed = filters != old
    assert changed[2:5, 2:5, :half].all()
    changed[2:5, 2:5, :half] = False
    assert not changed.any()
    expand = after["b01"]["_expand"][0] != before["b01"]["_expand"][0]
    assert expand[..., :half].all() and not expand[..., half:].any()
    filters, old = after["b02"]["_depthwise"][0], before["b02"]["_depthwise"][0]
    changed = filters != old
    assert changed[1:6, 1:6].all() and not changed[0].any() and not changed[:, 6].any()
    moved = [not np.array_equal(old, candidate.stats) for old, candidate in
             zip(stats, filter(None, net.mixed_ops[2].candidates), strict=True)]
    assert moved == [op == "mb_k3_e3" for op in spaces.MB_OPS]


def test_weights_of_one_op_can_be_set(net):
    mixed_op = net.mixed_ops[2]
    candidate = mixed_op.candidates[mixed_op.block.ops.index("mb_k5_e3")]
    random = np.random.default_rng(0)
    given = {name: [random.normal(size=value.shape).astype(np.float32) for value in values]
             for name, values in candidate.layer_weights().items()}
    outside = layers_of(net, "b01", "mb_k7_e6")["_depthwise"][0]
    assert candidate.set_layer_weights(given)
    for name, values in candidate.layer_weights().items():
        for mine, theirs in zip(values, given[name], strict=True):
            np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(layers_of(net, "b01", "mb_k7_e6")["_depthwise"][0][0], outside[0])


def test_ops_that_are_no_slices_of_one_another_do_not_share():
    assert shared_weights.can_share([[(3, 3, 8, 1)], [(5, 5, 8, 1)]])
    assert not shared_weights.can_share([[(3, 3, 8, 1)]])
    assert not shared_weights.can_share([[(3, 3, 8, 1)], [(5, 5, 8, 1), (8,)]])
    assert not shared_weights.can_share([[(4, 4, 8, 1)], [(5, 5, 8, 1)]])
    assert not shared_weights.can_share([[(8,)], [(8, 8)]])
