"""Switches against `tf.switch_case`, branches that run directly, and the number of their traces."""

import numpy as np
import pytest
import tensorflow as tf

from pnas_tf.supernet.switch import Switch

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


TAKES = [[0, 1, 2, 3], [0, 1], [0, 1, 3]]


def results(choose, variables, index):
    """Output of two switches in a row, the gradients, and what the variables then hold."""
    x, weight = tf.random.stateless_normal([2, 6, 6, 4], [7, 0]), tf.constant([1.5, 0.5])
    start = [variable.numpy() for variable in variables]

    @tf.function(autograph=False)
    def step(index):
        handles = [variable.handle for variable in variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([x, weight])
            y = choose(index, choose(index, x, weight, *handles), weight, *reversed(handles))
            loss = tf.reduce_sum(tf.sin(y))
        return y, *tape.gradient(loss, [x, weight], unconnected_gradients="zero")

    outputs = [each.numpy() for each in step(tf.constant(index))]
    held = [variable.numpy() for variable in variables]
    for variable, value in zip(variables, start, strict=True):
        variable.assign(value)
    return [*outputs, *held]


@pytest.mark.parametrize("apart", [False, True])
def test_value_gradients_and_writes_are_those_of_switch_case(variables, apart):
    switch, plain = Switch(branches([]), TAKES, apart), branches([])
    for index in range(3):
        mine = results(lambda *args: switch.run(*args, inputs=2)[0], variables, index)
        theirs = results(lambda index, *args: tf.switch_case(index, [
            lambda each=each, own=own: each(*(args[place] for place in own))
            for each, own in zip(plain, TAKES, strict=True)]), variables, index)
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_switches_of_the_same_arguments_share_their_traces(variables):
    traces = []
    switch = Switch(branches(traces), TAKES)
    results(lambda *args: switch.run(*args, inputs=2)[0], variables, 0)
    assert sorted(traces) == ["convolve", "same", "scale"]  # although the step has two switches
    _, *gradients, _, _ = results(lambda *args: switch.run(*args)[0], variables, 0)
    assert not any(gradient.any() for gradient in gradients)  # none was asked for
    assert len(traces) == 6  # the functions are others


def test_branches_may_have_several_results_and_run_eagerly():
    switch = Switch([lambda x, y: (x, 2.0 * y), lambda y: (3.0 * y, y)], [[0, 1], [1]])
    for compiled in (switch.run, tf.function(switch.run, autograph=False)):
        assert [each.numpy() for each in compiled(tf.constant(1), tf.constant(4.0), tf.constant(5.0))] == [15.0, 5.0]
        assert [each.numpy() for each in compiled(tf.constant(0), tf.constant(4.0), tf.constant(5.0))] == [4.0, 10.0]


def test_a_branch_is_traced_with_its_own_arguments_alone():
    """With those of all, a block of 60 widths would have 60 times 200 placeholders, and take minutes to trace."""
    seen = []
    switch = Switch([lambda *args: seen.append(len(args)) or tf.add_n(args)] * 3, [[0, 3], [0, 1, 2], [0]])
    tf.function(lambda index: switch.run(index, *map(tf.constant, [1.0, 2.0, 3.0, 4.0]), inputs=1), autograph=False)(
        tf.constant(0))
    assert seen == [2, 3, 1]
