"""A block of the supernet with its candidate ops. One of them runs in a weight step, several in an architecture step.

A switch (`switch.py`) runs the branch of the sampled op alone. Gradients do not go to the candidates' variables, since
TensorFlow would fill in zeros for every op that was not sampled. Instead, they go to a probe, a vector as long as the
sampled op's weights, and the branch of that op applies the gradient to its own variables. Ops that were not sampled are
neither read nor written. A block with a single op has no branch.

Where filters are searched, each op has a candidate for each of its widths, in the order of `Space.keys`. The index of
a candidate combines the op and the widths. The widths share weights (`shared_weights.py`).
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from pnas_tf.network import layers as fast_layers
from pnas_tf.space import ops
from pnas_tf.space.blocks import Block, OpKey
from pnas_tf.supernet import gates, shared_weights
from pnas_tf.supernet.candidate import Candidate, Handles, Recorded, record
from pnas_tf.supernet.switch import Branch, Switch


class MixedOp(keras.layers.Layer):
    """A block with all its candidates.

    Attributes:
        block: Block of the space.
        candidates: Candidates in the order of the block's ops and widths, None for `zero`.
        widths: Number of candidates of each op: the widths that it may have.
        shared: Weights that several of its candidates share; none if every candidate has weights of its own.
        body: Functions that run and update the block's ops; blocks of the same keys may share them.
    """

    def __init__(self, block: Block, keys: Sequence[OpKey], recompute: bool = False, share: bool = False,
                 frozen: bool = False, lowered: bool = False, like: "MixedOp | None" = None, **kwargs):
        """Creates the candidates.

        Args:
            block: Block of the space.
            keys: Keys of its candidates, see `Space.keys`.
            recompute: Whether only the block's input is kept for the backward pass, which then runs the op again. This
                takes less memory and more time.
            share: Whether ops of one type are slices of one set of weights: see `shared_weights`.
            frozen: Whether batch norm keeps its statistics, scales and offsets as they are.
            lowered: Whether switches become nodes of the step's graph: see `switch.Switch`.
            like: Block of the same keys, whose body the new block shares; it has its own variables.
            **kwargs: Arguments of `keras.layers.Layer`.
        """
        super().__init__(name=block.prefix, **kwargs)
        self.block, self.widths = block, len(keys) // len(block.ops)
        models: Sequence[Candidate | None] = like.candidates if like else [None] * len(keys)
        labels = [_label(key, self.widths) for key in keys]
        recorded = {label: record(key, block.layer_name(key.op), model, frozen)
                    for label, key, model in zip(labels, keys, models, strict=True) if key.op != ops.ZERO}
        self.shared = list(_shared(block, dict(zip(labels, keys, strict=True)), recorded, share, self.widths > 1))
        slices = {label: each for shared in self.shared for label, each in shared.slices.items()}
        self.candidates: list[Candidate | None] = [
            None if key.op == ops.ZERO else
            Candidate(key, block.layer_name(key.op), recorded[label], slices.get(label), name=block.layer_name(label))
            for label, key in zip(labels, keys, strict=True)]
        self.body: Body = like.body if like else Body(block, keys, self.candidates, recompute, lowered)
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
        return self.body.run_path(x, index, probe, self._handles(stats=probe is not None))

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
        return self.body.run_gated(x, active, others, gate, self._handles())

    def update(self, index: tf.Tensor | None, gradient: tf.Tensor, learning_rate: tf.Tensor, momentum: float,
               weight_decay: float) -> None:
        """Applies the probe's gradient to the op that ran; no other op changes.

        Args:
            index: Index of the op, as in `run_path`.
            gradient: Gradient of the loss with respect to the probe; what is behind the op's weights does not count.
            learning_rate: Learning rate, scalar.
            momentum: Nesterov momentum: see `Candidate.update`.
            weight_decay: Coupled weight decay: see `Candidate.update`.
        """
        self.body.update(index, gradient, learning_rate, momentum, weight_decay, self._handles(momentum=True))

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

    The blocks share the traces of their branches, see `switch.Switch`: a tree space of 648 choices has only 41
    different bodies.
    """

    def __init__(self, block: Block, keys: Sequence[OpKey], candidates: Sequence[Candidate | None], recompute: bool,
                 lowered: bool):
        """Prepares the body.

        Args:
            block: One of the blocks that the body serves.
            keys: Keys of the candidates.
            candidates: Candidates of that block. Their code is used, but not their variables.
            recompute: Whether the backward pass runs the op again: see `MixedOp`.
            lowered: Whether switches become nodes of the step's graph: see `switch.Switch`.
        """
        self._block, self._candidates, self._recompute, self._lowered = block, candidates, recompute, lowered
        self._widths = len(keys) // len(block.ops)
        self._longest = max((candidate.kernel_size for candidate in candidates if candidate), default=0)
        filters = {key.filters for key in keys}
        sides = [-(-side // block.strides) for side in keys[0].input[:2] if not ops.is_classifier(keys[0].op)]
        self._output = [*sides, filters.pop() if len(filters) == 1 else None]
        self._switches: dict[Any, Switch] = {}

    def run_path(self, x: tf.Tensor, index: tf.Tensor | None, probe: tf.Tensor | None,
                 handles: Sequence[Handles]) -> tf.Tensor:
        """Does what `MixedOp.run_path` does, with the handles of each candidate."""
        if probe is None:
            return self._shaped(x, *self._switched("score", self._whole, index, handles, x))
        if self._recompute:
            return self._shaped(x, self._recomputed("path", self._whole, index, handles, x, probe))
        train = functools.partial(self._whole, update_stats=True)
        return self._shaped(x, *self._switched("train", train, index, handles, x, probe, inputs=2))

    def run_gated(self, x: tf.Tensor, active: tf.Tensor, others: Sequence[tf.Tensor | int], gate: tf.Tensor,
                  handles: Sequence[Handles]) -> tf.Tensor:
        """Does what `MixedOp.run_gated` does, with the handles of each candidate."""

        def observe(upstream, output):
            late_x = fast_layers.after(upstream, x)
            own = gates.product(upstream, output)
            return tf.stack([own, *(self._observed(upstream, late_x, active, other, own, handles) for other in others)])

        if self._recompute:
            output = self._recomputed("op", self._alone, active, handles, x)
        else:
            (output,) = self._switched("op", self._alone, active, handles, x, inputs=1)
        y = gates.binary_gate(gate, self._shaped(x, output), observe)
        return x + y if self._block.shortcut else y

    def update(self, index: tf.Tensor | None, gradient: tf.Tensor, learning_rate: tf.Tensor, momentum: float,
               weight_decay: float, handles: Sequence[Handles]) -> None:
        """Does what `MixedOp.update` does, with the handles of each candidate."""

        def run(candidate, own, gradient, learning_rate):
            if candidate is not None:
                candidate.update(gradient, learning_rate, momentum, weight_decay, handles=own)
            return tf.constant(0)

        self._switched(("update", momentum, weight_decay), run, index, handles, gradient, learning_rate)

    def _whole(self, candidate, own, x, probe=None, update_stats=False):
        """The output of a block with one op."""
        if candidate is None:
            return tf.identity(x)
        y = candidate.run(x, probe=probe, update_stats=update_stats, handles=own)
        return x + y if self._block.shortcut else y

    def _alone(self, candidate, own, x, probe=None, update_stats=False):
        """The output of one op, without the shortcut; the arguments are those of `_whole`, for `_recomputed`."""
        return tf.zeros_like(x) if candidate is None else candidate.run(x, handles=own)

    def _observed(self, upstream, x, active, other, own, handles):
        """Gradient of another op's gate, `sum(dL/dy * o)`; for the active op it is `own`, which is known already."""

        def product(candidate, resources, upstream, x):
            return tf.constant(0.0) if candidate is None else gates.product(upstream,
                                                                            candidate.run(x, handles=resources))

        widths = self._widths
        if not isinstance(other, int):
            candidate = other if widths == 1 else other * widths + active % widths
            return self._switched("observe", product, candidate, handles, upstream, x)[0]

        def unless_active(candidate, resources, own, upstream, x):
            return product(candidate, resources, upstream, x)

        of_op = slice(other * widths, (other + 1) * widths)
        branches = map(functools.partial(_branch, unless_active, 3), self._candidates[of_op], handles[of_op])
        switch = self._switch(("observe", other), lambda own, *_: own, *branches)
        return switch.run(tf.where(tf.equal(active // widths, other), 0, 1 + active % widths), own, upstream, x,
                          own=[(), *map(_resources, handles[of_op])])[0]

    def _switched(self, name, run, index, handles, *args, inputs=0):
        """The outputs of `run(candidate, handles of the candidate, *args)` for the op at `index`, or for the only op.

        Args:
            name: Name of what `run` does, with everything else that it depends on.
            run: Function of tensors.
            index: Index of the op; None for the only one.
            handles: Handles of each candidate.
            *args: Tensors.
            inputs: Number of these that the gradient goes to, from the first.
        """
        if index is None:
            return tf.nest.flatten(run(self._candidates[0], handles[0], *args))
        branches = map(functools.partial(_branch, run, len(args)), self._candidates, handles)
        switch = self._switch(name, *branches, apart=name[0] != "update")
        return switch.run(index, *args, own=list(map(_resources, handles)), inputs=inputs)

    def _switch(self, name, *branches, apart=True):
        if name not in self._switches:
            self._switches[name] = Switch(branches, apart, self._lowered)
        return self._switches[name]

    def _recomputed(self, name, run, index, handles, x, probe=None):
        """The output that `_switched` has, but only x is kept for the backward pass, which runs the op once more."""
        trained = probe is not None

        def first(candidate, own, x):
            return run(candidate, own, x, update_stats=trained)

        def again(candidate, own, x, upstream):
            inner = new_probe()
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([x, inner])
                y = run(candidate, own, x, inner if trained else None)
            to_x, to_weights = tape.gradient(y, [x, inner], upstream, unconnected_gradients="zero")
            return to_x, self._as_long(to_weights, candidate) if trained else to_weights

        @tf.custom_gradient
        def forward(x, probe):
            (y,) = self._switched((name, "first"), first, index, handles, x)

            def gradient(upstream, variables=None):
                late_x = fast_layers.after(upstream, x)
                gradients = self._switched((name, "again"), again, index, handles, late_x, upstream)
                return tuple(gradients) if variables is None else (tuple(gradients), [None] * len(variables))

            return y, gradient

        return forward(x, new_probe() if probe is None else probe)

    def _as_long(self, gradient, candidate):
        """The gradient of an op's weights with zeros behind it: as long for all ops, which XLA needs."""
        count = candidate.kernel_size if candidate else 0
        return tf.pad(gradient[:count], [[0, self._longest - count]])

    def _shaped(self, x, y):
        """The block's output with its shape, which a switch does not know if its branches differ in what they know."""
        if len(self._candidates) > 1 and len(x.shape) == 4 and not tf.executing_eagerly():
            y.set_shape([x.shape[0], *self._output])
        return y


def _resources(own: Handles) -> list[tf.Tensor]:
    """All variables of a candidate, in the order that `_branch` takes them."""
    return [*own.kernels, *([] if own.stats is None else [own.stats]), *own.momenta]


def _branch(run: Callable, count: int, candidate: Candidate | None, own: Handles) -> Branch:
    """A branch that calls `run(candidate, handles of the candidate, *args)`.

    Its arguments are these, and then the candidate's variables in the order of `_resources`.

    Args:
        run: Function to call.
        count: Number of arguments besides variables.
        candidate: Candidate.
        own: Its handles, of which only the numbers count.
    """
    def branch(*args):
        resources = iter(args[count:])
        mine = Handles(tuple(itertools.islice(resources, len(own.kernels))),
                       None if own.stats is None else next(resources),
                       tuple(itertools.islice(resources, len(own.momenta))))
        return run(candidate, mine, *args[:count])

    return branch


def new_probe() -> tf.Tensor:
    """A probe: the tensor that stands for a block's weights when a weight step differentiates the loss.

    Its length is unknown to the graph, since the candidates differ in the number of weights. Its value is never read.
    """
    return tf.raw_ops.PlaceholderWithDefault(input=tf.constant([0.0]), shape=[None])
