"""Keras layers in training mode as pure functions: weights, statistics and input go in, output and statistics come out.

A candidate op of the supernet (`candidate.py`) keeps the weights of all its layers in one flat vector. Its layers are
therefore functions of slices of that vector, and own no variables. The table `_FUNCTIONS` at the end has a direct
function for each layer that the shipped ops use; all other layers run through Keras' own `stateless_call`, which gives
the same result with more nodes in the graph.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnas_tf.network import layers as fast_layers

# (weights, statistics, x) -> (y, observed statistics), for a layer in training mode.
LayerFunction = Callable[[list[tf.Tensor], list[tf.Tensor], Any], tuple[tf.Tensor, list[tf.Tensor]]]
# The values of a layer's trainable and of its non-trainable variables.
LayerValues = tuple[list[np.ndarray], list[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class PureLayer:
    """A layer of an op, without variables.

    Attributes:
        name: Name of the layer, the same as in the derived network.
        run: The layer in training mode as a pure function.
        weight_shapes: Shapes of the layer's trainable variables.
        stat_shapes: Shapes of its non-trainable variables.
        stat_rate: Step of the statistics towards the observed values: `stat += stat_rate * (observed -
            stat)`. It is 1 if `run` computes the new statistics from the old ones, 0 if it uses them as they are.
        draw: Function that draws initial values for another such layer; None if a layer has to be built for them.
    """

    name: str
    run: LayerFunction
    weight_shapes: tuple[tuple[int, ...], ...]
    stat_shapes: tuple[tuple[int, ...], ...]
    stat_rate: float
    draw: Callable[[], LayerValues] | None

    @property
    def reads_stats(self) -> bool:
        """Whether `run` needs the old statistics; batch norm by the statistics of the batch does not."""
        return bool(self.stat_shapes) and self.stat_rate in (0.0, 1.0)


def pure_layer(layer: keras.layers.Layer, frozen: bool = False) -> PureLayer:
    """Describes a built layer as a pure function.

    Args:
        layer: A layer that has been called once; the result does not use its variables.
        frozen: Whether batch norm keeps its statistics, scales and offsets as they are.

    Raises:
        ValueError: If the layer is a batch norm without scale or center, or normalises over an axis other than the
            channels.
    """
    is_batch_norm = type(layer) is fast_layers.BatchNormalization
    run = (_frozen_batch_norm if is_batch_norm and frozen else _FUNCTIONS.get(type(layer), _stateless))(layer)
    stat_rate = 1.0 if not is_batch_norm else 0.0 if frozen else 1.0 - layer.momentum
    return PureLayer(layer.name, run, tuple(tuple(weight.shape) for weight in layer.trainable_variables),
                     tuple(tuple(stat.shape) for stat in layer.non_trainable_variables), stat_rate, _drawing(layer))


def values_of(layer: keras.layers.Layer) -> LayerValues:
    """The values that a built layer's variables have now."""
    return ([np.asarray(variable) for variable in layer.trainable_variables],
            [np.asarray(variable) for variable in layer.non_trainable_variables])


def _drawing(layer):
    """A function that draws values as the layer's initializers do; None if a variable's initializer is not known."""
    parts = []
    for variables in (layer.trainable_variables, layer.non_trainable_variables):
        names = [f"{variable.name}_initializer" for variable in variables]
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            names = [name.replace("kernel", "depthwise") for name in names]
        initializers = [getattr(layer, name, None) for name in names]
        # Of a random initializer, only the shape is kept: its values are large, and they are the weights of this layer.
        parts.append([(initializer, variable.shape if hasattr(initializer, "seed") else np.asarray(variable))
                      for initializer, variable in zip(initializers, variables, strict=True)])
    if any(initializer is None for part in parts for initializer, _ in part):
        return None

    def value(initializer, shape_or_constant):
        # A random initializer would draw the same values again; its clone has a new seed.
        return np.asarray(initializer.clone()(shape_or_constant)) if hasattr(initializer, "seed") else shape_or_constant

    return lambda: tuple([value(*variable) for variable in part] for part in parts)


