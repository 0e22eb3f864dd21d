"""The supernet against plain Keras networks, brute force, and itself before and after a step."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnas_tf import network
from pnas_tf.cost import expectation, prices
from pnas_tf.network import evaluate
from pnas_tf.network.criterion import Criterion
from pnas_tf.search import arch_updaters, objective, schedule, searcher
from pnas_tf.search.config import Method
from pnas_tf.space import spaces
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Block
from pnas_tf.supernet import supernet
from tests.spaces import SMALL

pytestmark = pytest.mark.usefixtures("search_graphs")
LR, MOMENTUM, DECAY = 0.05, 0.9, 4e-5


@pytest.fixture(params=["keep", "recompute"])
def net(request, stir):
    """A supernet whose residual ops do not start as zero, so that every gradient is alive."""
    return stir(supernet.Supernet(SMALL, seed=3, recompute=request.param == "recompute"), seed=5, scale=0.1)


@pytest.fixture
def batch():
    rng = np.random.default_rng(6)
    return tf.constant(rng.normal(size=(16, 8, 8, 3)), tf.float32), tf.constant(rng.integers(0, 4, 16), tf.int32)


def candidates(net):
    return [candidate for mixed_op in net.mixed_ops for candidate in mixed_op.candidates if candidate]


def state(net):
    return {c.prefix: [v.numpy().copy() for v in (c.kernel, c.stats, c.momentum) if v is not None]
            for c in candidates(net)}


def plan():
    return schedule.Schedule(steps_per_epoch=4, warmup_epochs=1, search_epochs=2, arch_every=1, warmup_lr=LR, lr=LR)


def make_searcher(net, **kwargs):
    updater = arch_updaters.GradientUpdater(net, prices.matrix(SMALL, lambda name, key: 1.0), objective.no_latency(),
                                            Method(**kwargs))
    model = searcher.Searcher(net, updater, plan(), seed=11, criterion=Criterion(), momentum=MOMENTUM,
                              weight_decay=DECAY)
    model.compile(searcher.alpha_optimizer(0.01))
    return model


def weight_step(net, batch, path, decay=DECAY):
    probes = net.probes()
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(probes)
        loss = evaluate.cross_entropy(batch[1], net.run_path(batch[0], path, probes))
    net.update(path, tape.gradient(loss, probes), tf.constant(LR), MOMENTUM, decay)
    return loss


@pytest.mark.slow
def test_published_weight_count_of_the_imagenet_space():
    assert supernet.Supernet(spaces.SPACES["proxyless_imagenet"]).count_weights() == 16_034_168


@pytest.mark.parametrize("path", [
    [5, 6, 4, 6], *(pytest.param(path, marks=pytest.mark.slow) for path in ([0, 1, 2, 3], [2, 0, 1, 5]))])
def test_weight_step_equals_that_of_a_plain_keras_network(net, batch, path):
    steps_equal_those_of_a_plain_network(net, batch, path)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("path", [[0, 1], [1, 2], [3, 0]])
def test_weight_step_with_ops_that_have_no_weights(stir, batch, path, recompute):
    cell_ops = ("identity", "sep_k3", "avg_k3", "max_k3")
    stem, first, *_ = SMALL.blocks
    space = dataclasses.replace(SMALL, blocks=(stem, *(dataclasses.replace(
        first, name=f"b0{number}", ops=cell_ops, shortcut=False) for number in (1, 2)), Block("act", ("act",), 8)))
    net = stir(supernet.Supernet(space, seed=3, recompute=recompute), seed=5, scale=0.1)
    steps_equal_those_of_a_plain_network(net, batch, path)


def steps_equal_those_of_a_plain_network(net, batch, path):
    arch = net.arch(np.array(path))
    model = network.assemble(arch, layers=keras.layers)
    net.copy_weights_to(model, arch)
    velocity = [np.zeros(v.shape) for v in model.trainable_variables]
    step = tf.function(lambda: weight_step(net, batch, tf.constant(path)), autograph=False)
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = evaluate.cross_entropy(batch[1], model(batch[0], training=True))
        for number, (variable, gradient) in enumerate(
                zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True)):
            gradient = gradient.numpy() + DECAY * variable.numpy()
            velocity[number] = MOMENTUM * velocity[number] + gradient
            variable.assign(variable.numpy() - LR * (gradient + MOMENTUM * velocity[number]))
        assert float(step()) == pytest.approx(float(loss), abs=1e-5)
    twin = network.assemble(arch, layers=keras.layers)
    net.copy_weights_to(twin, arch)
    for mine, plain in zip(twin.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_allclose(mine.numpy(), plain.numpy(), atol=2e-5, err_msg=plain.path)
    for mine, plain in zip(twin.non_trainable_variables, model.non_trainable_variables, strict=True):
        # The fused kernel's variance is the unbiased one: 16 images of at most 64 pixels.
        np.testing.assert_allclose(mine.numpy(), plain.numpy(), rtol=0.02, atol=1e-4, err_msg=plain.path)


def test_weight_step_leaves_everything_unsampled_bitwise_unchanged(net, batch):
    for candidate in candidates(net):
        candidate.momentum.assign(np.full(candidate.momentum.shape, 0.25))
    before, alpha = state(net), net.alpha.numpy()
    path = np.array([1, 6, 3, 0], np.int32)
    tf.function(lambda: weight_step(net, batch, tf.constant(path)), autograph=False)()
    after = state(net)
    sampled = {f"{block.name}_{op}" for block, op in net.arch(path).blocks()}
    for prefix, values in before.items():
        same = [np.array_equal(a, b) for a, b in zip(values, after[prefix], strict=True)]
        assert same == [prefix not in sampled] * len(same), prefix
    np.testing.assert_array_equal(net.alpha.numpy(), alpha)


def brute_force_gate_gradients(net, batch, active):
    """Gate gradients of plain Keras models in training mode, whose outputs are multiplied by one-hot gates."""
    models, gate_rows = {}, []
    for mixed_op in net.mixed_ops:
        for candidate in filter(None, mixed_op.candidates):
            key = dataclasses.replace(candidate.key, shortcut=False)
            model = network.build_op(key, layers=keras.layers)
            for name, weights in candidate.layer_weights().items():
                model.get_layer(name.replace(candidate.prefix, key.op)).set_weights(weights)
            models[candidate.prefix] = model
    for (_, block), index in zip(net.space.choices.items(), active, strict=True):
        gate_rows.append(tf.one_hot(index, len(block.ops)))
    with tf.GradientTape() as tape:
        tape.watch(gate_rows)
        x = batch[0]
        rows = iter(gate_rows)
        for block in net.space.all_blocks:
            gate = next(rows) if len(block.ops) > 1 else tf.ones([1])
            outputs = [tf.zeros_like(x) if op == "zero" else models[f"{block.name}_{op}"](x, training=True)
                       for op in block.ops]
            y = tf.add_n([gate[j] * output for j, output in enumerate(outputs)])
            x = x + y if block.shortcut else y
        loss = evaluate.cross_entropy(batch[1], x)
    return loss, tape.gradient(loss, gate_rows)


def gate_gradients(net, batch, active, others):
    rows = [tf.zeros([1 + len(row)]) for row in others]

    @tf.function(autograph=False)
    def compute(active):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(rows)
            loss = evaluate.cross_entropy(batch[1], net.run_gated(batch[0], active, others, rows))
        return loss, tape.gradient(loss, rows)

    return compute(tf.constant(active))


@pytest.mark.parametrize("pairs", [
    [[0, 1], [6, 2], [3, 5], [1, 6]], pytest.param([[4, 2], [3, 6], [0, 1], [6, 0]], marks=pytest.mark.slow)])
def test_two_path_gate_gradients_equal_brute_force(net, batch, pairs):
    pairs = np.array(pairs, np.int32)
    loss, gradients = gate_gradients(net, batch, pairs[:, 0], [[tf.constant(pair[1])] for pair in pairs])
    expected_loss, expected = brute_force_gate_gradients(net, batch, pairs[:, 0])
    assert float(loss) == pytest.approx(float(expected_loss), abs=1e-5)
    for mine, brute, pair in zip(gradients, expected, pairs, strict=True):
        np.testing.assert_allclose(mine, brute.numpy()[pair], atol=1e-5)


def test_all_path_gate_gradients_equal_brute_force(net, batch):
    active = np.array([2, 6, 0, 1], np.int32)
    others = [list(range(len(block.ops))) for block in net.space.choices.values()]
    _, gradients = gate_gradients(net, batch, active, others)
    _, expected = brute_force_gate_gradients(net, batch, active)
    for mine, brute, index in zip(gradients, expected, active, strict=True):
        np.testing.assert_allclose(mine[1:], brute, atol=1e-5)
        np.testing.assert_allclose(mine[0], brute[index], atol=1e-5)


@pytest.mark.parametrize("paths", ("two", "all"))
def test_architecture_step_moves_alpha_alone(net, batch, paths):
    model = make_searcher(net, paths=paths)
    before, alpha = state(net), net.alpha.numpy()
    model.updaters[0].update(*batch, tf.constant([1, 2]), model.optimizer)
    after = state(net)
    for prefix, values in before.items():
        for old, new in zip(values, after[prefix], strict=True):
            np.testing.assert_array_equal(old, new, err_msg=prefix)
    moved = net.alpha.numpy() != alpha
    assert not np.any(moved & ~net.mask)
    assert np.all(moved.sum(1) == (2 if paths == "two" else net.mask.sum(1)))


def test_two_path_step_keeps_unsampled_probabilities(net, batch):
    model = make_searcher(net)
    before, alpha = net.probs().numpy(), net.alpha.numpy()
    model.updaters[0].update(*batch, tf.constant([1, 2]), model.optimizer)
    still = net.alpha.numpy() == alpha
    np.testing.assert_allclose(net.probs().numpy()[still], before[still], atol=1e-6)


def test_latency_enters_as_the_gradient_of_expected_milliseconds(net, batch):
    """Without the cross-entropy, the all-path gradient is d(expected ms)/dalpha by automatic differentiation."""
    rng = np.random.default_rng(0)
    price = {key: rng.uniform(0.1, 2.0) for _, key in SMALL.op_keys()}
    ms = prices.matrix(SMALL, lambda name, key: price[key])
    seen = tf.Variable(tf.zeros(net.mask.shape))

    class Capture:
        def apply(self, gradients, variables):
            seen.assign(gradients[0])

    updater = arch_updaters.GradientUpdater(net, ms, lambda ce, expected: 0.0 * ce + 3.0 * expected,
                                            Method(paths="all"))
    updater.update(*batch, tf.constant([0, 1]), Capture())
    alpha = tf.constant(net.alpha.numpy())
    with tf.GradientTape() as tape:
        tape.watch(alpha)
        expected = 3.0 * expectation.expected(ms, tf.nn.softmax(tf.where(net.mask, alpha, -1e9)))
    np.testing.assert_allclose(seen, tape.gradient(expected, alpha), atol=1e-5)


def test_train_step_alternates_and_samples_reproducibly(batch):
    """The same steps from the same variables, twice: the first does not move alpha, the others do."""
    net = supernet.Supernet(SMALL, seed=1)
    model = make_searcher(net)
    variables = [*model.weights, *model.optimizer.variables]
    start, nothing = [variable.numpy() for variable in variables], (batch[0][:0], batch[1][:0])

    def run():
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        model.sums.clear()
        model.train_step((batch, nothing))
        still = net.alpha.numpy()
        for _ in range(3):
            logs = model.train_step((batch, batch))
        return still, {name: float(value) for name, value in logs.items()}, [each.numpy() for each in variables]

    first, second = run(), run()
    np.testing.assert_array_equal(first[0], supernet.Supernet(SMALL, seed=1).alpha.numpy())
    assert not np.array_equal(net.alpha.numpy(), first[0])
    assert first[1] == second[1]
    for mine, other in zip(first[2], second[2], strict=True):
        np.testing.assert_array_equal(mine, other)


def test_derived_network_inherits_what_the_path_computes(net, batch):
    path = np.array([4, 6, 0, 2], np.int32)
    model = network.build_network(net.arch(path))
    net.copy_weights_to(model, net.arch(path))
    np.testing.assert_allclose(net(batch[0], tf.constant(path)), model(batch[0], training=True), atol=1e-5)


def test_path_and_arch_are_inverse(net):
    path = np.array([4, 6, 0, 2], np.int32)
    np.testing.assert_array_equal(net.path(net.arch(path)), path)
    assert isinstance(net.arch(path), Arch)


def test_reinforce_moves_towards_the_rewarded_op(batch):
    """With one op of a choice free and all others slow, the latency factor alone decides."""
    net = supernet.Supernet(SMALL, seed=2)
    ms = prices.matrix(SMALL, lambda name, key: 0.01 if name != "b01" or key.op == "mb_k3_e3" else 100.0)
    updater = arch_updaters.ReinforceUpdater(net, ms, lambda accuracy, ms: (1.0 + accuracy) / ms, samples=8)
    optimizer = searcher.alpha_optimizer(0.05)
    optimizer.build([net.alpha])
    before = net.probs().numpy()[0, 0]
    for number in range(20):
        updater.update(*batch, tf.constant([0, number]), optimizer)
    assert net.probs().numpy()[0, 0] > 2 * before
    assert int(updater.updates.numpy()) == 20
