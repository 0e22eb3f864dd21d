"""Corrects the rows of a table with the times of whole networks.

The time of an op alone and its time inside a network differ by a few percent, because caches, clocks and scheduling
differ. So the rows are corrected until their sums agree with the times of networks, each row as little as possible.
This is ridge regression towards the measurements of single ops, on networks that are not used to judge the table.
"""

import itertools
from collections.abc import Sequence

import numpy as np

# Standard deviation of the relative error that all rows of a table share.
TABLE_SIGMA = 0.3
# Standard deviation of the offset, the time of every network beyond the sum of its rows, relative to a mean network.
OFFSET_SIGMA = 0.01
# Standard deviations tried for each kind of error; cross-validation picks the combination. They are relative errors of
# all rows of an op (such as mb_k7_e6), relative errors of a single row, and the shift of all rows, relative to the
# median row.
OP_SIGMAS = (0.0, 0.01, 0.03, 0.1)
ROW_SIGMAS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
SHIFT_SIGMAS = (0.0, 0.05, 0.1, 0.2, 0.4)
# Standard deviation of the relative error of a network's measured time.
NETWORK_SIGMA = 0.015
FOLDS = 5


def fit(counts: np.ndarray, row_ms: np.ndarray, ops: Sequence[str], network_ms: np.ndarray) -> np.ndarray:
    """Corrected milliseconds of rows: the most probable values under independent normal errors.

        corrected_ms = row_ms * (1 + table_error + op_error + row_error) + shift + share * offset
        network_ms = counts @ corrected_ms + network_error

    So rows and their sums are normal, with covariances that are linear in the squares of the standard deviations, and
    the solution has a closed form:

        corrected_ms = row_ms + C @ counts.T @ inv(counts @ C @ counts.T + N) @ (network_ms - counts @ row_ms)

    with C the covariance of the rows and N the covariance of the network errors. The shift is the same for all rows: an
    op alone is started and ended once more than inside a network. The offset is shared by the rows that every network
    has (stem, head), so that costs stay sums of rows.

    Args:
        counts: Occurrences of each row in each network, float64 [networks, rows].
        row_ms: Milliseconds of each op measured alone, float64 [rows].
        ops: Op text of each row.
        network_ms: Milliseconds of each network measured whole, float64 [networks].

    Returns:
        float64 [rows], not negative. A row that no network has is corrected by the errors of its op and of the whole
        table.
    """
    row_covariances = _covariances(counts, row_ms, ops, network_ms)
    sum_covariances, residuals = counts @ row_covariances @ counts.T, network_ms - counts @ row_ms
    noise = np.diag((NETWORK_SIGMA * network_ms) ** 2)

    def error(sigmas):
        return held_out_error(_combined(sum_covariances, *sigmas) + noise, residuals, network_ms)

    sigmas = min(itertools.product(OP_SIGMAS, ROW_SIGMAS, SHIFT_SIGMAS), key=error)
    correction = np.linalg.solve(_combined(sum_covariances, *sigmas) + noise, residuals)
    return np.maximum(row_ms + _combined(row_covariances, *sigmas) @ (counts.T @ correction), 0.0)


def held_out_error(covariance: np.ndarray, residuals: np.ndarray, network_ms: np.ndarray) -> float:
    """Root mean square relative error of cross-validation: each network is held out once, a fifth of them at a time.

    One inverse P of the covariance gives the errors of all folds, without a fit for each of them:

        error[fold] = inv(P[fold, fold]) @ (P @ residuals)[fold] / network_ms[fold]

    Args:
        covariance: Covariance of the networks' times, including errors of measurement, float64 [networks, networks].
        residuals: Milliseconds of the networks beyond the sums of their rows, float64 [networks].
        network_ms: Milliseconds of the networks, float64 [networks].
    """
    inverse = np.linalg.inv(covariance)
    weighted, errors = inverse @ residuals, []
    for fold in (np.arange(k, len(network_ms), FOLDS) for k in range(FOLDS)):
        errors.append(np.linalg.solve(inverse[np.ix_(fold, fold)], weighted[fold]) / network_ms[fold])
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def _covariances(counts, row_ms, ops, network_ms):
    """[kinds, rows, rows]: covariance of the rows by each kind of error of deviation 1, in the order of `_combined`."""
    same_op = np.equal.outer(np.asarray(ops), np.asarray(ops))
    by_factor = np.outer(row_ms, row_ms)
    share = np.where((counts > 0).all(0), row_ms, 0.0)
    if share.any():
        share *= np.mean(network_ms) / share.sum()
    return np.stack([by_factor, same_op * by_factor, np.diag(row_ms**2),
                     np.full_like(by_factor, np.median(row_ms) ** 2), np.outer(share, share)])


def _combined(covariances, op_sigma, row_sigma, shift_sigma):
    """Covariance by all kinds of errors together."""
    return np.tensordot(np.square([TABLE_SIGMA, op_sigma, row_sigma, shift_sigma, OFFSET_SIGMA]), covariances, axes=1)
