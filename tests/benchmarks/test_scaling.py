"""How searches scale: the spaces of the points, exponents of known laws, and one point measured."""

import json

import numpy as np
import pytest

from benchmarks.speed import scaling, side_by_side
from pnas_tf.space import blocks

POINT = {**scaling.USUAL, "images": 200, "choices": 3, "ops": 2}


@pytest.mark.parametrize("choices", scaling.AXES["choices"])
@pytest.mark.parametrize("ops", scaling.AXES["ops"])
def test_a_space_has_what_its_point_says(choices, ops):
    space = scaling.space_of({**scaling.USUAL, "choices": choices, "ops": ops, "image size": 48})
    assert len(space.choices) == choices and space.input_size == 48
    assert all(len(set(block.ops) - {"zero"}) == ops for block in space.choices.values())


def test_more_ops_cost_about_the_same_each():
    """Mean multiply-adds of a network over its ops: within a quarter, however many ops there are."""
    from pnas_tf.cost import prices

    macs = []
    for ops in scaling.AXES["ops"]:
        space = scaling.space_of({**scaling.USUAL, "ops": ops})
        matrix = prices.matrix(space, prices.macs()).matrix
        counts = blocks.op_mask(space).sum(1)
        macs.append(sum(matrix[row, :count].sum() / count for row, count in enumerate(counts)))
    assert max(macs) < 1.25 * min(macs)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_exponent_of_a_power_law(power):
    values = np.array([1, 2, 4, 8])
    assert scaling.exponent(values, 3.0 * values**power) == pytest.approx(power, abs=1e-9)


def test_results_have_a_row_for_each_point_and_the_exponents():
    parts = dict.fromkeys((*scaling.PARTS, scaling.REST), 1.0)
    figures = {"targets": {1: {**parts, "peak_mb": 1000.0}, 2: {**parts, "finalists": 2.0, "peak_mb": 1000.0}}}
    text = scaling.show(figures)
    assert "| 2 targets | 1.0 | 1.0 | 1.0 | 2.0 | 1.0 | 6.0 | 1,000 |" in text
    assert "| **exponent** of targets | 0.00 | 0.00 | 0.00 | 1.00 | 0.00 | 0.26 | 0.00 |" in text  # log2(6 / 5)
    assert scaling.plot(figures).startswith("<?xml")


@pytest.mark.slow
def test_a_point_is_measured_once(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "USUAL", POINT)
    figures = scaling.run(str(tmp_path), {"targets": (2,)})
    (own,) = figures["targets"].values()
    assert own["weight steps"] > 0 and own["finalists"] > 0 and own["peak_mb"] > 100
    (name,) = json.loads((tmp_path / "scaling.json").read_text())
    fronts = list((tmp_path / name / "run").glob("*/front.json"))
    assert len(fronts) == 2  # a search of two targets
    monkeypatch.setattr(scaling, "measured", None)
    assert scaling.run(str(tmp_path), {"targets": (2,)}) == figures
    monkeypatch.undo()
    again = scaling.measured(str(tmp_path / name), {**POINT, "targets": 2})
    assert again["weight steps"] > 0  # what is left of a search does not go on


@pytest.mark.slow
def test_trainings_side_by_side():
    flags = ["--arch=mobilenet_v2", "--image_size=32", "--batch_size=4"]
    assert side_by_side.images_per_second(2, 1, flags, 4) > 0
