"""One candidate op of the supernet: its weights, statistics and momentum are three flat variables.

A branch of the supernet's step then reads two variables instead of fifteen, its update is one kernel, and its gradient
is one vector. That is why a sampled path costs no more than a plain network.

The op's own builder makes the layers in two situations:

1. Once, with Keras layers (`_Recorder`), for names, shapes and initial values. Each layer is recorded as a pure
   function (`pure_layers.py`), in order.
2. Whenever the op runs (`_Replay`). The builder is called with a namespace that applies the recorded functions, in the
   same order, to slices of the flat vectors.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from pnas_tf.network import layers as fast_layers
from pnas_tf.space import ops
from pnas_tf.space.blocks import OpKey
from pnas_tf.supernet.pure_layers import PureLayer, pure_layer, values_of

# Each weight starts at a multiple of this many floats, 64 bytes: TensorFlow splits such rows without copying them.
ALIGNED = 16

# Kernel, stats and momentum of a candidate as resources; None for a variable that is missing or not needed.
Handles = tuple[tf.Tensor | None, ...]


class Candidate(keras.layers.Layer):
    """One op in one block.

    A variable that the op does not need is None: a pool has no weights, a bare convolution has no statistics.

    Attributes:
        key: Op, input shape, filters and strides.
        prefix: Prefix of the layer names, block and op: `b07_mb_k5_e6`.
        kernel: All trainable weights, float32 [n], each followed by zeros up to a multiple of `ALIGNED`.
        stats: All moving statistics of batch norm, float32 [m].
        momentum: The optimizer's velocity, float32 [n].
        weights_count: Number of trainable weights.
    """

    def __init__(self, key: OpKey, prefix: str, like: "Candidate | None" = None, **kwargs):
        """Creates the variables.

        Args:
            key: Op, input shape, filters and strides.
            prefix: Prefix of the layer names, block and op: `b07_mb_k5_e6`.
            like: Candidate of the same key, whose layers are used again instead of built. The weights are drawn
                independently.
            **kwargs: Arguments of `keras.layers.Layer`.
        """
        super().__init__(name=prefix, **kwargs)
        self.key, self.prefix = key, prefix
        draws = [layer.draw for layer in like._pure_layers if layer.draw] if like else []
        self._pure_layers: list[PureLayer]
        if like and len(draws) == len(like._pure_layers):
            self._pure_layers = [dataclasses.replace(layer, name=prefix + layer.name.removeprefix(like.prefix))
                                 for layer in like._pure_layers]
            initial = [draw() for draw in draws]
        else:
            recorder = _Recorder()
            self._build_op(keras.Input(key.input), recorder)
            self._pure_layers = [pure_layer(layer) for layer in recorder.layers]
            initial = [values_of(layer) for layer in recorder.layers]
        self._layout = _Layout([shape for layer in self._pure_layers for shape in layer.weight_shapes])
        self.weights_count = self._layout.used
        kernel = self._layout.pack([value for weights, _ in initial for value in weights])
        stats = _flat([value for _, layer_stats in initial for value in layer_stats])
        self.kernel = self._flat_weight("kernel", kernel, trainable=True)
        self.stats = self._flat_weight("stats", stats)
        self.momentum = self._flat_weight("momentum", np.zeros_like(kernel))
        self.built = True

    def _flat_weight(self, name, value, trainable=False):
        if not value.size:
            return None  # TensorFlow cannot send an empty variable to another worker.
        # The value goes from the host's array straight into the variable: no copy stays in the graph.
        return self.add_weight(name=name, shape=value.shape, initializer=lambda shape, dtype: value,
                               dtype="float32", trainable=trainable)

    def _build_op(self, x, layers):
        return ops.build(self.key.op, x, layers=layers, name=self.prefix, filters=self.key.filters,
                         strides=self.key.strides, shortcut=self.key.shortcut)

    def handles(self, stats: bool = True, momentum: bool = True) -> Handles:
        """The variables kernel, stats and momentum as resources on this replica; None for a variable that is missing.

        Args:
            stats: Whether statistics are updated; if not, they are left out, unless the op reads them.
            momentum: Whether weights are updated.
        """
        stats = stats or any(layer.reads_stats for layer in self._pure_layers)
        variables = (self.kernel, self.stats if stats else None, self.momentum if momentum else None)
        return tuple(None if variable is None else variable.value.handle for variable in variables)

    def run(self, x: tf.Tensor, *, probe: tf.Tensor | None = None, update_stats: bool = False,
            handles: Handles | None = None) -> tf.Tensor:
        """Runs the op in training mode: batch norm normalises by the batch.

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
        kernel, stats, _ = handles or self.handles()
        weights = self._layout.unpack(_read(kernel, self.kernel), probe) if self.kernel is not None else []
        replay = _Replay(self._pure_layers, weights, lambda: _read(stats, self.stats))
        # Arguments of a TensorFlow function have no shape in its graph, and oneDNN's pass for convolutions aborts
        # without a shape.
        y = self._build_op(tf.ensure_shape(x, x.shape), replay)
        if update_stats and replay.observed:
            # The raw op on the handle also works inside a branch and under a distribution strategy.
            change = self._stat_rates() * (tf.concat(replay.observed, 0) - _read(stats, self.stats))
            tf.raw_ops.AssignAddVariableOp(resource=stats, value=change)
        return tf.cast(y, x.dtype)  # a layer may compute in float32

    def update(self, gradient: tf.Tensor, learning_rate: tf.Tensor, momentum: float, weight_decay: float,
               handles: Handles | None = None) -> None:
        """Takes one step of SGD with Nesterov momentum and coupled weight decay, as `torch.optim.SGD` defines it.

            g = gradient + weight_decay * kernel
            v = momentum * v + g                    # v: the variable `momentum`
            kernel = kernel - learning_rate * (g + momentum * v)

        Args:
            gradient: Gradient of the loss with respect to the weights, float32 [n].
            learning_rate: Learning rate, scalar.
            momentum: Decay of the velocity.
            weight_decay: Factor of the weights in the gradient.
            handles: Variables to update, as in `run`.
        """
        if self.kernel is None:
            return
        kernel, _, slot = handles or self.handles()
        tf.raw_ops.ResourceApplyMomentum(
            var=kernel, accum=slot, lr=learning_rate, momentum=momentum, use_nesterov=True,
            grad=tf.ensure_shape(gradient, self.kernel.shape) + weight_decay * _read(kernel, self.kernel))

    @property
    def layer_names(self) -> list[str]:
        """Names of the op's layers, in order; the same as in the derived network."""
        return [layer.name for layer in self._pure_layers]

    def layer_weights(self) -> dict[str, list[np.ndarray]]:
        """Weights and statistics by layer name, in the order that `layer.set_weights` takes them."""
        weights = iter(self._layout.cut(np.asarray(self.kernel)) if self.kernel is not None else [])
        stats, by_name = np.asarray(self.stats) if self.stats is not None else np.zeros(0), {}
        for layer in self._pure_layers:
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
        for layer in self._pure_layers:
            values = [np.asarray(value) for value in given.get(layer.name, ())]
            if [value.shape for value in values] != [*layer.weight_shapes, *layer.stat_shapes]:
                return False
            weights += values[:len(layer.weight_shapes)]
            stats += values[len(layer.weight_shapes):]
        if self.kernel is not None:
            self.kernel.assign(self._layout.pack(weights))
        if self.stats is not None:
            self.stats.assign(np.concatenate([value.ravel() for value in stats]))
        return bool(weights)

    def _stat_rates(self) -> float | np.ndarray:
        """Rate of every statistic, or the only rate if all are equal."""
        rates = np.concatenate([np.full(_total_size(layer.stat_shapes), layer.stat_rate, np.float32)
                                for layer in self._pure_layers if layer.stat_shapes])
        return float(rates[0]) if np.all(rates == rates[0]) else rates


