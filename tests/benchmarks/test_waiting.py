"""What a user waits for: the steps of the Makefile, and the parts that stacks belong to."""

import shutil
import sys
import time

import pytest

from benchmarks.speed import sampled, waiting


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_steps_are_those_of_the_makefile():
    commands = waiting.commands("D")
    assert [module for module, *_ in commands] == [
        "latency.build_table", "pnas_tf.search", "pnas_tf.train", "export.tflite", "pnas_tf.report"]
    assert "--flagfile=quickstart.flags" in commands[1] and "--run_dir=D" in commands[1]


def stack(*frames):
    """The innermost frame of nested calls of functions with these files and names."""
    inner = sys._getframe
    for file, name in reversed(frames):
        names = {"inner": inner}
        exec(compile(f"def {name}():\n    return inner()", file, "exec"), names)
        inner = names[name]
    return inner()


def test_the_first_of_the_parts_in_a_stack_counts():
    sampler = sampled.Sampler()
    sampler.stop()
    search = ("/x/pnas_tf/search/searcher.py", "train_step")
    assert sampler.part(stack(search)) == "weight steps"
    assert sampler.part(stack(search, ("/x/pnas_tf/search/arch_updaters.py", "update"))) == "architecture steps"
    assert sampler.part(stack(search, ("<frozen importlib._bootstrap>", "load"))) == sampled.IMPORTS
    assert sampler.part(stack(("/x/pnas_tf/other.py", "deliver"))) == sampled.REST
    assert sampler.part(None) == sampled.REST


def test_the_first_run_of_a_function_counts_as_tracing_and_later_runs_do_not():
    sampler = sampled.Sampler()
    sampler.stop()
    step = ("/x/pnas_tf/search/searcher.py", "train_step")
    call = ("/tf/polymorphic_function/polymorphic_function.py", "__call__")
    traced = stack(step, call, ("/tf/framework/func_graph.py", "func_graph_from_py_func"))
    assert sampler.part(traced) == sampled.TRACING
    assert sampler.part(traced.f_back) == sampled.TRACING  # still in the same call
    assert sampler.part(stack(step)) == "weight steps"
    assert sampler.part(stack(step, call)) == "weight steps"


def test_calls_in_a_loop_are_not_taken_for_the_first_one():
    """Their frames are at the same address."""
    import tensorflow as tf

    x, sampler = tf.ones([600, 600]), sampled.Sampler()

    @tf.function(autograph=False)
    def twice(x):
        limit = time.monotonic() + 60
        while not sampler.seconds[sampled.TRACING][0] and time.monotonic() < limit:  # while it is traced
            time.sleep(0.01)
        return tf.linalg.matmul(x, x)

    twice(x)
    traced, end = sampler.seconds[sampled.TRACING][0], time.monotonic() + 1.5
    while time.monotonic() < end:
        twice(x)
    sampler.stop()
    assert traced > 0 and sampler.seconds[sampled.TRACING][0] - traced < 0.75


def test_the_table_has_shares_of_all_steps():
    text = waiting.table({"pnas_tf.search": {"weight steps": [3.0, 6.0], "imports": [1.0, 1.5], "x": [0.1, 0.05],
                                             "y": [0.1, 0.05]}, "pnas_tf.report": {"report": [1.0, 2.4]}})
    assert text.splitlines() == [
        "pnas_tf.search                   4.2 s      7.6 s CPU   76.0%",
        "  weight steps                   3.0 s      6.0 s CPU   60.0%",
        "  imports                        1.0 s      1.5 s CPU   15.0%",
        "  small parts                    0.2 s      0.1 s CPU    1.0%",
        "pnas_tf.report                   1.0 s      2.4 s CPU   24.0%",
        "  report                         1.0 s      2.4 s CPU   24.0%"]
