"""A block of the supernet with its candidate ops. One of them runs in a weight step, several in an architecture step.

`tf.switch_case` runs the branch of the sampled op alone. Gradients do not go to the candidates' variables, since
TensorFlow would fill in zeros for every op that was not sampled. Instead, they go to a probe, a vector as long as the
sampled op's weights, and the branch of that op applies the gradient to its own variables. Ops that were not sampled are
neither read nor written. A block with a single op has no branch.

Where filters are searched, each op has a candidate for each of its widths, in the order of `Space.keys`. The index of
a candidate combines the op and the widths. The widths share weights (`shared_weights.py`).
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from pnas_tf.network import layers as fast_layers
from pnas_tf.space import ops
from pnas_tf.space.blocks import Block, OpKey
from pnas_tf.supernet import gates, shared_weights
from pnas_tf.supernet.candidate import Candidate, Handles, Recorded, record


class MixedOp(keras.layers.Layer):
    """A block with all its candidates.

    Attributes:
        block: Block of the space.
        candidates: Candidates in the order of the block's ops and widths, None for `zero`.
        widths: Number of candidates of each op: the widths that it may have.
        shared: Weights that several of its candidates share; none if every candidate has weights of its own.
        body: Functions that run and update the block's ops; blocks of the same keys may share them.
    """

    def __init__(self, block: Block, keys: Sequence[OpKey], recompute: bool = False,
                 share: bool = False, like: "MixedOp | None" = None, **kwargs):
        """Creates the candidates.

        Args:
            block: Block of the space.
            keys: Keys of its candidates, see `Space.keys`.
            recompute: Whether only the block's input is kept for the backward pass, which then runs the op again. This
                takes less memory and more time.
            share: Whether ops of one type are slices of one set of weights: see `shared_weights`.
            like: Block of the same keys, whose body the new block shares; it has its own variables.
            **kwargs: Arguments of `keras.layers.Layer`.
        """
        super().__init__(name=block.prefix, **kwargs)
        self.block, self.widths = block, len(keys) // len(block.ops)
        models: Sequence[Candidate | None] = like.candidates if like else [None] * len(keys)
        labels = [_label(key, self.widths) for key in keys]
        recorded = {label: record(key, block.layer_name(key.op), model)
                    for label, key, model in zip(labels, keys, models, strict=True) if key.op != ops.ZERO}
        self.shared = list(_shared(block, dict(zip(labels, keys, strict=True)), recorded, share, self.widths > 1))
        slices = {label: each for shared in self.shared for label, each in shared.slices.items()}
        self.candidates: list[Candidate | None] = [
            None if key.op == ops.ZERO else
            Candidate(key, block.layer_name(key.op), recorded[label], slices.get(label), name=block.layer_name(label))
            for label, key in zip(labels, keys, strict=True)]
        self.body: Body = like.body if like else Body(block, keys, self.candidates, recompute)
        self.body.users += 1
        self.built = True

    def run_path(self, x: tf.Tensor, index: tf.Tensor | None, probe: tf.Tensor | None = None) -> tf.Tensor:
        """Runs the block with one op.

        Args:
            x: Input, [batch, height, width, channels].
            index: Index of the candidate, scalar int32; None for a block with a single one.
            probe: Probe from `new_probe` that receives the gradient of the op's weights; the op's batch norm
                statistics are then updated, too. None for no gradient and no update.

        Returns:
            The block's output, shortcut included.
        """
        return self.body.call("run_path", x, index, probe, self._handles(stats=probe is not None))

    def run_gated(self, x: tf.Tensor, active: tf.Tensor, others: Sequence[tf.Tensor | int], gate: tf.Tensor,
                  ) -> tf.Tensor:
        """Runs the block with binary gates (paper equation 3): one op is active, others are only observed.

        Args:
            x: Input, [batch, height, width, channels].
            active: Index of the candidate that runs with a gradient to x, scalar int32.
            others: Index of the op of each further gate, scalar int32; it runs at the widths of the active one. The
                active op may be among them; it does not run again.
            gate: Gates, float32 [1 + others], the active op's first; they receive the gradients.

        Returns:
            The block's output with the active op, shortcut included.
        """
        return self.body.call("run_gated", x, active, list(others), gate, self._handles())

    def update(self, index: tf.Tensor | None, gradient: tf.Tensor, learning_rate: tf.Tensor, momentum: float,
               weight_decay: float) -> None:
        """Applies the probe's gradient to the op that ran; no other op changes.

        Args:
            index: Index of the op, as in `run_path`.
            gradient: Gradient of the loss with respect to the probe.
            learning_rate: Learning rate, scalar.
            momentum: Nesterov momentum: see `Candidate.update`.
            weight_decay: Coupled weight decay: see `Candidate.update`.
        """
        self.body.call("update", index, gradient, learning_rate, momentum, weight_decay, self._handles(momentum=True))

    def _handles(self, stats: bool = False, momentum: bool = False) -> list[Handles]:
        """The variables of each candidate that the body needs, and no others: each variable delays the first step."""
        return [candidate.handles(stats, momentum) if candidate else Handles((), None, ())
                for candidate in self.candidates]


def _label(key: OpKey, widths: int) -> str:
    """Name of a candidate in its block: the op, and its widths if it has several: `mb_k3_e6_24x32`."""
    return key.op if widths == 1 else f"{key.op}_{key.input[2]}x{key.filters}"


def _shared(block: Block, keys: dict[str, OpKey], recorded: dict[str, Recorded], share: bool, by_width: bool
            ) -> Iterator[shared_weights.SharedWeights]:
    """One set of weights for each group of candidates: widths of an op or, with `share`, ops of one type and layers."""
    groups: dict[tuple, dict[str, Recorded]] = {}
    for label, each in recorded.items():
        op = keys[label].op
        names = tuple(layer.name.removeprefix(block.layer_name(op)) for layer in each.layers)
        groups.setdefault((ops.parse(op)[0] if share else op, names), {})[label] = each
    for number, ((kind, _), group) in enumerate(groups.items()):
        initial = {label: each.weights for label, each in group.items()}
        if shared_weights.can_share([[value.shape for value in values] for values in initial.values()]):
            name = block.layer_name(f"shared_{number}" if share else f"{kind}_widths")
            yield shared_weights.SharedWeights(name, initial, by_width)


class Body:
    """The computations of all blocks of the same keys, as functions of tensors and of handles of variables.

    The body of a single block is part of the step's graph. A body that serves several blocks is a TensorFlow function
    of its own, traced once: a tree space of 648 choices has only 41 different bodies.

    Attributes:
        users: Number of blocks that the body serves.
    """

    def __init__(self, block: Block, keys: Sequence[OpKey], candidates: Sequence[Candidate | None], recompute: bool):
        """Prepares the body.

        Args:
            block: One of the blocks that the body serves.
            keys: Keys of the candidates.
            candidates: Candidates of that block. Their code is used, but not their variables.
            recompute: Whether the backward pass runs the op again: see `MixedOp`.
        """
        self._block, self._candidates, self._recompute = block, candidates, recompute
        self._widths = len(keys) // len(block.ops)
        filters = {key.filters for key in keys}
        sides = [-(-side // block.strides) for side in keys[0].input[:2] if not ops.is_classifier(keys[0].op)]
        self._output = [*sides, filters.pop() if len(filters) == 1 else None]
        # A block without layers costs less than a call of a function.
        self._may_share = any(candidate.layer_names for candidate in candidates if candidate)
        self._compiled: dict[str, Callable] = {}
        self.users = 0

    def call(self, name: str, *args: Any) -> Any:
        """Calls one of the methods below by name, as a TensorFlow function if several blocks share this body."""
        method = getattr(self, name)
        if self.users < 2 or not self._may_share or tf.executing_eagerly():
            return method(*args)
        if name not in self._compiled:
            # If TensorFlow inlined the function, the graph would be as large as if nothing were shared.
            self._compiled[name] = tf.function(method, autograph=False, experimental_attributes={"_noinline": True})
        return self._compiled[name](*args)

    def run_path(self, x: tf.Tensor, index: tf.Tensor | None, probe: tf.Tensor | None,
                 handles: Sequence[Handles]) -> tf.Tensor:
        """Does what `MixedOp.run_path` does, with the handles of each candidate."""

        def run(candidate, own, x, probe, update_stats):
            if candidate is None:
                return tf.identity(x)
            y = candidate.run(x, probe=probe, update_stats=update_stats, handles=own)
            return x + y if self._block.shortcut else y

        return self._run(run, handles, x, index, probe)

    def run_gated(self, x: tf.Tensor, active: tf.Tensor, others: Sequence[tf.Tensor | int], gate: tf.Tensor,
                  handles: Sequence[Handles]) -> tf.Tensor:
        """Does what `MixedOp.run_gated` does, with the handles of each candidate."""

        def run(candidate, own, x, probe, update_stats):
            return tf.zeros_like(x) if candidate is None else candidate.run(x, handles=own)

        def observe(upstream, output):
            late_x = fast_layers.after(upstream, x)
            own = gates.product(upstream, output)
            return tf.stack([own, *(self._observed(upstream, late_x, active, other, own, handles) for other in others)])

        y = gates.binary_gate(gate, self._run(run, handles, x, active, None), observe)
        return x + y if self._block.shortcut else y

    def update(self, index: tf.Tensor | None, gradient: tf.Tensor, learning_rate: tf.Tensor, momentum: float,
               weight_decay: float, handles: Sequence[Handles]) -> tf.Tensor:
        """Does what `MixedOp.update` does, with the handles of each candidate."""

        def branch(candidate, own):
            def run():
                if candidate is not None:
                    candidate.update(gradient, learning_rate, momentum, weight_decay, handles=own)
                return tf.constant(0)

            return run

        branches = [branch(*pair) for pair in zip(self._candidates, handles, strict=True)]
        return branches[0]() if index is None else tf.switch_case(index, branches)

    def _observed(self, upstream, x, active, other, own, handles):
        """Gradient of another op's gate, `sum(dL/dy * o)`; for the active op it is `own`, which is known already."""

        def branch(candidate, resources):
            return lambda: (tf.constant(0.0) if candidate is None else
                            gates.product(upstream, candidate.run(x, handles=resources)))

        branches = [branch(*pair) for pair in zip(self._candidates, handles, strict=True)]
        if self._widths == 1:
            op, candidate = active, other
        else:
            op, candidate = active // self._widths, other * self._widths + active % self._widths
        if isinstance(other, int):
            of_op = branches[other * self._widths:(other + 1) * self._widths]
            return tf.cond(tf.equal(op, other), lambda: own, of_op[0] if len(of_op) == 1 else
                           lambda: tf.switch_case(active % self._widths, of_op))
        return tf.switch_case(candidate, branches)

    def _run(self, run, handles, x, index, probe):
        """Calls `run(candidate, handles, x, probe, update_stats)` for the op at `index`, or for the only op."""
        if not self._recompute:
            return self._switch(index, [functools.partial(run, candidate, own, x, probe, probe is not None)
                                        for candidate, own in zip(self._candidates, handles, strict=True)], x)
        return self._recomputed(run, handles, x, index, new_probe() if probe is None else probe, probe is not None)

    def _recomputed(self, run, handles, x, index, probe, update_stats):
        """Does what `_run` does, but keeps only x for the backward pass, which runs the op once more."""
        pairs = list(zip(self._candidates, handles, strict=True))

        @tf.custom_gradient
        def forward(x, probe):
            y = self._switch(index, [functools.partial(run, candidate, own, x, None, update_stats)
                                     for candidate, own in pairs], x)

            def gradient(upstream, variables=None):
                late_x = fast_layers.after(upstream, x)

                def branch(candidate, own):
                    def differentiate():
                        inner = new_probe()
                        with tf.GradientTape(watch_accessed_variables=False) as tape:
                            tape.watch([late_x, inner])
                            y = run(candidate, own, late_x, inner if update_stats else None, False)
                        return tape.gradient(y, [late_x, inner], upstream, unconnected_gradients="zero")

                    return differentiate

                gradients = self._switch(index, [branch(*pair) for pair in pairs])
                return tuple(gradients) if variables is None else (tuple(gradients), [None] * len(variables))

            return y, gradient

        return forward(x, probe)

    def _switch(self, index, branches, x=None):
        if len(branches) == 1:
            return branches[0]()
        y = tf.switch_case(index, branches)
        if x is not None and len(x.shape) == 4:
            y.set_shape([x.shape[0], *self._output])
        return y


def new_probe() -> tf.Tensor:
    """A probe: the tensor that stands for a block's weights when a weight step differentiates the loss.

    Its length is unknown to the graph, since the candidates differ in the number of weights. Its value is never read.
    """
    return tf.raw_ops.PlaceholderWithDefault(input=tf.zeros([1]), shape=[None])
