"""Estimates models on Arm Ethos-U, the NPUs of microcontrollers, with Arm's compiler Vela; it needs no device.

Vela compiles a model for an NPU and counts the cycles of every layer, so equal models always have equal cycles. The
CPU beside the NPU has no cycles: a model of which Vela leaves a part to the CPU is refused.
"""

import csv
import dataclasses
import datetime
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from export import convert
from pnas_tf import extras, files, workspaces
from pnas_tf.cli.settings import check, setting
from pnas_tf.errors import InputError

# Families of NPUs: multiply-accumulates per cycle, and a system with flash in Vela's own configuration file.
FAMILIES = {"ethos-u55": ((32, 64, 128, 256), "Ethos_U55_High_End_Embedded"),
            "ethos-u65": ((256, 512), "Ethos_U65_Embedded"),
            "ethos-u85": ((128, 256, 512, 1024, 2048), "Ethos_U85_SYS_Flash_High")}
# Numbers of Vela's summary: hertz, cycles, and KiB of each memory.
MEMORIES = ("sram", "dram", "on_chip_flash", "off_chip_flash")
SUMMARY = ("core_clock", "cycles_total", *(f"{memory}_memory_used" for memory in MEMORIES))
INSTALL = f"Install it: {extras.install('vela')}. Or name its program in another environment: --vela_binary=PATH."


@dataclasses.dataclass(frozen=True)
class VelaSettings:
    """Every setting of the measurer of Arm Ethos-U. The text beside each field explains it."""

    accelerator: str = setting("ethos-u55-128", "NPU, and its multiply-accumulates per cycle.",
                               choices=[f"{name}-{macs}" for name, (sizes, _) in FAMILIES.items() for macs in sizes])
    vela_config: str = setting("Arm/vela.ini", "Vela's configuration file: one that Vela ships, or a path.")
    system_config: str = setting("", "System_Config in that file: clock and memories. Without it, one for the NPU.")
    memory_mode: str = setting("Shared_Sram", "Memory_Mode in that file: what is kept in which memory.")
    clock_mhz: float = setting(0.0, "Clock of the NPU in MHz; 0: that of --system_config.", low=0, high=100_000)
    arena_kib: float = setting(0.0, "SRAM in KiB that Vela tries to keep a model within, at the price of cycles; 0: "
                               "what is fastest, or what --memory_mode says.", low=0, high=1e6)
    dtype: str = setting("int8", "Number format, always int8.", choices=("int8",))
    vela_binary: str | None = setting(None, "Program vela; without it, that of this Python or on the PATH.")

    def __post_init__(self):
        check(self)


