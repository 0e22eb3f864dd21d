"""A block of the supernet: its candidate ops, of which one path (or two) runs.

`tf.switch_case` runs the sampled branch alone. Gradients do not go to the candidates' variables (TensorFlow
would fill in zeros for every op that was not sampled) but to a probe, one vector whose length is that of the
sampled op's weights, and the branch of that op applies it to its own variables. What was not sampled is
neither read nor written. A block with a single op has no branch.
"""

import functools
from collections.abc import Sequence

import keras
import tensorflow as tf

from pnas_tf import gates, ops
from pnas_tf.candidate import Candidate
from pnas_tf.space import Block, OpKey


class MixedOp(keras.layers.Layer):
    """One block with all its candidates.

    Attributes:
        block: the block.
        candidates: one for each op, None for `zero`.
    """

    def __init__(self, block: Block, input_shape: tuple[int, int, int], recompute: bool = False, **kwargs):
        """Creates the candidates.

        Args:
            block: of the space.
            input_shape: height, width, channels that enter it.
            recompute: whether to keep only the block's input for the gradient and run the op again: less memory,
                more time.
            **kwargs: of the Keras layer.
        """
        super().__init__(name=block.name, **kwargs)
        self.block, self._recompute = block, recompute
        self._input_shape = input_shape
        self.candidates = [
            None if op == ops.ZERO else
            Candidate(OpKey(op, input_shape, block.filters, block.strides, block.shortcut), f"{block.name}_{op}")
            for op in block.ops]
        self.built = True

    def run_path(self, x: tf.Tensor, index: tf.Tensor | None, probe: tf.Tensor | None = None) -> tf.Tensor:
        """The block with one op.

        Args:
            x: [batch, height, width, channels].
            index: scalar int32, the op; None for a block with a single op.
            probe: from `new_probe`, takes the gradient of the op's weights, and then the op's batch norm statistics
                move; None to run without either.

        Returns:
            The block's output, shortcut included.
        """

        def run(candidate, x, probe, update_stats):
            if candidate is None:
                return tf.identity(x)
            y = candidate.run(x, probe=probe, update_stats=update_stats)
            return x + y if self.block.shortcut else y

        return self._run(run, x, index, probe)

    def run_gated(self, x: tf.Tensor, active: tf.Tensor, others: Sequence[tf.Tensor | int], gate: tf.Tensor,
                  ) -> tf.Tensor:
        """The block with binary gates: one op is active, others are only observed.

        Args:
            x: [batch, height, width, channels].
            active: scalar int32, the op that runs with a gradient to x.
            others: of each further gate the op, scalar int32; the active op may be among them and is not run again.
            gate: float32 [1 + others], takes the gradient of each op's gate, the active one's first.

        Returns:
            The block's output with the active op, shortcut included.
        """

        def run(candidate, x, probe, update_stats):
            return tf.zeros_like(x) if candidate is None else candidate.run(x)

        def observe(upstream, output):
            still = _after(upstream, x)
            own = gates.product(upstream, output)
            return tf.stack([own, *(self._observed(upstream, still, active, other, own) for other in others)])

        y = gates.binary_gate(gate, self._run(run, x, active, None), observe)
        return x + y if self.block.shortcut else y

    def update(self, index: tf.Tensor | None, gradient: tf.Tensor, learning_rate: tf.Tensor, momentum: float,
               weight_decay: float) -> None:
        """Applies the probe's gradient to the op that ran; no other op is touched.

        Args:
            index: as in `run_path`.
            gradient: of the probe.
            learning_rate: scalar.
            momentum: of SGD.
            weight_decay: of SGD.
        """

        def branch(candidate):
            def run():
                if candidate is not None:
                    candidate.update(gradient, learning_rate, momentum, weight_decay)
                return tf.constant(0)

            return run

        branches = [branch(candidate) for candidate in self.candidates]
        branches[0]() if index is None else tf.switch_case(index, branches)

    def _observed(self, upstream, x, active, other, own):
        """<dL/dy, o> of an op that is not on the path; the active op's own product if it is that."""

        def branch(candidate):
            return lambda: tf.constant(0.0) if candidate is None else gates.product(upstream, candidate.run(x))

        branches = [branch(candidate) for candidate in self.candidates]
        if isinstance(other, int):
            return tf.cond(tf.equal(active, other), lambda: own, branches[other])
        return tf.switch_case(other, branches)

    def _run(self, run, x, index, probe):
        """`run(candidate, x, probe, update_stats)` of the op at `index`, or of the only one."""
        if not self._recompute:
            return self._switch(index, [functools.partial(run, candidate, x, probe, probe is not None)
                                        for candidate in self.candidates], x)
        return self._recomputed(run, x, index, new_probe() if probe is None else probe, probe is not None)

    def _recomputed(self, run, x, index, probe, update_stats):
        """As `_run`, keeping nothing but x for the gradient: the op runs once more in the backward pass."""

        @tf.custom_gradient
        def forward(x, probe):
            y = self._switch(index, [functools.partial(run, candidate, x, None, update_stats)
                                     for candidate in self.candidates], x)

            def gradient(upstream, variables=None):
                again = _after(upstream, x)

                def branch(candidate):
                    def differentiate():
                        inner = new_probe()
                        with tf.GradientTape(watch_accessed_variables=False) as tape:
                            tape.watch([again, inner])
                            y = run(candidate, again, inner if update_stats else None, False)
                        return tape.gradient(y, [again, inner], upstream, unconnected_gradients="zero")

                    return differentiate

                gradients = self._switch(index, [branch(candidate) for candidate in self.candidates])
                return tuple(gradients) if variables is None else (tuple(gradients), [None] * len(variables))

            return y, gradient

        return forward(x, probe)

    def _switch(self, index, branches, x=None):
        if len(branches) == 1:
            return branches[0]()
        y = tf.switch_case(index, branches)
        if x is not None and len(x.shape) == 4:
            side = [-(-size // self.block.strides) for size in self._input_shape[:2]]
            y.set_shape([x.shape[0], *side, self.block.filters])
        return y


def _after(upstream: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """x, not before upstream is there.

    Without it TensorFlow runs what belongs to the backward pass of every block as soon as x is known, and
    keeps all of it. It has no effect inside a branch.
    """
    with tf.control_dependencies([upstream]):
        return tf.stop_gradient(tf.identity(x))


def new_probe() -> tf.Tensor:
    """What a weight step differentiates by in place of a block's weights.

    Its length is unknown to the graph, since each candidate has its own; its value is never read.
    """
    return tf.raw_ops.PlaceholderWithDefault(input=tf.zeros([1]), shape=[None])
