"""Times batches of models on one phone, and an anchor network after each batch to see whether the pace has changed."""

import contextlib
import dataclasses
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from latency.phones.adb import DeviceError, Stopped
from latency.phones.benchmark_output import Benchmark
from latency.phones.facts import State
from latency.phones.phone import THROTTLING, BenchmarkError, Phone
from latency.phones.session import InUseError
from latency.phones.settings import PhoneSettings
from pnas_tf import terminal, workspaces
from pnas_tf.errors import printable

# Number of runs without a time after which a model counts as failed.
MODEL_TRIES = 2
# Largest number of repetitions of the anchor network at the start, until two times in a row agree.
START_TRIES = 4
# The tool counts whole microseconds. Below this median, one microsecond is more than 5 %, and the mean is finer.
CLEAR_MEDIAN_MS = 0.02
ANCHOR = "anchor.tflite"


class TooHotError(DeviceError):
    """The phone has to cool down; it can be used later."""


@dataclasses.dataclass(frozen=True)
class BatchResult:
    """Results of a batch.

    Attributes:
        rows: Measurements by name of the model.
        failed: Reasons by name of the models that gave no time.
    """

    rows: dict[Any, dict[str, Any]]
    failed: dict[Any, str]


class Worker:
    """Times models on one phone."""

    def __init__(self, phone: Phone, prepare: Callable[[Phone], None], settings: PhoneSettings,
                 stopped: threading.Event):
        """Stores the arguments; the phone is not touched yet.

        Args:
            phone: Phone to work with.
            prepare: Function that connects the phone and begins a session on it, or raises DeviceError.
            settings: Rounds, pauses, waiting times and limits.
            stopped: Event that makes all waiting raise `Stopped`.
        """
        self.phone, self._prepare, self._settings, self._stopped = phone, prepare, settings, stopped
        self._anchors: list[list[float]] = []  # runs of the anchor network: seconds since the epoch, milliseconds

    def start(self, anchor: bytes) -> float:
        """Times the anchor network until two times in a row agree.

        Args:
            anchor: Bytes of the anchor network's `.tflite`.

        Returns:
            Milliseconds of the anchor network.

        Raises:
            DeviceError: If the phone is lost or never repeats a time, or is too hot or in use for too long.
        """
        def take():
            self._prepare(self.phone)
            self._check_cool()

        try:
            take()
        except (InUseError, TooHotError) as error:
            say(f"{error}. Waiting for the phone.")
            self._until_done(take)
        self._push({ANCHOR: anchor})
        times_ms = [self._anchor_ms()]
        for _ in range(START_TRIES):
            times_ms.append(self._anchor_ms())
            if abs(times_ms[-1] / times_ms[-2] - 1) <= self._settings.max_drift:
                return min(times_ms[-2:])
            self._wait(self._settings.cooldown_seconds)
        raise DeviceError(f"{self.phone.serial} keeps changing its pace: two times of its anchor network in a row never"
                          f" agreed within {self._settings.max_drift:.0%}. Close its apps and let it cool down")

    def batch(self, models: Mapping[Any, bytes], anchor: bytes, reference_ms: float) -> BatchResult:
        """Times models, then the anchor network, which shows whether the phone still keeps its pace.

        Args:
            models: Bytes of the `.tflite` files, by name of the model.
            anchor: Bytes of the anchor network's `.tflite`.
            reference_ms: Milliseconds of the anchor network at the start.

        Raises:
            DeviceError: If the phone is lost, full, too hot or has changed its pace. Then no time of the batch counts.
        """
        before = self._check_cool()
        file_names = {name: f"m{number:03}.tflite" for number, name in enumerate(models)}
        self._push({**{file_names[name]: content for name, content in models.items()}, ANCHOR: anchor})
        timed, failed = self._time_all(file_names)
        anchor_ms = self._anchor_ms()
        self._check_pace(anchor_ms, reference_ms)
        facts = {"phone": self.phone.name, "anchor_ms": anchor_ms, "anchors": self._anchors[-2:],
                 **_before_and_after(before, self.phone.state())}
        return BatchResult({name: {**_times(benchmark), "time_s": time_s, **facts}
                            for name, (benchmark, time_s) in timed.items()}, failed)

    def recover(self, anchor: bytes, reference_ms: float) -> None:
        """Waits until the phone is attached, cool and back at its first pace.

        Args:
            anchor: Bytes of the anchor network's `.tflite`.
            reference_ms: Milliseconds of the anchor network at the start.

        Raises:
            DeviceError: If that takes longer than the settings allow.
        """
        def come_back():
            self._prepare(self.phone)
            self._check_cool()
            self._push({ANCHOR: anchor})
            self._check_pace(self._anchor_ms(), reference_ms)

        self._wait(self._settings.cooldown_seconds)
        self._until_done(come_back)

    def _until_done(self, action):
        """Repeats an action that raises DeviceError, until it succeeds or the waiting time is over."""
        deadline = time.monotonic() + self._settings.wait_seconds
        while True:
            try:
                return action()
            except DeviceError as error:
                if time.monotonic() >= deadline:
                    raise DeviceError(f"{error} (for {self._settings.wait_seconds:g} s)") from None
            self._wait(max(self._settings.cooldown_seconds, 0.1))

    def _time_all(self, file_names):
        """The best benchmark of each model with its time, and the reason for each model that has none."""
        timed: dict[Any, tuple[Benchmark, float]] = {}
        failed: dict[Any, str] = {}
        rng = random.Random(0)
        for _ in range(self._settings.rounds):
            for name in rng.sample(list(file_names), len(file_names)):
                try:
                    benchmark = self._time_with_retries(file_names[name])
                except BenchmarkError as error:
                    failed[name] = str(error)
                else:
                    latest = benchmark, _now_s()
                    timed[name] = min(latest, timed.get(name, latest), key=lambda timed: _typical_ms(timed[0]))
        return {name: benchmark for name, benchmark in timed.items() if name not in failed}, failed

    def _time_with_retries(self, file_name):
        for last in (False,) * (MODEL_TRIES - 1) + (True,):
            self._wait(self._settings.pause_seconds)
            try:
                return self.phone.time(file_name)
            except BenchmarkError:
                if last:
                    raise
        raise AssertionError

    def _anchor_ms(self):
        try:
            anchor_ms = _typical_ms(self._time_with_retries(ANCHOR))
            self._anchors.append([_now_s(), anchor_ms])
            return anchor_ms
        except BenchmarkError as error:  # every phone that works can run the anchor network
            raise DeviceError(f"{self.phone.serial} cannot time its anchor network: {error}") from None

    def _check_pace(self, now_ms, reference_ms):
        drift = now_ms / reference_ms - 1
        if abs(drift) > self._settings.max_drift:
            raise DeviceError(f"{self.phone.serial} has changed its pace: its anchor network takes {abs(drift):.0%} "
                              f"{'longer' if drift > 0 else 'less'} than at the start")

    def _check_cool(self) -> State:
        state = self.phone.state()
        if (state.battery_celsius or 0) > self._settings.max_celsius:
            raise TooHotError(f"{self.phone.serial} is too hot: {state.battery_celsius} degrees Celsius, limit "
                              f"{self._settings.max_celsius:g} (--max_celsius)")
        if (state.thermal_status or 0) >= THROTTLING:
            raise TooHotError(f"{self.phone.serial} is too hot: thermal status {state.thermal_status}, Android slows "
                              "it down")
        return state

    def _push(self, contents):
        with temporary_files(contents) as paths:
            self.phone.push(paths)

    def _wait(self, seconds):
        if self._stopped.wait(seconds):
            raise Stopped


