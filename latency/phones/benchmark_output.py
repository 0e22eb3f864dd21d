"""Reads the output of TFLite's `benchmark_model`, old or new. It comes from a device, so it may contain anything.

Lines start with `INFO: `, with logcat's prefix, or with neither. Large numbers look like 2.95034e+06. Only newer builds
print percentiles. LiteRT's newer tool of the same name (CompiledModel) prints another form, in milliseconds.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

from pnas_tf.errors import InputError, printable

# Longer lines are cut. The tool prints no such lines, and no pattern then has to search megabytes.
MAX_LINE = 2000
# Characters that an error message is looked for in, at the beginning and at the end of an output.
MAX_EXCERPTED = 20_000

_NUMBER = r"[-+]?\d[\d.]{0,30}(?:[eE][-+]?\d{1,3})?"
_COUNT = re.compile(r"(?:^|\s)(count=\d.*)")
_FIELD = re.compile(rf"\b(\w+)=({_NUMBER})(?=\s|$)")
_TIMINGS = re.compile(rf"Inference timings in us: .*\bInference \(avg\): ({_NUMBER})\s*$")
_COMPILED_MODEL = re.compile(rf"\bInference \((\w+)\):\s+({_NUMBER}) ms(?: \((\d{{1,9}}) runs\))?\s*$")
_UNKNOWN_FLAGS = re.compile(r"Unconsumed cmdline flags:\s*(\S.*)")
_VERSION = re.compile(r"(?:TensorFlow|TFLite|LiteRT)(?: Lite)?(?: runtime)? version\s*:?\s*v?(\d+\.\d+[\w.+-]{0,20})",
                      re.IGNORECASE)
_APPLIED = re.compile(r"Explicitly applied (\w{1,40}) delegate, and the model graph will be "
                      r"(completely|partially) executed")
_NOT_APPLIED = re.compile(r"Though (\w{1,40}) delegate is explicitly applied, the model graph will not be executed")
_REPLACING = re.compile(r"Replacing (\d{1,9}) out of (\d{1,9}) node\(s\) with delegate \((\w{1,40})\)")
_CREATED = re.compile(r"Created TensorFlow Lite (?:(\w{1,40}) delegate|delegate for (\w{1,40}))")
# Names of delegates by a part of the tools' names for them; LiteRT's for a GPU are LITERT_CL, LITERT_GL and others.
_DELEGATES = {"xnnpack": "xnnpack", "gpu": "gpu", "nnapi": "nnapi", "dispatch": "npu", "litert_": "gpu"}


class NoTimingError(InputError):
    """The output holds no time of the model, or an impossible time."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """The tool's report on one model.

    Attributes:
        runs: Number of timed runs.
        mean_ms, min_ms, max_ms, std_ms: Statistics over the runs, in milliseconds.
        median_ms: Median over the runs in milliseconds, None if not printed.
        version: Version of the runtime, None if not printed.
        delegates: Share of the model that each delegate runs, by delegate: `full`, `part`, `nothing`, or `unknown`.
        unknown_flags: Flags that the tool did not know and ignored.
    """

    runs: int
    mean_ms: float
    min_ms: float
    max_ms: float
    std_ms: float
    median_ms: float | None
    version: str | None
    delegates: dict[str, str]
    unknown_flags: str


def parse(text: str) -> Benchmark:
    """Reads the output of one run of the tool.

    Args:
        text: Everything that the tool printed.

    Raises:
        NoTimingError: If it holds no timing; the message shows what the tool printed instead.
    """
    lines = [line[:MAX_LINE] for line in text.splitlines()]
    figures = _figures_us(lines) or _figures_compiled_model(lines)
    if figures is None:
        raise NoTimingError(f"no timing in the output of benchmark_model: {excerpt(text)}")
    runs, mean_ms = int(figures["count"]), figures["avg"]
    single = dict.fromkeys(("min", "max"), mean_ms) if runs == 1 else {}  # a single run is printed as count=1 curr=9
    figures = {"std": 0.0, **single, **figures}
    if not {"min", "max"} <= set(figures):
        raise NoTimingError(f"benchmark_model printed a timing without min and max: {excerpt(text)}")
    least, most, median = figures["min"], figures["max"], figures.get("median")
    slack = 1e-5 * most  # a mean is printed with 6 digits, min and max with all digits
    between = all(least - slack <= value <= most + slack for value in (mean_ms, median) if value is not None)
    if not (runs >= 1 and 0 <= least <= most < 1e7 and mean_ms > 0 and 0 <= figures["std"] < 1e7 and between):
        if mean_ms == 0:
            raise NoTimingError("benchmark_model printed 0 ms: it rounds, and cannot time so small a model. "
                                "TensorFlow Lite's benchmark_model prints microseconds")
        raise NoTimingError(f"benchmark_model printed impossible times: {excerpt(text)}")
    return Benchmark(runs, mean_ms, least, most, figures["std"], median, _first(_VERSION, lines), _delegates(lines),
                     _first(_UNKNOWN_FLAGS, lines) or "")


def _figures_us(lines: list[str]) -> dict[str, float] | None:
    """The last `count=` line before the summary, in milliseconds.

    Earlier `count=` lines belong to the warm-up, later ones to profiles.
    """
    counted = None
    for line in lines:
        count, timings = _COUNT.search(line), _TIMINGS.search(line)
        if count:
            counted = {name: float(value) for name, value in _FIELD.findall(count[1]) if _is_number(value)}
        if timings and counted and _is_number(timings[1]):
            mean_us = float(timings[1])
            if "avg" in counted and not math.isclose(counted["avg"], mean_us, rel_tol=1e-4):
                return None  # two halves of different runs
            return {name: value if name == "count" else value / 1000
                    for name, value in {**counted, "avg": mean_us}.items()}
    return None


def _figures_compiled_model(lines: list[str]) -> dict[str, float] | None:
    figures = {}
    for match in filter(None, map(_COMPILED_MODEL.search, lines)):
        if _is_number(match[2]):
            figures[match[1]] = float(match[2])
        if match[3]:
            figures["count"] = float(match[3])
    return figures if {"avg", "count"} <= set(figures) else None


def _is_number(text):
    try:
        return math.isfinite(float(text))
    except ValueError:  # 1.2.3
        return False


def _delegates(lines: list[str]) -> dict[str, str]:
    """The smallest share of the model that any line reports, by delegate."""
    ranks = ("nothing", "part", "full", "unknown")
    shares: dict[str, str] = {}

    def note(name, share):
        name = next((short for part, short in _DELEGATES.items() if part in name.lower()), name.lower())
        shares[name] = min(share, shares.get(name, "unknown"), key=ranks.index)

    for line in lines:
        if match := _CREATED.search(line):
            note(match[1] or match[2], "unknown")
        if match := _APPLIED.search(line):
            note(match[1], {"completely": "full", "partially": "part"}[match[2]])
        if match := _NOT_APPLIED.search(line):
            note(match[1], "nothing")
        if match := _REPLACING.search(line):
            note(match[3], "full" if match[1] == match[2] else "part")
    return shares


def _first(pattern, lines):
    return next((match[1].strip() for match in map(pattern.search, lines) if match), None)


def excerpt(text: str, limit: int = 300) -> str:
    """One line for a message: the tool's errors or, if there are none, its last lines, without control characters.

    Args:
        text: Output of the tool or of adb.
        limit: Largest number of characters.
    """
    if len(text) > MAX_EXCERPTED:
        text = text[:MAX_EXCERPTED // 2] + "\n" + text[-MAX_EXCERPTED // 2:]
    lines = [clean(line, limit) for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\b(?:ERROR|FATAL|error|denied|not found|No such)\b", line)]
    return clean(" | ".join((errors or lines)[-3:]), limit) or "nothing"


def clean(text: str, limit: int = 100) -> str:
    """A device's text as one line without control characters.

    Args:
        text: Text of a device.
        limit: Largest number of characters.
    """
    return printable(re.sub(r"\s", " ", text[:4 * limit]).strip(), limit)


@dataclasses.dataclass(frozen=True)
class OpTime:
    """One operator of a profile.

    Attributes:
        node_type: TFLite's type of the operator.
        name: TFLite's name of the operator.
        mean_ms: Mean milliseconds of a run.
        times_called: Calls in a run.
    """

    node_type: str
    name: str
    mean_ms: float
    times_called: int


def op_profile(text: str) -> list[OpTime]:
    """Reads the profile of operators that `--enable_op_profiling=true` prints, as text or CSV.

    Profiling slows a run down, so totals have to come from runs without it.

    Args:
        text: Everything that the tool printed.

    Returns:
        Operators in order of execution.

    Raises:
        NoTimingError: If the output holds no such profile.
    """
    _, regular, after = text.partition("Operator-wise Profiling Info for Regular Benchmark Runs:")
    rows = list(_profile_rows((after if regular else text).splitlines()))
    if not rows:
        raise NoTimingError(f"no profile of operators in the output of benchmark_model: {excerpt(text)}")
    return rows


def _profile_rows(lines: list[str]) -> Iterator[OpTime]:
    """Rows of the first table. Types and names may contain blanks and commas, so the numbers between separate them."""
    pattern: re.Pattern[str] | None = None
    columns: list[str] = []
    started = False
    for line in (line[:MAX_LINE].strip() for line in lines):
        if not started:
            started = "Run Order" in line
        elif pattern is None:
            names = re.findall(r"\[([^\]]+)\]", line) or line.split(",")
            columns = [name.strip().lower().replace("_", " ") for name in names][1:-1]
            gap = r"[ \t,]{1,80}"
            pattern = re.compile(rf"(\S.*?){gap}((?:{_NUMBER}%?{gap}){{{len(columns)}}})(\S.*)")
        elif not (match := pattern.fullmatch(line)):
            return
        else:
            numbers = dict(zip(columns, re.findall(_NUMBER, match[2]), strict=True))
            times = [numbers.get(name, "") for name in ("avg ms", "times called")]
            if not all(_is_number(value) and 0 <= float(value) < 1e7 for value in times):
                return
            yield OpTime(match[1], match[3], float(times[0]), int(float(times[1])))
