"""The memory and the cores of this machine, as far as this process may use them."""

import contextlib
import math
import os
from collections.abc import Iterator

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Control groups limit containers and jobs: the list of this process' groups, and the folder of all.
_OWN_GROUPS, _ALL_GROUPS = "/proc/self/cgroup", "/sys/fs/cgroup"
# Environment variables that limit the threads of TensorFlow, first those that compute a single op.
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


def memory_bytes() -> int:
    """Bytes of memory of this machine, or fewer if a container or `ulimit` (-v or -d) allows fewer."""
    import psutil  # here, because every command looks at the cores when it starts

    limits = [psutil.virtual_memory().total]
    for group in _groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limits += _numbers(group, name)
    if resource:
        limits += [limit for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)
                   if (limit := resource.getrlimit(kind)[0]) != resource.RLIM_INFINITY]
    return min(limits)


def cores() -> int:
    """Number of cores that this process may use: those that it may run on, or fewer if a container or the environment
    (`THREADS`) allows fewer."""
    own = _within_quota()
    threads = os.environ.get(THREADS[0], "")
    return min(own, int(threads)) if threads.isdecimal() and int(threads) else own


def settings_under_quota() -> dict[str, str]:
    """Environment in which TensorFlow has no more threads than a container's quota allows cores.

    TensorFlow itself counts the cores that it may run on. With more threads than the quota allows, all of them stand
    still for the rest of a period once they have used it up.
    """
    count = _within_quota()
    return thread_settings(count) if count < _all_cores() else {}


def thread_settings(count: int) -> dict[str, str]:
    """Environment of a process that shares the machine with others of its kind, and has so many threads."""
    return dict.fromkeys(THREADS, str(count))


def _all_cores() -> int:
    """Number of cores that this process may run on, whatever its quota."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _within_quota() -> int:
    """Number of cores that this process may use, whatever the environment says."""
    own = _all_cores()
    for group in _groups("cpu"):
        # Microseconds of CPU time in each period, and the period. Without a limit, the first is `max` or -1.
        for values in (_numbers(group, "cpu.max"), [*_numbers(group, "cpu.cfs_quota_us"),
                                                    *_numbers(group, "cpu.cfs_period_us")]):
            if len(values) == 2 and min(values) > 0:
                own = min(own, math.ceil(values[0] / values[1]))
    return own


def _groups(controller: str) -> Iterator[str]:
    """Folders of the control groups of this process, of version 1 or 2, and of all groups above them."""
    try:
        with open(_OWN_GROUPS, encoding="utf-8") as file:
            lines = file.read(100_000).splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, controllers, group = (line.split(":", 2) + ["", ""])[:3]
        if controllers and controller not in controllers.split(","):
            continue
        root, group = os.path.join(_ALL_GROUPS, controller if controllers else ""), group.strip("/")
        while group:  # its limits are nowhere to be seen if the container sees another part of the tree
            yield os.path.join(root, group)
            group = os.path.dirname(group)
        yield root


def _numbers(folder: str, name: str) -> list[int]:
    """The numbers in a file; none if it is missing or has a word in it."""
    with contextlib.suppress(OSError, ValueError), open(os.path.join(folder, name), encoding="ascii") as file:
        return [int(word) for word in file.read(100).split()]
    return []
