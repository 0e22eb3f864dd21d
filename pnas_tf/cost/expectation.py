"""Expected costs as TensorFlow computes them: the differentiable twin of `prices.Cost` (paper section 3.3)."""

import tensorflow as tf

from pnas_tf.cost.prices import Cost


def expected(cost: Cost, probs: tf.Tensor) -> tf.Tensor:
    """Expected cost of a network whose ops are drawn by their probabilities (paper equation 5).

        E[cost] = fixed + sum over choices and ops of probs * matrix

    Args:
        cost: Cost of each op.
        probs: Probabilities, float32 [choices, ops]; rows sum to 1.

    Returns:
        Scalar float32, in the unit of the cost, the fixed part included.
    """
    return cost.fixed + tf.reduce_sum(probs * cost.matrix)


def of_ops(cost: Cost, paths: tf.Tensor) -> tf.Tensor:
    """Cost of each op of some networks: int32 [networks, choices] -> float32 [networks, choices], no fixed part."""
    choices = tf.broadcast_to(tf.range(paths.shape[1]), tf.shape(paths))
    return tf.gather_nd(cost.matrix, tf.stack([choices, paths], axis=-1))
