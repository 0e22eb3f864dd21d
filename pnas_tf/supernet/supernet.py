"""The supernet (paper section 3.1): all ops of all choices, the alphas, and methods that run one path."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from pnas_tf.network import keras_settings
from pnas_tf.space import blocks, memory
from pnas_tf.space.arch import Arch, from_path
from pnas_tf.space.blocks import Space
from pnas_tf.supernet import gates
from pnas_tf.supernet.loss_scale import LossScale
from pnas_tf.supernet.mixed_op import MixedOp, new_probe

# Type that ops compute in, by the name of the Keras policy.
PRECISIONS = {"float32": "float32", "mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


def set_graph_optimiser(enabled: bool) -> None:
    """Switches TensorFlow's graph optimiser on or off, for all functions that are compiled from now on.

    For a supernet, the optimiser doubles the time to the first step and makes no step faster.

    Args:
        enabled: Whether the optimiser runs.
    """
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not enabled})


class Supernet(keras.Model):
    """The over-parameterised network of a space (paper section 3.1).

    Attributes:
        space: Space that the supernet covers.
        mixed_ops: All blocks with their candidates, stem to head.
        alphas: Architecture parameters of all choices, float32 [choices, ops], one matrix for each goal of the search;
            unused entries stay 0.
        mask: Entries of an alpha that are used, bool [choices, ops].
        loss_scale: Loss scale for gradients in float16.
    """

    def __init__(self, space: Space, seed: int = 0, recompute: bool = False, precision: str = "float32", goals: int = 1,
                 share: str = "none", frozen: bool = False, lowered: bool = False, **kwargs):
        """Creates all weights.

        Args:
            space: Space with at least one choice.
            seed: Seed of the initial weights and alphas; alphas are normal with standard deviation 1e-3.
            recompute: Whether the backward pass runs ops a second time instead of keeping their activations: see
                `MixedOp`.
            precision: Type that ops compute in, one of `PRECISIONS`. Weights, statistics, gates, alphas and losses
                are always float32.
            goals: Number of goals, each with an alpha of its own.
            share: What the ops of a block share: `none`, or `kernels` for slices of one set of weights, see
                `shared_weights`.
            frozen: Whether batch norm keeps its statistics, scales and offsets as they are.
            lowered: Whether switches become nodes of the step's graph, as XLA needs: see `switch.Switch`. On GPUs they
                always do.
            **kwargs: Arguments of `keras.Model`.

        Raises:
            InputError: If Keras has settings of another project, or the supernet does not fit in memory.
        """
        keras_settings.check()
        memory.check_space(space)
        super().__init__(name=f"supernet_{space.name}", **kwargs)
        keras.utils.set_random_seed(seed)
        self.space = space
        self._precision = PRECISIONS[precision]
        self.loss_scale = LossScale(self._precision)
        lowered = lowered or bool(tf.config.list_physical_devices("GPU"))
        self.mixed_ops = _mixed_ops(space, recompute, share == "kernels", frozen, lowered)
        self.mask = blocks.op_mask(space)
        start = 1e-3 * np.random.default_rng(seed).standard_normal(self.mask.shape) * self.mask
        self.alphas = [self.add_weight(name="alpha", shape=self.mask.shape, dtype="float32", trainable=False,
                                       initializer=lambda shape, dtype: start.astype("float32"))
                       for _ in range(goals)]
        self._rows = {name: row for row, name in enumerate(space.choices)}
        self.built = True

    def call(self, images: tf.Tensor, path: tf.Tensor | None = None) -> tf.Tensor:
        """Logits of one path; batch norm normalises by the batch.

        Args:
            images: Images, [batch, height, width, channels].
            path: Op indices, int32 [choices]; None for the most probable path.

        Returns:
            Logits, float32 [batch, classes].
        """
        indices = tf.unstack(self.best_path() if path is None else path)
        return self._thread(images, lambda op, x: op.run_path(x, self._candidate(op, indices)))

    @property
    def alpha(self) -> keras.Variable:
        """The alpha of the first goal."""
        return self.alphas[0]

    def probs(self, goal: int = 0) -> tf.Tensor:
        """Probabilities of the ops.

        Args:
            goal: Index of the goal.

        Returns:
            float32 [choices, ops]; rows sum to 1.
        """
        return gates.probabilities(self.alphas[goal].value, self.mask)

    def best_path(self) -> tf.Tensor:
        """The most probable op of each choice for the first goal, int32 [choices]."""
        return tf.argmax(self.probs(), axis=-1, output_type=tf.int32)

    def run_path(self, images: tf.Tensor, path: tf.Tensor, probes: list[tf.Tensor]) -> tf.Tensor:
        """Logits of one path in a weight step.

        Args:
            images: Images, [batch, height, width, channels].
            path: Op indices, int32 [choices].
            probes: Probes of all blocks, from `probes()`; they receive the gradients of the path's weights.

        Returns:
            Logits, float32 [batch, classes].
        """
        probe_of, indices = dict(zip(self.mixed_ops, probes, strict=True)), tf.unstack(path)
        return self._thread(images, lambda op, x: op.run_path(x, self._candidate(op, indices), probe_of[op]))

    def run_gated(self, images: tf.Tensor, active: tf.Tensor, others: list[list[tf.Tensor | int]],
                  gate_rows: list[tf.Tensor]) -> tf.Tensor:
        """Logits of one path with binary gates, in an architecture step: see `MixedOp.run_gated`.

        Args:
            images: Images, [batch, height, width, channels].
            active: Op indices of the path, int32 [choices].
            others: Further ops to observe, for each choice.
            gate_rows: Gates of each choice, float32 [1 + others], the active op's first; they receive the gradients.
                Choices of filters have no gates.

        Returns:
            Logits, float32 [batch, classes].
        """
        indices = tf.unstack(active)

        def run(op, x):
            index, row = self._candidate(op, indices), self._rows.get(op.block.name)
            return op.run_path(x, index) if row is None else op.run_gated(x, index, others[row], gate_rows[row])

        return self._thread(images, run)

    def probes(self) -> list[tf.Tensor]:
        """Probes of all blocks, with respect to which a weight step differentiates: see `mixed_op.new_probe`."""
        return [new_probe() for _ in self.mixed_ops]

    def update(self, path: tf.Tensor, gradients: list[tf.Tensor], learning_rate: tf.Tensor, momentum: float,
               weight_decay: float) -> None:
        """Applies the probes' gradients to the weights of a path; all other weights stay unchanged.

        Args:
            path: Op indices, int32 [choices], as in `run_path`.
            gradients: Gradients of the loss with respect to the probes.
            learning_rate: Learning rate, scalar.
            momentum: Nesterov momentum: see `Candidate.update`.
            weight_decay: Coupled weight decay: see `Candidate.update`.
        """
        indices = tf.unstack(path)
        for mixed_op, gradient in zip(self.mixed_ops, gradients, strict=True):
            mixed_op.update(self._candidate(mixed_op, indices), gradient, learning_rate, momentum, weight_decay)

    def arch(self, path: np.ndarray) -> Arch:
        """The arch of a path of op indices [choices]."""
        return from_path(self.space, path)

    def path(self, arch: Arch) -> np.ndarray:
        """The op indices of an arch of this space, int32 [choices]."""
        return arch.path_in(self.space)

    def copy_weights_to(self, model: keras.Model, arch: Arch) -> None:
        """Gives a derived network the weights and statistics that its ops have in the supernet.

        Args:
            model: Network from `build_network(arch)`.
            arch: Arch of this supernet's space.
        """
        path = self.path(arch)
        for mixed_op in self.mixed_ops:
            candidate = mixed_op.candidates[self._candidate(mixed_op, path) or 0]
            for name, weights in (candidate.layer_weights() if candidate else {}).items():
                model.get_layer(name).set_weights(weights)

    def count_weights(self) -> int:
        """Number of trainable weights of all ops, without alphas and statistics."""
        shared = [cells for mixed_op in self.mixed_ops for cells in mixed_op.shared]
        own = [candidate for mixed_op in self.mixed_ops for candidate in mixed_op.candidates
               if candidate and candidate.kernel is not None]
        return sum(each.weights_count for each in (*shared, *own))

    def _thread(self, images, run):
        mixed_ops = iter(self.mixed_ops)

        def run_block(block, values):
            x = values[0] if len(values) == 1 else tf.add_n(values)
            return run(next(mixed_ops), x)

        return tf.cast(self.space.thread(tf.cast(images, self._precision), run_block), tf.float32)

    def _candidate(self, mixed_op, path):
        """Index of the candidate of a block that a path of op indices takes; None if there is only one."""
        index = None
        for name in self.space.axes(mixed_op.block):
            own = path[self._rows[name]]
            index = own if index is None else index * len(self.space.choices[name].ops) + own
        return index


def _mixed_ops(space, *settings):
    """All blocks with their candidates; blocks that compute the same share a body."""
    by_keys, mixed_ops = {}, []
    for block in space.all_blocks:
        keys = tuple(dataclasses.replace(key, summed=1) for key in space.keys(block))  # the supernet adds up the inputs
        mixed_ops.append(MixedOp(block, keys, *settings, like=by_keys.get(keys)))
        by_keys.setdefault(keys, mixed_ops[-1])
    return mixed_ops
