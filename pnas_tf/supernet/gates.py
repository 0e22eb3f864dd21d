"""Binary gates: sampled paths, the gate whose gradient reaches alpha, and the gradients of alpha.

All choices of a supernet share one matrix `alpha` [choices, ops]. A choice with fewer ops than the others has a padded
row; padded entries are masked, which makes their probability 0. Everything here is a function of tensors.
"""

from collections.abc import Callable

import tensorflow as tf

ACTIVE_DRAWS = ("even", "softmax")


def probabilities(alpha: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Softmax over the ops that each choice has: `p = exp(alpha) / sum(exp(alpha))` (paper equation 1).

    Args:
        alpha: Architecture parameters, float32 [choices, ops].
        mask: Ops that each choice has, bool [choices, ops].

    Returns:
        float32 [choices, ops]; rows sum to 1.
    """
    return tf.nn.softmax(_masked(alpha, mask))


def entropy(probs: tf.Tensor) -> tf.Tensor:
    """Mean entropy of the choices, in nats: `mean(-sum(p * log(p)))`, scalar float32."""
    return tf.reduce_mean(-tf.reduce_sum(tf.math.xlogy(probs, probs), axis=-1))


def sample_path(alpha: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws one op for each choice from softmax(alpha) (paper equation 2).

    Args:
        alpha: Architecture parameters, float32 [choices, ops].
        mask: Ops that each choice has, bool [choices, ops].
        seed: Seed of the random path, int32 [2]; the same seed gives the same path in every process and on every
            replica.

    Returns:
        Op indices, int32 [choices].
    """
    return tf.argmax(_gumbel_scores(alpha, mask, seed), axis=-1, output_type=tf.int32)


def sample_pairs(alpha: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor, active_draw: str = "even") -> tf.Tensor:
    """Draws two different ops for each choice from softmax(alpha) (paper section 3.2.1).

    Args:
        alpha: Architecture parameters, float32 [choices, ops]; every choice has at least two ops.
        mask: Ops that each choice has, bool [choices, ops].
        seed: Seed of the random pairs, int32 [2].
        active_draw: How the active op of a pair, which runs with gradients, is drawn: `even` gives both ops the same
            chance, which makes the gradient estimate two-sided (docs/method.md); `softmax` draws by the softmax of the
            pair's alphas, as the original does.

    Returns:
        Op indices, int32 [choices, 2], the active op first.

    Raises:
        ValueError: If `active_draw` is not one of `ACTIVE_DRAWS`.
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
    """Marks the ops whose indices are listed.

    Args:
        involved: Op indices, int32 [choices, k]; a negative index stands for no op.
        ops: Number of columns of the result.

    Returns:
        bool [choices, ops].
    """
    return tf.reduce_any(tf.equal(involved[..., None], tf.range(ops)), axis=1)


def binary_gate(gate: tf.Tensor, active: tf.Tensor, observe: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Output of the active op, with a gradient for the gate of every involved op (paper equation 3).

        y = sum(gate[j] * o[j] for j in ops)    # gates are one-hot: y is the active op's output
        dL/dgate[j] = sum(dL/dy * o[j])         # over all elements
        dL/dactive = dL/dy

    Only the active op passes a gradient on to its input. The products of the other ops are computed in the backward
    pass, when dL/dy exists, so that no output of these ops is kept in memory.

    Args:
        gate: Gates of the involved ops, float32 [k]; only their gradient matters, their value is not read.
        active: Output of the active op.
        observe: Function of (dL/dy, active) that returns dL/dgate, float32 [k].

    Returns:
        A tensor equal to `active`.
    """

    @tf.custom_gradient
    def pass_on(gate, active):
        return tf.identity(active), lambda upstream: (observe(upstream, active), upstream)

    return pass_on(gate, active)


def product(upstream: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Gradient of a gate, `sum(dL/dy * o)` over all elements (paper equation 3).

    Args:
        upstream: Gradient of the loss with respect to the block's output, dL/dy.
        output: Output of an op, o, of the same shape.

    Returns:
        Scalar float32.
    """
    return tf.reduce_sum(tf.cast(upstream, tf.float32) * tf.cast(output, tf.float32))


def alpha_gradient(alpha: tf.Tensor, involved: tf.Tensor, gate_gradient: tf.Tensor) -> tf.Tensor:
    """Gradient of alpha through the softmax of the involved ops (paper equation 4).

        p = softmax(alpha[involved])
        dL/dalpha[i] = sum(dL/dgate[j] * p[j] * ((i == j) - p[i]) for j in involved)
                     = p[i] * (dL/dgate[i] - sum(p * dL/dgate))

    All other alphas have gradient 0.

    Args:
        alpha: Architecture parameters, float32 [choices, ops].
        involved: Indices of different ops, int32 [choices, k]; a negative index stands for no op.
        gate_gradient: Derivatives dL/dgate of the involved ops, float32 [choices, k].

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
    """Gradient of alpha from the gates of all ops, which weighs each swap of two ops equally from both sides.

        p = softmax(alpha)
        dL/dalpha[k] = 0.5 * p[k] * (dL/dgate[k] - dL/dgate[active])            # for every other op k
        dL/dalpha[active] = -sum(dL/dalpha[k] for k in ops if k != active)

    A variant of the paper's equation 4 that uses only comparisons with the active op. If the active op is drawn from
    softmax(alpha), the expectation is `sum(p[i] * p[j] * D[i, j] for j in ops)`, where D[i, j] is the mean of the
    gains of swapping i and j, measured once with i active and once with j active: see docs/method.md.

    Args:
        alpha: Architecture parameters, float32 [choices, ops].
        mask: Ops that each choice has, bool [choices, ops].
        active: Index of the active op, int32 [choices].
        gate_gradient: Derivatives dL/dgate of every op, float32 [choices, ops], 0 for ops that a choice lacks.

    Returns:
        float32 [choices, ops]; rows sum to 0.
    """
    difference = gate_gradient - tf.gather(gate_gradient, active[:, None], batch_dims=1)
    gradient = 0.5 * probabilities(alpha, mask) * difference
    return gradient - tf.one_hot(active, alpha.shape[1]) * tf.reduce_sum(gradient, axis=1, keepdims=True)


def policy_gradient(probs: tf.Tensor, paths: tf.Tensor, advantages: tf.Tensor) -> tf.Tensor:
    """REINFORCE: the gradient of alpha; descent makes paths with a positive advantage likelier (paper section 3.3.1).

        d(-log p(path))/dalpha = p - one_hot(path)
        gradient = mean(advantage * (p - one_hot(path)) for path in paths)

    It is an unbiased estimate of minus the gradient of the expected reward.

    Args:
        probs: Probabilities that the paths were drawn from, float32 [choices, ops].
        paths: Op indices of the sampled paths, int32 [samples, choices].
        advantages: Reward of each path minus the baseline, float32 [samples].

    Returns:
        float32 [choices, ops]; 0 for ops that a choice lacks.
    """
    push = probs[None] - tf.one_hot(paths, probs.shape[1])
    return tf.reduce_mean(push * advantages[:, None, None], axis=0)


def rescale(new_alpha: tf.Tensor, old_alpha: tf.Tensor, pairs: tf.Tensor) -> tf.Tensor:
    """Shifts the two updated alphas of each choice so that all other probabilities stay as they were (section 3.2.1).

        shift = log(sum(exp(new_alpha[pair]))) - log(sum(exp(old_alpha[pair])))
        alpha[pair] = new_alpha[pair] - shift

    Args:
        new_alpha: Alphas after the optimizer's step, float32 [choices, ops].
        old_alpha: Alphas before that step, float32 [choices, ops].
        pairs: Indices of the two updated ops, int32 [choices, 2].

    Returns:
        float32 [choices, ops], in which the exponentials of each pair have the same sum as in `old_alpha`.
    """
    new, old = (tf.gather(a, pairs, batch_dims=1) for a in (new_alpha, old_alpha))
    shift = tf.reduce_logsumexp(new, axis=1) - tf.reduce_logsumexp(old, axis=1)
    return new_alpha - shift[:, None] * tf.reduce_sum(tf.one_hot(pairs, new_alpha.shape[1]), axis=1)


def _masked(alpha, mask):
    return tf.where(mask, alpha, tf.fill(tf.shape(alpha), -float("inf")))


def _gumbel_scores(alpha, mask, seed):
    """Perturbed logits: the largest marks a sample of the softmax, the two largest a pair without replacement."""
    uniform = tf.random.stateless_uniform(tf.shape(alpha), seed, minval=1e-20, maxval=1.0)
    return _masked(alpha - tf.math.log(-tf.math.log(uniform)), mask)
