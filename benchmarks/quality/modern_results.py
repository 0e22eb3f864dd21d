"""The ways to search that are compared, and the tables of what came of them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks.quality import study_results

SMALL, LARGE = "mb_k5_e3", "mb_k5_e6"


class Way(NamedTuple):
    """A way to search.

    Attributes:
        label: Its name in tables.
        space: Name of the space, before it is made quick.
        targets: Targets of the search.
        flags: Further flags of the search.
        parts: Number of searches that it consists of, which share its epochs.
        sampled: Whether its networks are random ones; else a search finds them.
    """

    label: str
    space: str
    targets: tuple[str, ...] = (SMALL, LARGE)
    flags: tuple[str, ...] = ()
    parts: int = 1
    sampled: bool = False


WAYS = {"mb": Way("MBConvs", "cifar_mb"),
        "uib": Way("universal inverted bottlenecks", "cifar_uib"),
        "shared": Way("universal inverted bottlenecks, shared weights", "cifar_uib", flags=("--share=kernels",)),
        "one": Way("MBConvs and filters, one stage", "cifar_mb_widths", (LARGE,)),
        "two": Way("MBConvs and filters, two stages", "cifar_mb_widths", (LARGE,), ("--stages=widths,ops",), 2),
        "twolong": Way("MBConvs and filters, two stages, twice the epochs", "cifar_mb_widths", (LARGE,),
                       ("--stages=widths,ops",)),
        "mbrandom": Way("MBConvs, random", "cifar_mb", (SMALL,), sampled=True),
        "uibrandom": Way("universal inverted bottlenecks, random", "cifar_uib", (SMALL,), sampled=True),
        "mbbest": Way("MBConvs, best of random", "cifar_mb", (SMALL,), sampled=True),
        "uibbest": Way("universal inverted bottlenecks, best of random", "cifar_uib", (SMALL,), sampled=True)}
# Ways whose networks are compared: the second, less the first. Searches have a pair for each seed.
COMPARED = (("mb", "uib"), ("mb", "shared"), ("uib", "shared"), ("one", "two"), ("one", "twolong"),
            ("mb", "one"))
COMPARED_SAMPLES = (("mbrandom", "uibrandom"), ("mbbest", "uibbest"), ("mbrandom", "mb"), ("uibrandom", "uib"))


def paired(rows: list[dict[str, Any]], first: str, second: str, target: str, field: str) -> np.ndarray:
    """Values of the second way less those of the first, for each seed that both have.

    Args:
        rows: Rows of `Comparison.rows`.
        first: Way.
        second: Way.
        target: Target.
        field: Field of the rows.
    """
    values = {(row["way"], row["seed"]): row[field] for row in rows if row["target"] == target and field in row}
    seeds = sorted({seed for way, seed in values if way == second} & {seed for way, seed in values if way == first})
    return np.array([values[second, seed] - values[first, seed] for seed in seeds])


def interval(differences: np.ndarray) -> str:
    """Mean of paired differences with its 95 % interval (Student's t), in points."""
    mean = 100 * differences.mean()
    if len(differences) == 1:
        return f"{mean:+.2f} (1 pair)"
    low, high = study_results.interval(differences)
    return f"{mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def unpaired(first: np.ndarray, second: np.ndarray) -> str:
    """Mean of the second sample less that of the first with its 95 % interval (Welch), in points."""
    from scipy import stats

    low, high = stats.ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
    return f"{100 * (second.mean() - first.mean()):+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def show(rows: list[dict[str, Any]], targets: Mapping[str, float], seconds: Mapping[str, float]) -> str:
    """Means of each way at each target, and the differences between ways, as Markdown.

    Args:
        rows: Rows of `Comparison.rows`.
        targets: Milliseconds of each target.
        seconds: Seconds of the epochs of each search, by its name.
    """
    if not rows:
        return "Nothing is trained yet."
    lines = []
    for target, ms in targets.items():
        lines += [f"Target {ms:g} ms (uniform `{target}`):", "",
                  "| networks | runs | test accuracy, % | int8, % | float32, ms | int8, ms | parameters | MACs |",
                  "| --- | --- | --- | --- | --- | --- | --- | --- |"]
        for name, way in WAYS.items():
            own = [row for row in rows if (row["way"], row["target"]) == (name, target)]
            if own:
                cells = [_mean(own, "accuracy", 100, 2), _mean(own, "int8_accuracy", 100, 2),
                         _mean(own, "float32_ms", 1, 4), _mean(own, "int8_ms", 1, 4), _mean(own, "params", 1, 0),
                         _mean(own, "macs", 1, 0)]
                lines.append(f"| {way.label} | {len(own)} | {' | '.join(cells)} |")
        lines.append("")
    lines.append("Differences in points, and their 95 % intervals over seeds or random networks:\n")
    for first, second in COMPARED:
        for target in targets:
            for field, mode in (("accuracy", "float32"), ("int8_accuracy", "int8")):
                values = paired(rows, first, second, target, field)
                if len(values):
                    lines.append(f"- {WAYS[second].label} against {WAYS[first].label}, {target}, {mode}: "
                                 f"{interval(values)}")
    for first, second in COMPARED_SAMPLES:
        one, other = ([row["accuracy"] for row in rows if (row["way"], row["target"]) == (way, SMALL)]
                      for way in (first, second))
        if len(one) > 1 and len(other) > 1:
            lines.append(f"- {WAYS[second].label} against {WAYS[first].label}, {SMALL}, float32: "
                         f"{unpaired(np.array(one), np.array(other))}")
    lines += [f"- search {name}: {value:.0f} s" for name, value in seconds.items()]
    return "\n".join(lines)


def _mean(rows, field, factor, digits):
    """Mean of a field as text; empty if a row lacks it."""
    if not all(field in row for row in rows):
        return ""
    return f"{factor * np.mean([row[field] for row in rows]):,.{digits}f}"
