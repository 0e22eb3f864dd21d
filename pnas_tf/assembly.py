"""The parts of a search, put together: for the command and for notebooks alike."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pnas_tf import finalists, methods, replicas, searcher, supernet
from pnas_tf.arch import Arch
from pnas_tf.limits import Goal
from pnas_tf.schedule import Schedule
from pnas_tf.space import Space


def compiled_searcher(space: Space, goals: Sequence[Goal], plan: Schedule, *, method: methods.Method | None = None,
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
    method = method or methods.Method()
    with (devices or replicas.strategy("none")).scope():
        net = supernet.Supernet(space, seed, recompute, precision, len(goals))
        updaters = list(methods.updaters(method, net, goals, plan, class_weights))
        optimizer = searcher.alpha_optimizer(methods.alpha_lr(method, net, plan, len(goals)))
    model = searcher.Searcher(net, updaters, plan, seed=seed, label_smoothing=label_smoothing,
                              weight_decay=weight_decay, class_weights=class_weights)
    model.compile(optimizer)
    return model


def delivered(found: Sequence[finalists.Finalist], goal: Goal, probs: np.ndarray) -> Arch:
    """The network that a search delivers, with what is known of its time.

    Args:
        found: finalists, best first.
        goal: it was found for.
        probs: float [choices, ops] at the end of the search.
    """
    best = found[0]
    measured = {} if best.measured_ms is None else {"measured_ms": best.measured_ms}
    return best.arch.with_costs(target=goal.target, target_ms=goal.target_ms,
                                expected_ms=float(goal.ms.expected(probs)), table_ms=best.costs["ms"], **measured)
