"""Times functions: runs of a visit, visits spread over time, statistics, and facts about this machine."""

import glob
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

# Within a visit, the median counts, because single runs may be slow. Over visits that are far apart in time, the lower
# quartile counts: a shared machine is slower than usual for up to half of the time, and sometimes faster for a second,
# which affects only some of the timed subjects. benchmarks.targets.time_statistics timed the same networks many times
# in turns. Apart from the pace that all of them share, their times varied by 1.2 to 1.8 % with the best of 20 to 100
# visits, and by 0.4 to 1.0 % with the lower quartile.
STATISTIC = "median_ms is the lower quartile over rounds, spread in time, of the round's median"
_QUANTILE = 0.25

WARMUP_RUNS = 2

# Number of subjects that start together, and finish together after `rounds` visits each.
GROUP = 8

# Of each core; clusters of slow and fast cores may have different ones.
_GOVERNORS = "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"

Name = TypeVar("Name", bound=Hashable)


def machine_facts() -> dict[str, Any]:
    """Facts of this machine for the records of measurements.

    Returns:
        device, the name of the CPU; cores, their number; os, the operating system; and governor, the CPU frequency
        governors of all cores, None if the system does not show them.
    """
    governors = sorted({governor for path in glob.glob(_GOVERNORS) if (governor := _read(path))})
    return {"device": cpu_name(), "cores": os.cpu_count(), "os": platform.platform(),
            "governor": ", ".join(governors) or None}


def cpu_name() -> str:
    """Name of the board, such as `Raspberry Pi 4 Model B Rev 1.4`, or else of the CPU.

    An ARM CPU without a name is called by the numbers of its maker and of its kinds of cores: `aarch64 CPU 0x41:0xd0c`.
    """
    if board := (_read("/proc/device-tree/model") or "").strip("\0 "):
        return board
    if sys.platform == "darwin" and (chip := _output("sysctl", "-n", "machdep.cpu.brand_string")):
        return chip
    lines = [line.split(":", 1) for line in (_read("/proc/cpuinfo") or "").splitlines() if ":" in line]
    facts = [(name.strip(), value.strip()) for name, value in lines]
    if named := next((value for name, value in facts if name in ("model name", "Hardware", "Model") and value), None):
        return named
    makers, kinds = ([value for name, value in facts if name == f"CPU {fact}"] for fact in ("implementer", "part"))
    if cores := dict.fromkeys(f"{maker}:{kind}" for maker, kind in zip(makers, kinds, strict=False)):
        return f"{platform.machine()} CPU {' '.join(cores)}"
    return platform.processor() or platform.machine()


def _output(*command: str) -> str:
    """What a program of the system prints; "" if it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10, check=True,
                              stdin=subprocess.DEVNULL).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return None


def timed_ms(subject: Callable[[], object], runs: int, before: Callable[[], object] | None = None,
             warmup_seconds: float = 0.0) -> list[float]:
    """Times one visit: at least `WARMUP_RUNS` untimed runs, then the timed runs.

    Args:
        subject: Function to time; it returns when its work is done.
        runs: Timed calls.
        before: Function called before each timed call; its own time does not count.
        warmup_seconds: Smallest total time of the untimed runs. A CPU that was idle needs it to reach its frequency.

    Returns:
        Milliseconds of each run.
    """
    warm = time.perf_counter() + warmup_seconds
    for _ in range(WARMUP_RUNS):
        subject()
    while time.perf_counter() < warm:
        subject()
    times = []
    for _ in range(runs):
        if before:
            before()
        begin = time.perf_counter()
        subject()
        times.append((time.perf_counter() - begin) * 1000)
    return times


def spread_out(names: Sequence[Name], rounds: int, visit: Callable[[Name], list[float]], group: int = GROUP,
               seed: int = 0) -> Iterator[tuple[Name, list[list[float]]]]:
    """Visits every subject once per round, and yields results along the way.

    The subjects are divided into groups. One group starts at each step, and each step visits all groups that have
    started and are not finished, in random order. So `rounds` groups are active at a time, and between two
    visits of a subject lie visits of all other active subjects.

    Args:
        names: Names of the subjects to time.
        rounds: Visits to each subject.
        visit: Function that times one subject now and returns the milliseconds of its runs.
        group: Number of subjects that start together.
        seed: Seed of the random order.

    Yields:
        Name and milliseconds [rounds][runs] of a subject, as soon as its last visit is over.
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


def of_visits(medians: Sequence[float]) -> float:
    """The time of a subject in milliseconds from the medians of its visits, as `STATISTIC` says."""
    return float(np.quantile(medians, _QUANTILE))


def summarise(samples: Sequence[Sequence[float]]) -> dict[str, float]:
    """Computes the figures of a table row.

    Args:
        samples: Milliseconds [rounds][runs] of one subject.

    Returns:
        median_ms as `STATISTIC` says; min_ms, mean_ms, std_ms and runs over all samples.
    """
    flat = np.concatenate([np.asarray(round_ms, np.float64) for round_ms in samples])
    medians = [float(np.median(round_ms)) for round_ms in samples]
    return {"median_ms": of_visits(medians), "min_ms": float(flat.min()), "mean_ms": float(flat.mean()),
            "std_ms": float(flat.std()), "runs": len(flat)}
