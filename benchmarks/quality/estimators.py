"""What each estimate of alpha's gradient is worth in expectation, for one choice whose losses are all known.

Everything is NumPy on two measured arrays: `losses` [ops], the loss with each op in place, and `gate_gradients`
[ops, ops], row a holding dL/dgate of every op while op a is active. docs/method.md derives the formulas.
"""

import numpy as np


def exact(probs: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Gradient by alpha of the expected loss sum_i p_i L_i: p_i (L_i - sum_j p_j L_j), float64 [ops]."""
    return probs * (losses - probs @ losses)


def one_sided(gate_gradients: np.ndarray) -> np.ndarray:
    """Estimate of L_j - L_i from the side of op i alone: [i, j] = (G_j - G_i) with i active."""
    return gate_gradients - np.diag(gate_gradients)[:, None]


def two_sided(gate_gradients: np.ndarray) -> np.ndarray:
    """Estimate of L_j - L_i by the mean of both sides: [i, j], antisymmetric."""
    forward = one_sided(gate_gradients)
    return 0.5 * (forward - forward.T)


def averaged(probs: np.ndarray, gate_gradients: np.ndarray) -> np.ndarray:
    """Estimate of L_j - L_i by the mean over active ops drawn from probs: [i, j] = sum_a p_a (G_j - G_i)."""
    mean = probs @ gate_gradients
    return mean[None, :] - mean[:, None]


def pair_probabilities(probs: np.ndarray) -> np.ndarray:
    """Probability of each unordered pair, drawn one after the other without replacement: [ops, ops], diagonal 0."""
    odds = probs / (1.0 - probs)
    pairs = odds[:, None] * probs[None, :] + probs[:, None] * odds[None, :]
    return pairs * (1.0 - np.eye(len(probs)))


def two_path(probs: np.ndarray, gate_gradients: np.ndarray, active_draw: str = "even") -> np.ndarray:
    """Mean gradient of two-path steps, [ops].

    Args:
        probs: [ops], all positive and below 1.
        gate_gradients: [ops, ops].
        active_draw: `even` or `softmax`, as in `gates.sample_pairs`.
    """
    share = probs[:, None] / (probs[:, None] + probs[None, :])
    forward = one_sided(gate_gradients)
    difference = two_sided(gate_gradients) if active_draw == "even" else share * forward - share.T * forward.T
    return -np.sum(pair_probabilities(probs) * share * share.T * difference, axis=1)


def all_path(probs: np.ndarray, gate_gradients: np.ndarray, active_draw: str = "even") -> np.ndarray:
    """Mean gradient of all-path steps, [ops]; arguments as `two_path`."""
    if active_draw == "softmax":
        return exact(probs, probs @ gate_gradients)
    return -probs * (two_sided(gate_gradients) @ probs)


def active_shares(probs: np.ndarray, active_draw: str = "even") -> np.ndarray:
    """How often each op is the active one of a two-path step: what the other choices see, [ops]."""
    share = probs[:, None] / (probs[:, None] + probs[None, :])
    return np.sum(pair_probabilities(probs) * (0.5 if active_draw == "even" else share), axis=1)
