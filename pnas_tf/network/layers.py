"""`keras.layers` with the layers that train slowly on TensorFlow replaced by faster equals.

Pass this module as `layers=` wherever a namespace of layers is asked for. Every name that it does not
define is the one of `keras.layers`. `network.portable` turns a model back into stock layers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Up to this side of a map the filter gradient goes by one matrix product for each channel.
SMALL_SIDE = 7


def __getattr__(name: str):
    return getattr(keras.layers, name)


@keras.saving.register_keras_serializable(package="pnas_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch norm by the fused kernel in training too.

    Keras 3 on TensorFlow computes moments and normalisation as separate ops when training, which makes a
    whole step of an MBConv network 1.3 times slower. Same weights, same inference. The moving variance
    takes the unbiased batch variance, as in the original (Keras takes the biased one).
    """

    def call(self, inputs, training=None, mask=None):
        fused = training and self.trainable and mask is None and len(inputs.shape) == 4 and self.axis in (-1, 3)
        if not (fused and self.scale and self.center):
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = fused_batch_norm(inputs, keras.ops.convert_to_tensor(self.gamma, "float32"),
                                                   keras.ops.convert_to_tensor(self.beta, "float32"), self.epsilon)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs


def fused_batch_norm(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tuple[tf.Tensor, ...]:
    """Normalises by the statistics of the batch.

    Args:
        x: [batch, height, width, channels], float32, bfloat16 or float16.
        gamma: float32 [channels].
        beta: float32 [channels].
        epsilon: added to the variance.

    Returns:
        The normalised x, and float32 [channels] each: batch mean, unbiased batch variance.
    """
    nothing = tf.zeros([0])
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=nothing, variance=nothing, epsilon=epsilon, is_training=True,
        exponential_avg_factor=1.0)
    return outputs, mean, variance


@keras.saving.register_keras_serializable(package="pnas_tf")
class Conv2D(keras.layers.Conv2D):
    """Convolution whose groups run in TensorFlow's own kernel; Keras takes XLA's, ten times slower on a CPU."""

    def convolution_op(self, inputs, kernel):
        if self.groups == 1 or self.data_format != "channels_last":
            return super().convolution_op(inputs, kernel)
        return tf.nn.conv2d(inputs, tf.convert_to_tensor(kernel), list(self.strides), self.padding.upper(),
                            dilations=list(self.dilation_rate))


@keras.saving.register_keras_serializable(package="pnas_tf")
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Depthwise convolution with the gradients of `depthwise_conv`, which are faster on a CPU above 3x3."""

    @property
    def is_plain(self) -> bool:
        """Whether `depthwise_conv` computes this layer: SAME, square, no bias, activation or dilation."""
        return self._is_bare and set(self.dilation_rate) == {1}

    @property
    def is_dilated(self) -> bool:
        """Whether it is a plain one but for its dilation."""
        return self._is_bare and set(self.dilation_rate) != {1} and set(self.strides) == {1}

    @property
    def _is_bare(self):
        return (self.depth_multiplier == 1 and not self.use_bias and self.activation is keras.activations.linear
                and self.data_format == "channels_last" and self.padding == "same"
                and len({*self.strides}) == len({*self.kernel_size}) == 1)

    def call(self, inputs):
        if not self.is_plain:
            return super().call(inputs)
        # Read first: a custom gradient may not see the variable itself.
        kernel = tf.convert_to_tensor(keras.ops.convert_to_tensor(self.kernel, inputs.dtype))
        return depthwise_conv(inputs, kernel, self.strides[0])


def depthwise_conv(x: tf.Tensor, kernel: tf.Tensor, strides: int) -> tf.Tensor:
    """Depthwise convolution with SAME padding.

    The backend's filter gradient takes 10 to 20 times as long for 5x5 and 7x7 as for 3x3 on a CPU. Two exact ways
    round it, each where it was measured to win (benchmarks/depthwise_gradient.py): explicit padding, which takes
    another kernel, and on small maps the product of all positions with all positions, summed along its diagonals.

    Args:
        x: [batch, height, width, channels].
        kernel: [k, k, channels, 1], of x's type.
        strides: 1 or more.

    Returns:
        [batch, ceil(height / strides), ceil(width / strides), channels].
    """
    steps = [1, strides, strides, 1]
    side = kernel.shape[0]
    known = x.shape[1] is not None and x.shape[1] == x.shape[2]
    if side <= 3 or side % 2 == 0 or not known or x.dtype != tf.float32 or tf.config.list_physical_devices("GPU"):
        return tf.nn.depthwise_conv2d(x, kernel, steps, "SAME")

    @tf.custom_gradient
    def convolve(x, kernel):
        def gradient(upstream):
            if strides == 1:
                # The transposed convolution is one with the kernel turned round.
                x_gradient = tf.nn.depthwise_conv2d(upstream, tf.reverse(kernel, [0, 1]), steps, "SAME")
            else:
                x_gradient = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                    input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream, strides=steps, padding="SAME")
            small = x.shape[1] <= SMALL_SIDE
            return x_gradient, (filter_gradient_small if small else filter_gradient)(x, upstream, side, strides)

        return tf.nn.depthwise_conv2d(x, kernel, steps, "SAME"), gradient

    return convolve(x, kernel)


def max_pool(x: tf.Tensor, size: Sequence[int], strides: Sequence[int], padding: str) -> tf.Tensor:
    """Max pooling whose gradient stands on its own.

    On a CPU, oneDNN's fast kernel for the gradient is only taken where the pooling is in the same graph, which it is
    not if a branch of the supernet ran it: so the backward pass pools once more.

    Args:
        x: [batch, height, width, channels].
        size: of the window in height and width.
        strides: in height and width.
        padding: SAME or VALID.

    Returns:
        [batch, pooled height, pooled width, channels].
    """
    window = {"ksize": [1, *size, 1], "strides": [1, *strides, 1], "padding": padding}

    @tf.custom_gradient
    def pool(x):
        def gradient(upstream):
            again = after(upstream, x)
            return tf.raw_ops.MaxPoolGrad(orig_input=again, orig_output=tf.raw_ops.MaxPool(input=again, **window),
                                          grad=upstream, **window)

        return tf.raw_ops.MaxPool(input=x, **window), gradient

    return pool(x)


def after(upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """x, not before upstream is there.

    Without it TensorFlow runs what belongs to the backward pass of every block as soon as x is known, and
    keeps all of it. It has no effect inside a branch.
    """
    with tf.control_dependencies([upstream]):
        return tf.stop_gradient(tf.identity(x))


def filter_gradient(x: tf.Tensor, upstream: tf.Tensor, side: int, strides: int) -> tf.Tensor:
    """Gradient [side, side, channels, 1] of a depthwise filter, by explicit padding (SAME's own amounts)."""
    before, after = _same_padding(x.shape[1], side, strides)
    return tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
        input=x, filter_sizes=[side, side, x.shape[3], 1], out_backprop=upstream, strides=[1, strides, strides, 1],
        padding="EXPLICIT", explicit_paddings=[0, 0, before, after, before, after, 0, 0])


