"""One candidate op of the supernet: its weights, statistics and momentum are flat variables.

A branch of the supernet's step then reads two variables instead of fifteen, its update is one kernel, and its gradient
is one vector. That is why a sampled path costs no more than a plain network.

The op's own builder makes the layers in two situations:

1. Once, with Keras layers (`record`), for names, shapes and initial values. Each layer is recorded as a pure function
   (`pure_layers.py`), in order.
2. Whenever the op runs (`_Replay`). The builder is called with a namespace that applies the recorded functions, in the
   same order, to slices of the flat vectors.

An op owns its weights (`weights.py`), or they are a slice of weights that ops of a block share (`shared_weights.py`).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from pnas_tf.network import layers as fast_layers
from pnas_tf.space import ops
from pnas_tf.space.blocks import OpKey
from pnas_tf.supernet import weights as weights_lib
from pnas_tf.supernet.pure_layers import LayerValues, PureLayer, pure_layer, values_of
from pnas_tf.supernet.weights import Layout, OwnWeights, Resources, Weights


class Handles(NamedTuple):
    """Variables of a candidate as resources on one replica.

    Attributes:
        kernels: Variables that hold the weights.
        stats: Statistics; None if the op has none, or they are not needed.
        momenta: Velocity of each kernel; empty if weights are not updated.
    """

    kernels: Resources
    stats: tf.Tensor | None
    momenta: Resources


class Recorded(NamedTuple):
    """The layers of an op, and initial values for them.

    Attributes:
        layers: Layers as pure functions, in order.
        initial: Initial weights and statistics of each layer.
    """

    layers: list[PureLayer]
    initial: list[LayerValues]

    @property
    def weights(self) -> list[np.ndarray]:
        """Initial weights of all layers, in order."""
        return [value for weights, _ in self.initial for value in weights]


def record(key: OpKey, prefix: str, like: "Candidate | None" = None, frozen: bool = False) -> Recorded:
    """Records the layers of an op.

    Args:
        key: Op, input shape, filters and strides.
        prefix: Prefix of the layer names, block and op: `b07_mb_k5_e6`.
        like: Candidate of the same key, whose layers are used again instead of built. The weights are drawn
            independently.
        frozen: Whether batch norm keeps its statistics, scales and offsets as they are.
    """
    draws = [layer.draw for layer in like.layers if layer.draw] if like else []
    if like and len(draws) == len(like.layers):
        return Recorded([dataclasses.replace(layer, name=prefix + layer.name.removeprefix(like.prefix))
                         for layer in like.layers], [draw() for draw in draws])
    recorder = _Recorder()
    _build_op(key, prefix, keras.Input(key.input), recorder)
    return Recorded([pure_layer(layer, frozen) for layer in recorder.layers],
                    [values_of(layer) for layer in recorder.layers])


class Candidate(keras.layers.Layer):
    """One op in one block.

    Attributes:
        key: Op, input shape, filters and strides.
        prefix: Prefix of the layer names, block and op: `b07_mb_k5_e6`. The name of the candidate itself has the widths
            behind it, if they are searched: `b07_mb_k5_e6_24x32`.
        layers: Layers as pure functions, in order.
        weights_of_op: Trainable weights with the optimizer's velocity.
        stats: All moving statistics of batch norm, float32 [m]; None if the op has none.
    """

    def __init__(self, key: OpKey, prefix: str, recorded: Recorded | None = None, shared: Weights | None = None,
                 **kwargs):
        """Creates the variables.

        Args:
            key: Op, input shape, filters and strides.
            prefix: Prefix of the layer names, block and op: `b07_mb_k5_e6`.
            recorded: Result of `record`; None to record the op here.
            shared: Slice of shared weights; None if the op has weights of its own.
            **kwargs: Arguments of `keras.layers.Layer`, such as a name other than `prefix`.
        """
        super().__init__(**{"name": prefix, **kwargs})
        self.key, self.prefix = key, prefix
        recorded = recorded or record(key, prefix)
        self.layers = recorded.layers
        self.weights_of_op = shared or self._own_weights(recorded)
        self.stats = self._flat_weight("stats", _flat([value for _, stats in recorded.initial for value in stats]))
        self.built = True

    def _own_weights(self, recorded):
        layout = Layout([shape for layer in recorded.layers for shape in layer.weight_shapes])
        kernel = layout.pack(recorded.weights)
        return OwnWeights(layout, self._flat_weight("kernel", kernel, trainable=True),
                          self._flat_weight("momentum", np.zeros_like(kernel)))

    @property
    def kernel(self) -> keras.Variable | None:
        """All weights of an op that shares none, float32 [n]; None if it has none or shares them."""
        own = self.weights_of_op
        return own.kernels[0] if isinstance(own, OwnWeights) and own.kernels else None

    @property
    def momentum(self) -> keras.Variable | None:
        """The optimizer's velocity, like `kernel`."""
        own = self.weights_of_op
        return own.momenta[0] if isinstance(own, OwnWeights) and own.momenta else None

    @property
    def weights_count(self) -> int:
        """Number of trainable weights that the op uses."""
        return self.weights_of_op.count

    @property
    def kernel_size(self) -> int:
        """Number of floats in the variables of its weights, with the padding."""
        return sum(kernel.shape[0] for kernel in self.weights_of_op.kernels)

    def _flat_weight(self, name, value, trainable=False):
        if not value.size:
            return None  # TensorFlow cannot send an empty variable to another worker.
        # The value goes from the host's array straight into the variable: no copy stays in the graph.
        return self.add_weight(name=name, shape=value.shape, initializer=lambda shape, dtype: value,
                               dtype="float32", trainable=trainable)

    def handles(self, stats: bool = True, momentum: bool = True) -> Handles:
        """The variables as resources on this replica.

        Args:
            stats: Whether statistics are updated; if not, they are left out, unless the op reads them.
            momentum: Whether weights are updated.
        """
        stats = stats or any(layer.reads_stats for layer in self.layers)
        own = self.weights_of_op
        return Handles(_resources(own.kernels), self.stats.value.handle if stats and self.stats is not None else None,
                       _resources(own.momenta) if momentum else ())

    def run(self, x: tf.Tensor, *, probe: tf.Tensor | None = None, update_stats: bool = False,
            handles: Handles | None = None) -> tf.Tensor:
        """Runs the op in training mode: batch norm normalises by the batch, unless it is frozen.

        With `update_stats`, `stats += rate * (observed - stats)`, where rate is 1 - momentum of the batch norm.

        Args:
            x: Input, [batch, height, width, channels].
            probe: Vector of unknown length, float32, that receives the gradient of the weights, [n]; its value is not
                read. None if no gradient goes to the weights.
            update_stats: Whether the moving statistics move towards those of this batch.
            handles: Variables to run with, from `handles` of another candidate with the same key; None for this
                candidate's own variables.

        Returns:
            [batch, height / strides, width / strides, filters], of x's type.
        """
        kernels, stats, _ = handles or self.handles()
        own = self.weights_of_op
        read = [weights_lib.read(handle, kernel.shape) for handle, kernel in zip(kernels, own.kernels, strict=True)]
        weights = own.tensors(read[0] if len(read) == 1 else tf.concat(read, 0), probe) if read else []
        replay = _Replay(self.layers, weights, functools.cache(lambda: weights_lib.read(stats, self.stats.shape)))
        # Arguments of a TensorFlow function have no shape in its graph, and oneDNN's pass for convolutions aborts
        # without a shape.
        x = tf.ensure_shape(x, [*x.shape[:-1], self.key.input[2]])
        y = _build_op(self.key, self.prefix, x, replay)
        if update_stats and any(layer.stat_rate for layer in self.layers if layer.stat_shapes):
            # The raw op on the handle also works inside a branch and under a distribution strategy.
            change = self._stat_rates() * (tf.concat(replay.observed, 0) - weights_lib.read(stats, self.stats.shape))
            tf.raw_ops.AssignAddVariableOp(resource=stats, value=change)
        return tf.cast(y, x.dtype)  # a layer may compute in float32

    def update(self, gradient: tf.Tensor, learning_rate: tf.Tensor, momentum: float, weight_decay: float,
               handles: Handles | None = None) -> None:
        """Takes one step of SGD with Nesterov momentum and coupled weight decay: see `weights.update`.

        Args:
            gradient: Gradient of the loss with respect to the weights, float32 [n].
            learning_rate: Learning rate, scalar.
            momentum: Decay of the velocity.
            weight_decay: Factor of the weights in the gradient.
            handles: Variables to update, as in `run`.
        """
        kernels, _, momenta = handles or self.handles()
        sizes = [kernel.shape[0] for kernel in self.weights_of_op.kernels]
        weights_lib.update(kernels, momenta, gradient, sizes, learning_rate=learning_rate, momentum=momentum,
                           weight_decay=weight_decay)

    @property
    def layer_names(self) -> list[str]:
        """Names of the op's layers, in order; the same as in the derived network."""
        return [layer.name for layer in self.layers]

    def layer_shapes(self) -> dict[str, list[tuple[int, ...]]]:
        """Shapes of the arrays that `layer_weights` returns."""
        shapes = {layer.name: [*layer.weight_shapes, *layer.stat_shapes] for layer in self.layers}
        return {name: each for name, each in shapes.items() if each}

    def layer_weights(self) -> dict[str, list[np.ndarray]]:
        """Weights and statistics by layer name, in the order that `layer.set_weights` takes them."""
        weights = iter(self.weights_of_op.values())
        stats, by_name = np.asarray(self.stats) if self.stats is not None else np.zeros(0), {}
        for layer in self.layers:
            values = [next(weights) for _ in layer.weight_shapes]
            *layer_stats, stats = np.split(stats, np.cumsum([math.prod(shape) for shape in layer.stat_shapes]))
            values += [part.reshape(shape) for part, shape in zip(layer_stats, layer.stat_shapes, strict=True)]
            if values:
                by_name[layer.name] = values
        return by_name

    def set_layer_weights(self, given: Mapping[str, Sequence[np.ndarray]]) -> bool:
        """Sets weights and statistics by layer name; the inverse of `layer_weights`.

        Args:
            given: Weights of each layer in the order of `layer.get_weights`, by layer name. Entries of other layers
                are ignored.

        Returns:
            Whether the op has weights and `given` has fitting shapes for all its layers. Nothing changes if a layer is
            missing or does not fit.
        """
        weights, stats = [], []
        for layer in self.layers:
            values = [np.asarray(value) for value in given.get(layer.name, ())]
            if [value.shape for value in values] != [*layer.weight_shapes, *layer.stat_shapes]:
                return False
            weights += values[:len(layer.weight_shapes)]
            stats += values[len(layer.weight_shapes):]
        self.weights_of_op.assign(weights)
        if self.stats is not None:
            self.stats.assign(np.concatenate([value.ravel() for value in stats]))
        return bool(weights)

    def _stat_rates(self) -> float | np.ndarray:
        """Rate of every statistic, or the only rate if all are equal."""
        rates = np.concatenate([np.full(_total_size(layer.stat_shapes), layer.stat_rate, np.float32)
                                for layer in self.layers if layer.stat_shapes])
        return float(rates[0]) if np.all(rates == rates[0]) else rates


