"""The memory and the cores of this machine, as far as this process may use them."""

import contextlib
import os

import psutil

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Limits of a container: control groups of version 2 and 1.
_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# Environment variables that limit the threads of TensorFlow, first those that compute a single op.
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


def memory_bytes() -> int:
    """Bytes of memory of this machine, or fewer if a container or `ulimit` (-v or -d) allows fewer."""
    limits = [psutil.virtual_memory().total]
    for path in _GROUPS:
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:  # `max` is no number
            limits.append(int(file.read(30)))
    if resource:
        limits += [limit for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)
                   if (limit := resource.getrlimit(kind)[0]) != resource.RLIM_INFINITY]
    return min(limits)


def cores() -> int:
    """Number of cores that this process may use: those that it may run on, or fewer if its threads are limited."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get(THREADS[0], "")
    return min(own, int(threads)) if threads.isdecimal() and int(threads) else own


def thread_settings(count: int) -> dict[str, str]:
    """Environment of a process that shares the machine with others of its kind, and has so many threads."""
    return dict.fromkeys(THREADS, str(count))
