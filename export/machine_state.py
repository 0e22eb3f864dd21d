"""Heat, throttling and clocks of the machine that times models, as far as Linux or a Raspberry Pi's firmware tells."""

import contextlib
import glob
import os
import re
import shutil
import subprocess
from typing import Any

# Bits of `vcgencmd get_throttled` that are about now; 16 bits above each stands the same since the start.
_FIRMWARE = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
_FIRMWARE_S = 5.0


def read(root: str = "/") -> dict[str, Any]:
    """Reads the state.

    Args:
        root: Folder that holds the machine's `sys`.

    Returns:
        celsius: Temperature of the hottest sensor, None if there is none.
        throttled: Texts such as "under-voltage now" or "throttled since the start"; empty if the machine runs freely,
            None if it does not tell.
    """
    celsius = [value / 1000 for value in _numbers(root, "sys/class/thermal/thermal_zone*/temp").values()]
    limits = [_limits(root), _firmware()]
    known = [text for texts in limits for text in texts or ()]
    return {"celsius": max(celsius, default=None), "throttled": None if limits == [None, None] else known}


def core_khz(root: str = "/") -> dict[int, int]:
    """Highest frequency in kHz by number of the core; empty if the machine does not tell.

    Args:
        root: Folder that holds the machine's `sys`.
    """
    found = _numbers(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq")
    return {int(re.findall(r"cpu(\d+)/cpufreq", path)[0]): khz for path, khz in found.items()}


def _limits(root):
    """Clusters of cores whose frequency is limited below what they can do; None if the machine does not tell."""
    possible = _numbers(root, "sys/devices/system/cpu/cpufreq/policy*/cpuinfo_max_freq")
    allowed = _numbers(root, "sys/devices/system/cpu/cpufreq/policy*/scaling_max_freq")
    pairs = [(khz, allowed.get(path.replace("cpuinfo", "scaling"), khz)) for path, khz in possible.items()]
    return [f"limited to {now // 1000} of {khz // 1000} MHz now" for khz, now in pairs if now < khz] if pairs else None


def _firmware():
    """What a Raspberry Pi's firmware tells; None on other machines."""
    program = shutil.which("vcgencmd")
    if not program:
        return None
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run([program, "get_throttled"], capture_output=True, text=True, errors="replace",
                              stdin=subprocess.DEVNULL, timeout=_FIRMWARE_S, check=False)
        if found := re.search(r"throttled=0x([0-9a-fA-F]{1,8})\b", done.stdout):
            bits = int(found[1], 16)
            return [f"{text} {when}" for shift, when in ((0, "now"), (16, "since the start"))
                    for bit, text in _FIRMWARE.items() if bits >> bit + shift & 1]
    return None


def _numbers(root, pattern):
    """Whole numbers by path of the files that match a pattern and hold one."""
    numbers = {}
    for path in sorted(glob.glob(os.path.join(root, pattern))):
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            numbers[path] = int(file.read(30))
    return numbers
