"""Switches against `tf.switch_case`, branches that run directly, and the number of their traces."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from pnas_tf.supernet.switch import Switch

# TensorFlow's graph optimiser would change the order of sums.
pytestmark = pytest.mark.usefixtures("search_graphs")

LARGE = tf.constant(np.linspace(-1.0, 1.0, 300), tf.float32)  # so large that graphs do not copy it


@pytest.fixture
def variables():
    return [tf.Variable(tf.random.stateless_normal([3, 3, 4, 4], [number, 0])) for number in range(2)]


def branches(traces):
    """A convolution that writes to its variable, one op without intermediates, and one with a constant of its own."""
    def convolve(x, weight, handle, other):
        traces.append("convolve")
        kernel = tf.reshape(tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32), [3, 3, 4, 4])
        y = tf.nn.relu6(tf.nn.conv2d(x, weight[0] * kernel, 1, "SAME"))
        tf.raw_ops.AssignAddVariableOp(resource=handle, value=tf.ones([3, 3, 4, 4]))
        return y

    def same(x, weight):
        traces.append("same")
        return tf.identity(x)

    def scale(x, weight, other):
        traces.append("scale")
        return x * x * tf.reduce_sum(tf.square(LARGE)) * weight[1]

    return [convolve, same, scale]


def own(handles):
    """The variables of each branch."""
    return [handles, [], handles[1:]]


def results(choose, variables, index):
    """Output of two switches in a row, the gradients, and what the variables then hold."""
    x, weight = tf.random.stateless_normal([2, 6, 6, 4], [7, 0]), tf.constant([1.5, 0.5])
    start = [variable.numpy() for variable in variables]

    @tf.function(autograph=False)
    def step(index):
        handles = [variable.handle for variable in variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([x, weight])
            y = choose(index, choose(index, x, weight, own(handles)), weight, own(handles[::-1]))
            loss = tf.reduce_sum(tf.sin(y))
        return y, *tape.gradient(loss, [x, weight], unconnected_gradients="zero")

    outputs = [each.numpy() for each in step(tf.constant(index))]
    held = [variable.numpy() for variable in variables]
    for variable, value in zip(variables, start, strict=True):
        variable.assign(value)
    return [*outputs, *held]


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("lowered", [False, True])
def test_value_gradients_and_writes_are_those_of_switch_case(variables, apart, lowered):
    switch, plain = Switch(branches([]), apart, lowered), branches([])
    for index in range(3):
        mine = results(lambda index, x, weight, own: switch.run(index, x, weight, own=own, inputs=2)[0], variables,
                       index)
        theirs = results(lambda index, x, weight, own: tf.switch_case(index, [
            functools.partial(each, x, weight, *resources) for each, resources in zip(plain, own, strict=True)]),
            variables, index)
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_switches_of_the_same_arguments_share_their_traces(variables):
    traces = []
    switch = Switch(branches(traces))
    results(lambda index, x, weight, own: switch.run(index, x, weight, own=own, inputs=2)[0], variables, 0)
    assert sorted(traces) == ["convolve", "same", "scale"]  # although the step has two switches
    _, *gradients, _, _ = results(lambda index, x, weight, own: switch.run(index, x, weight, own=own)[0], variables, 0)
    assert not any(gradient.any() for gradient in gradients)  # none was asked for
    assert len(traces) == 6  # the functions are others


def test_branches_may_have_several_results_and_run_eagerly():
    switch = Switch([lambda x, y: (x, 2.0 * y), lambda x, y: (3.0 * y, x)])
    for compiled in (switch.run, tf.function(switch.run, autograph=False)):
        assert [each.numpy() for each in compiled(tf.constant(1), tf.constant(4.0), tf.constant(5.0))] == [15.0, 4.0]
        assert [each.numpy() for each in compiled(tf.constant(0), tf.constant(4.0), tf.constant(5.0))] == [4.0, 10.0]


@pytest.mark.parametrize("lowered", [False, True])
def test_a_branch_is_traced_with_its_own_variables_alone(lowered):
    """With those of all, a block of 60 widths would have 60 times 200 placeholders, and take minutes to trace."""
    seen, handles = [], [tf.Variable(1.0).handle for _ in range(3)]
    switch = Switch([lambda x, *own: seen.append(own) or tf.identity(x)] * 3, lowered=lowered)
    tf.function(lambda index: switch.run(index, tf.constant(1.0), own=[handles[2:], handles[:2], []], inputs=1),
                autograph=False)(tf.constant(0))
    assert list(map(len, seen)) == [1, 2, 0]


@pytest.mark.parametrize("lowered", [False, True])
def test_a_graph_holds_each_variable_once(lowered):
    """A switch that is not lowered holds one table of variables, whatever their number; ops may share variables."""
    handles = [tf.Variable(float(number)).handle for number in range(3)]
    switch = Switch([lambda x, *own: x + tf.add_n([tf.raw_ops.ReadVariableOp(resource=each, dtype=tf.float32)
                                                   for each in own])] * 2, lowered=lowered)
    step = tf.function(lambda index: switch.run(index, tf.constant(10.0), own=[handles[:2], handles[1:]], inputs=1)[0],
                       autograph=False, input_signature=[tf.TensorSpec([], tf.int32)]).get_concrete_function()
    assert [step(tf.constant(index)).numpy() for index in range(2)] == [11.0, 13.0]
    resources = [each for each in step.captured_inputs if each.dtype == tf.resource]
    assert len(resources) == (3 if lowered else 1)
