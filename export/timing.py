"""What machine this is, for the records of measurements."""

import os
import platform
import random
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

_GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"


def machine_facts() -> dict[str, Any]:
    """Device (name of the CPU), number of cores, operating system, and CPU frequency governor (None if not shown)."""
    return {"device": cpu_name(), "cores": os.cpu_count(), "os": platform.platform(), "governor": _read(_GOVERNOR)}


def cpu_name() -> str:
    """Name of the CPU, as /proc/cpuinfo has it on Linux."""
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Hardware", "Model") and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return None

# Inside a visit the median, against single slow runs. Over visits that lie far apart the lower quartile: a shared
# machine is slower than usual for up to half of the time, and now and then faster for a second, which only some of the
# things that are timed meet. By the best of 20 to 100 visits, the same networks, timed again and again in turns,
# differed by 1.2 to 1.8 % beside what all differed by; by the lower quartile by 0.4 to 1.0 %
# (benchmarks.time_statistics).
STATISTIC = "median_ms is the lower quartile over rounds, spread in time, of the round's median"

WARMUP_RUNS = 2

# Models that start together, and are done together after as many visits as there are rounds.
GROUP = 8

Name = TypeVar("Name", bound=Hashable)


def spread_out(names: Sequence[Name], rounds: int, visit: Callable[[Name], list[float]], group: int = GROUP,
               seed: int = 0) -> Iterator[tuple[Name, list[list[float]]]]:
    """Visits everything in so many rounds, and hands out results all along.

    In a step, each group that has begun and is not done yet is visited once, in an order drawn anew; then the next
    group begins. So `rounds` groups are under way at a time, and the visits of one thing lie as many visits apart.

    Args:
        names: what to time.
        rounds: visits of each.
        visit: times one thing now; milliseconds of its runs.
        group: things that begin together.
        seed: of the order.

    Yields:
        (name, milliseconds [rounds][runs]) as soon as its visits are over.
    """
    rng = random.Random(seed)
    groups = [names[start:start + group] for start in range(0, len(names), group)]
    samples: dict[Name, list[list[float]]] = {name: [] for name in names}
    for step in range(len(groups) + rounds - 1):
        active = [name for members in groups[max(0, step - rounds + 1):step + 1] for name in members]
        rng.shuffle(active)
        for name in active:
            samples[name].append(visit(name))
        for name in groups[step - rounds + 1] if step >= rounds - 1 else ():
            yield name, samples.pop(name)


def timed_ms(subject: Callable[[], object], runs: int, before: Callable[[], object] | None = None) -> list[float]:
    """One visit: some runs to warm up, then the timed ones.

    Args:
        subject: what to time; returns when its work is done.
        runs: timed calls.
        before: called before each timed call, not timed itself.

    Returns:
        Milliseconds of each run.
    """
    for _ in range(WARMUP_RUNS):
        subject()
    times = []
    for _ in range(runs):
        if before:
            before()
        begin = time.perf_counter()
        subject()
        times.append((time.perf_counter() - begin) * 1000)
    return times


def of_visits(medians: Sequence[float]) -> float:
    """The time of what was visited so often, from the median of each visit: as `STATISTIC` says."""
    return float(np.quantile(medians, 0.25))


def summarise(samples: Sequence[Sequence[float]]) -> dict[str, float]:
    """The figures of a table row.

    Args:
        samples: milliseconds [rounds][runs] of one subject.

    Returns:
        median_ms as `STATISTIC` says; min_ms, mean_ms, std_ms and runs over all samples.
    """
    flat = np.concatenate([np.asarray(round_ms, np.float64) for round_ms in samples])
    medians = [float(np.median(round_ms)) for round_ms in samples]
    return {"median_ms": of_visits(medians), "min_ms": float(flat.min()), "mean_ms": float(flat.mean()),
            "std_ms": float(flat.std()), "runs": len(flat)}
