"""Passes through the supernet that an architecture step needs: gradients of gates, and scores of paths."""

from collections.abc import Callable, Sequence

import tensorflow as tf

from pnas_tf.network.criterion import LABELS_ALONE, Criterion
from pnas_tf.network.evaluate import accuracy_of, cross_entropy
from pnas_tf.search import replicas
from pnas_tf.supernet.supernet import Supernet

# Compiled passes through the supernet: results of `observer` and `evaluator`.
Observe = Callable[..., tuple[tf.Tensor, ...]]
Evaluate = Callable[..., tuple[tf.Tensor, tf.Tensor]]


def observer(supernet: Supernet, paths: str = "two", criterion: Criterion = LABELS_ALONE, jit_compile: bool = False
             ) -> Observe:
    """Compiles the gate gradients of an architecture step, for two ops of each choice or for all ops.

    Args:
        supernet: Supernet whose ops run.
        paths: `two` or `all`.
        criterion: Loss of the logits.
        jit_compile: Whether XLA compiles them, as in `replicas.by_xla`; the supernet has to recompute.

    Returns:
        A function of images, labels, involved ops, int32 [choices, k], and active ops, int32 [choices]; with two paths,
        the first involved op is active. It returns float32 [choices, k] and the other results of `gate_gradients`.
    """
    def observe(images, labels, involved, active):
        if paths == "all":
            return all_gate_gradients(supernet, images, labels, active, criterion)
        others = [[pair[1]] for pair in tf.unstack(involved)]
        rows, *rest = gate_gradients(supernet, images, labels, active, others, criterion)
        return tf.stack(rows), *rest

    return replicas.on_all(supernet.distribute_strategy, replicas.by_xla(observe, jit_compile))


def evaluator(supernet: Supernet, jit_compile: bool = False) -> Evaluate:
    """Compiles the score of a path.

    Args:
        supernet: Supernet whose ops run.
        jit_compile: As for `observer`.

    Returns:
        A function of images, labels and the path, int32 [choices], that returns accuracy and cross-entropy.
    """
    def evaluate(images, labels, path):
        logits = supernet(images, path)
        return replicas.mean([accuracy_of(labels, logits), cross_entropy(labels, logits)])

    return replicas.on_all(supernet.distribute_strategy, replicas.by_xla(evaluate, jit_compile))


def gate_gradients(supernet: Supernet, images: tf.Tensor, labels: tf.Tensor, active: tf.Tensor,
                   others: list[list[tf.Tensor | int]], criterion: Criterion = LABELS_ALONE
                   ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor, tf.Tensor]:
    """Derivatives of the loss with respect to the gates of some ops, while one path runs (paper equation 3).

        dL/dg_j = <dL/dy, o_j>

    Outputs of other filters have other shapes, so the gates of a choice of filters get measured differences of the
    loss. With one further width for each such choice, all of them change at once; what the others add has the mean 0,
    if each pair is as likely to be the other way round. With several, one choice changes at a time.

        dL/dg_j = L(path with width j) - L(path)

    Args:
        supernet: Supernet whose ops run.
        images: Images, float32 [batch, height, width, channels].
        labels: Classes, int32 [batch].
        active: Active op of each choice, int32 [choices].
        others: Further ops to observe, one list for each choice.
        criterion: Loss of the logits.

    Returns:
        The derivatives, float32 [1 + others] for each choice, the active op first; whether they are finite (in float16
        they may overflow, and are then 0); the loss; the accuracy. All are means over replicas.
    """
    rows = [tf.zeros([1 + len(row)]) for row in others]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(rows)
        logits = supernet.run_gated(images, active, others, rows)
        taught = criterion.taught(images)
        loss = criterion.loss(labels, logits, taught)
        scaled = supernet.loss_scale.scaled(loss)
    rows = tape.gradient(scaled, rows, unconnected_gradients="zero")
    for row, differences in _width_gates(supernet, active, others, lambda path: criterion.loss(
            labels, supernet(images, path), taught) - loss).items():
        rows[row] = supernet.loss_scale.scaled(differences)
    *rows, loss, accuracy = replicas.mean([*rows, loss, accuracy_of(labels, logits)])
    rows, finite = supernet.loss_scale.unscaled(rows)
    return rows, finite, loss, accuracy


def all_gate_gradients(supernet: Supernet, images: tf.Tensor, labels: tf.Tensor, active: tf.Tensor,
                       criterion: Criterion = LABELS_ALONE) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """The gate gradients of all ops, the active op's once, with arguments and other results of `gate_gradients`.

    Returns:
        The derivatives, float32 [choices, ops], 0 for ops that a choice lacks; then as `gate_gradients`.
    """
    others = [list(range(count)) for count in supernet.mask.sum(1)]
    rows, *rest = gate_gradients(supernet, images, labels, active, others, criterion)
    rows = [tf.pad(row[1:], [[0, supernet.mask.shape[1] + 1 - row.shape[0]]]) for row in rows]
    return tf.stack(rows), *rest


def _width_gates(supernet: Supernet, active: tf.Tensor, others: Sequence[Sequence[tf.Tensor | int]],
                 difference: Callable[[tf.Tensor], tf.Tensor]) -> dict[int, tf.Tensor]:
    """Measured gates of the choices of filters, see `gate_gradients`.

    Args:
        supernet: Supernet with these choices.
        active: Active op of each choice, int32 [choices].
        others: Further ops to observe, one list for each choice.
        difference: Function from a path to its loss less that of the active path.

    Returns:
        Gates by the index of the choice, float32 [1 + others], that of the active width first, which is 0.
    """
    counts = {row: len(choice.filters) for row, choice in enumerate(supernet.space.choices.values()) if choice.filters}
    if not counts:
        return {}
    if all(len(others[row]) == 1 for row in counts):
        swapped = tf.stack([others[row][0] if row in counts else own for row, own in enumerate(tf.unstack(active))])
        return dict.fromkeys(counts, tf.stack([0.0, difference(swapped)]))
    # Each width of a choice but the active one, in the order of the choice's ops behind it.
    changed = [(row, (active[row] + step) % count) for row, count in counts.items() for step in range(1, count)]
    paths = tf.stack([tf.tensor_scatter_nd_update(active, [[row]], [op]) for row, op in changed])
    losses = tf.unstack(tf.map_fn(difference, paths, fn_output_signature=tf.float32), len(changed))
    gates = {row: tf.zeros([count]) for row, count in counts.items()}
    for (row, op), loss in zip(changed, losses, strict=True):
        gates[row] += loss * tf.one_hot(op, counts[row])
    return {row: tf.concat([[0.0], each], 0) for row, each in gates.items()}
