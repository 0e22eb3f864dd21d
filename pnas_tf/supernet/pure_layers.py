"""TODO: docstring."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pnas_tf.network import layers as fast_layers

# (weights, statistics, x) -> (y, observed statistics), for one layer in training mode.
PureLayer = Callable[[list[tf.Tensor], list[tf.Tensor], Any], tuple[tf.Tensor, list[tf.Tensor]]]


@dataclasses.dataclass(frozen=True)
class Step:
    """One layer of an op.

    Attributes:
        name: of the layer, the same as in the derived network.
        run: the layer as a pure function.
        weight_shapes: shapes of its trainable variables.
        stat_shapes: shapes of its non-trainable variables.
        stat_rate: statistics move by this share towards what was observed.
        draw: initial weights and statistics of another such layer; None if only building one tells.
    """

    name: str
    run: PureLayer
    weight_shapes: tuple[tuple[int, ...], ...]
    stat_shapes: tuple[tuple[int, ...], ...]
    stat_rate: float
    draw: Callable[[], tuple[list[np.ndarray], list[np.ndarray]]] | None


def step_of(layer: keras.layers.Layer) -> Step:
    pure = _PURE.get(type(layer), _stateless)(layer)
    is_batch_norm = isinstance(layer, keras.layers.BatchNormalization)
    return Step(layer.name, pure, tuple(tuple(w.shape) for w in layer.trainable_variables),
                 tuple(tuple(s.shape) for s in layer.non_trainable_variables),
                 1.0 - layer.momentum if is_batch_norm and pure is not _stateless else 1.0, _drawing(layer))


def values_of(layer):
    return ([np.asarray(variable) for variable in layer.trainable_variables],
            [np.asarray(variable) for variable in layer.non_trainable_variables])


def _drawing(layer):
    """A function that draws what the layer's initializers would for another layer; None if one is not known."""
    parts = []
    for variables in (layer.trainable_variables, layer.non_trainable_variables):
        names = [f"{variable.name}_initializer" for variable in variables]
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            names = [name.replace("kernel", "depthwise") for name in names]
        initializers = [getattr(layer, name, None) for name in names]
        # Of random ones only the shape is kept: their values are another layer's weights, and large.
        parts.append([(initializer, variable.shape if hasattr(initializer, "seed") else np.asarray(variable))
                      for initializer, variable in zip(initializers, variables, strict=True)])
    if any(initializer is None for part in parts for initializer, _ in part):
        return None

    def of(initializer, kept):
        # One that is random would draw the same again; its clone has a new seed.
        return np.asarray(initializer.clone()(kept)) if hasattr(initializer, "seed") else kept

    return lambda: tuple([of(*one) for one in part] for part in parts)


def _stateless(layer):
    """Any Keras layer, by its own stateless call; costs more nodes in the graph than the cases below."""
    training = {"training": True} if "training" in inspect.signature(layer.call).parameters else {}

    def run(weights, stats, x):
        return layer.stateless_call(weights, stats, x, **training)

    return run


def _conv(layer):
    strides, dilations, padding = list(layer.strides), list(layer.dilation_rate), layer.padding.upper()
    if layer.data_format != "channels_last":
        return _stateless(layer)
    finish = _bias_and_activation(layer)

    def run(weights, stats, x):
        y = tf.nn.conv2d(x, tf.cast(weights[0], x.dtype), strides, padding, dilations=dilations)
        return finish(y, weights[1:]), []

    return run


def _depthwise(layer):
    strides, dilations = layer.strides[0], list(layer.dilation_rate)
    if layer.is_dilated:
        return lambda weights, stats, x: (tf.nn.depthwise_conv2d(
            x, tf.cast(weights[0], x.dtype), [1, 1, 1, 1], "SAME", dilations=dilations), [])
    if not layer.is_plain:
        return _stateless(layer)
    return lambda weights, stats, x: (fast_layers.depthwise_conv(x, tf.cast(weights[0], x.dtype), strides), [])


def _bias_and_activation(layer):
    activation = None if layer.activation is keras.activations.linear else layer.activation

    def finish(y, bias):
        y = tf.nn.bias_add(y, tf.cast(bias[0], y.dtype)) if bias else y
        return activation(y) if activation else y

    return finish


def _batch_norm(layer):
    epsilon = layer.epsilon
    if not (layer.scale and layer.center and layer.axis in (-1, 3)):
        raise ValueError(f"Batch norm {layer.name} needs scale and center over the channels of an image.")

    def run(weights, stats, x):
        y, mean, variance = fast_layers.fused_batch_norm(x, weights[0], weights[1], epsilon)
        return y, [mean, variance]

    return run


def _relu(layer):
    if layer.max_value not in (6, None) or layer.negative_slope != 0 or layer.threshold != 0:
        return _stateless(layer)
    relu = tf.nn.relu6 if layer.max_value else tf.nn.relu
    return lambda weights, stats, x: (relu(x), [])


def _pool(function):
    def of(layer):
        size, strides, padding = list(layer.pool_size), list(layer.strides), layer.padding.upper()
        if layer.data_format != "channels_last":
            return _stateless(layer)
        return lambda weights, stats, x: (function(x, size, strides, padding), [])

    return of


_PURE: dict[type, Callable[[keras.layers.Layer], PureLayer]] = {
    keras.layers.Conv2D: _conv,
    fast_layers.Conv2D: _conv,
    keras.layers.AveragePooling2D: _pool(tf.nn.avg_pool2d),
    keras.layers.MaxPooling2D: _pool(fast_layers.max_pool),
    fast_layers.DepthwiseConv2D: _depthwise,
    fast_layers.BatchNormalization: _batch_norm,
    keras.layers.ReLU: _relu,
}
