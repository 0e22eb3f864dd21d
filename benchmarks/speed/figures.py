"""CPU time, wall time and memory of one call that computes with TensorFlow on the CPU."""

import math
import resource
import sys
import time
from collections.abc import Callable
from typing import NamedTuple


class Figures(NamedTuple):
    """What a call took.

    Attributes:
        cpu_s: Seconds of CPU time.
        wall_s: Seconds.
        peak_mb: Peak of TensorFlow's memory in MiB, above what was held before; NaN where TensorFlow does not count it.
    """

    cpu_s: float
    wall_s: float
    peak_mb: float


def measure(call: Callable[[], object]) -> Figures:
    """Makes a call, which has to wait for its result, and measures it."""
    held = _memory("current")
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Figures(cpu, wall, (_memory("peak") - held) / 2**20)


def rss_mb(usage: resource.struct_rusage | None = None) -> float:
    """Most MiB of memory that this process has held, or the one that a usage is of."""
    usage = usage or resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _memory(kind):
    """Bytes that TensorFlow holds now ("current"; the peak counts from now on), or held at most ("peak")."""
    import tensorflow as tf

    try:
        held = tf.config.experimental.get_memory_info("CPU:0")[kind]
    except ValueError:
        return math.nan
    if kind == "current":
        tf.config.experimental.reset_memory_stats("CPU:0")
    return held
