"""Milliseconds of a network by block and by operator: a <mode>.profile.json as a table and as a bar chart.

latency.profile writes the file. The file states what was timed and how, and lists the operators in order of execution.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

from pnas_tf import files
from pnas_tf.errors import InputError, printable
from pnas_tf.files import number
from pnas_tf.report import figure_file, plots
from pnas_tf.space import ops

FORMAT = "pnas_tf.profile/1"
MAX_OPERATORS = 10_000
# Largest number of rows in a chart or table; the parts that take the least time share the last row.
MAX_ROWS = 100


@dataclasses.dataclass(frozen=True)
class Part:
    """Operators that belong together.

    Attributes:
        name: Name of their block, or of the kind of operator if they belong to no block.
        op: Op of the block, or "".
        ms: Milliseconds of all operators together.
        operators: Number of operators.
    """

    name: str
    op: str
    ms: float
    operators: int


def place(tensor_name: str) -> tuple[str, str]:
    """Block and op in the name of a tensor; "" if the name lacks them.

    `net/b07_mb_k5_e6_project_1/convolution` gives ("b07", "mb_k5_e6"), and `net/pixels_1/add` gives ("pixels", "").

    Args:
        tensor_name: Name of an operator's output.
    """
    path = tensor_name[:2000].split(";")[0].strip("[]").split("/")
    for layer in path[-2::-1]:  # the last part comes from TensorFlow and does not name a layer
        words = layer.removeprefix("quant_").split("_")[:20]
        for begin in range(1, len(words)):
            for end in range(len(words), begin, -1):
                op = "_".join(words[begin:end])
                if _is_op(op):
                    return "_".join(words[:begin]), op
    if len(path) < 2 or path[0] == "Delegate":  # a profiler's name for an operator that a delegate has taken
        return "", ""
    return re.sub(r"_\d{1,9}$", "", path[-2])[:60], ""


def _is_op(text: str) -> bool:
    try:
        ops.parse(text)
    except InputError:
        return False
    return True


def read(path: str) -> dict[str, Any]:
    """Reads a profile.

    Args:
        path: Path of a <mode>.profile.json.

    Raises:
        InputError: If the file does not hold a profile.
    """
    profile = files.read_json(path)
    operators = profile.get("operators") if isinstance(profile, dict) else None
    if not isinstance(operators, list) or profile.get("format") != FORMAT or not all(map(_is_operator, operators)) \
            or not 0 < len(operators) <= MAX_OPERATORS or (number(profile.get("network_ms")) or 0) <= 0:
        raise InputError(f"{path}: does not hold a profile as latency.profile writes it. Write it again: "
                         "python -m latency.profile --model=MODEL.tflite")
    return profile


def _is_operator(entry: Any) -> bool:
    return isinstance(entry, dict) and number(entry.get("ms")) is not None and 0 <= entry["ms"] < 1e7 \
        and all(isinstance(entry.get(name), str) for name in ("operator", "block", "op"))


def by_block(profile: dict[str, Any]) -> list[Part]:
    """The parts of a profile by block, in order of execution; operators outside blocks by kind."""
    return _grouped(profile["operators"], lambda entry: (entry["block"] or entry["operator"], entry["op"]))


def by_operator(profile: dict[str, Any]) -> list[Part]:
    """The parts of a profile by kind of operator, the slowest first."""
    return sorted(_grouped(profile["operators"], lambda entry: (entry["operator"], "")), key=lambda part: -part.ms)


def _grouped(operators: Sequence[dict[str, Any]], key: Callable[[dict[str, Any]], tuple[str, str]]) -> list[Part]:
    groups: dict[tuple[str, str], list[float]] = {}
    for entry in operators:
        groups.setdefault(key(entry), []).append(entry["ms"])
    parts = [Part(printable(name, 60), printable(op, 60), sum(times), len(times))
             for (name, op), times in groups.items()]
    if len(parts) <= MAX_ROWS:
        return parts
    largest = sorted(parts, key=lambda part: -part.ms)[:MAX_ROWS - 1]
    rest = [part for part in parts if part not in largest]
    return [*(part for part in parts if part in largest),
            Part("others", "", sum(part.ms for part in rest), sum(part.operators for part in rest))]


def table(profile: dict[str, Any]) -> str:
    """The profile as text: blocks in order with bars, then kinds of operators, then the method of measurement."""
    blocks, kinds = by_block(profile), by_operator(profile)
    total_ms = sum(part.ms for part in kinds) or 1.0
    width = max(len(part.name) for part in (*blocks, *kinds))

    def rows(parts, bars):
        longest_ms = max(part.ms for part in parts) or 1.0
        return [f"{part.name:<{width}}  {part.op:<12} {part.operators:>4} {part.ms:>9.4f} {part.ms / total_ms:>7.1%}"
                + ("  " + "#" * round(30 * part.ms / longest_ms) if bars else "") for part in parts]

    head = f"{{:<{width}}}  {{:<12}} {{:>4}} {{:>9}} {{:>7}}"
    lines = [head.format("block", "op", "ops", "ms", "share"), *rows(blocks, True)]
    if [part.name for part in kinds] != [part.name for part in sorted(blocks, key=lambda part: -part.ms)]:
        lines += ["", head.format("operator", "", "ops", "ms", "share"), *rows(kinds, False)]
    return "\n".join([*lines, "", note(profile)])


def note(profile: dict[str, Any]) -> str:
    """A sentence about the measured times and the method."""
    total_ms = sum(entry["ms"] for entry in profile["operators"])
    method, target = (printable(profile[name], 200) if isinstance(profile.get(name), str) else ""
                      for name in ("method", "target"))
    return (f"{len(profile['operators'])} operators take {total_ms:.4g} ms in total, the whole network "
            f"{profile['network_ms']:.4g} ms, on {target or 'a target not named'}{'; ' if method else ''}{method}.")


def chart(profile: dict[str, Any], name: str | None = None) -> str:
    """Draws a bar for each block, coloured by kernel size.

    Args:
        profile: Profile from `read`.
        name: Prefix of the ids in an `<svg>` element for a page; None for an SVG file.

    Returns:
        SVG.
    """
    import matplotlib
    from matplotlib.figure import Figure

    parts = by_block(profile)
    colors = [plots.color_of(plots.kernel_of(part.op)) for part in parts]
    with matplotlib.rc_context(plots.STYLE if name else figure_file.STYLE):
        figure = Figure(figsize=(6.2, 0.7 + 0.21 * len(parts)), layout="constrained")
        axes = figure.add_subplot()
        bars = axes.barh(range(len(parts)), [part.ms for part in parts], color=colors, height=0.75)
        axes.bar_label(bars, [f"{part.ms:.3g}" for part in parts], padding=3, fontsize=8)
        axes.set_yticks(range(len(parts)), [f"{part.name} {part.op}".rstrip() for part in parts], fontsize=8)
        axes.set_ylim(len(parts) - 0.4, -0.6)  # first block on top
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(length=0)
        axes.margins(x=0.1)
        axes.set_xlabel("ms")
        return plots.inline(figure, name) if name else figure_file.as_svg(figure)
