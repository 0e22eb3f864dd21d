"""One phone that times models with `benchmark_model`: its facts, its state, and single measurements."""

import dataclasses
import hashlib
import os
import re
import shlex
from collections.abc import Sequence

from latency.phones import adb, benchmark_output
from latency.phones.adb import CommandError, DeviceError
from latency.phones.benchmark_output import Benchmark, OpTime, clean, excerpt

# The folder that an Android shell may write to and run programs from.
FOLDER = "/data/local/tmp/pnas_tf"
MODELS = FOLDER + "/models"
# Seconds for commands that do not measure.
SHORT_S, PUSH_S = 30.0, 600.0
# The status that `dumpsys thermalservice` calls moderate. From here on, Android slows the phone down.
THROTTLING = 2

_PROPERTIES = ("ro.product.manufacturer", "ro.product.model", "ro.soc.manufacturer", "ro.soc.model",
               "ro.board.platform", "ro.build.version.release", "ro.build.version.sdk", "ro.build.id",
               "ro.product.cpu.abi")
_READ_FACTS = (f"for p in {' '.join(_PROPERTIES)}; do echo $p=$(getprop $p); done; "
               "for c in /sys/devices/system/cpu/cpu[0-9]*; do [ -f $c/cpufreq/cpuinfo_max_freq ] && "
               "echo ${c##*/}=$(cat $c/cpufreq/cpuinfo_max_freq) $(cat $c/cpufreq/scaling_governor); done; true")
_READ_STATE = "dumpsys battery; dumpsys thermalservice; true"


