"""The supernet: every op of every choice, one alpha matrix, and the ways to run a path through it."""

import keras
import numpy as np
import tensorflow as tf

from pnas_tf.space import blocks
from pnas_tf.space.arch import Arch, from_path
from pnas_tf.space.blocks import Space
from pnas_tf.supernet import gates
from pnas_tf.supernet.loss_scale import LossScale
from pnas_tf.supernet.mixed_op import MixedOp, new_probe

# What ops compute in, by the name of the Keras policy.
PRECISIONS = {"float32": "float32", "mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


def set_graph_optimiser(enabled: bool) -> None:
    """Switches TensorFlow's graph optimiser, for functions that are compiled from now on.

    It doubles the seconds to the first step of a supernet and gains nothing in the steps.
    """
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not enabled})


class Supernet(keras.Model):
    """The over-parameterised network of a space.

    Attributes:
        space: what it was made from.
        mixed_ops: one for each block, stem to head.
        alphas: one for each goal that is searched for: float32 [choices, ops], architecture parameters of all
            choices; unused entries stay 0.
        mask: bool [choices, ops], which entries are used.
        loss_scale: for gradients in float16.
    """

    def __init__(self, space: Space, seed: int = 0, recompute: bool = False, precision: str = "float32", goals: int = 1,
                 **kwargs):
        """Creates all weights.

        Args:
            space: at least one choice.
            seed: of the initial weights and alphas (normal with deviation 1e-3).
            recompute: whether gradients run ops a second time instead of keeping what they need: see `MixedOp`.
            precision: one of `PRECISIONS`; what ops compute in. Weights, statistics, gates, alpha and losses are
                float32 in each.
            goals: number of alphas.
            **kwargs: of the Keras model.
        """
        super().__init__(name=f"supernet_{space.name}", **kwargs)
        keras.utils.set_random_seed(seed)
        self.space = space
        self._precision = PRECISIONS[precision]
        self.loss_scale = LossScale(self._precision)
        self.mixed_ops = _mixed_ops(space, recompute)
        self.mask = blocks.op_mask(space)
        start = 1e-3 * np.random.default_rng(seed).standard_normal(self.mask.shape) * self.mask
        self.alphas = [self.add_weight(name="alpha", shape=self.mask.shape, dtype="float32", trainable=False,
                                       initializer=lambda shape, dtype: start.astype("float32"))
                       for _ in range(goals)]
        self._positions = {name: row for row, name in enumerate(space.choices)}
        self.built = True

    def call(self, images: tf.Tensor, path: tf.Tensor | None = None) -> tf.Tensor:
        """Logits [batch, classes] of one path, by batch statistics; of the most probable one if None."""
        path = self.best_path() if path is None else path
        return self._thread(images, lambda op, x, row: op.run_path(x, None if row is None else path[row]))

    @property
    def alpha(self) -> keras.Variable:
        """The alpha of the first goal."""
        return self.alphas[0]

    def probs(self, goal: int = 0) -> tf.Tensor:
        """Probabilities of the ops for a goal, float32 [choices, ops]."""
        return gates.probabilities(self.alphas[goal].value, self.mask)

    def best_path(self) -> tf.Tensor:
        """The most probable op of each choice, int32 [choices]."""
        return tf.argmax(self.probs(), axis=-1, output_type=tf.int32)

    def run_path(self, images: tf.Tensor, path: tf.Tensor, probes: list[tf.Tensor]) -> tf.Tensor:
        """Logits of one path in a weight step.

        Args:
            images: [batch, height, width, channels].
            path: int32 [choices].
            probes: from `probes()`, one for each block; they take the gradients of the weights that ran.

        Returns:
            Logits [batch, classes].
        """
        probe_of = dict(zip(self.mixed_ops, probes, strict=True))
        return self._thread(images, lambda op, x, row: op.run_path(x, None if row is None else path[row], probe_of[op]))

    def run_gated(self, images: tf.Tensor, active: tf.Tensor, others: list[list[tf.Tensor | int]],
                  gate_rows: list[tf.Tensor]) -> tf.Tensor:
        """Logits of one path with binary gates, in an architecture step: see `MixedOp.run_gated`.

        Args:
            images: [batch, height, width, channels].
            active: int32 [choices], the path.
            others: for each choice the further ops to observe.
            gate_rows: for each choice float32 [1 + others], the active op's gate first; they take the gradients.

        Returns:
            Logits [batch, classes].
        """
        return self._thread(images, lambda op, x, row: op.run_path(x, None) if row is None else
                            op.run_gated(x, active[row], others[row], gate_rows[row]))

    def probes(self) -> list[tf.Tensor]:
        """One for each block: what a weight step differentiates by. See `mixed_op.new_probe`."""
        return [new_probe() for _ in self.mixed_ops]

    def update(self, path: tf.Tensor, gradients: list[tf.Tensor], learning_rate: tf.Tensor, momentum: float,
               weight_decay: float) -> None:
        """Applies the probes' gradients to the weights of a path; all other weights stay untouched.

        Args:
            path: int32 [choices], as in `run_path`.
            gradients: of the probes.
            learning_rate: scalar.
            momentum: of SGD with Nesterov momentum.
            weight_decay: of SGD.
        """
        for mixed_op, gradient in zip(self.mixed_ops, gradients, strict=True):
            row = self._positions.get(mixed_op.block.name)
            mixed_op.update(None if row is None else path[row], gradient, learning_rate, momentum, weight_decay)

    def arch(self, path: np.ndarray) -> Arch:
        """The arch of a path of op indices [choices]."""
        return from_path(self.space, path)

    def path(self, arch: Arch) -> np.ndarray:
        """The op indices of an arch of this space, int32 [choices]."""
        return np.array([block.ops.index(arch.ops[name]) for name, block in self.space.choices.items()], np.int32)

    def copy_weights_to(self, model: keras.Model, arch: Arch) -> None:
        """Gives a derived network the weights and statistics that its ops have here.

        Args:
            model: `build_network(arch)`.
            arch: of this supernet's space.
        """
        for mixed_op in self.mixed_ops:
            candidate = mixed_op.candidates[mixed_op.block.ops.index(arch.op_of(mixed_op.block))]
            for name, weights in (candidate.layer_weights() if candidate else {}).items():
                model.get_layer(name).set_weights(weights)

    def count_weights(self) -> int:
        """Trainable weights of all ops; alphas and statistics not counted."""
        return sum(candidate.weights_count
                   for mixed_op in self.mixed_ops for candidate in mixed_op.candidates if candidate)

    def _thread(self, images, run):
        mixed_ops = iter(self.mixed_ops)

        def run_block(block, values):
            x = values[0] if len(values) == 1 else tf.add_n(values)
            return run(next(mixed_ops), x, self._positions.get(block.name))

        return tf.cast(self.space.thread(tf.cast(images, self._precision), run_block), tf.float32)


def _mixed_ops(space, recompute):
    """One for each block; in spaces of cells, those that compute the same share a body.

    A body that is shared is traced once, which many choices need; its call makes steps 2 to 4 % slower, which
    the few blocks of a chain do without.
    """
    shapes, known, found = space.input_shapes(), {}, []
    for block in space.all_blocks:
        signature = MixedOp.signature(block, shapes[block.name])
        found.append(MixedOp(block, shapes[block.name], recompute, like=known.get(signature)))
        if not space.is_chain:
            known.setdefault(signature, found[-1])
    return found
