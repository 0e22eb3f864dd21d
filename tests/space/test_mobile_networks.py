"""MobileNetV4 and MnasNet layer by layer against timm, and universal inverted bottlenecks against NumPy."""

import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest

from pnas_tf import network
from pnas_tf.errors import InputError
from pnas_tf.space import arch, ops, shape_layers, spaces
from pnas_tf.space.blocks import OpKey

TIMM = json.loads((Path(__file__).parents[1] / "samples" / "timm_layers.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", [
    "mobilenet_v4_conv_small", pytest.param("mobilenet_v4_conv_medium", marks=pytest.mark.slow),
    pytest.param("mnasnet_b1", marks=pytest.mark.slow)])
def test_networks_are_those_of_timm_layer_by_layer(name):
    model, timm = network.build_network(name, input_shape=(224, 224, 3)), TIMM[name]
    ours = [layer for layer in model.layers if hasattr(layer, "kernel")]
    assert [layer_of(layer) for layer in ours] == [tuple(map(tuple, layer)) for layer in timm["layers"]]
    assert network.count_params(model) == timm["params"]
    assert network.count_macs(model) == timm["macs"]
    # The sums of the recorded layers; each has batch norm but the last, which has a bias.
    weights, outputs = zip(*timm["layers"], strict=True)
    norms = sum(2 * output[0] for output in outputs[:-1]) + outputs[-1][0]
    assert timm["params"] == sum(map(math.prod, weights)) + norms
    assert timm["macs"] == sum(math.prod(weight) * math.prod(output[1:])
                               for weight, output in zip(weights, outputs, strict=True))


def layer_of(layer):
    """Shapes of a layer's kernel and output, with the axes in PyTorch's order."""
    kernel, output = layer.kernel.shape, layer.output.shape[1:]
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return (kernel[2], 1, *kernel[:2]), (output[2], *output[:2])
    if isinstance(layer, keras.layers.Conv2D):
        return (kernel[3], kernel[2], *kernel[:2]), (output[2], *output[:2])
    return kernel[::-1], output


@pytest.mark.parametrize("name, giga_macs, params", [
    # Table 5 of the paper: 3.8M and 0.2G; 9.2M, 1.0G at 256 pixels. Its authors' code has 9.7M parameters in Conv-M.
    ("mobilenet_v4_conv_small", 0.186, 3_774_024), ("mobilenet_v4_conv_medium", 1.080, 9_715_512),
    ("mnasnet_b1", 0.314, 4_383_312)])
def test_counts_at_the_image_size_of_the_paper(name, giga_macs, params):
    counts = [shape_layers.count(key) for _, key in arch.load(name).op_keys()]
    assert round(sum(count.macs for count in counts) / 1e9, 3) == giga_macs
    assert sum(count.params for count in counts) == params


def test_conv_small_is_a_network_of_mobile_2024():
    small, space = arch.load("mobilenet_v4_conv_small"), spaces.SPACES["mobile_2024"]
    assert arch.Arch(space, small.ops).fingerprint() == small.fingerprint()
    assert len(space.choices) == 12 and sum("zero" in block.ops for block in space.choices.values()) == 10


def test_conv_medium_is_a_network_of_mobile_2024_medium():
    medium, space = arch.load("mobilenet_v4_conv_medium"), spaces.SPACES["mobile_2024_medium"]
    found = arch.Arch(space, {block.name: op for block, op in medium.blocks() if block.name in space.choices})
    assert found.fingerprint() == medium.fingerprint()
    assert len(space.choices) == 21 and sum("zero" in choice.ops for choice in space.choices.values()) == 18
    wide = spaces.load("mobile_2024_medium_widths")
    assert arch.from_path(wide, found.path_in(wide)).fingerprint() == medium.fingerprint()


def test_a_choice_that_strides_offers_no_block_without_depthwise():
    for name in ("mobile_2024", "cifar_uib"):
        for block in spaces.SPACES[name].all_blocks:
            assert len(block.ops) == 1 or any(op.startswith("uib_s0_m0_") for op in block.ops) == (block.strides == 1)


def test_cifar_uib_has_the_blocks_of_cifar_mb():
    ours, other = ([(block.name, block.filters, block.strides, block.shortcut) for block in space.all_blocks]
                   for space in (spaces.SPACES["cifar_uib"], spaces.SPACES["cifar_mb"]))
    assert ours == other


@pytest.mark.parametrize("op", ["uib_s3_m3", "uib_s1_m3_e4", "uib_s3_m7_e4", "uib_s3_m3_e7", "uib_m3_s3_e4",
                                "mlpclassifier_h12", "mlpclassifier"])
def test_what_is_no_op_is_refused(op):
    with pytest.raises(InputError):
        ops.parse(op)


def test_a_block_without_depthwise_cannot_stride():
    with pytest.raises(InputError, match=r"uib_s0_m0_e4 needs stride 1, as it has no depthwise convolution"):
        ops.check("uib_s0_m0_e4", "block 'b01'", 8, 16, 2)
    ops.check("uib_s0_m0_e4", "block 'b01'", 8, 16, 1)


@pytest.mark.parametrize("op, strides", [
    ("uib_s5_m3_e2", 2), ("uib_s3_m0_e3", 2), ("uib_s0_m5_e2", 1), ("uib_s0_m0_e2", 1)])
def test_bottleneck_computes_what_numpy_does(op, strides):
    values, random = ops.parse(op)[1], np.random.default_rng(0)
    model = network.build_op(OpKey(op, (6, 6, 8), 16, strides, False))
    model.set_weights([np.abs(value) + 0.1 if "variance" in weight.name else value for weight, value in zip(
        model.weights, (random.normal(size=weight.shape) for weight in model.weights), strict=True)])
    weights = {layer.name.removeprefix(op + "_"): layer.get_weights() for layer in model.layers}
    images = random.normal(size=(2, 6, 6, 8)).astype(np.float32)
    x = images
    if values["s"]:  # no activation after it
        x = depthwise(x, weights, "start", strides if not values["m"] else 1)
    x = np.maximum(normed(x @ weights["expand"][0][0, 0], weights, "expand"), 0)
    if values["m"]:
        x = np.maximum(depthwise(x, weights, "depthwise", strides), 0)
    x = normed(x @ weights["project"][0][0, 0], weights, "project")
    np.testing.assert_allclose(model(images, training=False), x, rtol=1e-3, atol=1e-3)
    assert not any(key for key in weights if "start_relu" in key)


def normed(x, weights, name):
    gamma, beta, mean, variance = weights[f"{name}_bn"]
    return gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta


def depthwise(x, weights, name, strides):
    """Depthwise convolution with SAME padding, tap by tap, then batch norm."""
    kernel = weights[name][0][..., 0]
    side, k = x.shape[1], len(kernel)
    out = -(-side // strides)
    total = max((out - 1) * strides + k - side, 0)
    padded = np.pad(x, ((0, 0), *((total // 2, total - total // 2),) * 2, (0, 0)))
    stop = (out - 1) * strides + 1
    y = sum(padded[:, row:row + stop:strides, column:column + stop:strides] * kernel[row, column]
            for row in range(k) for column in range(k))
    return normed(y, weights, name)
