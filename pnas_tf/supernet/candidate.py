"""One op of the supernet: its weights, statistics and momentum as three flat variables.

A branch of the supernet's step then reads two variables instead of fifteen, its update is one kernel, and
its gradient one vector; that is what makes a sampled path cost what a plain network costs.

The op's own builder makes the layers. They are built once with Keras, for names, shapes and initial values,
and noted in order; to run, the builder is called again with a namespace that applies the noted layers as pure
functions of slices of the flat vectors.

TensorFlow splits rows of 64 bytes without copying them, so each weight starts at a multiple of that.
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
from pnas_tf.supernet.pure_layers import Step, step_of, values_of

# Floats in 64 bytes.
ALIGNED = 16

# Kernel, stats and momentum of a candidate as resources, None for what there is not or is not needed.
Handles = tuple[tf.Tensor | None, ...]


class Candidate(keras.layers.Layer):
    """One op at one block.

    Attributes:
        kernel: float32 [n], all trainable weights, each followed by zeros up to a multiple of `ALIGNED`.
        stats: float32 [m], all moving statistics of batch norm.
        momentum: float32 [n], the optimizer's slot.
        weights_count: number of trainable weights.

    What an op does not have (a pool has no weights, a bare convolution no statistics) is None.
    """

    def __init__(self, key: OpKey, prefix: str, like: "Candidate | None" = None, **kwargs):
        """Creates the variables.

        Args:
            key: op, shapes and strides.
            prefix: of the layer names, block and op: `b07_mb_k5_e6`.
            like: one of the same key, which saves building the layers; weights are drawn anew all the same.
            **kwargs: of the Keras layer.
        """
        super().__init__(name=prefix, **kwargs)
        self.key, self.prefix = key, prefix
        draws = [step.draw for step in like._steps if step.draw] if like else []
        self._steps: list[Step]
        if like and len(draws) == len(like._steps):
            self._steps = [dataclasses.replace(step, name=prefix + step.name.removeprefix(like.prefix))
                           for step in like._steps]
            drawn = [draw() for draw in draws]
        else:
            made = _Recorder()
            self._build_op(keras.Input(key.input), made)
            self._steps = [step_of(layer) for layer in made.layers]
            drawn = [values_of(layer) for layer in made.layers]
        self._layout = _Layout([shape for step in self._steps for shape in step.weight_shapes])
        self.weights_count = self._layout.used
        kernel = self._layout.pack([value for weights, _ in drawn for value in weights])
        stats = _flat([value for _, others in drawn for value in others])
        self.kernel = self._flat_weight("kernel", kernel, trainable=True)
        self.stats = self._flat_weight("stats", stats)
        self.momentum = self._flat_weight("momentum", np.zeros_like(kernel))
        self.built = True

    def _flat_weight(self, name, value, trainable=False):
        if not value.size:
            return None  # TensorFlow cannot send an empty variable to another worker
        # From the host's array straight into the variable: no copy stays in the graph.
        return self.add_weight(name=name, shape=value.shape, initializer=lambda shape, dtype: value,
                               dtype="float32", trainable=trainable)

    def _build_op(self, x, layers):
        return ops.build(self.key.op, x, layers=layers, name=self.prefix, filters=self.key.filters,
                         strides=self.key.strides, shortcut=self.key.shortcut)

    def handles(self, stats: bool = True, momentum: bool = True) -> Handles:
        """The variables kernel, stats and momentum as resources, on this replica; None for what there is not.

        Args:
            stats: whether statistics are to be updated; else they are left out, unless the op reads them.
            momentum: whether weights are to be updated.
        """
        reads = any(step.stat_shapes and step.stat_rate == 1.0 for step in self._steps)
        wanted = (self.kernel, self.stats if stats or reads else None, self.momentum if momentum else None)
        return tuple(None if variable is None else variable.value.handle for variable in wanted)

    def run(self, x: tf.Tensor, *, probe: tf.Tensor | None = None, update_stats: bool = False,
            handles: Handles | None = None) -> tf.Tensor:
        """The op in training mode: batch norm normalises by the batch.

        Args:
            x: [batch, height, width, channels].
            probe: float32 [unknown] that takes the gradient of the weights, [n]; its value is not read. None: no
                gradient goes to the weights.
            update_stats: whether the moving statistics take part of this batch.
            handles: variables of another candidate with the same key, from `handles`, to run with; None for its own.

        Returns:
            [batch, height / strides, width / strides, filters], of x's type.
        """
        kernel, stats, _ = handles or self.handles()
        weights = self._layout.unpack(_read(kernel, self.kernel), probe) if self.kernel is not None else []
        replay = _Replay(self._steps, weights, lambda: _read(stats, self.stats))
        # A function's arguments have no shape in its graph, and a pass for convolutions (oneDNN's) aborts without one.
        y = self._build_op(tf.ensure_shape(x, x.shape), replay)
        if update_stats and replay.observed:
            # The raw op on the handle also works inside a branch and under a distribution strategy.
            change = self._stat_rates() * (tf.concat(replay.observed, 0) - _read(stats, self.stats))
            tf.raw_ops.AssignAddVariableOp(resource=stats, value=change)
        return tf.cast(y, x.dtype)  # a layer may answer in float32

    def update(self, gradient: tf.Tensor, learning_rate: tf.Tensor, momentum: float, weight_decay: float,
               handles: Handles | None = None) -> None:
        """One step of SGD with Nesterov momentum and coupled weight decay, as PyTorch defines it.

        Args:
            gradient: float32 [n].
            learning_rate: scalar.
            momentum: decay of the velocity.
            weight_decay: times the weight is added to the gradient.
            handles: as in `run`.
        """
        if self.kernel is None:
            return
        kernel, _, slot = handles or self.handles()
        tf.raw_ops.ResourceApplyMomentum(
            var=kernel, accum=slot, lr=learning_rate, momentum=momentum, use_nesterov=True,
            grad=tf.ensure_shape(gradient, self.kernel.shape) + weight_decay * _read(kernel, self.kernel))

    @property
    def layer_names(self) -> list[str]:
        """Names of its layers, in order; the same as in the derived network."""
        return [step.name for step in self._steps]

    def layer_weights(self) -> dict[str, list[np.ndarray]]:
        """Weights by layer name, in the order of `layer.set_weights`."""
        weights = iter(self._layout.cut(np.asarray(self.kernel)) if self.kernel is not None else [])
        stats, found = np.asarray(self.stats) if self.stats is not None else np.zeros(0), {}
        for step in self._steps:
            own = [next(weights) for _ in step.weight_shapes]
            moving = np.split(stats, np.cumsum([math.prod(shape) for shape in step.stat_shapes]))
            stats = moving[-1]
            own += [part.reshape(shape) for part, shape in zip(moving, step.stat_shapes, strict=False)]
            if own:
                found[step.name] = own
        return found

    def set_layer_weights(self, given: Mapping[str, Sequence[np.ndarray]]) -> bool:
        """The inverse of `layer_weights`: takes weights and statistics by layer name.

        Args:
            given: of each layer, weights in the order of `layer.get_weights`; other layers may be among them.

        Returns:
            Whether all layers were there, with weights of these shapes; if not, nothing changes.
        """
        weights, stats = [], []
        for step in self._steps:
            own = [np.asarray(value) for value in given.get(step.name, ())]
            shapes = [*step.weight_shapes, *step.stat_shapes]
            if [value.shape for value in own] != [tuple(shape) for shape in shapes]:
                return False
            weights += own[:len(step.weight_shapes)]
            stats += own[len(step.weight_shapes):]
        if self.kernel is not None:
            self.kernel.assign(self._layout.pack(weights))
        if self.stats is not None:
            self.stats.assign(np.concatenate([value.ravel() for value in stats]))
        return bool(weights)

    def _stat_rates(self) -> float | np.ndarray:
        rates = np.concatenate([np.full(_sizes(step.stat_shapes), step.stat_rate, np.float32)
                                for step in self._steps if step.stat_shapes])
        return float(rates[0]) if np.all(rates == rates[0]) else rates


def _read(handle: tf.Tensor, like: keras.Variable) -> tf.Tensor:
    """The value that a resource has now, also inside a branch; of a variable's shape."""
    return tf.ensure_shape(tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32), like.shape)


