"""The curve of a device's pace against dense matrices and known truth; measurements divided by it."""

import itertools

import numpy as np
import pytest

from latency import anchors, pace
from pnas_tf.errors import InputError


def readings(seed=0):
    """A pace that swings by 15 % and jumps once, readings of it with errors of 1 % and two outliers, other times."""
    rng = np.random.default_rng(seed)

    def true(times):
        return np.exp(0.1 * np.sin(times / 10) + 0.05 * (times > 45))

    times = np.sort(rng.uniform(0, 90, 120))
    seen = true(times) * np.exp(0.01 * rng.standard_normal(120))
    seen[[20, 70]] *= 1.3
    others = rng.uniform(2, 88, 200)
    return times, seen, true(times), others, true(others)


def test_curve_is_that_of_dense_matrices():
    """For the chosen sigma, span and errors: the conditional mean and deviation of a normal distribution."""
    times, seen, _, others, _ = readings()
    shuffled = np.random.default_rng(1).permutation(len(times))
    curve = pace.curve(times[shuffled], seen[shuffled])

    def covariance(first, second):
        return curve.sigma**2 * np.exp(-np.abs(np.subtract.outer(first, second)) / curve.span)

    def dense(known, at):
        """Pace and deviation at times, from the readings with these indices."""
        inverse = np.linalg.inv(covariance(curve.times[known], curve.times[known]) + np.diag(curve.variances[known]))
        across = covariance(at, curve.times[known])
        variance = curve.sigma**2 - np.einsum("ij,jk,ik->i", across, inverse, across)
        return np.exp(curve.usual_log + across @ inverse @ curve.logs[known]), np.sqrt(variance)

    every = np.arange(len(times))
    for ours, theirs in zip(curve.at(others), dense(every, others), strict=True):
        assert ours == pytest.approx(theirs)
    left_out, errors = curve.left_out()
    for reading in (0, 5, 119):
        expected, deviation = dense(np.delete(every, reading), curve.times[[reading]])
        assert (left_out[reading], errors[reading]) == (pytest.approx(expected[0]), pytest.approx(deviation[0]))


def test_known_pace_is_found_within_its_error():
    times, seen, _, others, true = readings()
    found, errors = pace.curve(times, seen).at(others)
    deviations = np.log(found / true) / errors
    assert np.median(np.abs(np.log(found / true))) < 0.01
    assert 0.6 < np.std(deviations) < 1.6 and np.mean(np.abs(deviations) < 2) > 0.9
    assert np.median(errors) < 0.015


def test_few_readings_are_followed():
    """Two runs of an anchor: the pace between them lies between them."""
    found, errors = pace.curve(np.array([0.0, 60.0]), np.array([1.0, 1.04])).at(np.array([0.0, 30.0, 60.0]))
    assert found == pytest.approx([1.0, 1.02, 1.04], abs=0.005) and (errors < 0.02).all()
    assert pace.curve(np.array([5.0]), np.array([1.1])).at(np.array([7.0]))[0] == pytest.approx(1.1)


def batches(true):
    """Rows of batches of 8 on two phones with their own paces, as a measurer of phones yields them."""
    rows, rng = {}, np.random.default_rng(0)
    for phone, shift in (("first", 0.0), ("second", 40.0)):
        runs = [[start, 5.0 * true(start + shift)] for start in np.arange(0.0, 610.0, 30.0)]
        for number, (before, after) in enumerate(itertools.pairwise(runs)):
            for place in range(8):
                time_s, ms = before[0] + 3 * (place + 1), float(rng.uniform(1, 9))
                rows[phone, number, place] = {"median_ms": ms * true(time_s + shift), "true_ms": ms, "phone": phone,
                                              "anchor": "network", "time_s": time_s, "anchors": [before, after]}
    return rows


def test_rows_are_brought_to_one_pace():
    """A pace that swings by 4 % to either side: rows are off by up to 4 % as measured, and by 0.5 % when divided."""
    rows = batches(lambda time_s: float(np.exp(0.04 * np.sin(time_s / 90))))
    paced = anchors.paced(rows, {"network": 5.0}, "t.jsonl")

    def errors(ms):
        return np.abs([ms[name] / row["true_ms"] - 1 for name, row in rows.items()])

    assert errors({name: row["median_ms"] for name, row in rows.items()}).max() > 0.035
    assert errors({name: row["paced_ms"] for name, row in paced.rows.items()}).max() < 0.01
    wandered = paced.wandered["network"]
    assert wandered["reference_ms"] == 5.0 and wandered["runs"] == 42 and wandered["error"] < 0.02
    assert (wandered["low"], wandered["high"]) == (pytest.approx(0.96, abs=0.01), pytest.approx(1.04, abs=0.01))
    for name, row in paced.rows.items():
        assert row["paced_ms"] * row["pace"] == pytest.approx(rows[name]["median_ms"])
    # Without a reference, the median run is the reference.
    free = anchors.paced(rows, {}, "t.jsonl")
    runs = {(row["phone"], *run) for row in rows.values() for run in row["anchors"]}
    assert free.wandered["network"]["reference_ms"] == pytest.approx(np.median([ms for _, _, ms in runs]))
    header = {"pace": free.wandered}
    assert anchors.references_of(header) == {"network": free.wandered["network"]["reference_ms"]}
    assert "from 42 runs of the anchor network" in anchors.words(header)[0]


def test_rows_without_an_anchor_are_left_out():
    assert anchors.paced({"old": {"median_ms": 1.0, "anchor_ms": 2.0}}, {}, "t.jsonl") == anchors.Paced({}, {})
    for header in ({}, {"pace": 3}, {"pace": {"a": 3, "b": {"reference_ms": "x", "low": None}}}):
        assert anchors.references_of(header) == {} and anchors.words(header) == []


@pytest.mark.parametrize("change", [{"anchors": [["x", 1.0]]}, {"anchors": 5}, {"anchors": []}, {"time_s": None},
                                    {"anchors": [[1.0, 0.0]]}, {"anchors": [[1.0, True]]}])
def test_anchors_of_nonsense_are_one_line(change):
    row = {"median_ms": 1.0, "anchor": "network", "time_s": 2.0, "anchors": [[1.0, 5.0]], **change}
    with pytest.raises(InputError, match=r"^t\.jsonl: a row's anchors must be pairs of seconds and milliseconds"):
        anchors.paced({"row": row}, {}, "t.jsonl")
