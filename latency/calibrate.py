"""From the times of whole networks to what each row of a table adds to a network.

An op alone and the same op inside a network differ by a few percent: caches, clocks and scheduling are not the same.
So the rows are corrected until their sums agree with networks, each by as little as that takes: ridge regression
towards the single measurements, on networks that the table is not judged by.
"""

import itertools
from collections.abc import Sequence

import numpy as np

# Errors of single rows that are tried, and which of them hold is found by cross-validation: of a whole table (all rows
# by one factor), of an op (all rows of mb_k7_e6 by one factor), of a row; and what every row, however long it takes, is
# too high or too low by, as a share of the median row.
TABLE_SIGMA = 0.3
# What every network takes more or less than its rows, as a share of a mean network: as `offset` beside a `scale`.
OFFSET_SIGMA = 0.01
OP_SIGMAS = (0.0, 0.01, 0.03, 0.1)
ROW_SIGMAS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
SHIFT_SIGMAS = (0.0, 0.05, 0.1, 0.2, 0.4)
# What a network's own time is measured to, relative.
NETWORK_SIGMA = 0.015
FOLDS = 5


def fit(counts: np.ndarray, row_ms: np.ndarray, ops: Sequence[str], network_ms: np.ndarray) -> np.ndarray:
    """Corrected milliseconds of rows.

    The most probable ones, if errors are normal and independent of each other, and
    row = row_ms * (1 + table error + op error + row error) + shift + share of the offset. So rows are normal, and so
    are their sums, with covariances linear in the squares of the errors' deviations. The shift is one for all rows: a
    lone op is started and ended once more than one inside a network. So that costs stay sums of rows, the offset is
    shared by the rows that every network has: stem, head.

    Args:
        counts: how often each row occurs in each network, [networks, rows].
        row_ms: measured alone, [rows].
        ops: op text of each row.
        network_ms: measured whole, [networks].

    Returns:
        float64 [rows], not negative. Rows that no network has get what their op's and all of the table's get.
    """
    of_rows = _covariances(counts, row_ms, ops, network_ms)
    of_sums, residuals = counts @ of_rows @ counts.T, network_ms - counts @ row_ms
    noise = np.diag((NETWORK_SIGMA * network_ms) ** 2)

    def error(sigmas):
        return held_out_error(_combined(of_sums, *sigmas) + noise, residuals, network_ms)

    sigmas = min(itertools.product(OP_SIGMAS, ROW_SIGMAS, SHIFT_SIGMAS), key=error)
    correction = np.linalg.solve(_combined(of_sums, *sigmas) + noise, residuals)
    return np.maximum(row_ms + _combined(of_rows, *sigmas) @ (counts.T @ correction), 0.0)


def held_out_error(covariance: np.ndarray, residuals: np.ndarray, network_ms: np.ndarray) -> float:
    """Root mean square relative error on networks left out of a fit, each once, a fifth of them at a time.

    What the others say of those left out follows from one inverse for all folds, so no fit is made.

    Args:
        covariance: of the networks' times, what they are measured to included, [networks, networks].
        residuals: what they take more than the sums of their rows, [networks].
        network_ms: what they take, [networks].
    """
    inverse = np.linalg.inv(covariance)
    weighted, errors = inverse @ residuals, []
    for fold in (np.arange(k, len(network_ms), FOLDS) for k in range(FOLDS)):
        errors.append(np.linalg.solve(inverse[np.ix_(fold, fold)], weighted[fold]) / network_ms[fold])
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def _covariances(counts, row_ms, ops, network_ms):
    """Of the rows by each kind of error alone, of deviation 1, in the order of `_combined`: [kinds, rows, rows]."""
    same_op = np.equal.outer(np.asarray(ops), np.asarray(ops))
    by_factor = np.outer(row_ms, row_ms)
    share = np.where((counts > 0).all(0), row_ms, 0.0)
    if share.any():
        share *= np.mean(network_ms) / share.sum()
    return np.stack([by_factor, same_op * by_factor, np.diag(row_ms**2),
                     np.full_like(by_factor, np.median(row_ms) ** 2), np.outer(share, share)])


def _combined(covariances, op_sigma, row_sigma, shift_sigma):
    """All kinds of errors together."""
    return np.tensordot(np.square([TABLE_SIGMA, op_sigma, row_sigma, shift_sigma, OFFSET_SIGMA]), covariances, axes=1)
