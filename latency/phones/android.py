"""Times models on Android phones, by TFLite's own `benchmark_model` through adb."""

import datetime
import functools
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from export import convert
from latency.phones import adb as adb_lib
from latency.phones import queue as phone_queue
from latency.phones import worker as phone_worker
from latency.phones.benchmark_output import Benchmark, OpTime
from latency.phones.phone import BenchmarkError, Facts, Phone, cpu_mask, sha256
from pnas_tf.errors import InputError
from pnas_tf.space.blocks import OpKey

# benchmark_model's flags by delegate. A delegate that takes only a part of a model is an error, not a number.
DELEGATES = {
    "none": ("--use_xnnpack=false",),
    "xnnpack": ("--use_xnnpack=true", "--require_full_delegation=true"),
    "gpu": ("--use_xnnpack=false", "--use_gpu=true", "--require_full_delegation=true"),
    "nnapi": ("--use_xnnpack=false", "--use_nnapi=true", "--require_full_delegation=true"),
}

BINARIES = ("https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/release/lite/tools/nightly/latest/"
            "android_aarch64_benchmark_model (android_arm_benchmark_model for 32-bit phones), or build it from "
            "https://github.com/google-ai-edge/LiteRT: bazel build -c opt --config=android_arm64 "
            "//tflite/tools/benchmark:benchmark_model")

# A model that every phone can run, to see that the tool works before a table is begun.
SMALLEST = OpKey("conv_k1", (1, 1, 8), 8, 1, False)
MAX_BINARY_BYTES = 500_000_000


