"""The measured milliseconds of an exported file, and how far they can be trusted."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pnas_tf import terminal
from pnas_tf.files import number

# A machine whose pace differs from that of the table's comparison by at most this share is as it was.
SAME_PACE = 0.10


@dataclasses.dataclass(frozen=True)
class Measured:
    """A time from the facts of an export.

    Attributes:
        ms: Milliseconds.
        low_ms, high_ms: Least and largest time of a repeat.
        steady: Whether the repeats agree.
        pace: Time of the anchor divided by its time in the comparison of the table, None if that is not known. Above 1,
            the machine was slower than then.
    """

    ms: float
    low_ms: float
    high_ms: float
    steady: bool = True
    pace: float | None = None

    @property
    def doubt(self) -> str:
        """Words about a time that cannot be trusted; "" if it can."""
        parts = [] if self.steady else [f"busy machine: {_bare(self.low_ms)} to {terminal.ms(self.high_ms)}"]
        if self.pace and abs(self.pace - 1) > SAME_PACE:
            factor, word = (self.pace, "slow") if self.pace > 1 else (1 / self.pace, "quick")
            parts.append(f"the machine was {factor:.2g} times as {word} as when the table was compared")
        return "; ".join(parts)

    def __str__(self) -> str:
        return terminal.ms(self.ms) + (f" ({self.doubt})" if self.doubt else "")

    def may_keep(self, target_ms: float) -> bool:
        """Whether the network may keep a target although its time is above it: the machine was slower than usual."""
        return (not self.steady and self.low_ms <= target_ms) or self._at_pace_of_table <= target_ms

    def may_miss(self, target_ms: float) -> bool:
        """Whether the network may miss a target although its time is within it."""
        return (not self.steady and self.high_ms > target_ms) or self._at_pace_of_table > target_ms

    @property
    def _at_pace_of_table(self) -> float:
        return self.ms / self.pace if self.pace and abs(self.pace - 1) > SAME_PACE else self.ms


def of_export(facts: Mapping[str, Any]) -> Measured | None:
    """The time in the facts of an export, <mode>.json, which may be of any content; None if there is none."""
    ms = number(facts.get("measured_ms"))
    if ms is None:
        return None
    spread, anchor = facts.get("spread_ms"), facts.get("anchor")
    low, high = map(number, spread) if isinstance(spread, list) and len(spread) == 2 else (None, None)
    now, then = (number(anchor.get(name)) for name in ("ms", "then_ms")) if isinstance(anchor, dict) else (None, None)
    return Measured(ms, ms if low is None else low, ms if high is None else high, facts.get("steady") is not False,
                    now / then if now and then and now > 0 and then > 0 else None)


def _bare(ms: float) -> str:
    return terminal.ms(ms).removesuffix(" ms")
