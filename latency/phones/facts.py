"""What a phone says about itself: facts that do not change, its state, and the cores to run on."""

import dataclasses
import re

from latency.phones.benchmark_output import clean
from pnas_tf.errors import InputError, shown

# The setting of the cores, wherever there may be fast and slow ones.
CPU_MASK = "Cores to run on: a hexadecimal mask (f0, F0 or 0xf0 for cores 4 to 7), all, or auto for the fastest cores."
# A longer answer is cut: it is not the answer of a phone.
MAX_TEXT = 60_000

_PROPERTIES = ("ro.product.manufacturer", "ro.product.model", "ro.soc.manufacturer", "ro.soc.model",
               "ro.board.platform", "ro.build.version.release", "ro.build.version.sdk", "ro.build.id",
               "ro.product.cpu.abi", "ro.serialno")
READ_FACTS = (f"for p in {' '.join(_PROPERTIES)}; do echo $p=$(getprop $p); done; "
              "echo boot_id=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null); "
              "for c in /sys/devices/system/cpu/cpu[0-9]*; do [ -f $c/cpufreq/cpuinfo_max_freq ] && "
              "echo ${c##*/}=$(cat $c/cpufreq/cpuinfo_max_freq) $(cat $c/cpufreq/scaling_governor); done; true")
READ_STATE = "dumpsys battery; dumpsys thermalservice; true"


@dataclasses.dataclass(frozen=True)
class Facts:
    """Facts about a phone that do not change.

    Attributes:
        device: Maker and model.
        soc: Maker and model of the system on a chip.
        android: Version, API level and build.
        abi: Name of the instruction set, `arm64-v8a`.
        cores: Highest frequency in kHz and frequency governor by number of the core.
        identity: Serial number, and number of the boot as emulators share serial numbers; equal for one phone behind
            two connections, None if the phone tells no serial number.
    """

    device: str
    soc: str
    android: str
    abi: str
    cores: dict[int, tuple[int, str]]
    identity: tuple[str, str] | None = None

    def clusters(self) -> str:
        """Cores by highest frequency: `4 x 1803 MHz, 2 x 2802 MHz`."""
        frequencies = [khz for khz, _ in self.cores.values()]
        return ", ".join(f"{frequencies.count(khz)} x {khz // 1000} MHz" for khz in sorted(set(frequencies)))


@dataclasses.dataclass(frozen=True)
class State:
    """Charge and heat of a phone at one time; None for values that the phone does not report.

    Attributes:
        battery_percent: Charge of the battery.
        battery_celsius: Temperature of the battery.
        thermal_status: Android's thermal status, 0 (cool) to 6. From `THROTTLING` on, Android slows the phone down.
    """

    battery_percent: int | None
    battery_celsius: float | None
    thermal_status: int | None


def read_facts(text: str) -> Facts:
    """Facts from the name=value lines that `READ_FACTS` prints on a phone."""
    text = text[:MAX_TEXT]
    values = dict(re.findall(r"^([\w.]{1,60})=(.*?)\r?$", text, flags=re.M))
    properties = {name: clean(values.get(name, ""), 60) for name in _PROPERTIES}

    def join(*names):
        return " ".join(filter(None, (properties[name] for name in names))) or "unknown"

    identity = properties["ro.serialno"], clean(values.get("boot_id", ""), 60)
    cores = re.findall(r"^cpu(\d{1,3})=(\d{1,9})(?: (\w{1,40}))?\r?$", text, flags=re.M)
    return Facts(
        device=join("ro.product.manufacturer", "ro.product.model"),
        soc=join("ro.soc.manufacturer", "ro.soc.model") if properties["ro.soc.model"] else join("ro.board.platform"),
        android=f"{join('ro.build.version.release')} (API {join('ro.build.version.sdk')}, {join('ro.build.id')})",
        abi=join("ro.product.cpu.abi"),
        cores={int(core): (int(khz), governor) for core, khz, governor in cores if int(core) < 64},
        identity=identity if identity[0] else None)


def read_state(text: str) -> State:
    """State from the output of `dumpsys battery` and `dumpsys thermalservice`."""
    lines = [line.strip() for line in text[:MAX_TEXT].splitlines()]

    def number(name, digits):
        found = (re.fullmatch(rf"{name}: ({digits})", line) for line in lines)
        return next((int(match[1]) for match in found if match), None)

    level, scale, tenths = (number(name, r"-?\d{1,6}") for name in ("level", "scale", "temperature"))
    return State(battery_percent=None if level is None else round(100 * level / (scale or 100)),
                 battery_celsius=None if tenths is None else tenths / 10,
                 thermal_status=number("Thermal Status", r"\d"))


def plain_mask(text: str) -> str:
    """A value of the setting `cpu_mask` as taskset and the headers of tables have it: auto, all or hexadecimal.

    Raises:
        InputError: If it is none of them, or names no core.
    """
    mask = text.lower().removeprefix("0x")
    if not re.fullmatch(r"auto|all|(?!0+$)[0-9a-f]{1,16}", mask):
        raise InputError("cpu_mask must be auto, all, or hexadecimal like f0 with at least one core, got "
                         f"{shown(text)}.")
    return mask


def cpu_mask(cores: dict[int, int], threads: int) -> str:
    """Mask of the fastest cores, taken cluster by cluster until each thread has a core: `c0` is cores 6 and 7.

    Threads that move between fast and slow cores cannot be timed. The numbers of the fast cores differ from phone to
    phone (TensorFlow Lite's own advice: 0c for Pixel 1, f0 for Pixel 2).

    Args:
        cores: Highest frequency in kHz by number of the core.
        threads: Number of threads of the benchmark.

    Returns:
        Hexadecimal mask, as taskset takes it; `all` if the cores are unknown.
    """
    chosen: list[int] = []
    for frequency in sorted(set(cores.values()), reverse=True):
        if len(chosen) < threads:
            chosen += [core for core, khz in cores.items() if khz == frequency]
    return f"{sum(1 << core for core in chosen):x}" if chosen else "all"
