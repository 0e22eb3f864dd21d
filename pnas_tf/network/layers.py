"""Namespaces of layers to build networks from. Pass one as `layers=` to `network.build_network`.

    this module                 `keras.layers`, with faster layers in place of those that train slowly on TensorFlow
    PyTorchPadded(layers)       any namespace, with the padding of PyTorch at stride 2 (published weights need it)
    Typed(layers, precision)    any namespace, computing in another type (`--precision`)

They nest: `PyTorchPadded(Typed(layers, "mixed_bfloat16"))`. A name that a namespace does not define is looked up in
the namespace that it wraps; this module wraps `keras.layers`. The faster layers have the same weights and results as
the stock Keras layers that they extend, and Keras saves and clones them as those.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Largest side of a feature map for which `filter_gradient_small` computes the filter gradient.
SMALL_SIDE = 7
# Ending of the names of `PyTorchPadded`'s padding layers.
SUFFIX = "_pad"


def __getattr__(name: str):
    return getattr(keras.layers, name)


class SavedAsStock:
    """First base of a faster layer, whose second base is the stock layer that it extends.

    Keras asks an object for its `__class__` when it saves or clones it, and gets the stock class. So a file names no
    class of this package, whatever model the layer is part of. `type` and `isinstance` still tell the faster layer.
    """

    @property  # type: ignore[misc]  # Keras only reads it
    def __class__(self):
        return type(self).__bases__[1]


class BatchNormalization(SavedAsStock, keras.layers.BatchNormalization):
    """Batch norm that uses TensorFlow's fused kernel in training too.

    Keras 3 on TensorFlow computes moments and normalisation as separate ops in training, which makes a whole step of
    an MBConv network 1.3 times slower. Weights and inference are the same. The moving variance is updated with the
    unbiased batch variance, as in the original; stock Keras uses the biased variance.
    """

    def call(self, inputs, training=None, mask=None):
        fused = training and self.trainable and mask is None and len(inputs.shape) == 4 and self.axis in (-1, 3)
        if not (fused and self.scale and self.center) or getattr(self, "renorm", False):  # Keras 3.13 has none
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = fused_batch_norm(inputs, keras.ops.convert_to_tensor(self.gamma, "float32"),
                                                   keras.ops.convert_to_tensor(self.beta, "float32"), self.epsilon)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs


class Conv2D(SavedAsStock, keras.layers.Conv2D):
    """Convolution that runs groups in TensorFlow's own kernels. Keras uses XLA's, ten times slower on a CPU."""

    def convolution_op(self, inputs, kernel):
        if self.groups == 1 or self.data_format != "channels_last":
            return super().convolution_op(inputs, kernel)
        return conv(inputs, tf.convert_to_tensor(kernel), self.strides, self.padding, self.dilation_rate)


class DepthwiseConv2D(SavedAsStock, keras.layers.DepthwiseConv2D):
    """Depthwise convolution with the gradients of `depthwise_conv`, which are faster on a CPU for kernels above 3x3."""

    @property
    def is_plain(self) -> bool:
        """Whether `depthwise_conv` computes this layer: SAME padding, square, no bias, no activation, no dilation."""
        return self._is_bare and set(self.dilation_rate) == {1}

    @property
    def is_dilated(self) -> bool:
        """Whether the layer is plain except for its dilation."""
        return self._is_bare and set(self.dilation_rate) != {1} and set(self.strides) == {1}

    @property
    def _is_bare(self):
        return (self.depth_multiplier == 1 and not self.use_bias and self.activation is keras.activations.linear
                and self.data_format == "channels_last" and self.padding == "same"
                and len({*self.strides}) == len({*self.kernel_size}) == 1)

    def call(self, inputs):
        if not self.is_plain:
            return super().call(inputs)
        # Converted to a tensor here, because a custom gradient must not see the variable.
        kernel = tf.convert_to_tensor(keras.ops.convert_to_tensor(self.kernel, inputs.dtype))
        return depthwise_conv(inputs, kernel, self.strides[0])


def fused_batch_norm(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tuple[tf.Tensor, ...]:
    """Batch norm by the statistics of the batch: `gamma * (x - mean) / sqrt(variance + epsilon) + beta`.

    Args:
        x: Input [batch, height, width, channels], float32, bfloat16 or float16.
        gamma: Scale, float32 [channels].
        beta: Offset, float32 [channels].
        epsilon: Number added to the variance.

    Returns:
        The output, like x; the batch mean, float32 [channels]; the unbiased batch variance, float32 [channels].
    """
    nothing = tf.zeros([0])
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=nothing, variance=nothing, epsilon=epsilon, is_training=True,
        exponential_avg_factor=1.0)
    return outputs, mean, variance


def conv(x: tf.Tensor, kernel: tf.Tensor, strides: Sequence[int], padding: str, dilations: Sequence[int]) -> tf.Tensor:
    """Convolution, in as many groups as the channels of x have the depth of the kernel.

    On a CPU, only oneDNN has gradients of convolutions in groups, and it computes in half precision on few CPUs.
    Without it, each group is a convolution of its own.

    Args:
        x: Input [batch, height, width, channels].
        kernel: Filter [k, k, channels / groups, filters], of x's type.
        strides: Stride in height and in width.
        padding: "same" or "valid", in any case.
        dilations: Dilation in height and in width.

    Returns:
        Output [batch, out height, out width, filters].
    """
    groups = x.shape[-1] // kernel.shape[2]
    is_dilated = set(dilations) != {1}
    if groups > 1 and (is_dilated or not _has_gradients_of_groups(x.dtype)):
        parts = zip(tf.split(x, groups, -1), tf.split(kernel, groups, -1), strict=True)
        return tf.concat([conv(part, filters, strides, padding, dilations) for part, filters in parts], -1)
    convolve = tf.nn.convolution if is_dilated else tf.nn.conv2d  # conv2d needs oneDNN for gradients of dilated ones
    return convolve(x, kernel, list(strides), padding.upper(), dilations=list(dilations))


@functools.cache
def _has_gradients_of_groups(dtype: tf.DType) -> bool:
    """Whether TensorFlow's convolution in groups can be trained in a type on this machine's default device."""
    with tf.init_scope():
        try:
            tf.raw_ops.Conv2DBackpropInput(input_sizes=[1, 1, 1, 4], filter=tf.zeros([1, 1, 2, 4], dtype),
                                           out_backprop=tf.zeros([1, 1, 1, 4], dtype), strides=[1, 1, 1, 1],
                                           padding="SAME")
        except tf.errors.OpError:
            return False
    return True


def depthwise_conv(x: tf.Tensor, kernel: tf.Tensor, strides: int) -> tf.Tensor:
    """Depthwise convolution with SAME padding.

    On a CPU, the backend's filter gradient takes 10 to 20 times as long for 5x5 and 7x7 as for 3x3. Two exact
    replacements are used, each where it is faster (measured by benchmarks/speed/depthwise_gradient.py):
    `filter_gradient_small` on small feature maps and `filter_gradient` on others.

    Args:
        x: Input [batch, height, width, channels].
        kernel: Filter [k, k, channels, 1], of x's type.
        strides: Stride in height and width, 1 or more.

    Returns:
        Output [batch, ceil(height / strides), ceil(width / strides), channels].
    """
    steps = [1, strides, strides, 1]
    side = kernel.shape[0]
    is_square = x.shape[1] is not None and x.shape[1] == x.shape[2]
    if side <= 3 or side % 2 == 0 or not is_square or x.dtype != tf.float32 or tf.config.list_physical_devices("GPU"):
        return tf.nn.depthwise_conv2d(x, kernel, steps, "SAME")

    @tf.custom_gradient
    def convolve(x, kernel):
        def gradient(upstream):
            if strides == 1:
                # At stride 1, the input gradient is a convolution with the kernel reversed in both directions.
                x_gradient = tf.nn.depthwise_conv2d(upstream, tf.reverse(kernel, [0, 1]), steps, "SAME")
            else:
                x_gradient = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                    input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream, strides=steps, padding="SAME")
            is_small = x.shape[1] <= SMALL_SIDE
            return x_gradient, (filter_gradient_small if is_small else filter_gradient)(x, upstream, side, strides)

        return tf.nn.depthwise_conv2d(x, kernel, steps, "SAME"), gradient

    return convolve(x, kernel)


def max_pool(x: tf.Tensor, size: Sequence[int], strides: Sequence[int], padding: str) -> tf.Tensor:
    """Max pooling whose backward pass pools once more.

    On a CPU, oneDNN's fast gradient kernel is used only if the pooling is in the same graph as its gradient. In a
    branch of the supernet, the two are in different graphs, so the backward pass repeats the pooling.

    Args:
        x: Input [batch, height, width, channels].
        size: Height and width of the window.
        strides: Stride in height and in width.
        padding: "SAME" or "VALID".

    Returns:
        Output [batch, pooled height, pooled width, channels].
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
    """Returns x, but not before `upstream` is computed. Use it in a backward pass that computes something again.

    Without this order, TensorFlow repeats the computation for every block as soon as x is known, and holds all results
    in memory. The function has no effect inside a branch.

    Args:
        upstream: Gradient that the backward pass starts from.
        x: Tensor that the backward pass needs.
    """
    with tf.control_dependencies([upstream]):
        return tf.stop_gradient(tf.identity(x))


