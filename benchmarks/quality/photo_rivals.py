"""Names of the rivals of the benchmark of small folders: a kind, a share of the milliseconds, and a dtype."""

from typing import NamedTuple

from benchmarks.quality import photo_cuts

BASE = "lite0"
SHARES = (25, 50, 75)  # per cent of Lite0's milliseconds in float32
CUTS = tuple(f"{rule}_{share}" for share in SHARES for rule in photo_cuts.RULES)
SEARCHES = tuple(f"search_{share}" for share in SHARES)
# Whole Lite0 in int8 takes less than half of its float32 milliseconds, so there is nothing to cut at 50 %.
IN_INT8 = ("depth_25_int8", "resolution_25_int8", "search_25_int8")
ALL = (BASE, "cnn", *CUTS, "scratch", *SEARCHES, *IN_INT8)


class Rival(NamedTuple):
    """Parts of a rival's name."""
    kind: str
    share: int = 0  # per cent of Lite0's milliseconds in float32 that it may take; 0 if there is no target
    dtype: str = "float32"  # of the file that keeps this target


def suffix(dtype: str) -> str:
    """What names of files and steps of a dtype end with: nothing in float32."""
    return "" if dtype == Rival("").dtype else f"_{dtype}"


def parse(name: str) -> Rival:
    """Parts of a rival's name: one of `ALL`."""
    kind, _, rest = name.partition("_")
    share, _, dtype = rest.partition("_")
    return Rival(kind, int(share or 0), dtype or Rival(kind).dtype)
