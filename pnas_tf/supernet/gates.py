"""Binary gates: sampling of paths, the gate whose gradient reaches alpha, and alpha's gradient.

All choices of a supernet share one alpha matrix [choices, ops]. Rows of choices with fewer ops are padded;
padded entries are masked, so their probability is 0. Everything here is a function of tensors.
"""

from collections.abc import Callable

import tensorflow as tf

ACTIVE_DRAWS = ("even", "softmax")


def probabilities(alpha: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Softmax over the ops that each choice has.

    Args:
        alpha: float32 [choices, ops].
        mask: bool [choices, ops], False where a choice has no such op.

    Returns:
        float32 [choices, ops]; rows sum to 1.
    """
    return tf.nn.softmax(_masked(alpha, mask))


def entropy(probs: tf.Tensor) -> tf.Tensor:
    """Mean over choices of -sum p ln p, in nats: scalar float32."""
    return tf.reduce_mean(-tf.reduce_sum(tf.math.xlogy(probs, probs), axis=-1))


def sample_path(alpha: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws one op for each choice from softmax(alpha) (paper equation 2).

    Args:
        alpha: float32 [choices, ops].
        mask: bool [choices, ops].
        seed: int32 [2]; the same seed gives the same path, in every process and replica.

    Returns:
        int32 [choices], index of the op.
    """
    return tf.argmax(_gumbel_scores(alpha, mask, seed), axis=-1, output_type=tf.int32)


def sample_pairs(alpha: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor, active_draw: str = "even") -> tf.Tensor:
    """Draws two different ops for each choice from softmax(alpha) (paper section 3.2.1).

    Args:
        alpha: float32 [choices, ops]; every choice has at least two ops.
        mask: bool [choices, ops].
        seed: int32 [2].
        active_draw: which of the two runs with gradients: `even` (either, which makes the estimate two-sided:
            see docs/method.md) or `softmax` (by the softmax of the pair's alphas, as the original does).

    Returns:
        int32 [choices, 2], the active op first.
    """
    seeds = tf.random.split(seed, 2)
    pairs = tf.math.top_k(_gumbel_scores(alpha, mask, seeds[0]), k=2).indices
    if active_draw == "even":
        first_is_active = tf.fill([tf.shape(alpha)[0]], 0.5)
    elif active_draw == "softmax":
        first_is_active = tf.nn.softmax(tf.gather(alpha, pairs, batch_dims=1))[:, 0]
    else:
        raise ValueError(f"active_draw must be one of {ACTIVE_DRAWS}, got {active_draw!r}.")
    keep = tf.random.stateless_uniform(tf.shape(first_is_active), seeds[1]) < first_is_active
    return tf.where(keep[:, None], pairs, tf.reverse(pairs, axis=[1]))


def members(involved: tf.Tensor, ops: int) -> tf.Tensor:
    """Which ops are involved: int32 [choices, k], negative for none -> bool [choices, ops]."""
    return tf.reduce_any(tf.equal(involved[..., None], tf.range(ops)), axis=1)


def binary_gate(gate: tf.Tensor, active: tf.Tensor, observe: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """The output of the active op, with a gradient for the gate of every op involved.

    The gates are one-hot, so sum_j gate_j * o_j is the active output; its derivative by gate_j is
    <dL/dy, o_j> (paper equation 3). Only the active op passes a gradient on to its input. The other ops are
    asked for their product when dL/dy is there, so nothing of theirs is kept meanwhile.

    Args:
        gate: float32 [k]; its value is not read.
        active: output of the active op.
        observe: from (dL/dy, active) to float32 [k], the products <dL/dy, o_j>.

    Returns:
        A tensor equal to `active`.
    """

    @tf.custom_gradient
    def pass_on(gate, active):
        return tf.identity(active), lambda upstream: (observe(upstream, active), upstream)

    return pass_on(gate, active)


def product(upstream: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """<dL/dy, o>, the sum over all elements of their products: scalar float32."""
    return tf.reduce_sum(tf.cast(upstream, tf.float32) * tf.cast(output, tf.float32))


def alpha_gradient(alpha: tf.Tensor, involved: tf.Tensor, gate_gradient: tf.Tensor) -> tf.Tensor:
    """Gradient of alpha from that of the gates, through the softmax of the involved ops (paper equation 4).

    dL/dalpha_i = sum_j dL/dg_j p_j (delta_ij - p_i), p = softmax over the involved ops; 0 for all others.

    Args:
        alpha: float32 [choices, ops].
        involved: int32 [choices, k], different ops; a negative index stands for no op.
        gate_gradient: float32 [choices, k].

    Returns:
        float32 [choices, ops].
    """
    present = involved >= 0
    index = tf.maximum(involved, 0)
    p = tf.nn.softmax(_masked(tf.gather(alpha, index, batch_dims=1), present))
    gradient = p * (gate_gradient - tf.reduce_sum(p * gate_gradient, axis=-1, keepdims=True))
    spread = tf.one_hot(index, alpha.shape[1]) * tf.cast(present, tf.float32)[..., None]
    return tf.reduce_sum(gradient[..., None] * spread, axis=1)


def two_sided_gradient(alpha: tf.Tensor, mask: tf.Tensor, active: tf.Tensor, gate_gradient: tf.Tensor) -> tf.Tensor:
    """Gradient of alpha from the gates of all ops, each swap of two ops judged from both sides alike.

    Only what compares an op with the active one a is used: 1/2 p_k (dL/dg_k - dL/dg_a) for another op k, and their
    negative sum for a. If a is drawn from softmax(alpha), the mean is sum_j p_i p_j D_ij with D_ij the
    mean of both sides of the swap: see docs/method.md.

    Args:
        alpha: float32 [choices, ops].
        mask: bool [choices, ops].
        active: int32 [choices].
        gate_gradient: float32 [choices, ops], 0 for ops that a choice lacks.

    Returns:
        float32 [choices, ops]; rows sum to 0.
    """
    difference = gate_gradient - tf.gather(gate_gradient, active[:, None], batch_dims=1)
    gradient = 0.5 * probabilities(alpha, mask) * difference
    return gradient - tf.one_hot(active, alpha.shape[1]) * tf.reduce_sum(gradient, axis=1, keepdims=True)


def policy_gradient(probs: tf.Tensor, paths: tf.Tensor, advantages: tf.Tensor) -> tf.Tensor:
    """REINFORCE: gradient of alpha whose descent makes paths with an advantage likelier (paper section 3.3.1).

    The mean over samples of advantage * d(-ln p(path)) / dalpha; an unbiased estimate of minus the gradient of
    the expected reward.

    Args:
        probs: float32 [choices, ops], what the paths were drawn from.
        paths: int32 [samples, choices].
        advantages: float32 [samples], reward less baseline.

    Returns:
        float32 [choices, ops]; 0 for ops that a choice lacks.
    """
    push = probs[None] - tf.one_hot(paths, probs.shape[1])
    return tf.reduce_mean(push * advantages[:, None, None], axis=0)


def rescale(new_alpha: tf.Tensor, old_alpha: tf.Tensor, pairs: tf.Tensor) -> tf.Tensor:
    """Shifts the two updated alphas of each choice so that all other probabilities stay as they were.

    Args:
        new_alpha: float32 [choices, ops], after the optimizer.
        old_alpha: float32 [choices, ops], before it.
        pairs: int32 [choices, 2], the ops that were updated.

    Returns:
        float32 [choices, ops]: the pair's summed exponentials are those of `old_alpha`.
    """
    new, old = (tf.gather(a, pairs, batch_dims=1) for a in (new_alpha, old_alpha))
    shift = tf.reduce_logsumexp(new, axis=1) - tf.reduce_logsumexp(old, axis=1)
    return new_alpha - shift[:, None] * tf.reduce_sum(tf.one_hot(pairs, new_alpha.shape[1]), axis=1)


def _masked(alpha, mask):
    return tf.where(mask, alpha, tf.fill(tf.shape(alpha), -float("inf")))


def _gumbel_scores(alpha, mask, seed):
    """Perturbed logits: the largest is a sample of the softmax, the two largest a pair without replacement."""
    uniform = tf.random.stateless_uniform(tf.shape(alpha), seed, minval=1e-20, maxval=1.0)
    return _masked(alpha - tf.math.log(-tf.math.log(uniform)), mask)