def _read(handle: tf.Tensor, like: keras.Variable) -> tf.Tensor:
    """The current value of a resource, also inside a branch, with the shape of the variable `like`."""
    return tf.ensure_shape(tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32), like.shape)


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


class _Layout:
    """Positions of an op's weights in its flat vector: one after the other, each at a multiple of `ALIGNED`.

    Attributes:
        used: Number of weights, without the padding.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]]):
        self._shapes = list(shapes)
        self._sizes = [math.prod(shape) for shape in shapes]
        self._rows = [-(-size // ALIGNED) for size in self._sizes]
        self.used = sum(self._sizes)

    def pack(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Puts values, given in the order of the shapes, into one vector."""
        padded = [np.pad(np.ravel(value), (0, -np.size(value) % ALIGNED)) for value in values]
        return np.concatenate([np.zeros(0), *padded]).astype(np.float32)

    def cut(self, flat: np.ndarray) -> list[np.ndarray]:
        """Cuts a vector into values, in the order of the shapes."""
        parts = np.split(flat, np.cumsum(self._rows)[:-1] * ALIGNED)
        return [part[:size].reshape(shape)
                for part, size, shape in zip(parts, self._sizes, self._shapes, strict=True)]

    def unpack(self, flat: tf.Tensor, probe: tf.Tensor | None) -> list[tf.Tensor]:
        """Does what `cut` does for tensors, and sends the gradient of all weights to the probe in one concatenation."""
        if probe is None:
            # Otherwise TensorFlow would compute gradients of the variables that a branch reads, only to discard them.
            return self._slices(tf.stop_gradient(flat))

        @tf.custom_gradient
        def route(probe):
            def gradient(*upstream):
                parts = []
                for value, size in zip(upstream, self._sizes, strict=True):
                    parts += [tf.reshape(value, [-1]), *self._zeros(-size % ALIGNED)]
                return tf.concat(parts, 0)

            return self._slices(flat), gradient

        return route(probe)

    def _slices(self, flat):
        slices = []
        for part, size, shape in zip(tf.split(tf.reshape(flat, [-1, ALIGNED]), self._rows), self._sizes, self._shapes,
                                     strict=True):
            if size % ALIGNED:
                part = tf.reshape(part, [-1])[:size]
            slices.append(part if part.shape == shape else tf.reshape(part, shape))
        return slices

    @staticmethod
    def _zeros(count):
        return [tf.zeros([count])] if count else []


def _total_size(shapes: Sequence[tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes)


def _flat(values: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *(np.ravel(np.asarray(v, np.float32)) for v in values)])
