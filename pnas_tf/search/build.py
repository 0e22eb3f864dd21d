"""Assembles a search: the supernet, the updaters of alpha, and the model that trains both."""

from collections.abc import Iterator, Sequence

import tensorflow as tf

from pnas_tf import terminal
from pnas_tf.cost.goal import Goal
from pnas_tf.data.parts import Changes
from pnas_tf.errors import InputError
from pnas_tf.network.criterion import LABELS_ALONE, Criterion
from pnas_tf.search import arch_updaters, objective, observers, replicas, schedule, searcher
from pnas_tf.search.config import Method, SearchConfig
from pnas_tf.search.problem import Problem
from pnas_tf.search.schedule import Schedule
from pnas_tf.supernet import supernet
from pnas_tf.supernet.supernet import Supernet
from pnas_tf.train.recipe import crop_area_for

Updater = arch_updaters.GradientUpdater | arch_updaters.ReinforceUpdater


def compiled_searcher(problem: Problem, config: SearchConfig, *, criterion: Criterion,
                      devices: tf.distribute.Strategy | None = None) -> searcher.Searcher:
    """A supernet with initial weights, and the model that trains it.

    Args:
        problem: Space, goals, one alpha each, and schedule.
        config: Settings of the search.
        criterion: Loss of weight steps, from `criterion_of`; on held-out images its labels are not smoothed.
        devices: Devices from `replicas.strategy`; None for one device.

    Raises:
        InputError: If XLA is to compile the steps of a space whose filters are searched.
    """
    goals, plan = problem.goals, problem.plan
    if config.jit_compile and any(choice.filters for choice in problem.space.choices.values()):
        raise InputError("--jit_compile does not go with spaces whose filters are searched: their blocks have outputs "
                         "of several shapes, and XLA needs one. Leave it out.")
    supernet.set_graph_optimiser(False)
    with (devices or replicas.strategy("none")).scope():
        net = Supernet(problem.space, config.seed, config.memory == "recompute", config.precision, len(goals),
                       config.shared_by(problem.space), problem.frozen, lowered=config.jit_compile)
        each = list(updaters(config, net, goals, plan, criterion.without_smoothing(), config.jit_compile))
        optimizer = searcher.alpha_optimizer(alpha_lr(config, net, plan, len(goals)))
    model = searcher.Searcher(net, each, plan, seed=config.seed, criterion=criterion,
                              weight_decay=0.0 if problem.frozen else config.weight_decay,
                              jit_compile=config.jit_compile)
    model.compile(optimizer)
    return model


def updaters(method: Method, net: Supernet, goals: Sequence[Goal], plan: Schedule,
             criterion: Criterion = LABELS_ALONE, jit_compile: bool = False) -> Iterator[Updater]:
    """One updater for each goal. They share the compiled passes through the supernet.

    Args:
        method: Settings of the update of alpha.
        net: Supernet with an alpha for each goal.
        goals: Goals of the search.
        plan: Schedule, which gives the number of steps of each goal.
        criterion: Loss of gradients. Rewards use accuracy.
        jit_compile: Whether XLA compiles the passes, as in `replicas.by_xla`.
    """
    arch_steps = max(1, plan.arch_steps // len(goals))
    shared = observers.evaluator(net, jit_compile) if method.arch_update == "reinforce" \
        else observers.observer(net, method.paths, criterion, jit_compile)
    for goal, alpha in zip(goals, net.alphas, strict=True):
        limits = [(limit.cost, objective.Lagrangian(limit.bound, arch_steps, one_sided=True, name=limit.name))
                  for limit in goal.limits]
        if method.arch_update == "reinforce":
            reward = objective.reward(method.reward if goal.keeps_ms else "accuracy", goal.target_ms)
            yield arch_updaters.ReinforceUpdater(net, goal.ms, reward, method.reinforce_samples, limits=limits,
                                                 alpha=alpha, evaluate=shared)
        else:
            loss = objective.latency_loss(method.latency_loss, goal.target_ms, arch_steps, method.latency_strength,
                                          one_sided=not method.use_all_ms)
            yield arch_updaters.GradientUpdater(net, goal.ms, loss, method, limits=limits, alpha=alpha, observe=shared)


def alpha_lr(method: Method, net: Supernet, plan: Schedule, goals: int) -> float:
    """The learning rate of alpha: the method's own, or scaled to the number of steps. Says what it is.

    Args:
        method: Settings of the update of alpha.
        net: Supernet, which gives the number of ops of a choice.
        plan: Schedule, which gives the number of steps.
        goals: Number of goals that share the steps.
    """
    ops, arch_steps = net.mask.shape[1], plan.arch_steps // goals
    observed = 2 if method.arch_update == "gradient" and method.paths == "two" else ops
    lr = method.alpha_lr or schedule.alpha_lr(arch_steps, ops, observed)
    if arch_steps:
        travel = schedule.alpha_travel(lr, arch_steps, ops, observed)
        terminal.say(f"{arch_steps:,} architecture steps{' for each goal' if goals > 1 else ''} at learning rate "
                     f"{lr:.3g}: an alpha can move by about {travel:.1f}.")
    return lr


def changes(problem: Problem, config: SearchConfig) -> Changes:
    """How training images are changed in weight steps."""
    return Changes(cutout=config.cutout, crop_area=config.crop_area or crop_area_for(
        problem.data.train.size, problem.space.pretrained is not None))
