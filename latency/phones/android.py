"""Times models on Android phones with TFLite's own `benchmark_model`, through adb."""

import datetime
import functools
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from latency.conversions import Conversions
from latency.phones import adb, queue, worker
from latency.phones.benchmark_output import Benchmark, OpTime
from latency.phones.facts import Facts, cpu_mask
from latency.phones.phone import BenchmarkError, Phone
from latency.phones.settings import PACE, PhoneSettings
from latency.phones.tools import BINARIES, LITERT_BINARIES
from pnas_tf.errors import InputError
from pnas_tf.files import sha256
from pnas_tf.space.blocks import OpKey

# A model that every phone can run. It shows that the tool works before the first measurement of a table.
SMALLEST = OpKey("conv_k1", (1, 1, 8), 8, 1, False)
MAX_BINARY_BYTES = 500_000_000


class Android:
    """TFLite's benchmark_model on Android phones of one kind, side by side."""

    Settings: ClassVar[type[Any]] = PhoneSettings

    def __init__(self, settings: PhoneSettings):
        """Checks the settings; touches no phone.

        Args:
            settings: Settings of the measurements, and the phones to use.

        Raises:
            InputError: If there is no such benchmark_model, or this machine runs Windows.
        """
        if os.name == "nt":  # it cannot wait for the output of several programs at once
            raise InputError("Phones are timed from Linux and macOS; on Windows, run this command in WSL.")
        self._settings = settings
        self._binary, self._digest = _binary(settings.benchmark_binary, settings.binary_sha256)
        self._stopped = threading.Event()
        self._convert = Conversions(settings.dtype)

    def facts(self) -> dict[str, Any]:
        """See `measure.Measurer`. Battery and heat are those of the first phone before anything is measured."""
        settings = self._settings
        phones, kind, mask, version = self._ready
        state = phones[0].state()
        model = re.sub(r"[^a-z0-9]", "", kind.device.lower().split(" ", 1)[-1]) or "android"
        builtin = "builtin" if settings.delegate == "none" else settings.delegate
        return {"target": f"{model}_{builtin}{settings.threads}_{settings.dtype}", "measurer": "android",
                "device": kind.device, "soc": kind.soc, "android": kind.android, "abi": kind.abi,
                "cores": kind.clusters(), "cpu_mask": mask, "governor": _governor(kind, mask),
                "runtime": ", ".join(["benchmark_model", *(["LiteRT's"] if phones[0].is_litert else []),
                                      f"TensorFlow Lite {version}" if version else "version not printed"]),
                "library_path": settings.library_path,
                "binary_sha256": self._digest, "delegate": settings.delegate, "threads": settings.threads,
                "dtype": settings.dtype, "batch_size": 1, **{name: getattr(settings, name) for name in PACE},
                "statistic": "median_ms is the tool's median, or its mean where a row says median_from: mean; of "
                             "several rounds the best",
                "context": "each run follows one of the same op", "needs": "--benchmark_binary=PATH",
                "anchor": "a network of the space, timed before and after each batch of models",
                "battery_percent": state.battery_percent, "battery_celsius": state.battery_celsius,
                "thermal_status": state.thermal_status,
                "date": datetime.date.today().isoformat()}

    def measure(self, builds: Mapping[Any, Callable[[], Any]], between: Callable[[], Any] | None = None,
                visited: Callable[[], object] = lambda: None) -> Iterator[tuple[Any, dict[str, Any]]]:
        """See `measure.Measurer`.

        `between` serves as the anchor network, whose time shows whether a phone still runs at the same speed. Without
        it, the first model is the anchor.
        """
        if not builds:
            return
        phones, *_ = self._ready
        anchor = self._converted(between or next(iter(builds.values())))
        workers = [worker.Worker(phone, self._begin, self._settings, self._stopped) for phone in phones]
        models = {name: functools.partial(self._converted, build) for name, build in builds.items()}
        try:
            for named_row in queue.measure(workers, models, anchor, self._stopped, self._settings.max_drift):
                for _ in range(self._settings.rounds):
                    visited()
                yield named_row
        finally:
            self._stopped.clear()
            for phone in phones:
                phone.end()

    def profile(self, content: bytes) -> tuple[Benchmark, list[OpTime]]:
        """Times a `.tflite` as a whole, and then each of its operators, on the first phone.

        Args:
            content: Bytes of the `.tflite`.

        Raises:
            InputError: If the phone cannot time it.
        """
        phones, *_ = self._ready
        try:
            self._begin(phones[0])
            with worker.temporary_files({"profiled.tflite": content}) as paths:
                phones[0].push(paths)
            return phones[0].time("profiled.tflite"), phones[0].profile("profiled.tflite")
        except (BenchmarkError, adb.DeviceError) as error:
            raise InputError(f"{phones[0].serial}: {error}.") from None
        finally:
            phones[0].end()

    @functools.cached_property
    def _ready(self) -> tuple[list[Phone], Facts, str, str | None]:
        """Phones that can time models, their common facts, the mask of the cores, and the runtime's version."""
        attached = self._attached()
        if len({_kind(facts) for facts in attached.values()}) > 1:
            listed = ", ".join(f"{phone.serial} ({facts.device}, {facts.android})" for phone, facts in attached.items())
            raise InputError("Different phones are attached, and a table is for one kind: choose by --serial=S or the "
                             f"environment variable ANDROID_SERIAL. Attached: {listed}.")
        kind = next(iter(attached.values()))
        frequencies = {core: khz for core, (khz, _) in kind.cores.items()}
        mask = self._settings.cpu_mask
        mask = cpu_mask(frequencies, self._settings.threads) if mask == "auto" else mask
        phones, problems, version = [], [], None
        model = self._converted(self._smallest)
        for phone in attached:
            try:
                phone.begin(self._binary, self._digest, mask)
                version = self._runtime_version(phone, model)
                phones.append(phone)
            except adb.DeviceError as error:
                problems.append(str(error))
            finally:
                phone.end()
        if not phones:
            raise InputError(f"No phone can be used: {'; '.join(problems)}.")
        for problem in problems:
            worker.say(f"{problem}. The measurement continues without this phone.")
        return phones, kind, mask, version

    def _attached(self) -> dict[Phone, Facts]:
        """The phones that can be reached, with their facts. A phone that adb lists twice is used once.

        Raises:
            InputError: If there is no phone, or a phone that was named cannot be reached.
        """
        path = adb.find(self._settings.adb)
        named = list(self._settings.serial) or [
            name for name in os.environ.get("ANDROID_SERIAL", "").split(",") if name]
        attached, problems = {}, []
        for serial in dict.fromkeys(named or adb.devices(path)):
            phone = Phone(adb.Adb(path, serial, self._stopped), self._settings)
            try:
                phone.connect()
                attached[phone] = phone.facts()
            except adb.DeviceError as error:
                problems.append(str(error))
        if problems and (named or not attached):
            raise InputError(f"{'; '.join(problems)}.")
        if not attached:
            raise InputError(f"No phone is attached: {adb.WAY_OUT['not attached']}.")
        for problem in problems:
            worker.say(f"{problem}. The measurement continues without this phone.")
        return _each_once(attached)

    def _runtime_version(self, phone: Phone, model: bytes) -> str | None:
        """Version of the tool's runtime, from a first run, which also shows that the tool works with these settings."""
        with worker.temporary_files({"smallest.tflite": model}) as paths:
            phone.push(paths)
        try:
            return phone.time("smallest.tflite").version
        except BenchmarkError as error:
            raise adb.DeviceError(f"{phone.serial}: {error}") from None

    def _begin(self, phone: Phone) -> None:
        """Connects a phone if it was lost, and begins a session on it."""
        _, kind, mask, _ = self._ready
        phone.connect()
        facts = phone.facts()
        if _kind(facts) != _kind(kind):
            raise adb.DeviceError(f"{phone.serial} is another phone now: {facts.device}, {facts.android}")
        phone.begin(self._binary, self._digest, mask)

    def _converted(self, build):
        return self._convert(build)

    @staticmethod
    def _smallest():
        from pnas_tf import network

        return network.build_op(SMALLEST)


