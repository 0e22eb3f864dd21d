"""Figures of the agreement between predicted and measured milliseconds."""

import numpy as np


def figures(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float | None]:
    """Agreement of predictions with measurements.

    Args:
        predicted: Predicted milliseconds, float64 [networks].
        measured: Measured milliseconds, float64 [networks].

    Returns:
        within_5_percent, within_10_percent: Shares of networks whose prediction is off by at most that much.
        bias: Mean relative error, mean(predicted / measured) - 1.
        rmse_ms: Root mean square error in milliseconds.
        rmse_of_mean: Relative error, rmse_ms / mean(measured).
        spearman, kendall: Rank correlations; None for fewer than 3 networks.
    """
    from scipy import stats

    error = predicted / measured - 1
    rmse_ms = float(np.sqrt(np.mean((predicted - measured) ** 2)))
    ranked = len(measured) > 2 and np.ptp(predicted) > 0 and np.ptp(measured) > 0
    return {"within_5_percent": float(np.mean(np.abs(error) <= 0.05)),
            "within_10_percent": float(np.mean(np.abs(error) <= 0.10)), "bias": float(np.mean(error)),
            "rmse_ms": rmse_ms, "rmse_of_mean": rmse_ms / float(np.mean(measured)),
            "spearman": float(stats.spearmanr(predicted, measured).statistic) if ranked else None,
            "kendall": float(stats.kendalltau(predicted, measured).statistic) if ranked else None}
