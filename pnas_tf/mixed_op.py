"""A block of the supernet: its candidate ops, of which one path (or two) runs.

`tf.switch_case` runs the sampled branch alone. Gradients do not go to the candidates' variables (TensorFlow
would fill in zeros for every op that was not sampled) but to a probe, one vector whose length is that of the
sampled op's weights, and the branch of that op applies it to its own variables. What was not sampled is
neither read nor written. A block with a single op has no branch.
"""

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

    def __init__(self, block: Block, input_shape: tuple[int, int, int], **kwargs):
        """Creates the candidates.

        Args:
            block: of the space.
            input_shape: height, width, channels that enter it.
            **kwargs: of the Keras layer.
        """
        super().__init__(name=block.name, **kwargs)
        self.block = block
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

        def branch(candidate):
            def run():
                if candidate is None:
                    return tf.identity(x)
                y = candidate.run(x, probe=probe, update_stats=probe is not None)
                return x + y if self.block.shortcut else y

            return run

        return self._switch(x, index, [branch(candidate) for candidate in self.candidates])

    def run_gated(self, x: tf.Tensor, involved: tf.Tensor, gate: tf.Tensor) -> tf.Tensor:
        """The block with binary gates over the involved ops: the first is active, the others only observed.

        Args:
            x: [batch, height, width, channels].
            involved: int32 [k], ops; the first is active, a negative index stands for no op.
            gate: float32 [k], takes the gradient of each op's gate.

        Returns:
            The block's output with the active op, shortcut included.
        """
        active = self._op_output(x, involved[0])
        still = tf.stop_gradient(x)
        others = [self._op_output(still, tf.maximum(involved[k], 0)) for k in range(1, involved.shape[0])]
        y = gates.binary_gate(gate, active, *others)
        return x + y if self.block.shortcut else y

    def run_all_gated(self, x: tf.Tensor, active: tf.Tensor, gate: tf.Tensor) -> tf.Tensor:
        """As `run_gated` with every op observed: gate is float32 [ops], active a scalar int32."""
        output = self._op_output(x, active)
        still = tf.stop_gradient(x)
        others = [branch() for branch in self._op_branches(still)]
        # The active op is one of the others too: its gate gradient is read there, the first one is dropped.
        y = gates.binary_gate(tf.concat([[0.0], gate], 0), output, *others)
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

    def _op_output(self, x, index):
        return self._switch(x, index, self._op_branches(x))

    def _op_branches(self, x):
        def branch(candidate):
            return lambda: tf.zeros_like(x) if candidate is None else candidate.run(x)

        return [branch(candidate) for candidate in self.candidates]

    def _switch(self, x, index, branches):
        if len(branches) == 1:
            return branches[0]()
        y = tf.switch_case(index, branches)
        if len(x.shape) == 4:
            side = [-(-size // self.block.strides) for size in self._input_shape[:2]]
            y.set_shape([x.shape[0], *side, self.block.filters])
        return y


def new_probe() -> tf.Tensor:
    """What a weight step differentiates by in place of a block's weights.

    Its length is unknown to the graph, since each candidate has its own; its value is never read.
    """
    return tf.raw_ops.PlaceholderWithDefault(input=tf.zeros([1]), shape=[None])
