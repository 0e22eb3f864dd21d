"""Figures of the documentation are legible on light pages and on dark ones."""

import re
from pathlib import Path

import pytest

from pnas_tf.report import figure_file, plots

SHOWN = sorted((Path(__file__).parents[2] / "docs").glob("*.svg"))


def contrast(one, other):
    """Contrast of two colours by WCAG 2.1: 1 to 21."""
    def luminance(color):
        channels = [int(color[place:place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_marks_stand_out_from_the_page():
    """WCAG asks for 3:1 between a mark and what is around it, for 4.5:1 between text and its background."""
    page, lines = figure_file.DARK["#ffffff"], {"#ffffff", "#b0b0b0", "#d5dbe1", "#cccccc"}
    assert all(contrast(dark, page) >= 3 for light, dark in figure_file.DARK.items() if light not in lines)
    assert all(contrast(light, "#ffffff") >= 3 for light in figure_file.DARK if light not in lines)
    assert contrast(figure_file.DARK["#000000"], page) >= 4.5
    assert {*plots.KERNEL_COLORS.values(), plots.PLAIN_COLOR} <= set(figure_file.DARK)


@pytest.mark.parametrize("path", SHOWN, ids=[path.stem for path in SHOWN])
def test_every_color_of_the_documentation_has_a_dark_twin(path):
    svg = path.read_text(encoding="utf-8")
    assert figure_file.with_dark_colors(svg) == svg, "made by an earlier version"
    light = re.sub(r"<style.*?</style>", "", svg, flags=re.S)
    for color in set(re.findall(r"#[0-9a-f]{6}\b", light)):
        assert f": {color}" in svg and f"{{fill: {figure_file.DARK[color]} !important}}" in svg


def test_a_figure_keeps_its_light_colors():
    """Without the style sheet, the file is the one that matplotlib writes."""
    svg = plots.scatter([1.0, 2.0], [1.1, 2.1], title="title")
    assert svg.count("<style") == 2 and "prefers-color-scheme: dark" in svg and 'style="fill: #ffffff"' in svg
    assert figure_file.with_dark_colors(svg) == svg
