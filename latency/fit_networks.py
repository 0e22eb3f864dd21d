"""Fits the rows of a table to the times of whole networks, with tables of other devices as what is known before.

A device seldom prices ops in a way that is wholly its own: a mixture of the tables of other devices comes close, and
few networks suffice to weigh them. What the mixture misses is corrected row by row, as far as the networks ask for it.
"""

import dataclasses

import numpy as np

from latency import pace as pace_lib

# Values tried for a row's relative deviation from the mixture, in units of the relative error of a network's time. The
# most probable value is taken.
RATIOS = (0.1, 0.3, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
# Relative deviation of a weight of the mixture, in the same unit: as good as free.
FREE = 50.0
# Smallest relative error of a network's time.
LEAST_NOISE = 1e-3
# Degrees of freedom of Student's distribution, which a network's error follows.
FREEDOM = 2.0
ROUNDS = 5
FOLDS = 5
# Changes of the pace below this share end the alternation between rows and pace.
SETTLED = 5e-4


@dataclasses.dataclass(frozen=True)
class Networks:
    """Times of networks.

    Attributes:
        counts: Occurrences of each row in each network, float64 [networks, rows].
        ms: Milliseconds as measured, float64 [networks].
        pace: Pace of the device at each network, as anchors show it, float64 [networks]; None if there were no anchors.
        times: Time of each measurement in any unit, float64 [networks]. Without anchors, the pace is estimated from
            networks that are near in time.
    """

    counts: np.ndarray
    ms: np.ndarray
    pace: np.ndarray | None
    times: np.ndarray

    def part(self, where: np.ndarray) -> "Networks":
        """Some of the networks.

        Args:
            where: Indices or a mask of networks.
        """
        return Networks(self.counts[where], self.ms[where], None if self.pace is None else self.pace[where],
                        self.times[where])


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted table.

    Attributes:
        row_ms: Milliseconds of each row, float64 [rows].
        error_ms: Standard deviation of each row, float64 [rows].
        weights: Weight of each source in the mixture, float64 [sources].
        row_sigma: Relative deviation of rows from the mixture.
        noise: Relative error of a network's time.
        pace: Curve of the device's pace; None if anchors gave the pace.
    """

    row_ms: np.ndarray
    error_ms: np.ndarray
    weights: np.ndarray
    row_sigma: float
    noise: float
    pace: pace_lib.Pace | None


def fit(networks: Networks, sources: np.ndarray) -> Fit:
    """The most probable rows.

        row_ms = weights @ sources + row_error,    row_error ~ N(0, (row_sigma * weights @ sources)**2)
        network_ms = pace(time) * (counts @ row_ms) * (1 + error)

    The weights are not negative. row_sigma and the size of the errors maximise the probability of the times (marginal
    likelihood). Errors follow Student's distribution, so networks that were disturbed weigh less. Without anchors, rows
    and pace are estimated in turns; the pace of a network then comes from the other networks only.

    Args:
        networks: Times of networks.
        sources: Milliseconds of the rows in tables of other devices, float64 [sources, rows].
    """
    if networks.pace is not None:
        return _rows(networks.counts, networks.ms / networks.pace, sources)
    # The mixture alone comes first: rows of their own would take a share of the pace that they never give back.
    row_ms = _weights((networks.counts / networks.ms[:, None]) @ sources.T) @ sources
    pace, _ = _pace(networks, row_ms)
    for _ in range(ROUNDS):
        rows = _rows(networks.counts, networks.ms / pace, sources)
        before, (pace, curve) = pace, _pace(networks, rows.row_ms)
        if np.max(np.abs(pace / before - 1)) < SETTLED:
            break
    return dataclasses.replace(rows, pace=curve)


def _pace(networks, row_ms):
    """The pace at each network as the others show it, relative to the usual pace; and the curve of the pace."""
    curve = pace_lib.curve(networks.times, networks.ms / (networks.counts @ row_ms))
    return curve.left_out()[0] / np.exp(curve.usual_log), curve


def held_out_errors(networks: Networks, sources: np.ndarray) -> np.ndarray:
    """Relative errors of predictions by cross-validation: each network is held out once, every fifth at a time.

    A held-out network is predicted from the rows and the pace that the others give: without anchors, its own time and
    that of other held-out networks count for neither.

    Args:
        networks: Times of networks.
        sources: As for `fit`.

    Returns:
        predicted / measured - 1, float64 [networks].
    """
    errors = np.empty(len(networks.ms))
    for fold in range(FOLDS):
        held_out = np.arange(len(networks.ms)) % FOLDS == fold
        errors[held_out] = errors_of(fit(networks.part(~held_out), sources), networks.part(held_out))
    return errors


def errors_of(table: Fit, networks: Networks) -> np.ndarray:
    """Relative errors of a fit's predictions for networks: predicted / measured - 1, float64 [networks].

    Args:
        table: Result of `fit`.
        networks: Other networks.
    """
    pace = networks.pace
    if pace is None:
        pace = table.pace.at(networks.times)[0] if table.pace else np.ones(len(networks.ms))
    return pace * (networks.counts @ table.row_ms) / networks.ms - 1


def _rows(counts, ms, sources):
    """The fit to times at the usual pace."""
    per_ms = counts / ms[:, None]
    weights = _weights(per_ms @ sources.T)
    mixture = weights @ sources
    used = sources[weights > 0] * weights[weights > 0, None]
    directions = np.concatenate([np.diag(np.abs(mixture)), used])
    features, residuals, precision = per_ms @ directions.T, 1 - per_ms @ mixture, np.ones(len(ms))
    for _ in range(ROUNDS):
        gram, weighted = (features.T * precision) @ features, features.T @ (precision * residuals)
        square = float(np.sum(precision * residuals**2))
        solutions = [_solution(gram, weighted, square, len(ms), _deviations(ratio, mixture, used)) for ratio in RATIOS]
        ratio, (_, noise, mean, covariance) = max(zip(RATIOS, solutions, strict=True), key=lambda tried: tried[1][0])
        precision = (FREEDOM + 1) / (FREEDOM + ((residuals - features @ mean) / noise) ** 2)
    variance = np.einsum("ur,uv,vr->r", directions, covariance, directions)
    return Fit(np.maximum(mixture + mean @ directions, 0.0), np.sqrt(variance), weights, ratio * noise, noise, None)


def _deviations(ratio, mixture, used):
    """Standard deviation of each direction in which rows may leave the mixture, in units of a network's error."""
    return np.concatenate([np.full(len(mixture), ratio), np.full(len(used), FREE)])


def _solution(gram, weighted, square, size, deviations):
    """The most probable steps along directions with normal priors, from the sums of a weighted regression.

    Args:
        gram, weighted, square: features.T @ features, features.T @ residuals and residuals @ residuals, weighted.
        size: Number of networks.
        deviations: Prior standard deviations of the steps, in units of a network's error.

    Returns:
        Logarithm of the marginal likelihood, with the error of networks that makes it largest; that error; the steps;
        and their covariance.
    """
    inner = np.eye(len(gram)) + deviations[:, None] * gram * deviations
    factor = np.linalg.cholesky(inner)
    inverse = deviations[:, None] * np.linalg.inv(inner) * deviations
    mean = inverse @ weighted
    noise = max(float(np.sqrt(max(square - weighted @ mean, 0.0) / size)), LEAST_NOISE)
    left = (square - weighted @ mean) / noise**2
    return -np.sum(np.log(np.diag(factor))) - size * np.log(noise) - 0.5 * left, noise, mean, inverse * noise**2


def _weights(ratios):
    """Weights of sources, not negative, that bring each network's ratio of predicted to measured time to 1."""
    from scipy.optimize import nnls

    scale = np.ones(len(ratios))
    for _ in range(ROUNDS):
        weights, _ = nnls(ratios * scale[:, None], scale)
        errors = ratios @ weights - 1
        width = max(2 * 1.4826 * float(np.median(np.abs(errors))), 1e-6)
        scale = 1 / np.sqrt(1 + (errors / width) ** 2)
    return weights