class _Recorder:
    """A namespace of layers that notes each layer it makes."""

    def __init__(self):
        self.layers: list[keras.layers.Layer] = []

    def __getattr__(self, name):
        layer_class = getattr(fast_layers, name)

        def make(*args, **kwargs):
            self.layers.append(layer_class(*args, **kwargs))
            return self.layers[-1]

        return make


class _Replay:
    """A namespace that applies noted layers, in order, with weights cut from flat vectors."""

    def __init__(self, steps: Sequence[Step], weights: Sequence[tf.Tensor], read_stats: Callable[[], tf.Tensor]):
        self._steps, self._weights = iter(steps), iter(weights)
        self._read_stats, self._stat_offset = read_stats, 0
        self.observed: list[tf.Tensor] = []

    def __getattr__(self, name):
        def make(*args, **kwargs):
            step = next(self._steps)

            def apply(x):
                weights = [next(self._weights) for _ in step.weight_shapes]
                y, observed = step.run(weights, self._cut_stats(step), x)
                self.observed += [value if value.shape.rank == 1 and value.dtype == tf.float32 else
                                  tf.reshape(tf.cast(value, tf.float32), [-1]) for value in observed]
                return y

            return apply

        return make

    def _cut_stats(self, step):
        """The layer's own statistics; batch norm in training mode does not read them."""
        start, self._stat_offset = self._stat_offset, self._stat_offset + _sizes(step.stat_shapes)
        if not step.stat_shapes or step.stat_rate != 1.0:
            return []
        flat, cuts = self._read_stats()[start:self._stat_offset], []
        for shape in step.stat_shapes:
            cuts.append(tf.reshape(flat[:math.prod(shape)], shape))
            flat = flat[math.prod(shape):]
        return cuts


class _Layout:
    """Where each of an op's weights stands in its flat vector: one after the other, each from a multiple of `ALIGNED`.

    Attributes:
        used: number of weights.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]]):
        self._shapes = list(shapes)
        self._sizes = [math.prod(shape) for shape in shapes]
        self._rows = [-(-size // ALIGNED) for size in self._sizes]
        self.used = sum(self._sizes)

    def pack(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Values in the order of the shapes -> the vector."""
        padded = [np.pad(np.ravel(value), (0, -np.size(value) % ALIGNED)) for value in values]
        return np.concatenate([np.zeros(0), *padded]).astype(np.float32)

    def cut(self, flat: np.ndarray) -> list[np.ndarray]:
        """The vector -> values in the order of the shapes."""
        parts = np.split(flat, np.cumsum(self._rows)[:-1] * ALIGNED)
        return [part[:size].reshape(shape)
                for part, size, shape in zip(parts, self._sizes, self._shapes, strict=True)]

    def unpack(self, flat: tf.Tensor, probe: tf.Tensor | None) -> list[tf.Tensor]:
        """As `cut`, for tensors, with the gradient of all weights sent to the probe in one concatenation."""
        if probe is None:
            # Or the gradient of a branch would go on to the variables it reads, and be thrown away.
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


def _sizes(shapes: Sequence[tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes)


def _flat(values: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *(np.ravel(np.asarray(v, np.float32)) for v in values)])
