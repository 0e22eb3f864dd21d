"""Figures as SVG files of their own, legible on light pages and on dark ones.

A picture in a page of documentation cannot know the colours of the page. So the file has a style sheet that exchanges
its colours where the reader has chosen dark pages; programs that do not read style sheets show the light ones.
"""

import io
import re
from typing import Any

# Settings of matplotlib for files: plain colours, and the same contents each time.
STYLE: dict[str, Any] = {"svg.hashsalt": "pnas_tf", "text.parse_math": False}
# Colours on a dark page, by colour on a light one: page, ink, grid, bands, and the series of a chart.
DARK = {"#ffffff": "#14181d", "#000000": "#e6eaee", "#b0b0b0": "#7d8894", "#d5dbe1": "#37404a", "#cccccc": "#37404a",
        "#2b6cb0": "#6cb0f2", "#c05621": "#f0955c", "#0f766e": "#4cc3b5", "#86377b": "#d98fd0", "#8a6100": "#d9b24a",
        "#64707d": "#b0bac4", "#7c2d12": "#e0a080", "#dc2626": "#ff8a80", "#0369a1": "#5ab4ea", "#b3261e": "#ff8f86",
        "#334155": "#c3ced9"}


def as_svg(figure: Any) -> str:
    """A matplotlib figure as the contents of an SVG file; the same figure gives the same text."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return with_dark_colors(buffer.getvalue())


def with_dark_colors(svg: str) -> str:
    """An SVG file of matplotlib with a style sheet for dark pages; one that it has already is replaced."""
    used = [color for color in DARK if color in svg]
    rules = [f'[style*="{name}: {color}"] {{{name}: {DARK[color]} !important}}'
             for color in used for name in ("fill", "stroke")]
    # What names no colour, such as most letters, is black.
    sheet = "\n".join(["@media (prefers-color-scheme: dark) {", f"svg {{fill: {DARK['#000000']}}}", *rules, "}"])
    svg = re.sub(r'\n?  <style type="text/css">@media.*?</style>', "", svg, flags=re.S)
    return svg.replace("</style>", f'</style>\n  <style type="text/css">{sheet}</style>', 1)
