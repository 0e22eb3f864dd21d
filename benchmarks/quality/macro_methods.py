"""Updates of alpha compared on one trained supernet, whose weights stay as they are, at equal CPU time.

Every update starts from uniform probabilities, sees the same held-out batches, and has as many steps as take the CPU
time of `STEPS` two-path steps. What differs from a search: there, weights and alpha learn in turn.
"""

import time
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from pnas_tf.cost.goal import Goal
from pnas_tf.data.parts import Part
from pnas_tf.search import arch_updaters, build, searcher
from pnas_tf.search.config import Method
from pnas_tf.search.schedule import Schedule
from pnas_tf.supernet.supernet import Supernet

METHODS = {"two paths": Method(use_all_ms=True),
           "two paths, active op by softmax": Method(use_all_ms=True, active_draw="softmax"),
           "all paths": Method(use_all_ms=True, paths="all"),
           "REINFORCE": Method(use_all_ms=True, arch_update="reinforce")}
# Two-path steps for each target; steps that are timed to find how many of another kind take as long.
STEPS, TIMED = 100, 8


def learned(net: Supernet, goals: Sequence[Goal], held_out: Part, batch_size: int, seed: int
            ) -> Iterator[tuple[str, int, np.ndarray]]:
    """What each update of alpha makes of a supernet.

    Args:
        net: Trained supernet with an alpha for each goal; alpha is overwritten.
        goals: Goals of the updates.
        held_out: Held-out images.
        batch_size: Images of a step.
        seed: Seed of batches and paths.

    Yields:
        Name of the update, its number of steps for each goal, and its probabilities, float32 [goals, choices, ops].
    """
    allowed = 0.0
    for name, method in METHODS.items():
        seconds = _step_seconds(net, goals, method, held_out, batch_size, seed)
        allowed = allowed or STEPS * seconds
        steps = max(1, round(allowed / seconds))
        _run(net, goals, method, held_out, batch_size, seed, steps, steps * len(goals))
        yield name, steps, np.stack([net.probs(number).numpy() for number in range(len(goals))])


def _step_seconds(net, goals, method, held_out, batch_size, seed) -> float:
    """CPU seconds of a step: the median of some, without the first, which is traced."""
    return float(np.median(_run(net, goals, method, held_out, batch_size, seed, STEPS, 1 + TIMED)[1:]))


def _run(net, goals, method, held_out, batch_size, seed, steps, stop_after) -> list[float]:
    """Runs the first steps of a plan of `steps` for each goal, in turn, from uniform probabilities; their seconds."""
    for alpha in net.alphas:
        alpha.assign(tf.zeros_like(alpha.value))
    plan = Schedule(steps * len(goals), 0, 1, 1, 0.0, 0.0)
    updaters = list(build.updaters(method, net, goals, plan))
    lr = build.alpha_lr(method, net, plan, len(goals))
    optimizers = [searcher.alpha_optimizer(lr) for _ in goals]
    seconds = []
    for number, (images, labels) in enumerate(held_out.batches(batch_size, seed=seed).take(stop_after)):
        step_seed = tf.constant([seed, number], tf.int32)
        if not number:
            arch_updaters.calibrate(updaters, images, labels, step_seed)
        goal, begun = number % len(goals), time.process_time()
        updaters[goal].update(images, labels, step_seed, optimizers[goal])
        seconds.append(time.process_time() - begun)
    return seconds
