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

    Args:
        counts: how often each row occurs in each network, [networks, rows].
        row_ms: measured alone, [rows].
        ops: op text of each row.
        network_ms: measured whole, [networks].

    Returns:
        float64 [rows], not negative. Rows that no network has get what their op's and all of the table's get.
    """
    sigmas = min(itertools.product(OP_SIGMAS, ROW_SIGMAS, SHIFT_SIGMAS),
                 key=lambda tried: _held_out_error(counts, row_ms, ops, network_ms, *tried))
    return _ridge(counts, row_ms, ops, network_ms, *sigmas)


def _held_out_error(counts, row_ms, ops, network_ms, *sigmas):
    """Root mean square relative error on networks left out of the fit, each once."""
    fold = np.arange(len(network_ms)) % FOLDS
    errors = [counts[fold == k] @ _ridge(counts[fold != k], row_ms, ops, network_ms[fold != k], *sigmas)
              / network_ms[fold == k] - 1 for k in range(FOLDS)]
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def _ridge(counts, row_ms, ops, network_ms, op_sigma, row_sigma, shift_sigma):
    """The most probable rows, if errors are normal with these deviations, and independent of each other.

    row = row_ms * (1 + table error + op error + row error) + shift + share of the offset, so rows are normal with the
    covariance below, and so are their sums; the rows given the sums are one linear solve in as many unknowns as there
    are networks. The shift is one for all rows: a lone op is started and ended once more than one inside a network.
    So that costs stay sums of rows, the offset is shared by the rows that every network has: stem, head.
    """
    same_op = np.equal.outer(np.asarray(ops), np.asarray(ops))
    covariance = (TABLE_SIGMA**2 + op_sigma**2 * same_op + row_sigma**2 * np.eye(len(ops))) * np.outer(row_ms, row_ms)
    covariance += (shift_sigma * np.median(row_ms)) ** 2
    share = np.where((counts > 0).all(0), row_ms, 0.0)
    if share.any():
        share *= OFFSET_SIGMA * np.mean(network_ms) / share.sum()
        covariance += np.outer(share, share)
    sums = counts @ row_ms
    gain = covariance @ counts.T
    noise = np.diag((NETWORK_SIGMA * network_ms) ** 2)
    return np.maximum(row_ms + gain @ np.linalg.solve(counts @ gain + noise, network_ms - sums), 0.0)