def _stateless(layer):
    """A function that runs any Keras layer through its own stateless call."""
    training = {"training": True} if "training" in inspect.signature(layer.call).parameters else {}

    def run(weights, stats, x):
        return layer.stateless_call(weights, stats, x, **training)

    return run


def _conv(layer):
    if layer.data_format != "channels_last":
        return _stateless(layer)
    finish = _bias_and_activation(layer)

    def run(weights, stats, x):
        y = fast_layers.conv(x, tf.cast(weights[0], x.dtype), layer.strides, layer.padding, layer.dilation_rate)
        return finish(y, weights[1:]), []

    return run


def _bias_and_activation(layer):
    activation = None if layer.activation is keras.activations.linear else layer.activation

    def finish(y, bias):
        y = tf.nn.bias_add(y, tf.cast(bias[0], y.dtype)) if bias else y
        return activation(y) if activation else y

    return finish


def _depthwise(layer):
    strides, dilations = layer.strides[0], list(layer.dilation_rate)
    if layer.is_dilated:
        return lambda weights, stats, x: (tf.nn.depthwise_conv2d(
            x, tf.cast(weights[0], x.dtype), [1, 1, 1, 1], "SAME", dilations=dilations), [])
    if not layer.is_plain:
        return _stateless(layer)
    return lambda weights, stats, x: (fast_layers.depthwise_conv(x, tf.cast(weights[0], x.dtype), strides), [])


def _batch_norm(layer):
    """Batch norm by the statistics of the batch, which are observed.

        y = gamma * (x - mean) / sqrt(variance + epsilon) + beta

    Mean and variance of each channel are taken over batch, height and width. The observed variance is the unbiased
    one, as in the original.
    """
    epsilon = _epsilon_of_channels(layer)

    def run(weights, stats, x):
        y, mean, variance = fast_layers.fused_batch_norm(x, weights[0], weights[1], epsilon)
        return y, [mean, variance]

    return run


def _frozen_batch_norm(layer):
    """Batch norm by the statistics that it has; neither they nor scales and offsets learn."""
    epsilon = _epsilon_of_channels(layer)

    def run(weights, stats, x):
        gamma, beta = (tf.stop_gradient(weight) for weight in weights)
        mean, variance = stats
        scale = gamma * tf.math.rsqrt(variance + epsilon)
        return x * tf.cast(scale, x.dtype) + tf.cast(beta - mean * scale, x.dtype), stats

    return run


def _epsilon_of_channels(layer):
    """The epsilon of a batch norm over the channels of an image."""
    if not (layer.scale and layer.center and layer.axis in (-1, 3)):
        raise ValueError(f"Batch norm {layer.name} needs scale and center over the channels of an image.")
    return layer.epsilon


def _relu(layer):
    if layer.max_value not in (6, None) or layer.negative_slope != 0 or layer.threshold != 0:
        return _stateless(layer)
    relu = tf.nn.relu6 if layer.max_value else tf.nn.relu
    return lambda weights, stats, x: (relu(x), [])


def _pool(function):
    def pool(layer):
        size, strides, padding = list(layer.pool_size), list(layer.strides), layer.padding.upper()
        if layer.data_format != "channels_last":
            return _stateless(layer)
        return lambda weights, stats, x: (function(x, size, strides, padding), [])

    return pool


# For each class of layers, the function that makes the pure function of a layer. All other classes use `_stateless`.
_FUNCTIONS: dict[type, Callable[[keras.layers.Layer], LayerFunction]] = {
    keras.layers.Conv2D: _conv,
    fast_layers.Conv2D: _conv,
    fast_layers.DepthwiseConv2D: _depthwise,
    fast_layers.BatchNormalization: _batch_norm,
    keras.layers.ReLU: _relu,
    keras.layers.AveragePooling2D: _pool(tf.nn.avg_pool2d),
    keras.layers.MaxPooling2D: _pool(fast_layers.max_pool),
}