class BenchmarkError(Exception):
    """The tool gave no usable measurement; the message says why."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """Facts about a phone that do not change.

    Attributes:
        device: Maker and model.
        soc: Maker and model of the system on a chip.
        android: Version, API level and build.
        abi: Name of the instruction set, `arm64-v8a`.
        cores: Highest frequency in kHz and frequency governor by number of the core.
    """

    device: str
    soc: str
    android: str
    abi: str
    cores: dict[int, tuple[int, str]]

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
    """Facts from the name=value lines that `_READ_FACTS` prints on a phone."""
    values = dict(re.findall(r"^([\w.]+)=(.*?)\r?$", text, flags=re.M))
    properties = {name: clean(values.get(name, ""), 60) for name in _PROPERTIES}

    def join(*names):
        return " ".join(filter(None, (properties[name] for name in names))) or "unknown"

    cores = re.findall(r"^cpu(\d{1,3})=(\d{1,9})(?: (\w{1,40}))?\r?$", text, flags=re.M)
    return Facts(
        device=join("ro.product.manufacturer", "ro.product.model"),
        soc=join("ro.soc.manufacturer", "ro.soc.model") if properties["ro.soc.model"] else join("ro.board.platform"),
        android=f"{join('ro.build.version.release')} (API {join('ro.build.version.sdk')}, {join('ro.build.id')})",
        abi=join("ro.product.cpu.abi"),
        cores={int(core): (int(khz), governor) for core, khz, governor in cores if int(core) < 64})


def read_state(text: str) -> State:
    """State from the output of `dumpsys battery` and `dumpsys thermalservice`."""
    def number(pattern):
        match = re.search(pattern, text, flags=re.M)
        return int(match[1]) if match else None

    level, scale, tenths = (number(rf"^\s*{name}: (-?\d{{1,6}})\s*$") for name in ("level", "scale", "temperature"))
    return State(battery_percent=None if level is None else round(100 * level / (scale or 100)),
                 battery_celsius=None if tenths is None else tenths / 10,
                 thermal_status=number(r"^\s*Thermal Status: (\d)\s*$"))


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


def sha256(path: str) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Phone:
    """A phone with the benchmark on it."""

    def __init__(self, device: adb.Adb, *, delegate: str, options: Sequence[str], timeout_s: float):
        """Stores the arguments; the phone is not touched yet.

        Args:
            device: Connection to the phone.
            delegate: Delegate that has to run the whole model: `none`, `xnnpack`, `gpu` or `nnapi`.
            options: Flags of benchmark_model.
            timeout_s: Seconds that one run of benchmark_model may take.
        """
        self._device, self._delegate, self._options, self._timeout_s = device, delegate, tuple(options), timeout_s
        self._binary = self._taskset = ""
        # A hash in place of the serial number, because tables are shared.
        self.name = hashlib.sha256(device.serial.encode()).hexdigest()[:8]
        self.serial = device.serial

    def connect(self) -> None:
        """Connects the phone if necessary. If it cannot be used now, raises DeviceError, which says what to do."""
        self._device.connect()

    def facts(self) -> Facts:
        """Reads the facts from the phone."""
        return read_facts(self._device.shell(_READ_FACTS, SHORT_S).output)

    def state(self) -> State:
        """Reads the state from the phone."""
        return read_state(self._device.shell(_READ_STATE, SHORT_S).output)

    def prepare(self, binary: str | None, digest: str, mask: str) -> None:
        """Pushes the benchmark unless the phone has it, and ends a benchmark that an earlier program left running.

        Args:
            binary: Path of benchmark_model for the phone; None if the phone has it already.
            digest: SHA-256 of benchmark_model.
            mask: Hexadecimal mask of the cores to run on, or `all`.

        Raises:
            DeviceError: If the benchmark is not on the phone afterwards.
        """
        self._binary = f"{FOLDER}/benchmark_model-{digest[:16]}"
        self._taskset = "" if mask == "all" else f"taskset {mask} "
        self._end_leftover()
        self._device.shell(f"rm -rf {MODELS}; mkdir -p {MODELS}", SHORT_S)
        if not self._has(digest, os.path.getsize(binary) if binary else None):
            if not binary:
                raise DeviceError(f"{self.serial} has no {self._binary}: name the file by --benchmark_binary")
            self._device.push([binary], self._binary, PUSH_S)
            self._device.shell(f"chmod 755 {self._binary}", SHORT_S)
            if not self._has(digest, os.path.getsize(binary)):
                raise DeviceError(f"{self.serial}: {binary} is not the same after it was pushed")

    def _has(self, digest, size_bytes):
        """Whether the phone has the benchmark.

        Old phones have no sha256sum. On these, the size has to match, and the file's name contains the hash.
        """
        arrived = self._device.sizes([self._binary]).get(self._binary)
        if arrived is None or size_bytes not in (None, arrived):
            return False
        output = self._device.shell(f"sha256sum {self._binary}", SHORT_S).output
        shown = re.search(r"\b[0-9a-f]{64}\b", output)
        return shown[0] == digest if shown else size_bytes is not None

    def push(self, files: Sequence[str]) -> None:
        """Copies models to the phone and removes earlier models.

        Args:
            files: Paths on this machine.

        Raises:
            DeviceError: If the phone has no room or is lost.
        """
        self._device.shell(f"rm -f {MODELS}/*; mkdir -p {MODELS}", SHORT_S)
        self._device.push(files, MODELS + "/", PUSH_S)

    def time(self, file_name: str) -> Benchmark:
        """Times a model that was pushed, in one run of the tool.

        Args:
            file_name: Name of the pushed file.

        Raises:
            BenchmarkError: If the tool prints no time, or did not measure as requested.
            DeviceError: If the phone is lost.
        """
        return self._timing(self._run(file_name))

    def profile(self, file_name: str) -> list[OpTime]:
        """Times each operator of a model that was pushed, in one run of the tool.

        Args:
            file_name: Name of the pushed file.

        Returns:
            Operators in order of execution.

        Raises:
            BenchmarkError: If the tool prints no profile, or did not measure as requested.
            DeviceError: If the phone is lost.
        """
        output = self._run(file_name, "--enable_op_profiling=true")
        self._timing(output)  # raises unless the tool measured as requested
        try:
            return benchmark_output.op_profile(output)
        except benchmark_output.NoTimingError as error:
            raise BenchmarkError(str(error)) from None

    def _run(self, file_name, *options):
        """Runs the tool on a model and returns its output."""
        run = shlex.join([self._binary, f"--graph={MODELS}/{file_name}", *self._options, *options])
        # exec keeps the shell's process number. It is written to a file, so that the process can be ended.
        command = "sh -c " + shlex.quote(f"echo $$ > {FOLDER}/pid; exec {self._taskset}{run}")
        try:
            result = self._device.shell(command, self._timeout_s)
        except CommandError as error:
            self._end_leftover()
            raise BenchmarkError(str(error)) from None
        if result.code:
            hints = {126: " (is it for another processor?)", 127: " (is something missing on the phone?)"}
            raise BenchmarkError(f"benchmark_model ended with {result.code}{hints.get(result.code, '')}: "
                                 f"{excerpt(result.output)}")
        return result.output

    def _timing(self, output):
        try:
            benchmark = benchmark_output.parse(output)
        except benchmark_output.NoTimingError as error:
            raise BenchmarkError(str(error)) from None
        self._check(benchmark, output)
        return benchmark

    def _check(self, benchmark, output):
        """Raises BenchmarkError unless the tool measured as requested."""
        if benchmark.unknown_flags:
            unknown = clean(benchmark.unknown_flags)
            raise BenchmarkError(f"this benchmark_model does not know {unknown}: use a newer version")
        share = benchmark.delegates.get(self._delegate)
        if self._delegate == "none" and benchmark.delegates:
            raise BenchmarkError(f"asked for no delegate, got {', '.join(map(clean, benchmark.delegates))}")
        if self._delegate != "none" and share != "full":
            raise BenchmarkError(f"the delegate {self._delegate} must run the whole model, but its share is "
                                 f"{share or 'unknown'}: {excerpt(output)}")

    def _end_leftover(self):
        """Ends a benchmark that hangs or that a killed program has left running."""
        self._device.shell(f"p=$(cat {FOLDER}/pid 2>/dev/null) && grep -q benchmark_model /proc/$p/cmdline && "
                           f"kill -9 $p; rm -f {FOLDER}/pid", SHORT_S)