def filter_gradient(x: tf.Tensor, upstream: tf.Tensor, side: int, strides: int) -> tf.Tensor:
    """Gradient of a depthwise filter, with SAME padding written as explicit amounts.

    For explicit padding TensorFlow uses another kernel, which is faster above 3x3.

    Args:
        x: Input of the convolution [batch, height, height, channels].
        upstream: Gradient of its output [batch, out, out, channels].
        side: Height and width of the filter.
        strides: Stride in height and width.

    Returns:
        Gradient [side, side, channels, 1].
    """
    before, behind = _same_padding(x.shape[1], side, strides)
    return tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
        input=x, filter_sizes=[side, side, x.shape[3], 1], out_backprop=upstream, strides=[1, strides, strides, 1],
        padding="EXPLICIT", explicit_paddings=[0, 0, before, behind, before, behind, 0, 0])


def filter_gradient_small(x: tf.Tensor, upstream: tf.Tensor, side: int, strides: int) -> tf.Tensor:
    """Gradient of a depthwise filter on a small feature map; arguments and result as for `filter_gradient`.

    For each channel, one matrix product multiplies every input position with every output position. The products that
    belong to one filter tap are then added up.
    """
    height, channels, out = x.shape[1], x.shape[3], upstream.shape[1]
    inputs = tf.transpose(tf.reshape(x, [-1, height * height, channels]), [2, 1, 0])
    outputs = tf.transpose(tf.reshape(upstream, [-1, out * out, channels]), [2, 0, 1])
    products = tf.reshape(tf.matmul(inputs, outputs), [channels, height * height * out * out])
    # taps[y, i, a] = 1 where output row i reads input row y through filter row a; the same holds for columns.
    row, position, tap = np.ogrid[:height, :out, :side]
    taps = (row == position * strides + tap - _same_padding(height, side, strides)[0]).astype(np.float32)
    diagonals = np.einsum("yia,zjb->yzijab", taps, taps).reshape(-1, side * side)
    return tf.reshape(tf.transpose(tf.matmul(products, diagonals)), [side, side, channels, 1])


