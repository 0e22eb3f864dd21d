"""The parts of a search, put together: the supernet, what moves alpha, and the model that trains both."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pnas_tf.cost.goal import Goal
from pnas_tf.search import arch_updaters, objective, replicas, schedule, searcher
from pnas_tf.search.schedule import Schedule
from pnas_tf.space.blocks import Space
from pnas_tf.supernet import supernet
from pnas_tf.supernet.supernet import Supernet

Updater = arch_updaters.GradientUpdater | arch_updaters.ReinforceUpdater


@dataclasses.dataclass(frozen=True)
class Method:
    """How alpha learns; the defaults are those of the flags.

    Attributes:
        latency_loss: one of `cost.LATENCY_LOSSES`.
        latency_strength: of add_linear.
        arch_update: gradient or reinforce.
        paths: two or all.
        active_draw: even or softmax.
        expected_latency: full or pair.
        reward: one of `cost.REWARDS`, for reinforce.
        reinforce_samples: networks of an update, for reinforce.
        alpha_lr: 0 to scale it to the number of steps.
    """

    latency_loss: str = "lagrangian"
    latency_strength: float = 0.1
    arch_update: str = "gradient"
    paths: str = "two"
    active_draw: str = "even"
    expected_latency: str = "full"
    reward: str = "abs"
    reinforce_samples: int = 10
    alpha_lr: float = 0.0


def updaters(method: Method, net: Supernet, goals: Sequence[Goal], plan: Schedule,
             class_weights: np.ndarray | None = None) -> Iterator[Updater]:
    """One for each goal; what is compiled of the supernet's passes they share.

    Args:
        method: how alpha learns.
        net: with an alpha for each goal.
        goals: what is searched for.
        plan: says how many steps each has.
        class_weights: float32 [classes], of the cross-entropy of gradients; a reward is plain accuracy.
    """
    arch_steps = max(1, plan.arch_steps // len(goals))
    shared = arch_updaters.evaluator(net) if method.arch_update == "reinforce" \
        else arch_updaters.observer(net, method.paths, class_weights)
    for goal, alpha in zip(goals, net.alphas, strict=True):
        limits = [(limit.cost, objective.Lagrangian(limit.bound, arch_steps, one_sided=True, name=limit.name))
                  for limit in goal.limits]
        if method.arch_update == "reinforce":
            reward = objective.reward(method.reward if goal.keeps_ms else "accuracy", goal.target_ms)
            yield arch_updaters.ReinforceUpdater(net, goal.ms, reward, method.reinforce_samples, limits=limits,
                                                 alpha=alpha, evaluate=shared)
        else:
            loss = objective.latency_loss(method.latency_loss, goal.target_ms, arch_steps, method.latency_strength)
            yield arch_updaters.GradientUpdater(net, goal.ms, loss, method.paths, method.active_draw,
                                                method.expected_latency, limits=limits, alpha=alpha, observe=shared)


def alpha_lr(method: Method, net: Supernet, plan: Schedule, goals: int) -> float:
    """The learning rate of alpha that the method states, or the one that its number of steps asks for; says it.

    Args:
        method: how alpha learns.
        net: says how many ops a choice has.
        plan: says how many steps there are.
        goals: that share the steps.
    """
    ops, arch_steps = net.mask.shape[1], plan.arch_steps // goals
    observed = 2 if method.arch_update == "gradient" and method.paths == "two" else ops
    lr = method.alpha_lr or schedule.alpha_lr(arch_steps, ops, observed)
    print(f"{arch_steps:,} architecture steps{' for each goal' if goals > 1 else ''} at learning rate {lr:.3g}: an "
          f"alpha can travel about {schedule.alpha_travel(lr, arch_steps, ops, observed):.1f}.")
    return lr


def compiled_searcher(space: Space, goals: Sequence[Goal], plan: Schedule, *, method: Method | None = None,
                      class_weights: np.ndarray | None = None, label_smoothing: float = 0.1,
                      weight_decay: float = 4e-5, recompute: bool = False, precision: str = "float32",
                      devices: Any = None, seed: int = 0) -> searcher.Searcher:
    """A supernet with new weights, and what trains it.

    Args:
        space: to search; fits the data.
        goals: one alpha each.
        plan: phases and learning rates.
        method: how alpha learns; the default one if None.
        class_weights: float32 [classes], of all losses.
        label_smoothing: of weight steps.
        weight_decay: of weight steps.
        recompute: whether to trade time for memory.
        precision: of `supernet.PRECISIONS`.
        devices: from `replicas.strategy`; None for one device.
        seed: of everything random.
    """
    supernet.set_graph_optimiser(False)
    method = method or Method()
    with (devices or replicas.strategy("none")).scope():
        net = supernet.Supernet(space, seed, recompute, precision, len(goals))
        each = list(updaters(method, net, goals, plan, class_weights))
        optimizer = searcher.alpha_optimizer(alpha_lr(method, net, plan, len(goals)))
    model = searcher.Searcher(net, each, plan, seed=seed, label_smoothing=label_smoothing,
                              weight_decay=weight_decay, class_weights=class_weights)
    model.compile(optimizer)
    return model