def _typical(benchmark: Benchmark) -> str:
    """The statistic that a row records: the median, unless it is missing or too coarse in whole microseconds."""
    return "median" if (benchmark.median_ms or 0) >= CLEAR_MEDIAN_MS else "mean"


def _typical_ms(benchmark):
    return benchmark.median_ms if _typical(benchmark) == "median" else benchmark.mean_ms


def _now_s():
    return round(time.time(), 3)


def _times(benchmark):
    return {"median_ms": _typical_ms(benchmark), "median_from": _typical(benchmark), "min_ms": benchmark.min_ms,
            "mean_ms": benchmark.mean_ms, "std_ms": benchmark.std_ms, "runs": benchmark.runs}


def _before_and_after(before, after):
    return {name: [getattr(before, name), getattr(after, name)] for name in (f.name for f in dataclasses.fields(State))}


@contextlib.contextmanager
def temporary_files(contents: Mapping[str, bytes]) -> Iterator[list[str]]:
    """Writes files that exist as long as the context, and returns their paths.

    Args:
        contents: Bytes by file name.
    """
    with workspaces.temporary_folder() as folder:
        yield [workspaces.write_temporary(folder, name, content) for name, content in contents.items()]


def say(text: str) -> None:
    """Tells one line of a device beside a progress bar. Characters that control a terminal are replaced."""
    terminal.aside(printable(text))
