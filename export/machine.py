"""What machine this is, for the records of measurements."""

import os
import platform
from typing import Any

_GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"


def facts() -> dict[str, Any]:
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
