"""Fast layers against the backend's own gradients."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnas_tf.network import layers as fast_layers
from pnas_tf.supernet import pure_layers


@pytest.mark.parametrize("side", [3, 5, 7])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("size", [4, 7, 8, 13])
def test_depthwise_gradients_equal_those_of_the_backend(size, strides, side):
    rng = np.random.default_rng(size)
    x = tf.constant(rng.normal(size=(3, size, size, 5)), tf.float32)
    kernel = tf.constant(rng.normal(size=(side, side, 5, 1)), tf.float32)
    results = []
    for convolve in (lambda x, k: fast_layers.depthwise_conv(x, k, strides),
                     lambda x, k: tf.nn.depthwise_conv2d(x, k, [1, strides, strides, 1], "SAME")):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = convolve(x, kernel)
            loss = tf.reduce_sum(tf.sin(y))
        results.append([y, *tape.gradient(loss, [x, kernel])])
    for fast, plain in zip(*results, strict=True):
        np.testing.assert_allclose(fast, plain, atol=1e-4)


@pytest.mark.parametrize(("groups", "settings"), [
    (1, {"dilation_rate": 2}), (2, {}), (2, {"strides": 2}), (2, {"padding": "valid", "strides": 2}),
    (2, {"dilation_rate": (1, 2)}), (8, {})])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_convolutions_in_groups_equal_dense_ones_with_zeros(groups, settings, dtype):
    """All numbers are -1, 0 or 1 and sums have at most 162 terms: integers that every type holds exactly."""
    rng, channels, filters = np.random.default_rng(groups), 8, 16

    def integers(*shape):
        return tf.constant(rng.integers(-1, 2, shape), dtype)

    x = integers(2, 9, 9, channels)
    layer = fast_layers.Conv2D(filters, 3, groups=groups, use_bias=False, **{"padding": "same", **settings})
    layer.build(x.shape)
    kernel = integers(*layer.kernel.shape)
    upstream = tf.cast(integers(*layer.compute_output_shape(x.shape)), tf.float32)
    in_group = np.arange(channels)[:, None] * groups // channels == np.arange(filters) * groups // filters
    dense = tf.constant(np.tile(tf.cast(kernel, tf.float32), (1, 1, groups, 1)) * in_group, tf.float32)

    def trained(convolve, kernel):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = convolve(kernel)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) * upstream)
        return [tf.cast(each, tf.float32) for each in (y, *tape.gradient(loss, [x, kernel]))]

    how = {"strides": list(layer.strides), "padding": layer.padding.upper(), "dilations": list(layer.dilation_rate)}
    y, x_gradient, kernel_gradient = trained(
        lambda kernel: tf.nn.convolution(tf.cast(x, tf.float32), kernel, **how), dense)
    by_group = tf.reshape(kernel_gradient * in_group, (3, 3, groups, channels // groups, filters))
    expected = y, x_gradient, tf.reduce_sum(by_group, 2)
    pure = pure_layers.pure_layer(layer)
    for convolve in (lambda kernel: pure.run([kernel], [], x)[0], lambda kernel: layer.convolution_op(x, kernel)):
        for ours, right in zip(trained(convolve, kernel), expected, strict=True):
            np.testing.assert_allclose(ours, right, atol=1e-4)


@pytest.mark.parametrize("onednn", ["0", "1"])
def test_convolutions_train_with_and_without_onednn(onednn):
    """By itself, TensorFlow uses oneDNN on newer CPUs alone."""
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "equal_dense_ones", __file__],
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": onednn}, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stdout


def test_layer_falls_back_where_the_function_does_not_apply():
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)
    for kwargs in ({"use_bias": True}, {"activation": "relu"}, {"padding": "valid"}, {"dilation_rate": 2},
                   {"depth_multiplier": 2}):
        kwargs = {"padding": "same", "use_bias": False, **kwargs}
        layer = fast_layers.DepthwiseConv2D(5, **kwargs)
        stock = keras.layers.DepthwiseConv2D(5, **kwargs)
        stock.build(x.shape)
        layer.build(x.shape)
        stock.set_weights(layer.get_weights())
        np.testing.assert_array_equal(layer(x), stock(x))


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("size", [4, 7])
def test_max_pool_gradient_equals_that_of_the_backend(size, padding, strides):
    x = tf.constant(np.random.default_rng(size).integers(0, 4, (3, size, size, 5)), tf.float32)  # with many ties
    results = []
    for pool in (fast_layers.max_pool, tf.nn.max_pool2d):
        @tf.function(autograph=False)
        def pooled(x, pool=pool):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = pool(x, [3, 3], [strides, strides], padding)
                loss = tf.reduce_sum(tf.sin(y + tf.range(y.shape[1], dtype=tf.float32)[:, None, None]))
            return y, tape.gradient(loss, x)

        results.append(pooled(x))
    for fast, plain in zip(*results, strict=True):
        np.testing.assert_allclose(fast, plain, rtol=1e-6)