def _same_padding(size, side, strides):
    total = max((-(-size // strides) - 1) * strides + side - size, 0)
    return total // 2, total - total // 2


class PyTorchPadded:
    """Namespace of layers that pads strided convolutions as PyTorch does: k // 2 on every side.

    At stride 2, Keras' SAME padding may differ between the two sides, so such a convolution becomes a ZeroPadding2D
    and a convolution with VALID padding. At stride 1 both paddings are the same.
    """

    def __init__(self, layers: Any):
        """
        Args:
            layers: Namespace to construct layers from, such as `keras.layers`.
        """
        self._layers = layers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layers, name)

    def Conv2D(self, filters: int, kernel_size: int, *, strides: int = 1, name: str, **arguments: Any) -> Callable:
        """Convolution with SAME padding at stride 1 and k // 2 on every side at other strides."""
        return self._padded(self._layers.Conv2D, (filters, kernel_size), kernel_size, strides, name, arguments)

    def DepthwiseConv2D(self, kernel_size: int, *, strides: int = 1, name: str, **arguments: Any) -> Callable:
        """Depthwise convolution with SAME padding at stride 1 and k // 2 on every side at other strides."""
        return self._padded(self._layers.DepthwiseConv2D, (kernel_size,), kernel_size, strides, name, arguments)

    def _padded(self, layer, positional, kernel_size, strides, name, arguments):
        if strides == 1 or kernel_size == 1:
            return layer(*positional, strides=strides, name=name, **arguments)
        pad = self._layers.ZeroPadding2D(kernel_size // 2, name=name + SUFFIX)
        convolution = layer(*positional, strides=strides, name=name, **{**arguments, "padding": "valid"})
        return lambda x: convolution(pad(x))


def is_pytorch_padded(model: Any) -> bool:
    """Whether a model was built with `PyTorchPadded` layers."""
    return any(layer.name.endswith(SUFFIX) for layer in model.layers)


class Typed:
    """Namespace of layers that compute in another type. Weights and the classifier stay float32."""

    def __init__(self, layers: Any, precision: str):
        """
        Args:
            layers: Namespace to construct layers from, such as this module.
            precision: Name of a Keras policy, such as `mixed_bfloat16`.
        """
        self._layers, self._precision = layers, precision

    def __getattr__(self, name: str) -> Any:
        if name == "Input":
            return self._layers.Input
        layer = getattr(self._layers, name)
        return lambda *args, **kwargs: layer(*args, **{"dtype": self._precision, **kwargs})
