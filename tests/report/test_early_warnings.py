"""Warnings: each sign is reported on its own, and a healthy search causes none."""

import pytest

from pnas_tf.report import early_warnings


def line(epoch, phase="search", certain=0.6, zero=0.2, loss=1.0, ms=1.0, **more):
    rest = (1 - certain) / 2
    return {"epoch": epoch, "phase": phase, "held_out_loss": loss, "expected_ms": ms,
            "probs": {"b01": {"a": certain, "b": rest, "c": rest},
                      "b02": {"a": 1 - zero - 0.1, "b": 0.1, "zero": zero}}, **more}


def healthy():
    return [line(0, "warmup", certain=1 / 3, random_accuracy_sd=0.02),
            *(line(n, certain=0.5 + 0.04 * n, loss=2 - 0.1 * n, ms=1.5 - 0.05 * n) for n in range(1, 11))]


def finalists(probable, samples):
    return [{"how": "most probable within the limits", "loss": probable},
            *({"how": "sample", "loss": loss} for loss in samples)]


def test_a_healthy_search_is_not_suspected():
    assert early_warnings.find(healthy(), 1.05, finalists(0.9, [1.0] * 12)) == []


SIGNS = {
    "hardly decided": [line(n, certain=0.35, zero=0.33, loss=2 - 0.1 * n) for n in range(9)],
    "settled after a third": [line(n, certain=0.99, zero=0.005, loss=2 - 0.1 * n) for n in range(9)],
    "Skipped blocks became 3.5 times": [line(n, zero=0.2 + 0.0625 * n) for n in range(9)],
    "+20% off the target": [line(n, ms=1.2, loss=2 - 0.1 * n) for n in range(9)],
    "-10% off the target": [line(n, ms=0.9, loss=2 - 0.1 * n) for n in range(9)],
    "differed by 0.40 points": [line(0, "warmup", random_accuracy_sd=0.004), line(1)],
}


@pytest.mark.parametrize("sign", SIGNS)
def test_each_sign_is_told(sign):
    warnings = early_warnings.find(SIGNS[sign], 1.0)
    assert len(warnings) == 1 and sign in warnings[0]


def test_a_network_no_better_than_samples_is_told():
    warnings = early_warnings.find(healthy(), 1.05, finalists(1.1, [1.0] * 12))
    assert len(warnings) == 1 and "no better on held-out images" in warnings[0]


def test_finalists_are_judged_on_the_images_that_all_were_scored_on():
    entries = [{**finalist, "first_loss": finalist.pop("loss")} for finalist in finalists(0.9, [1.0] * 12)]
    entries[0]["loss"] = entries[1]["loss"] = 1.2
    assert early_warnings.find(healthy(), 1.05, entries) == []
    entries[0]["first_loss"] = 1.1
    assert len(early_warnings.find(healthy(), 1.05, entries)) == 1


def test_latency_is_not_judged_where_it_was_free():
    assert early_warnings.find([line(n, ms=9.0, loss=2 - 0.1 * n) for n in range(9)]) == []


@pytest.mark.parametrize("lines", [[], [{}], [{"phase": "search"}], [{"phase": "search", "probs": 3}] * 5,
                                   [line(n, certain=float("nan"), loss="x", ms=None) for n in range(5)],
                                   [line(0), {"phase": "search", "probs": None}]])
def test_damaged_lines_are_no_sign_and_no_failure(lines):
    assert early_warnings.find(lines, 1.0, [{}, {"how": 3}, {"how": "sample", "loss": "x"}]) == []
