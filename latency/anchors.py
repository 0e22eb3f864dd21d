"""Divides measurements by the device's pace, which an anchor network shows that is timed between them.

A measurement that a measurer made between two runs of an anchor has `time_s`, seconds since the epoch, and `anchors`,
the runs before and after it as [seconds, milliseconds]. `anchor` names the network, and `phone` the device, if several
took part.
"""

import collections
import dataclasses
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from latency import measure, pace
from pnas_tf.cost import network_times
from pnas_tf.errors import InputError
from pnas_tf.space.blocks import Space

Name = TypeVar("Name", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Paced:
    """Corrections of measurements.

    Attributes:
        rows: By name of the measurement: paced_ms, the median at the reference pace; pace, by which it was divided; and
            pace_error, the standard deviation of the pace.
        wandered: By name of the anchor: reference_ms, its milliseconds at the reference pace; low and high, the range
            of the pace over the measurements; error, the median of pace_error; and runs, how often it was timed.
    """

    rows: dict[Any, dict[str, float]]
    wandered: dict[str, dict[str, float]]


def paced(measurements: Mapping[Name, Mapping[str, Any]], references_ms: Mapping[str, float], path: str
          ) -> Paced:
    """Corrects measurements.

        pace = anchor_ms(time) / reference_ms
        paced_ms = median_ms / pace

    anchor_ms is a smooth curve through the runs of the anchor (`pace.curve`), one for each phone. The reference is the
    median run of the first call, so later measurements are brought to the same pace.

    Args:
        measurements: Rows of a table, or of a file of networks' times. Those without an anchor are left out.
        references_ms: Milliseconds of anchors at the reference pace, where they are known.
        path: File of the measurements, for messages.

    Raises:
        InputError: If the anchors of a measurement are no times.
    """
    groups: dict[str, dict[Name, Mapping[str, Any]]] = collections.defaultdict(dict)
    for name, row in measurements.items():
        if isinstance(row.get("anchor"), str) and "anchors" in row:
            groups[row["anchor"]][name] = row
    result = Paced({}, {})
    for anchor, rows in groups.items():
        phones = dict.fromkeys(str(row.get("phone")) for row in rows.values())
        runs = {phone: _runs(rows, phone, path) for phone in phones}
        reference_ms = references_ms.get(anchor) or float(np.median(np.concatenate(
            [list(ms_by_time.values()) for ms_by_time in runs.values()])))
        for phone, ms_by_time in runs.items():
            result.rows.update(_corrected({name: row for name, row in rows.items() if str(row.get("phone")) == phone},
                                          ms_by_time, reference_ms))
        of_rows = [result.rows[name] for name in rows]
        result.wandered[anchor] = {
            "reference_ms": reference_ms, "low": min(row["pace"] for row in of_rows),
            "high": max(row["pace"] for row in of_rows), "error": float(np.median([row["pace_error"]
                                                                                   for row in of_rows])),
            "runs": sum(map(len, runs.values()))}
    return result


def are_new(measurements: Iterable[Mapping[str, Any]]) -> bool:
    """Whether there are measurements with anchors that `paced` has not corrected yet.

    Args:
        measurements: Rows of a table, or of a file of networks' times.
    """
    return any("anchors" in row and "paced_ms" not in row for row in measurements)


def named(times: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """A measurement with the name of its anchor, if it has one: the network of `measure.context`.

    Args:
        times: Measurement as a measurer yields it.
        space: Space whose ops or networks are timed.
    """
    return {**times, **({"anchor": network_times.digest(measure.context(space))} if "anchors" in times else {})}


def words(header: Mapping[str, Any]) -> list[str]:
    """How far the pace wandered, in a sentence for each anchor of a header.

    Args:
        header: Line 1 of a table.
    """
    entries = header.get("pace")
    entries = entries.values() if isinstance(entries, dict) else ()
    return [f"{entry['low']:.3f} to {entry['high']:.3f} times the usual, known to {entry['error']:.1%} from "
            f"{entry['runs']:g} runs of the anchor network; rows are divided by it"
            for entry in entries if isinstance(entry, dict)
            and all(_is_number(entry.get(name)) for name in ("low", "high", "error", "runs"))]


def references_of(header: Mapping[str, Any]) -> dict[str, float]:
    """References for `paced`, from the header of a table whose rows have been corrected.

    Args:
        header: Line 1 of the table, which may come from a stranger.
    """
    entries = header.get("pace")
    entries = entries if isinstance(entries, dict) else {}
    return {anchor: float(entry["reference_ms"]) for anchor, entry in entries.items()
            if isinstance(entry, dict) and _is_time(entry.get("reference_ms"))}


def _runs(rows, phone, path):
    """Runs of the anchor on one phone: milliseconds by time."""
    runs = {}
    for row in rows.values():
        if str(row.get("phone")) == phone:
            pairs = row["anchors"]
            if not (isinstance(pairs, list) and pairs and _is_number(row.get("time_s")) and all(
                    isinstance(pair, list) and len(pair) == 2 and _is_number(pair[0]) and _is_time(pair[1])
                    for pair in pairs)):
                raise InputError(f"{path}: a row's anchors must be pairs of seconds and milliseconds and its time_s "
                                 "seconds. Remove the row, then run the same command again.")
            runs.update(map(tuple, pairs))
    return runs


def _corrected(rows, ms_by_time, reference_ms):
    curve = pace.curve(np.array(list(ms_by_time)), np.array(list(ms_by_time.values())) / reference_ms)
    paces, errors = curve.at(np.array([row["time_s"] for row in rows.values()], np.float64))
    return {name: {"paced_ms": row["median_ms"] / its_pace, "pace": its_pace, "pace_error": error}
            for (name, row), its_pace, error in zip(rows.items(), paces.round(6).tolist(), errors.round(6).tolist(),
                                                    strict=True)}


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e12


def _is_time(value):
    return _is_number(value) and 0 < value < 1e7
