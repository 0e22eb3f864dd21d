"""Steps that XLA compiles: the same results as without, and ops that are not sampled stay as they are, bit by bit."""

import numpy as np
import pytest
import tensorflow as tf

from pnas_tf.cost import prices
from pnas_tf.errors import InputError
from pnas_tf.search import arch_updaters, build, config, objective, schedule, searcher
from pnas_tf.space import spaces
from pnas_tf.space.blocks import Block, Space
from pnas_tf.supernet import supernet

SPACE = Space("xla", 8, 3, 5, (Block("stem", ("conv_k3",), 8, 2),), (
    Block("b00", ("mb_k3_e1", "mb_k5_e2", "zero"), 8, 1, True),), (Block("classifier", ("classifier",), 5),))


def made(jit_compile, share):
    net = supernet.Supernet(SPACE, seed=1, recompute=True, share=share, lowered=True)
    updater = arch_updaters.GradientUpdater(
        net, prices.matrix(SPACE, lambda name, key: 1.0), objective.no_latency(),
        observe=arch_updaters.observers.observer(net, jit_compile=jit_compile))
    model = searcher.Searcher(net, updater, schedule.Schedule(4, 0, 1, 1, 0.1, 0.1), seed=3, jit_compile=jit_compile)
    model.compile(searcher.alpha_optimizer(0.01))
    return model


def values(net):
    return {(candidate.prefix, name): np.asarray(value) for op in net.mixed_ops for candidate in op.candidates
            if candidate for name, value in (("stats", candidate.stats), *(
                (f"{kind}{number}", each) for kind in ("kernels", "momenta")
                for number, each in enumerate(getattr(candidate.weights_of_op, kind)))) if value is not None}


@pytest.mark.parametrize("share", ["none", pytest.param("kernels", marks=pytest.mark.slow)])
def test_steps_compiled_by_xla_equal_those_that_are_not(share):
    rng = np.random.default_rng(0)
    batch = (tf.constant(rng.normal(size=(4, 8, 8, 3)), tf.float32), tf.constant([0, 3, 1, 4]))
    plain, compiled = made(False, share), made(True, share)
    assert "HloModule" in compiled._trained.experimental_get_compiler_ir(
        *batch, tf.constant([0]), tf.constant(0.1))(stage="hlo")  # XLA compiles it
    paths = tf.constant([[1, 0]]), tf.constant([1])
    observed = (model.updaters[0]._observe(*batch, *paths) for model in (compiled, plain))
    for own, reference in zip(*observed, strict=True):
        np.testing.assert_allclose(np.float64(own), np.float64(reference), rtol=1e-4, atol=1e-6)
    before = values(compiled.supernet)
    for model in (plain, compiled):
        assert np.isfinite(float(model.train_step((batch, batch))["train_loss"]))
    expected, got = values(plain.supernet), values(compiled.supernet)
    moved = {key for key in before if not np.array_equal(before[key], got[key])}
    assert 0 < len(moved) < len(before) or share == "kernels"  # one op of the choice was sampled
    for key, value in expected.items():
        np.testing.assert_allclose(got[key], value, rtol=1e-3, atol=2e-5, err_msg=str(key))
        if share == "none" and np.array_equal(before[key], value):
            np.testing.assert_array_equal(got[key], value, err_msg=str(key))
    np.testing.assert_allclose(compiled.supernet.alpha.numpy(), plain.supernet.alpha.numpy(), atol=1e-5)


def test_searched_filters_are_refused():
    problem = type("Problem", (), {"space": spaces.load("cifar_mb_widths"), "goals": (), "plan": None})
    with pytest.raises(InputError, match="filters are searched"):
        build.compiled_searcher(problem, config.SearchConfig(jit_compile=True, memory="recompute"), criterion=None)


@pytest.mark.parametrize("other", [{}, {"memory": "recompute", "strategy": "mirrored"}])
def test_xla_needs_known_shapes_and_one_device(other):
    with pytest.raises(InputError, match="--jit_compile needs --memory=recompute"):
        config.SearchConfig(jit_compile=True, **other)
