"""A block of the supernet: its candidate ops, of which one path (or two) runs.

`tf.switch_case` runs the sampled branch alone. Gradients do not go to the candidates' variables (TensorFlow
would fill in zeros for every op that was not sampled) but to a probe, one vector whose length is that of the
sampled op's weights, and the branch of that op applies it to its own variables. What was not sampled is
neither read nor written. A block with a single op has no branch.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from pnas_tf.network import layers as fast_layers
from pnas_tf.space import ops
from pnas_tf.space.blocks import Block, OpKey
from pnas_tf.supernet import gates
from pnas_tf.supernet.candidate import Candidate, Handles


class MixedOp(keras.layers.Layer):
    """One block with all its candidates.

    Attributes:
        block: the block.
        candidates: one for each op, None for `zero`.
    """

    def __init__(self, block: Block, input_shape: tuple[int, int, int], recompute: bool = False,
                 like: "MixedOp | None" = None, **kwargs):
        """Creates the candidates.

        Args:
            block: of the space.
            input_shape: height, width, channels that enter it.
            recompute: whether to keep only the block's input for the gradient and run the op again: less memory,
                more time.
            like: a block of the same `signature`, whose body runs here too, with the variables of this one.
            **kwargs: of the Keras layer.
        """
        super().__init__(name=block.prefix, **kwargs)
        self.block = block
        models: Sequence[Candidate | None] = like.candidates if like else [None] * len(block.ops)
        self.candidates: list[Candidate | None] = [
            None if op == ops.ZERO else
            Candidate(OpKey(op, input_shape, block.filters, block.strides, block.shortcut), block.layer_name(op), model)
            for op, model in zip(block.ops, models, strict=True)]
        self.body: Body = like.body if like else Body(block, input_shape, self.candidates, recompute)
        self.body.users += 1
        self.built = True

    @staticmethod
    def signature(block: Block, input_shape: tuple[int, int, int]) -> tuple:
        """What two blocks must have in common to share a body."""
        return block.ops, input_shape, block.filters, block.strides, block.shortcut

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
        return self.body.call("run_path", x, index, probe, self._handles(stats=probe is not None))

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
        return self.body.call("run_gated", x, active, list(others), gate, self._handles())

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
        self.body.call("update", index, gradient, learning_rate, momentum, weight_decay, self._handles(momentum=True))

    def _handles(self, stats: bool = False, momentum: bool = False) -> list[Handles]:
        """The variables of each candidate that a body needs: every one more costs time to the first step."""
        return [candidate.handles(stats, momentum) if candidate else () for candidate in self.candidates]


class Body:
    """What blocks of one signature compute: functions of tensors and of the handles of a block's variables.

    The body of a single block is part of the step's graph. One that serves several is a TensorFlow function of its own,
    traced once: a tree space of 648 choices has 41 kinds of them.

    Attributes:
        users: number of blocks that it serves.
    """

    def __init__(self, block: Block, input_shape: tuple[int, int, int], candidates: Sequence[Candidate | None],
                 recompute: bool):
        """Prepares the body.

        Args:
            block: one of those that it serves.
            input_shape: height, width, channels that enter.
            candidates: of that block; only their code is used.
            recompute: see `MixedOp`.
        """
        self._block, self._input_shape, self._candidates, self._recompute = block, input_shape, candidates, recompute
        # A block without a layer costs less than a call would.
        self._may_share = any(candidate.layer_names for candidate in candidates if candidate)
        self._compiled: dict[str, Callable] = {}
        self.users = 0

    def call(self, name: str, *args: Any) -> Any:
        """One of the methods below, by name."""
        method = getattr(self, name)
        if self.users < 2 or not self._may_share or tf.executing_eagerly():
            return method(*args)
        if name not in self._compiled:
            # Inlined, the graph would be as large as if nothing was shared.
            self._compiled[name] = tf.function(method, autograph=False, experimental_attributes={"_noinline": True})
        return self._compiled[name](*args)

    def run_path(self, x: tf.Tensor, index: tf.Tensor | None, probe: tf.Tensor | None,
                 handles: Sequence[Handles]) -> tf.Tensor:
        """As `MixedOp.run_path`, with the handles of each candidate."""

        def run(candidate, own, x, probe, update_stats):
            if candidate is None:
                return tf.identity(x)
            y = candidate.run(x, probe=probe, update_stats=update_stats, handles=own)
            return x + y if self._block.shortcut else y

        return self._run(run, handles, x, index, probe)

    def run_gated(self, x: tf.Tensor, active: tf.Tensor, others: Sequence[tf.Tensor | int], gate: tf.Tensor,
                  handles: Sequence[Handles]) -> tf.Tensor:
        """As `MixedOp.run_gated`, with the handles of each candidate."""

        def run(candidate, own, x, probe, update_stats):
            return tf.zeros_like(x) if candidate is None else candidate.run(x, handles=own)

        def observe(upstream, output):
            still = fast_layers.after(upstream, x)
            own = gates.product(upstream, output)
            return tf.stack([own, *(self._observed(upstream, still, active, other, own, handles) for other in others)])

        y = gates.binary_gate(gate, self._run(run, handles, x, active, None), observe)
        return x + y if self._block.shortcut else y

    def update(self, index: tf.Tensor | None, gradient: tf.Tensor, learning_rate: tf.Tensor, momentum: float,
               weight_decay: float, handles: Sequence[Handles]) -> tf.Tensor:
        """As `MixedOp.update`, with the handles of each candidate."""

        def branch(candidate, own):
            def run():
                if candidate is not None:
                    candidate.update(gradient, learning_rate, momentum, weight_decay, handles=own)
                return tf.constant(0)

            return run

        branches = [branch(*each) for each in zip(self._candidates, handles, strict=True)]
        return branches[0]() if index is None else tf.switch_case(index, branches)

    def _observed(self, upstream, x, active, other, own, handles):
        """<dL/dy, o> of an op that is not on the path; the active op's own product if it is that."""

        def branch(candidate, resources):
            return lambda: (tf.constant(0.0) if candidate is None else
                            gates.product(upstream, candidate.run(x, handles=resources)))

        branches = [branch(*each) for each in zip(self._candidates, handles, strict=True)]
        if isinstance(other, int):
            return tf.cond(tf.equal(active, other), lambda: own, branches[other])
        return tf.switch_case(other, branches)

    def _run(self, run, handles, x, index, probe):
        """`run(candidate, handles, x, probe, update_stats)` of the op at `index`, or of the only one."""
        if not self._recompute:
            return self._switch(index, [functools.partial(run, candidate, own, x, probe, probe is not None)
                                        for candidate, own in zip(self._candidates, handles, strict=True)], x)
        return self._recomputed(run, handles, x, index, new_probe() if probe is None else probe, probe is not None)

    def _recomputed(self, run, handles, x, index, probe, update_stats):
        """As `_run`, keeping nothing but x for the gradient: the op runs once more in the backward pass."""
        each = list(zip(self._candidates, handles, strict=True))

        @tf.custom_gradient
        def forward(x, probe):
            y = self._switch(index, [functools.partial(run, candidate, own, x, None, update_stats)
                                     for candidate, own in each], x)

            def gradient(upstream, variables=None):
                again = fast_layers.after(upstream, x)

                def branch(candidate, own):
                    def differentiate():
                        inner = new_probe()
                        with tf.GradientTape(watch_accessed_variables=False) as tape:
                            tape.watch([again, inner])
                            y = run(candidate, own, again, inner if update_stats else None, False)
                        return tape.gradient(y, [again, inner], upstream, unconnected_gradients="zero")

                    return differentiate

                gradients = self._switch(index, [branch(*one) for one in each])
                return tuple(gradients) if variables is None else (tuple(gradients), [None] * len(variables))

            return y, gradient

        return forward(x, probe)

    def _switch(self, index, branches, x=None):
        if len(branches) == 1:
            return branches[0]()
        y = tf.switch_case(index, branches)
        if x is not None and len(x.shape) == 4:
            side = [-(-size // self._block.strides) for size in self._input_shape[:2]]
            y.set_shape([x.shape[0], *side, self._block.filters])
        return y


def new_probe() -> tf.Tensor:
    """What a weight step differentiates by in place of a block's weights.

    Its length is unknown to the graph, since each candidate has its own; its value is never read.
    """
    return tf.raw_ops.PlaceholderWithDefault(input=tf.zeros([1]), shape=[None])
