"""Says which of several exported files an app should take, and why."""

from collections.abc import Mapping
from typing import Any

from export import model_card

# Points of top-1 accuracy that a file may lose against the best one: users of an app do not notice so few.
TOP1_LOSS = 0.01
# Files count as equally quick up to this factor: smaller ones are noise of the machine that timed them.
SLOWER = 1.2
# Facts that are equal for files whose times can be compared.
TIMED_BY = ("device", "runtime", "delegate", "threads")


def recommended(exports: Mapping[str, dict[str, Any]]) -> tuple[str, str]:
    """Chooses the smallest of the quickest of the accurate files; if they were timed on several machines, the smallest.

    Args:
        exports: Facts of each file by mode, at least one. A file that failed its check is chosen only if all did.

    Returns:
        The mode, and the reason as a sentence.
    """
    checked = {mode: facts for mode, facts in exports.items() if not facts.get("problem")} or dict(exports)
    best = max(checked, key=lambda mode: checked[mode]["top1"])
    # A single image more or less proves nothing.
    loss = max(TOP1_LOSS, 1 / checked[best]["checked_images"]) + 1e-9
    accurate = {mode: facts for mode, facts in checked.items() if facts["top1"] >= checked[best]["top1"] - loss}
    alike = len({tuple(facts.get(name) for name in TIMED_BY) for facts in accurate.values()}) == 1
    quickest_ms = min(facts["measured_ms"] for facts in accurate.values())
    quick = {mode: facts for mode, facts in accurate.items() if facts["measured_ms"] <= SLOWER * quickest_ms or
             not alike}
    mode = min(quick, key=lambda name: quick[name]["size_bytes"])
    facts = quick[mode]
    measured = f"{facts['measured_ms']:.3g} ms on {facts['target']}{model_card.doubt(facts)}"
    if len(exports) == 1:
        return mode, f"It is the only file here: top-1 {facts['top1']:.1%}, {measured}."
    accuracy = "the best here" if mode == best or facts["top1"] == checked[best]["top1"] else (
        f"{100 * (checked[best]['top1'] - facts['top1']):.1f} points below the best here ({best})")
    others = "timed elsewhere or otherwise than other files, so that times decide nothing" if not alike else \
        "no other file as accurate is clearly quicker" if facts["measured_ms"] > quickest_ms else (
        "the quickest of the files about as accurate")
    size = f"{facts['size_bytes'] / 1000:,.0f} kB"
    smallest = "the smallest of all" if facts["size_bytes"] == min(
        other["size_bytes"] for other in exports.values()) else "the smallest of the quick ones"
    return mode, (f"Its top-1 of {facts['top1']:.1%} is {accuracy}; it takes {measured}, {others}; and its {size} are "
                  f"{smallest}.")