def _binary(path: str | None, digest: str) -> tuple[str | None, str]:
    """The path of benchmark_model, None if it is on the phones already, and its SHA-256."""
    if path:
        if not os.path.isfile(path) or not 0 < os.path.getsize(path) <= MAX_BINARY_BYTES:
            raise InputError(f"No benchmark_model at {path}. It is published at {BINARIES}, LiteRT's at "
                         f"{LITERT_BINARIES}.")
        return path, sha256(path)
    if not digest:
        raise InputError("Name TensorFlow Lite's benchmark_model for Android: --benchmark_binary=PATH. It is "
                         f"published at {BINARIES}, LiteRT's at {LITERT_BINARIES}.")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise InputError(f"binary_sha256 must be 64 hexadecimal digits, got {digest[:80]!r}.")
    return None, digest


def _each_once(attached: Mapping[Phone, Facts]) -> dict[Phone, Facts]:
    """The phones without those that adb lists again, by USB and by Wi-Fi or by two addresses; USB is kept."""
    first: dict[Any, Phone] = {}
    for phone in sorted(attached, key=lambda phone: ":" in phone.serial or phone.serial.endswith("._tcp")):
        kept = first.setdefault(attached[phone].identity or phone, phone)
        if kept is not phone:
            worker.say(f"{kept.serial} and {phone.serial} are one phone, which is used as {kept.serial}.")
    return {phone: facts for phone, facts in attached.items() if phone in first.values()}


def _kind(facts: Facts) -> tuple:
    """The facts that must be equal for phones to share a table."""
    return (facts.device, facts.soc, facts.android, facts.abi, *sorted(facts.cores.items()))


def _governor(facts: Facts, mask: str) -> str | None:
    """Frequency governors of the cores in the mask, with commas between; None if the phone reports none."""
    used = [governor for core, (_, governor) in sorted(facts.cores.items())
            if governor and (mask == "all" or int(mask, 16) >> core & 1)]
    return ", ".join(dict.fromkeys(used)) or None
