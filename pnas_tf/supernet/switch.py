"""A switch between branches, of which an index chooses one, in a step as well as in its gradient.

`tf.switch_case` is expensive where branches have gradients. Each intermediate value of each branch goes from the
forward to the backward pass by itself, every branch fills in what the others have, and so the graph grows with the
square of the number of branches. Each switch traces all branches and their gradients again. Here a branch hands over
all its intermediate values as one tensor, and switches with the same branches share their traces.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

# Function of tensors to a tensor or several.
Branch = Callable[..., tf.Tensor | Sequence[tf.Tensor]]


class Traces(NamedTuple):
    """The branches as TensorFlow functions.

    Attributes:
        forward: Functions of the arguments and of `captured` to the results and, if there is a gradient, a variant that
            holds what the gradient needs.
        backward: Functions of the gradient of the result and of that variant to the gradients of the first arguments;
            empty without a gradient.
        captured: Tensors that the branches use and that are not among their arguments, such as constants.
    """

    forward: list[Any]
    backward: list[Any]
    captured: list[tf.Tensor]


class Switch:
    """Branches that choose from the same arguments, traced once for all arguments of the same types and shapes."""

    def __init__(self, branches: Sequence[Branch], apart: bool = True, lowered: bool = False):
        """
        Args:
            branches: Branches, whose results have the same types. They use no tensor of another graph that they are not
                given. Each takes the common arguments, beginning with all that get a gradient, and its own variables.
            apart: Whether each branch stays a graph of its own. It is then prepared when it first runs, once for all
                switches, and costs nothing where it does not run; but its call takes some 30 microseconds. Convolutions
                have to be apart, since oneDNN's passes see only the graphs of functions that are called.
            lowered: Whether the switch becomes nodes of the graph that it is in, which takes the variables of all
                branches. Otherwise the switch is one node, which is given those of the chosen branch alone: of 648
                choices, a graph is prepared in half the time. XLA needs to know all variables ahead. So do GPUs:
                TensorFlow cannot tell on which device a variable lies that is picked while the step runs.
        """
        self._branches, self._apart, self._lowered = list(branches), apart, lowered
        self._traced: dict[Any, Traces] = {}

    def run(self, index: tf.Tensor, *args: tf.Tensor, own: Sequence[Sequence[tf.Tensor]] = (), inputs: int = 0
            ) -> list[tf.Tensor]:
        """The results of the branch at an index.

        Unless the switch is lowered, TensorFlow does not see which variables it reads and writes. So what comes before
        and after it in a graph has to depend on its results.

        Args:
            index: Index of the branch, scalar int32.
            *args: Common arguments of all branches.
            own: For each branch its own variables, as resources; none if empty.
            inputs: Number of common arguments, from the first, that get a gradient; a branch then has one result.
        """
        own = own or [()] * len(self._branches)
        if tf.executing_eagerly():
            chosen = int(index)
            return tf.nest.flatten(self._branches[chosen](*args, *own[chosen]))
        resources, places = _each_once(own) if self._lowered else _picked(own, index)
        takes = [[*range(len(args)), *(len(args) + place for place in each)] for each in places]
        traces = self._traces([*args, *resources], takes, inputs)
        others = [*map(tf.stop_gradient, args[inputs:]), *resources,
                  *(each if each.dtype == tf.resource else tf.stop_gradient(each) for each in traces.captured)]
        if not inputs:
            return self._case(tf.raw_ops.Case, index, traces.forward, others)

        @tf.custom_gradient
        def choose(*first):
            result, kept = self._case(tf.raw_ops.Case, index, traces.forward, [*first, *others])
            return result, lambda upstream: self._case(tf.raw_ops.StatelessCase, index, traces.backward,
                                                       [upstream, kept])

        return [choose(*args[:inputs])]

    def _traces(self, args, takes, inputs):
        key = inputs, *((each.dtype, str(each.shape)) for each in args), *map(tuple, takes)
        if key not in self._traced:
            self._traced[key] = _trace(self._branches, takes, args, inputs, self._apart)
        return self._traced[key]

    def _case(self, op, index, branches, args):
        """The outputs of the traced function at an index; a shape is unknown if the functions do not agree on it."""
        shapes = [column[0] if len({str(shape) for shape in column}) == 1 else tf.TensorShape(None)
                  for column in zip(*([each.shape for each in branch.outputs] for branch in branches), strict=True)]
        results = op(branch_index=index, input=list(args), Tout=[each.dtype for each in branches[0].outputs],
                     branches=list(branches), output_shapes=shapes)
        if self._lowered:
            results[0].op._set_attr("_lower_using_switch_merge", tf.compat.v1.AttrValue(b=True))
        return results


def _picked(own: Sequence[Sequence[tf.Tensor]], index: tf.Tensor) -> tuple[list[tf.Tensor], Sequence[Sequence[int]]]:
    """The variables of the branch at an index, and the positions of those that each branch takes, the first ones."""
    longest, places = max(map(len, own)), [range(len(each)) for each in own]
    if not longest:
        return [], places
    filler = next(each for resources in own for each in resources)
    with tf.init_scope(), tf.device(filler.device):  # eagerly: a single tensor in the graph
        table = tf.reshape(tf.stack([each for resources in own
                                     for each in (*resources, *[filler] * (longest - len(resources)))]),
                           [len(own), longest])
    return tf.unstack(tf.raw_ops.Gather(params=table, indices=index), longest), places


def _each_once(own: Sequence[Sequence[tf.Tensor]]) -> tuple[list[tf.Tensor], Sequence[Sequence[int]]]:
    """All variables once, and the positions of those of each branch. Where ops share weights, most have the same."""
    resources: list[tf.Tensor] = []
    position: dict[int, int] = {}
    for each in itertools.chain.from_iterable(own):
        if id(each) not in position:
            position[id(each)] = len(resources)
            resources.append(each)
    return resources, [[position[id(each)] for each in variables] for variables in own]


def _trace(branches: Sequence[Branch], takes: Sequence[Sequence[int]], args: Sequence[tf.Tensor], inputs: int,
           apart: bool) -> Traces:
    """Traces branches and, with respect to their first `inputs` arguments, their gradients."""
    bodies, backward = zip(*(_traced(branch, [args[place] for place in own], inputs, apart)
                             for branch, own in zip(branches, takes, strict=True)), strict=True)
    captured = [each for body in bodies for each in body.captured_inputs]
    ends = itertools.accumulate((len(body.captured_inputs) for body in bodies), initial=len(args))
    forward = [_function(_giving(body, own, *span), [*args, *captured])
               for body, own, span in zip(bodies, takes, itertools.pairwise(ends), strict=True)]
    return Traces(forward, list(backward) if inputs else [], captured)


def _giving(body: Any, own: Sequence[int], begin: int, end: int) -> Callable:
    """A function that calls `body` with its arguments at some positions and those from `begin` to `end`."""
    return lambda *args: _call(body, [*(args[place] for place in own), *args[begin:end]])


def _traced(branch: Branch, args: Sequence[tf.Tensor], inputs: int, apart: bool) -> tuple[Any, Any]:
    """A branch as a function of its arguments, and its gradient; None in place of the gradient without `inputs`."""
    backward = None

    def forward(*args):
        nonlocal backward
        # Arguments of a TensorFlow function have no shape in its graph, and oneDNN's pass for convolutions aborts
        # without a shape.
        shaped = [each if each.dtype == tf.resource else tf.ensure_shape(each, each.shape) for each in args]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(shaped[:inputs])
            result = branch(*shaped)
        if not inputs:
            return tf.nest.flatten(result)
        gradient = _function(lambda upstream: tape.gradient(result, shaped[:inputs], upstream,
                                                            unconnected_gradients="zero"),
                             [tf.TensorSpec(result.shape, result.dtype)], apart)
        needed = gradient.captured_inputs
        backward = _backward(gradient, needed)
        return result, tf.raw_ops.OptionalFromValue(components=needed) if needed else tf.raw_ops.OptionalNone()

    return _function(forward, args, apart), backward


def _backward(gradient: Any, needed: Sequence[tf.Tensor]) -> Any:
    """A function of (upstream, variant) from the gradient as a function of (upstream, *needed)."""
    types, shapes = [each.dtype for each in needed], [each.shape for each in needed]

    def backward(upstream, kept):
        values = tf.raw_ops.OptionalGetValue(optional=kept, output_types=types, output_shapes=shapes) if needed else []
        return _call(gradient, [upstream, *values])

    return _function(backward, [gradient.inputs[0], tf.TensorSpec([], tf.variant)])


def _function(function: Callable, args: Sequence[Any], apart: bool = False) -> Any:
    """A function traced for arguments like the given ones.

    Args:
        function: Function of tensors.
        args: Tensors or specs.
        apart: Whether graphs that call it do so in a node, instead of taking it in.
    """
    return tf.function(function, autograph=False, experimental_attributes={"_noinline": True} if apart else None
                       ).get_concrete_function(*args)


def _call(function: Any, args: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The outputs of a traced function that is given everything that it captured, too."""
    outputs = tf.raw_ops.StatefulPartitionedCall(args=list(args), f=function, config_proto=_call_config(),
                                                 Tout=[each.dtype for each in function.outputs])
    for output, like in zip(outputs, function.outputs, strict=True):
        output.set_shape(like.shape)
    return outputs


@functools.cache
def _call_config() -> bytes:
    """Settings of calls: without the graph optimiser, which takes a fifth of the first step and makes no step faster.

    On GPUs it may, since it chooses the order of the axes.
    """
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = not tf.config.list_physical_devices("GPU")
    return config.SerializeToString()