class Android:
    """TFLite's benchmark_model on phones of one kind, side by side."""

    def __init__(self, *, benchmark_binary: str | None = None, serial: Sequence[str] | None = None,
                 adb: str | None = None, binary_sha256: str = "", threads: int = 1, delegate: str = "xnnpack",
                 dtype: str = "float32", cpu_mask: str = "auto", rounds: int = 1, runs: int = 50,
                 min_seconds: float = 1.0, warmup_runs: int = 1, warmup_seconds: float = 0.5,
                 run_delay_seconds: float = 0.0, pause_seconds: float = 0.0, cooldown_seconds: float = 10.0,
                 wait_seconds: float = 600.0, timeout_seconds: float = 150.0, max_celsius: float = 40.0,
                 max_drift: float = 0.05):
        """Sets how to time; touches no phone.

        Args:
            benchmark_binary: path of benchmark_model for Android.
            serial: of the phones to use; default: the environment's ANDROID_SERIAL, else all that are attached.
            adb: path of adb; default: that of the PATH.
            binary_sha256: of a benchmark_model that is on the phones already, in place of `benchmark_binary`.
            threads: CPU threads.
            delegate: of `DELEGATES`.
            dtype: of `convert.MODES`; float16 allows a GPU to compute in float16.
            cpu_mask: cores to run on: hexadecimal, as taskset takes it; `all`; or `auto`, the fastest ones.
            rounds: passes over a batch of models; the best counts.
            runs: least number of timed runs, with `min_seconds`.
            min_seconds: least time of them; both have to be reached.
            warmup_runs: least number of runs before, with `warmup_seconds`.
            warmup_seconds: least time of them.
            run_delay_seconds: pause between two runs of a model.
            pause_seconds: pause between two models.
            cooldown_seconds: pause before something is tried again.
            wait_seconds: how long to wait for a phone that was lost or is too hot.
            timeout_seconds: how long a model may take.
            max_celsius: temperature of the battery above which nothing is measured.
            max_drift: share by which a phone's anchor network may change before its last batch is measured again.

        Raises:
            InputError: if it cannot be done so.
        """
        if delegate not in DELEGATES or dtype not in convert.MODES:
            raise InputError(f"Expected a delegate of {', '.join(DELEGATES)} and a dtype of "
                             f"{', '.join(convert.MODES)}, got {str(delegate)[:40]!r} and {str(dtype)[:40]!r}.")
        if not re.fullmatch(r"auto|all|[0-9a-f]{1,16}", cpu_mask):
            raise InputError(f"cpu_mask must be auto, all, or hexadecimal like f0, got {str(cpu_mask)[:40]!r}.")
        self._binary, self._digest = _binary(benchmark_binary, binary_sha256)
        self._serials, self._adb_path = list(serial or []), adb
        self._delegate, self._dtype, self._mask, self._threads = delegate, dtype, cpu_mask, threads
        self._settings = {
            "rounds": rounds, "runs": runs, "min_seconds": min_seconds, "warmup_runs": warmup_runs,
            "warmup_seconds": warmup_seconds, "run_delay_seconds": run_delay_seconds, "pause_seconds": pause_seconds,
            "cooldown_seconds": cooldown_seconds, "wait_seconds": wait_seconds, "timeout_seconds": timeout_seconds,
            "max_celsius": max_celsius, "max_drift": max_drift}
        self._pace = phone_worker.Pace(rounds=rounds, pause_s=pause_seconds, cooldown_s=cooldown_seconds,
                                      wait_s=wait_seconds, max_celsius=max_celsius, max_drift=max_drift)
        self._stopped = threading.Event()

    def facts(self) -> dict[str, Any]:
        """See `measure.Measurer`. Battery and heat are those of the first phone before anything is measured."""
        phones, kind, mask, version = self._ready
        state = phones[0].state()
        model = re.sub(r"[^a-z0-9]", "", kind.device.lower().split(" ", 1)[-1]) or "android"
        builtin = "builtin" if self._delegate == "none" else self._delegate
        return {"target": f"{model}_{builtin}{self._threads}_{self._dtype}", "measurer": "android",
                "device": kind.device, "soc": kind.soc, "android": kind.android, "abi": kind.abi,
                "cores": kind.clusters(), "cpu_mask": mask, "governor": _governor(kind, mask),
                "runtime": f"benchmark_model, TensorFlow Lite {version}" if version else
                           "benchmark_model, version not printed",
                "binary_sha256": self._digest, "delegate": self._delegate, "threads": self._threads,
                "dtype": self._dtype, "batch_size": 1, **self._settings,
                "statistic": "median_ms is the tool's median, or its mean where a row says median_from: mean; of "
                             "several rounds the best",
                "context": "each run follows one of the same op", "battery_percent": state.battery_percent,
                "battery_celsius": state.battery_celsius, "thermal_status": state.thermal_status,
                "date": datetime.date.today().isoformat()}

    def measure(self, builds: Mapping[Any, Callable[[], Any]], between: Callable[[], Any] | None = None
                ) -> Iterator[tuple[Any, dict[str, Any]]]:
        """See `measure.Measurer`; `between` serves as the anchor network, which tells whether a phone keeps its pace
        (default: the first model)."""
        if not builds:
            return
        phones, *_ = self._ready
        anchor = self._converted(between or next(iter(builds.values())))
        workers = [phone_worker.Worker(phone, self._again, self._pace, self._stopped) for phone in phones]
        models = {name: functools.partial(self._converted, build) for name, build in builds.items()}
        try:
            yield from phone_queue.measure(workers, models, anchor, self._stopped, self._pace.max_drift)
        finally:
            self._stopped.clear()

    def profile(self, content: bytes) -> tuple[Benchmark, list[OpTime]]:
        """Times a `.tflite` as a whole, and then each of its operators, on the first phone.

        Raises:
            InputError: if that cannot be done.
        """
        phones, *_ = self._ready
        try:
            with phone_worker.files({"profiled.tflite": content}) as paths:
                phones[0].push(paths)
            return phones[0].time("profiled.tflite"), phones[0].profile("profiled.tflite")
        except (BenchmarkError, adb_lib.DeviceError) as error:
            raise InputError(f"{phones[0].serial}: {error}.") from None

    @functools.cached_property
    def _ready(self) -> tuple[list[Phone], Facts, str, str | None]:
        """Phones with the benchmark on them, what they are, the cores to use, and the runtime's version."""
        found = self._attached()
        kinds = {_kind(facts) for facts in found.values()}
        if len(kinds) > 1:
            listed = ", ".join(f"{phone.serial} ({facts.device}, {facts.android})" for phone, facts in found.items())
            raise InputError("Different phones are attached, and a table is of one kind: choose by --serial=S, or the "
                             f"environment's ANDROID_SERIAL. Attached: {listed}.")
        kind = next(iter(found.values()))
        frequencies = {core: khz for core, (khz, _) in kind.cores.items()}
        mask = cpu_mask(frequencies, self._threads) if self._mask == "auto" else self._mask
        phones, problems, version = [], [], None
        model = self._converted(self._smallest)
        for phone in found:
            try:
                phone.prepare(self._binary, self._digest, mask)
                version = self._tried(phone, model)
                phones.append(phone)
            except adb_lib.DeviceError as error:
                problems.append(str(error))
        if not phones:
            raise InputError(f"No phone can be used: {'; '.join(problems)}.")
        for problem in problems:
            phone_worker.say(f"{problem}. The work goes on without it.")
        return phones, kind, mask, version

    def _attached(self) -> dict[Phone, Facts]:
        path = adb_lib.find(self._adb_path)
        named = self._serials or [name for name in os.environ.get("ANDROID_SERIAL", "").split(",") if name]
        serials = list(dict.fromkeys(named or adb_lib.devices(path)))
        found, problems = {}, []
        for serial in serials:
            phone = Phone(adb_lib.Adb(path, serial, self._stopped), delegate=self._delegate, options=self._options(),
                          timeout_s=self._settings["timeout_seconds"])
            try:
                phone.connect()
                found[phone] = phone.facts()
            except adb_lib.DeviceError as error:
                problems.append(str(error))
        if problems and (named or not found):
            raise InputError(f"{'; '.join(problems)}.")
        if not found:
            raise InputError(f"No phone is attached: {adb_lib.WAY_OUT['not attached']}.")
        for problem in problems:
            phone_worker.say(f"{problem}. The work goes on without it.")
        return found

    def _tried(self, phone, model):
        """The runtime's version; shows that the tool runs there and does what is asked for."""
        with phone_worker.files({"smallest.tflite": model}) as paths:
            phone.push(paths)
        try:
            return phone.time("smallest.tflite").version
        except BenchmarkError as error:
            raise adb_lib.DeviceError(f"{phone.serial}: {error}") from None

    def _again(self, phone: Phone) -> None:
        """Makes a phone ready that was lost."""
        _, kind, mask, _ = self._ready
        phone.connect()
        facts = phone.facts()
        if _kind(facts) != _kind(kind):
            raise adb_lib.DeviceError(f"{phone.serial} is another phone now: {facts.device}, {facts.android}")
        phone.prepare(self._binary, self._digest, mask)

    def _options(self):
        s = self._settings
        # The tool stops early, with fewer runs, before the time is over that a model may take.
        longest = max(1.0, s["timeout_seconds"] / 3)
        options = [f"--num_threads={self._threads}", f"--num_runs={s['runs']}", f"--min_secs={s['min_seconds']:g}",
                   f"--max_secs={longest:g}", f"--warmup_runs={s['warmup_runs']}",
                   f"--warmup_min_secs={s['warmup_seconds']:g}", *DELEGATES[self._delegate]]
        if s["run_delay_seconds"]:
            options.append(f"--run_delay={s['run_delay_seconds']:g}")
        if self._delegate == "gpu":
            options.append(f"--gpu_precision_loss_allowed={'true' if self._dtype == 'float16' else 'false'}")
        return options

    def _converted(self, build):
        return convert.to_time(build(), self._dtype)

    @staticmethod
    def _smallest():
        from pnas_tf import network

        return network.build_op(SMALLEST)


def _binary(path: str | None, digest: str) -> tuple[str | None, str]:
    """The binary here, if there is one, and its hash."""
    if path:
        if not os.path.isfile(path) or not 0 < os.path.getsize(path) <= MAX_BINARY_BYTES:
            raise InputError(f"No benchmark_model at {path}. It is published at {BINARIES}.")
        return path, sha256(path)
    if not digest:
        raise InputError("Name TensorFlow Lite's benchmark_model for Android: --benchmark_binary=PATH. It is "
                         f"published at {BINARIES}.")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise InputError(f"binary_sha256 must be 64 hexadecimal digits, got {digest[:80]!r}.")
    return None, digest


def _kind(facts: Facts) -> tuple:
    """What phones have in common that share a table."""
    return (facts.device, facts.soc, facts.android, facts.abi, *sorted(facts.cores.items()))


def _governor(facts: Facts, mask: str) -> str | None:
    """Of the cores that are used."""
    used = [governor for core, (_, governor) in sorted(facts.cores.items())
            if governor and (mask == "all" or int(mask, 16) >> core & 1)]
    return ", ".join(dict.fromkeys(used)) or None
