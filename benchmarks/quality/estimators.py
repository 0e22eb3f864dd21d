"""Expectations of the estimates of alpha's gradient, for one choice whose losses are all known.

Everything is computed by NumPy from two measured arrays: `losses` [ops] is the loss with each op in place, and
`gate_gradients` [ops, ops] holds in row a the gradients dL/dgate of every op while op a is active. docs/method.md
derives the formulas.
"""

import numpy as np


def exact(probs: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Exact gradient of the expected loss by alpha, float64 [ops].

        expected_loss = sum_i p_i L_i
        gradient_i = p_i (L_i - sum_j p_j L_j)
    """
    return probs * (losses - probs @ losses)


def one_sided(gate_gradients: np.ndarray) -> np.ndarray:
    """One-sided estimate of L_j - L_i, float64 [ops, ops]: entry [i, j] is G_j - G_i while op i is active."""
    return gate_gradients - np.diag(gate_gradients)[:, None]


def two_sided(gate_gradients: np.ndarray) -> np.ndarray:
    """Two-sided estimate of L_j - L_i, the mean of both sides; float64 [ops, ops], antisymmetric."""
    forward = one_sided(gate_gradients)
    return 0.5 * (forward - forward.T)


def averaged(probs: np.ndarray, gate_gradients: np.ndarray) -> np.ndarray:
    """Estimate of L_j - L_i by the mean over active ops: entry [i, j] is sum_a p_a (G_j - G_i) while op a is active."""
    mean = probs @ gate_gradients
    return mean[None, :] - mean[:, None]


def pair_probabilities(probs: np.ndarray) -> np.ndarray:
    """Probability of each unordered pair of ops drawn without replacement; float64 [ops, ops], diagonal 0."""
    odds = probs / (1.0 - probs)
    pairs = odds[:, None] * probs[None, :] + probs[:, None] * odds[None, :]
    return pairs * (1.0 - np.eye(len(probs)))


def two_path(probs: np.ndarray, gate_gradients: np.ndarray, active_draw: str = "even") -> np.ndarray:
    """Mean gradient of alpha by two-path steps, float64 [ops].

    Args:
        probs: Probabilities of the ops, float64 [ops], all positive and below 1.
        gate_gradients: Gradients of the gates, float64 [ops, ops].
        active_draw: How the active op of a pair is drawn: `even` or `softmax`, as in `gates.sample_pairs`.
    """
    share = probs[:, None] / (probs[:, None] + probs[None, :])
    forward = one_sided(gate_gradients)
    difference = two_sided(gate_gradients) if active_draw == "even" else share * forward - share.T * forward.T
    return -np.sum(pair_probabilities(probs) * share * share.T * difference, axis=1)


def all_path(probs: np.ndarray, gate_gradients: np.ndarray, active_draw: str = "even") -> np.ndarray:
    """Mean gradient of alpha by all-path steps, float64 [ops]; arguments as of `two_path`."""
    if active_draw == "softmax":
        return exact(probs, probs @ gate_gradients)
    return -probs * (two_sided(gate_gradients) @ probs)


def active_shares(probs: np.ndarray, active_draw: str = "even") -> np.ndarray:
    """Probability that an op is the active op of a two-path step, which the other choices meet; float64 [ops]."""
    share = probs[:, None] / (probs[:, None] + probs[None, :])
    return np.sum(pair_probabilities(probs) * (0.5 if active_draw == "even" else share), axis=1)