class Vela:
    """Estimates for Arm Ethos-U, the NPUs of microcontrollers, by Arm's compiler Vela."""

    Settings: ClassVar[type[Any]] = VelaSettings

    def __init__(self, settings: VelaSettings):
        """Compiles a small model; raises InputError if Vela is not installed or refuses the settings."""
        self._program = _program(settings.vela_binary)
        self._version = self._run("--version").strip()
        if not re.fullmatch(r"5(\.\w+)+", self._version):
            raise InputError(f"{self._program[-1]} is not Arm's Vela 5: its version is {self._version[:40]!r}. "
                             f"{INSTALL}")
        import keras  # slow, and of no use without Vela

        system = settings.system_config or FAMILIES[settings.accelerator.rpartition("-")[0]][1]
        self._settings = dataclasses.replace(settings, system_config=system)
        smallest = convert.randomise(keras.Sequential([keras.Input((8, 8, 8)), keras.layers.Conv2D(8, 1)]))
        summary, _ = self._compiled(smallest)
        clock_mhz = settings.clock_mhz or summary["core_clock"] / 1e6
        self._settings = dataclasses.replace(self._settings, clock_mhz=clock_mhz)

    def facts(self) -> dict[str, Any]:
        """See `measure.Measurer`."""
        settings, ini = self._settings, self._settings.vela_config
        soc = f"{settings.system_config}, {settings.memory_mode}, {settings.clock_mhz:g} MHz"
        soc += f", arena of {settings.arena_kib:g} KiB" if settings.arena_kib else ""
        soc += f", configuration {files.sha256(ini)[:16]}" if os.path.isfile(ini) else ""
        facts = {"target": f"{settings.accelerator}_{settings.clock_mhz:g}mhz_int8", "measurer": "vela",
                 "device": settings.accelerator, "soc": soc, "runtime": f"vela {self._version}", "rounds": 1,
                 "overhead_ms": 0.0, "batch_size": 1, "context": "estimated by the compiler",
                 "date": datetime.date.today().isoformat(), **dataclasses.asdict(settings)}
        del facts["vela_binary"]  # a path of this machine: the runtime says which Vela it is
        return facts

    def measure(self, builds: Mapping[Any, Callable[[], Any]], between: Callable[[], Any] | None = None,
                visited: Callable[[], object] = lambda: None) -> Iterator[tuple[Any, dict[str, Any]]]:
        """See `measure.Measurer`; `between` is ignored: an estimate does not depend on what ran before."""
        refused = []
        for name, build in builds.items():
            summary, on_cpu = self._compiled(build())
            visited()
            if on_cpu:
                refused.append(f"{name} ({', '.join(on_cpu)})")
                continue
            ms = summary["cycles_total"] / (self._settings.clock_mhz * 1e3)
            sram, dram, *flash = (round(1024 * summary[f"{memory}_memory_used"]) for memory in MEMORIES)
            yield name, {"median_ms": ms, "min_ms": ms, "mean_ms": ms, "std_ms": 0.0, "runs": 1, "sram_bytes": sram,
                         "dram_bytes": dram, "flash_bytes": sum(flash), "cycles": int(summary["cycles_total"])}
        if refused:
            raise InputError(f"{len(refused)} of {len(builds)} models have no estimate, because Vela leaves operators "
                             f"to the CPU, whose cycles it does not count: {'; '.join(refused)}. Leave these ops out "
                             "of the space, or build them from operators that the NPU has.")

    def _compiled(self, model: Any) -> tuple[dict[str, float], list[str]]:
        """Vela's summary of a model (`SUMMARY`), and the operators that it leaves to the CPU."""
        settings, ini = self._settings, self._settings.vela_config
        options = [f"--arena-cache-size={round(1024 * settings.arena_kib)}"] if settings.arena_kib else []
        with workspaces.temporary_folder() as folder:
            path = workspaces.write_temporary(folder, "model.tflite", convert.to_time(model, "int8"))
            self._run(f"--accelerator-config={settings.accelerator}", f"--system-config={settings.system_config}",
                      f"--memory-mode={settings.memory_mode}", "--verbose-performance", *options,
                      f"--config={os.path.abspath(ini) if os.path.isfile(ini) else ini}",
                      f"--output-dir={folder}", path)
            try:
                (summary,), layers = (_rows(folder, part) for part in ("summary_*", "per-layer"))
                on_cpu = [layer["Original Operator"] for layer in layers if layer["Target"] != "NPU"]
                return {name: float(summary[name]) for name in SUMMARY}, on_cpu
            except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
                raise InputError(f"{self._program[-1]} did not write the summary that Vela 5.2 writes "
                                 f"({type(error).__name__}: {error}). {INSTALL}") from None

    def _run(self, *arguments: str) -> str:
        """Runs Vela and returns its output."""
        try:
            done = subprocess.run([*self._program, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                                  text=True, errors="replace", timeout=600)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(f"{self._program[-1]} cannot be run as Vela: {error}. {INSTALL}") from None
        if done.returncode:
            *_, last = ["it said nothing", *(done.stderr or done.stdout).strip().splitlines()]
            raise InputError(f"Vela failed with exit code {done.returncode}: {last.rpartition('Error: ')[2][:400]}")
        return done.stdout


def _program(path: str | None) -> list[str]:
    """The beginning of a command that runs Vela."""
    if not path and importlib.util.find_spec("ethosu"):
        return [sys.executable, "-P", "-m", "ethosu.vela"]
    if found := shutil.which(path or "vela"):
        return [found]
    raise InputError(f"Arm's compiler Vela is not {f'at {path}' if path else 'installed'}. {INSTALL}")


def _rows(folder: str, part: str) -> list[dict[str, str]]:
    """The rows of a CSV file that Vela has written about model.tflite."""
    (path,) = pathlib.Path(folder).glob(f"model_{part}.csv")
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
