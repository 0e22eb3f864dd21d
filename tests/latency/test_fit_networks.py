"""Rows fitted to whole networks: known rows and a known pace are found again, within the stated errors."""

import numpy as np
import pytest

from latency import fit_networks
from latency.fit_networks import Networks

LAYERS, OPS = 8, 4


def device(rng, wander=0.0, networks=150, noise=0.01):
    """A device whose rows are a mixture of two other devices' and 10 % of their own, and times of networks on it.

    Returns:
        Networks without a pace, rows, tables of three other devices, and the pace.
    """
    counts = np.zeros((networks, LAYERS * OPS))
    for layer in range(LAYERS):
        counts[np.arange(networks), layer * OPS + rng.integers(OPS, size=networks)] = 1
    sources = rng.uniform(0.5, 4.0, (3, LAYERS * OPS))
    rows = (0.7 * sources[0] + 1.5 * sources[2]) * np.exp(0.1 * rng.standard_normal(LAYERS * OPS))
    times = np.arange(networks, dtype=np.float64)
    pace = np.exp(wander * np.sin(times / 12))
    ms = pace * (counts @ rows) * np.exp(noise * rng.standard_normal(networks))
    ms[rng.choice(networks, networks // 25, replace=False)] *= 1.6
    return Networks(counts, ms, None, times), rows, sources, pace


def test_rows_are_found_within_their_error():
    networks, rows, sources, _ = device(np.random.default_rng(0))
    steady = Networks(networks.counts, networks.ms, np.ones(len(networks.ms)), networks.times)
    fit = fit_networks.fit(steady, sources)
    deviations = (fit.row_ms - rows) / fit.error_ms
    assert 0.5 < np.std(deviations) < 1.6 and np.median(np.abs(fit.row_ms / rows - 1)) < 0.04
    assert fit.weights[[0, 2]] == pytest.approx([0.7, 1.5], rel=0.35) and fit.noise == pytest.approx(0.01, rel=0.5)
    assert 0.04 < fit.row_sigma < 0.25 and fit.pace is None


def test_pace_and_rows_are_told_apart():
    """A pace that wanders by 20 % to either side, and no anchor: networks near in time show it."""
    networks, rows, sources, pace = device(np.random.default_rng(1), wander=0.2)
    fit = fit_networks.fit(networks, sources)
    found = fit.pace.at(networks.times)[0]
    assert np.median(np.abs(found / np.median(found) / (pace / np.median(pace)) - 1)) < 0.015
    blind = fit_networks.fit(Networks(networks.counts, networks.ms, np.ones(len(pace)), networks.times), sources)

    def scatter(row_ms):
        ratios = networks.counts @ row_ms / (networks.counts @ rows)
        return float(np.std(ratios / np.median(ratios)))

    assert scatter(fit.row_ms) < 0.01 < scatter(blind.row_ms)


def test_few_networks_suffice_with_other_devices():
    """20 networks for 32 rows: the mixture, and the pace as an anchor shows it."""
    networks, rows, sources, pace = device(np.random.default_rng(2), wander=0.1, networks=440)
    timed, others = np.arange(0, 440, 22), np.setdiff1d(np.arange(440), np.arange(0, 440, 22))
    with_anchor = Networks(networks.counts, networks.ms, pace, networks.times)
    flat = np.ones((1, len(rows)))

    def within(tables):
        errors = fit_networks.errors_of(fit_networks.fit(with_anchor.part(timed), tables), with_anchor.part(others))
        return np.mean(np.abs(errors) <= 0.05)

    assert within(sources) > 0.85 and within(sources) > within(flat) + 0.1


def test_held_out_errors_are_those_of_fits_without_the_networks():
    networks, _, sources, _ = device(np.random.default_rng(3), wander=0.1, networks=40)
    errors = fit_networks.held_out_errors(networks, sources)
    fold = np.arange(40) % 5 == 2
    fit = fit_networks.fit(networks.part(~fold), sources)
    by_hand = fit.pace.at(networks.times[fold])[0] * (networks.counts[fold] @ fit.row_ms) / networks.ms[fold] - 1
    assert errors[fold] == pytest.approx(by_hand)


def test_solution_is_that_of_dense_matrices():
    """Steps, error of networks and likelihood against the normal distribution of the residuals themselves."""
    rng = np.random.default_rng(4)
    features, residuals, precision = rng.normal(size=(30, 6)), rng.normal(size=30), rng.uniform(0.3, 2.0, 30)
    deviations = rng.uniform(0.2, 3.0, 6)
    fit, noise, mean, covariance = fit_networks._solution(
        (features.T * precision) @ features, features.T @ (precision * residuals),
        float(np.sum(precision * residuals**2)), 30, deviations)
    unit = np.diag(1 / precision) + (features * deviations**2) @ features.T
    inverse = np.linalg.inv(unit)
    assert noise == pytest.approx(np.sqrt(residuals @ inverse @ residuals / 30))
    assert mean == pytest.approx((features * deviations**2).T @ inverse @ residuals)
    prior = np.diag(deviations**2)
    assert covariance == pytest.approx(noise**2 * (prior - prior @ features.T @ inverse @ features @ prior))
    likelihood = -0.5 * np.linalg.slogdet(noise**2 * unit)[1] - 15.0
    constant = 0.5 * np.sum(np.log(precision))
    assert fit + constant == pytest.approx(likelihood)
