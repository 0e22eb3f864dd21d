"""Takes some steps of a search on one or more replicas, and prints losses, alphas and weights as JSON.

    python replicas_steps.py STRATEGY REPLICAS UPDATER BATCHES [EPOCHS]

BATCHES is `doubled`, for batches whose halves are the same images, or `plain`. With `by_hand` as UPDATER, only the
weight steps of the first epoch are taken, each with the mean gradient of the batch's two halves.
"""

import json
import sys

import numpy as np
import tensorflow as tf

from pnas_tf.cost import prices as prices_lib
from pnas_tf.data import parts as parts_lib
from pnas_tf.network import evaluate
from pnas_tf.search import arch_updaters, objective, replicas, schedule, searcher
from pnas_tf.search.config import Method
from pnas_tf.supernet import gates, supernet
from tests.spaces import SMALL

supernet.set_graph_optimiser(False)  # as in a search
strategy_name, count, updater_name, batches = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
strategy = replicas.strategy(strategy_name, count)
epochs = int(sys.argv[5]) if len(sys.argv) > 5 else 3

PLAN = schedule.Schedule(steps_per_epoch=4, warmup_epochs=1, search_epochs=2, arch_every=1, warmup_lr=0.05, lr=0.05)


class Images:
    """Stands in for a part of a data set: random images of a fixed seed, cut for replicas as `Part.batches` does."""

    def __init__(self, seed):
        self._rng = np.random.default_rng(seed)

    def batches(self, batch_size, *, share, skip_steps=0, **_):
        images, labels = self._rng.normal(size=(PLAN.steps, batch_size, 8, 8, 3)), None
        labels = self._rng.integers(0, 4, (PLAN.steps, batch_size))
        if batches == "doubled":
            half = batch_size // 2
            images[:, half:], labels[:, half:] = images[:, :half], labels[:, :half]
        own = slice(share.first, share.first + share.count)

        def of_share(array):
            parts = array.reshape(PLAN.steps, share.total, -1, *array.shape[2:])[:, own]
            return parts.reshape(PLAN.steps * share.count, *parts.shape[2:])

        images, labels = of_share(images.astype("float32")), of_share(labels.astype("int32"))
        return tf.data.Dataset.from_tensor_slices((images, labels))


def by_hand(net):
    """Weight steps without replicas: the gradients of the two halves one after the other, then their mean."""
    losses = []
    for step, (images, labels) in enumerate(Images(1).batches(16, share=parts_lib.ALONE).take(PLAN.steps_per_epoch)):
        path = gates.sample_path(net.alpha.value, net.mask, tf.constant([11, 2 * step]))
        results = []
        for half in (slice(0, 8), slice(8, 16)):
            probes = net.probes()
            with tf.GradientTape() as tape:
                tape.watch(probes)
                loss = evaluate.cross_entropy(labels[half], net.run_path(images[half], path, probes), 0.1)
            results.append((loss, tape.gradient(loss, probes, unconnected_gradients="zero")))
        (first_loss, first), (second_loss, second) = results
        losses.append(float(first_loss + second_loss) / 2)
        net.update(path, [(a + b) / 2 for a, b in zip(first, second, strict=True)],
                   tf.constant(PLAN.weight_lr(step)), 0.9, 4e-5)
    return {"train_loss": [float(np.mean(losses))]}


def search(net):
    """Steps of a search with the updater that was asked for; the history of `fit`."""
    with strategy.scope():
        prices = prices_lib.matrix(SMALL, lambda name, key: 1.0 + key.filters % 3)
        if updater_name == "reinforce":
            updater = arch_updaters.ReinforceUpdater(net, prices, objective.reward("paper", 5.0), samples=3)
        else:
            loss = objective.latency_loss("lagrangian", 5.0, PLAN.arch_steps)
            updater = arch_updaters.GradientUpdater(net, prices, loss, Method(paths=updater_name))
        optimizer = searcher.alpha_optimizer(0.01)
    model = searcher.Searcher(net, updater, PLAN, seed=11)
    model.compile(optimizer)
    stream = searcher.alternating_batches(Images(1), Images(2), PLAN, 16, seed=0, devices=strategy)
    return model.fit(stream, epochs=epochs, steps_per_epoch=PLAN.steps_per_epoch, verbose=0, shuffle=False).history


with strategy.scope():
    net = supernet.Supernet(SMALL, seed=3)
    rng = np.random.default_rng(5)
    for candidate in [c for mixed_op in net.mixed_ops for c in mixed_op.candidates if c]:
        # Residual ops start as zero: their gates would have no gradient, and Adam would divide noise by noise.
        candidate.kernel.assign(np.asarray(candidate.kernel) + 0.1 * rng.normal(size=candidate.kernel.shape))
losses = by_hand(net) if updater_name == "by_hand" else search(net)
variables = [(c.prefix, v) for mixed_op in net.mixed_ops for c in mixed_op.candidates if c
             for v in (c.kernel, c.momentum) if v is not None]
copies = [np.asarray(copy).tolist() for copy in strategy.experimental_local_results(net.alpha.value)]
print(json.dumps({"losses": losses, "alpha": np.asarray(net.alpha).tolist(), "copies": copies,
                  "weights": [[name, np.asarray(v, "float64").ravel()[:50].tolist()] for name, v in variables]}))
