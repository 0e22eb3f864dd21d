"""Expected costs as TensorFlow computes them: the differentiable twin of `prices.Cost` (paper section 3.3)."""

import tensorflow as tf

from pnas_tf.cost.prices import Cost


def expected(cost: Cost, probs: tf.Tensor) -> tf.Tensor:
    """Expected cost of a network whose ops are drawn by their probabilities (paper equation 5).

        E[cost] = fixed + sum over choices and ops of probs * matrix
                  + sum over terms and combinations of probs of the first * probs of the second * ... * values

    Choices are drawn independently of each other, so this is exact where a cost depends on several of them.

    Args:
        cost: Cost of each op.
        probs: Probabilities, float32 [choices, ops]; rows sum to 1.

    Returns:
        Scalar float32, in the unit of the cost, the fixed part included.
    """
    total = cost.fixed + tf.reduce_sum(probs * cost.matrix)
    for term in cost.terms:
        rows = [probs[choice, :size] for choice, size in zip(term.choices, term.values.shape, strict=True)]
        total += tf.einsum(term.expectation, tf.cast(term.values, rows[0].dtype), *rows)
    return total


def slopes(cost: Cost, probs: tf.Tensor) -> tf.Tensor:
    """Derivatives of the expected cost with respect to the probabilities, which are those with respect to the gates.

        dE[cost]/dprobs[choice, op] = matrix[choice, op] + expected part of terms if the choice has the op

    Args:
        cost: Cost of each op.
        probs: Probabilities, float32 [choices, ops].

    Returns:
        float32 [choices, ops]; `cost.matrix` if no cost depends on several choices.
    """
    if not cost.terms:
        return tf.constant(cost.matrix)
    with tf.GradientTape() as tape:
        tape.watch(probs)
        total = expected(cost, probs)
    return tape.gradient(total, probs)


def of_paths(cost: Cost, paths: tf.Tensor) -> tf.Tensor:
    """Costs of networks, int32 [networks, choices] -> float32 [networks]."""
    choices = tf.broadcast_to(tf.range(paths.shape[1]), tf.shape(paths))
    total = cost.fixed + tf.reduce_sum(tf.gather_nd(cost.matrix, tf.stack([choices, paths], axis=-1)), axis=1)
    for term in cost.terms:
        total += tf.gather_nd(term.values, tf.gather(paths, term.choices, axis=1))
    return total