def filter_gradient_small(x: tf.Tensor, upstream: tf.Tensor, side: int, strides: int) -> tf.Tensor:
    """As `filter_gradient`: products of all positions with all positions for each channel, summed along diagonals."""
    height, channels, out = x.shape[1], x.shape[3], upstream.shape[1]
    inputs = tf.transpose(tf.reshape(x, [-1, height * height, channels]), [2, 1, 0])
    outputs = tf.transpose(tf.reshape(upstream, [-1, out * out, channels]), [2, 0, 1])
    products = tf.reshape(tf.matmul(inputs, outputs), [channels, height * height * out * out])
    # taps[y, i, a] = 1 where output row i reads input row y through kernel row a.
    row, position, tap = np.ogrid[:height, :out, :side]
    taps = (row == position * strides + tap - _same_padding(height, side, strides)[0]).astype(np.float32)
    diagonals = np.einsum("yia,zjb->yzijab", taps, taps).reshape(-1, side * side)
    return tf.reshape(tf.transpose(tf.matmul(products, diagonals)), [side, side, channels, 1])


def _same_padding(size, side, strides):
    total = max((-(-size // strides) - 1) * strides + side - size, 0)
    return total // 2, total - total // 2

SUFFIX = "_pad"


class PyTorchPadded:
    """Pass it as `layers=`: strided convolutions become explicit padding and a convolution without."""

    def __init__(self, layers: Any):
        """Wraps a namespace such as `keras.layers`."""
        self._layers = layers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layers, name)

    def Conv2D(self, filters: int, kernel_size: int, *, strides: int = 1, name: str, **arguments: Any) -> Callable:
        """As the layer of that name, SAME padding at stride 1 and k // 2 at others."""
        return self._padded(self._layers.Conv2D, (filters, kernel_size), kernel_size, strides, name, arguments)

    def DepthwiseConv2D(self, kernel_size: int, *, strides: int = 1, name: str, **arguments: Any) -> Callable:
        """As the layer of that name, SAME padding at stride 1 and k // 2 at others."""
        return self._padded(self._layers.DepthwiseConv2D, (kernel_size,), kernel_size, strides, name, arguments)

    def _padded(self, layer, positional, kernel_size, strides, name, arguments):
        if strides == 1 or kernel_size == 1:
            return layer(*positional, strides=strides, name=name, **arguments)
        pad = self._layers.ZeroPadding2D(kernel_size // 2, name=name + SUFFIX)
        convolution = layer(*positional, strides=strides, name=name, **{**arguments, "padding": "valid"})
        return lambda x: convolution(pad(x))


def is_pytorch_padded(model: Any) -> bool:
    """Whether a model was built with these layers."""
    return any(layer.name.endswith(SUFFIX) for layer in model.layers)

class Typed:
    """A namespace of layers that compute in another type: pass it as `layers=`.

    Weights and the classifier stay float32.
    """

    def __init__(self, layers: Any, precision: str):
        """Wraps a namespace such as `fast_layers` with a Keras policy, `mixed_bfloat16` or another."""
        self._layers, self._precision = layers, precision

    def __getattr__(self, name: str) -> Any:
        if name == "Input":
            return self._layers.Input
        layer = getattr(self._layers, name)
        return lambda *args, **kwargs: layer(*args, **{"dtype": self._precision, **kwargs})
