"""Warnings: each sign is reported on its own, and a healthy search causes none."""

import pytest

from pnas_tf.report import early_warnings, small_data
from pnas_tf.run_folder import front_file


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


@pytest.mark.parametrize(("accuracy", "told"), [(0.59, True), (0.60, True), (0.61, False), (0.2, True)])
def test_a_network_that_may_know_only_the_largest_class_is_told(accuracy, told):
    """With a share of 0.5 and 100 images, two standard errors are 2 * sqrt(0.25 / 100) = 0.1."""
    signs = early_warnings.find([], None, [{"accuracy": accuracy}], small_data.HeldOut(100, 0.5))
    assert len(signs) == told and all("always naming the largest class (50.0%)" in sign for sign in signs)


def network(ms, gain, gain_error):
    return front_file.FrontNetwork(ms, f"{ms:g}ms", None, gain, gain_error, False, {}, {})


@pytest.mark.parametrize(("front", "told"), [
    ([network(1.0, 0.05, 0.03), network(2.0, 0.0, 0.0)], True),  # 0.05 < 2 * 0.03
    ([network(1.0, 0.05, 0.02), network(2.0, 0.0, 0.0)], False),
    ([network(1.0, 0.05, 0.03), network(2.0, 0.06, 0.02), network(3.0, 0.0, 0.0)], False),  # the worst decides
    ([network(1.0, 0.05, 0.03), network(2.0, 0.0, 0.0), network(9.0, 0.5, 0.01)], True),  # above the target
    ([network(2.0, 0.0, 0.0)], False), ([], False)])
def test_a_choice_by_chance_is_told(front, told):
    signs = early_warnings.find([], 4.0, [], small_data.HeldOut(100, 0.1), front)
    assert len(signs) == told and all("too few held-out images (100)" in sign for sign in signs)
    assert early_warnings.find([], 4.0, [], None, front) == []


@pytest.mark.parametrize(("sd", "images", "told"), [
    (0.05, 100, True),  # sqrt(0.01**2 + 0.25 / 100) = 0.05099
    (0.052, 100, False),
    (0.0121, 5000, True),  # sqrt(0.01**2 + 0.25 / 5000) = 0.01225
    (0.0124, 5000, False),
    (0.0101, None, False),  # older logs
    (0.0099, None, True),
])
def test_the_spread_of_random_networks_has_to_exceed_chance(sd, images, told):
    facts = {} if images is None else {"random_accuracy_images": images, "random_accuracy_mean": 0.5}
    signs = early_warnings.find([line(0, "warmup", random_accuracy_sd=sd, **facts)])
    assert len(signs) == told and all("hardly ranks them" in sign for sign in signs)


@pytest.mark.parametrize("data", [{}, {"held_out_images": 100}, {"held_out_images": 0, "largest_class_share": 0.5},
                                  {"held_out_images": True, "largest_class_share": 0.5},
                                  {"held_out_images": 10, "largest_class_share": 1.5}])
def test_older_and_damaged_files_tell_nothing_about_held_out_images(data):
    assert small_data.held_out(data) is None


def test_held_out_images_are_read():
    data = {"held_out_images": 40, "largest_class_share": 0.25}
    assert small_data.held_out(data) == small_data.HeldOut(40, 0.25)


@pytest.mark.parametrize(("images", "advice"), [(200, "--held_out_size"), (5000, "--warmup_epochs"),
                                                (None, "--warmup_epochs")])
def test_advice_fits_the_number_of_images(images, advice):
    """The standard error of an accuracy of 0.5 is 3.5 points on 200 images and 0.7 points on 5,000."""
    facts = {} if images is None else {"random_accuracy_images": images, "random_accuracy_mean": 0.5}
    (sign,) = early_warnings.find([line(0, "warmup", random_accuracy_sd=0.005, **facts)])
    assert sign.count("--") == 1 and advice in sign
