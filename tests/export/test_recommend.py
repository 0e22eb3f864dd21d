"""The recommended file is accurate, quick and small, in that order."""

import pytest

from export import recommend


def facts(top1, ms, kb, problem=None):
    return {"top1": top1, "measured_ms": ms, "size_bytes": 1000 * kb, "problem": problem, "checked_images": 2000,
            "target": "pixel6_xnnpack1_int8"}


@pytest.mark.parametrize(("exports", "best"), [
    ({"float32": facts(0.9, 2, 40), "int8": facts(0.895, 1, 10)}, "int8"),  # quicker and smaller, half a point lower
    ({"float32": facts(0.9, 2, 40), "int8": facts(0.885, 1, 10)}, "float32"),  # 1.5 points lower
    ({"float32": facts(0.9, 1, 40), "int8": facts(0.9, 1.1, 10)}, "int8"),  # 10 % more time is noise
    ({"float32": facts(0.9, 1, 40), "int8": facts(0.9, 2, 10)}, "float32"),  # no fast int8 instructions
    ({"float32": facts(0.9, 2, 40), "int8": facts(0.9, 1, 10, "its logits are not numbers")}, "float32"),
    ({"int8": facts(0.5, 1, 10, "its top-1 is 50 %")}, "int8"),
])
def test_choice(exports, best):
    mode, reason = recommend.recommended(exports)
    assert mode == best
    assert f"{exports[best]['top1']:.1%}" in reason and f"{exports[best]['measured_ms']:.3g} ms" in reason
    assert "pixel6_xnnpack1_int8" in reason and "\n" not in reason


def test_a_time_that_is_not_to_be_trusted_says_so():
    busy = {**facts(0.9, 1, 10), "steady": False, "spread_ms": [0.8, 1.4]}
    _, reason = recommend.recommended({"float32": facts(0.9, 2, 40), "int8": busy})
    assert "not to be trusted: busy machine: 0.800 to 1.400 ms" in reason or "busy machine: 0.800 to 1.40 ms" in reason


def test_reason_in_full():
    _, reason = recommend.recommended({"float32": facts(0.9, 2, 40), "int8": facts(0.895, 1, 10)})
    assert reason == ("Its top-1 of 89.5% is 0.5 points below the best here (float32); it takes 1 ms on "
                      "pixel6_xnnpack1_int8, the quickest of the files about as accurate; and its 10 kB are the "
                      "smallest of all.")


def test_times_of_several_machines_decide_nothing():
    """float32 was timed on a server, int8 on a laptop."""
    server, laptop = {**facts(0.9, 4, 40), "device": "server"}, {**facts(0.9, 6, 10), "device": "laptop"}
    mode, reason = recommend.recommended({"float32": server, "int8": laptop})
    assert mode == "int8" and "timed elsewhere or otherwise than other files" in reason
    assert recommend.recommended({"float32": server, "int8": {**laptop, "device": "server"}})[0] == "float32"