def _resources(variables: Sequence[keras.Variable]) -> Resources:
    return tuple(variable.value.handle for variable in variables)


def _build_op(key: OpKey, prefix: str, x, layers):
    return ops.build(key.op, x, layers=layers, name=prefix, filters=key.filters, strides=key.strides,
                     shortcut=key.shortcut)


class _Recorder:
    """A namespace of layers that keeps a list of the layers it makes."""

    def __init__(self):
        self.layers: list[keras.layers.Layer] = []

    def __getattr__(self, name):
        layer_class = getattr(fast_layers, name)

        def make(*args, **kwargs):
            self.layers.append(layer_class(*args, **kwargs))
            return self.layers[-1]

        return make


class _Replay:
    """A namespace of layers that applies the recorded layers, in order, to weights cut from flat vectors.

    Attributes:
        observed: Statistics that the layers have observed so far, float32 vectors.
    """

    def __init__(self, pure_layers: Sequence[PureLayer], weights: Sequence[tf.Tensor],
                 read_stats: Callable[[], tf.Tensor]):
        """Starts at the first layer.

        Args:
            pure_layers: The recorded layers.
            weights: Weights of all layers, in order.
            read_stats: Function that reads the vector of all statistics; called only for layers that need them.
        """
        self._pure_layers, self._weights = iter(pure_layers), iter(weights)
        self._read_stats, self._stat_offset = read_stats, 0
        self.observed: list[tf.Tensor] = []

    def __getattr__(self, name):
        def make(*args, **kwargs):
            layer = next(self._pure_layers)

            def apply(x):
                weights = [next(self._weights) for _ in layer.weight_shapes]
                y, observed = layer.run(weights, self._cut_stats(layer), x)
                self.observed += [value if value.shape.rank == 1 and value.dtype == tf.float32 else
                                  tf.reshape(tf.cast(value, tf.float32), [-1]) for value in observed]
                return y

            return apply

        return make

    def _cut_stats(self, layer):
        """The layer's own statistics, if it reads them."""
        start, self._stat_offset = self._stat_offset, self._stat_offset + _total_size(layer.stat_shapes)
        if not layer.reads_stats:
            return []
        flat, cuts = self._read_stats()[start:self._stat_offset], []
        for shape in layer.stat_shapes:
            cuts.append(tf.reshape(flat[:math.prod(shape)], shape))
            flat = flat[math.prod(shape):]
        return cuts


def _total_size(shapes: Sequence[tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes)


def _flat(values: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *(np.ravel(np.asarray(v, np.float32)) for v in values)])
