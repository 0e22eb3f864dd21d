"""One phone at work: batches of models, watched by an anchor network that is timed again and again."""

import contextlib
import dataclasses
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from latency.phones.adb import DeviceError, Stopped
from latency.phones.benchmark_output import Benchmark
from latency.phones.phone import THROTTLING, BenchmarkError, Phone, State
from pnas_tf.errors import printable

# How often a model is tried that gives no number.
MODEL_TRIES = 2
# How often the anchor network is timed again at the start, until two times in a row agree.
START_TRIES = 4
# The tool counts whole microseconds: below this, a step is more than 5 % of the median, and the mean is finer.
CLEAR_MEDIAN_MS = 0.02
ANCHOR = "anchor.tflite"


@dataclasses.dataclass(frozen=True)
class Pace:
    """How patiently to measure.

    Attributes:
        rounds: passes over a batch, in an order drawn anew for each.
        pause_s: seconds before each run of the tool.
        cooldown_s: seconds before something is tried again.
        wait_s: seconds that a lost or hot phone may take to come back.
        max_celsius: of the battery, above which nothing is measured.
        max_drift: share by which the anchor network may differ from the start.
    """

    rounds: int
    pause_s: float
    cooldown_s: float
    wait_s: float
    max_celsius: float
    max_drift: float


@dataclasses.dataclass(frozen=True)
class Done:
    """A batch: rows by model, and reasons by model that gave none."""

    rows: dict[Any, dict[str, Any]]
    failed: dict[Any, str]


class Worker:
    """One phone at work."""

    def __init__(self, phone: Phone, prepare: Callable[[Phone], None], pace: Pace, stopped: threading.Event):
        """Nothing is done yet.

        Args:
            phone: to work with, prepared.
            prepare: connects a phone that was lost and makes it ready again, or raises DeviceError.
            pace: how patiently.
            stopped: when set, waiting ends by `Stopped`.
        """
        self.phone, self._prepare, self._pace, self._stopped = phone, prepare, pace, stopped

    def start(self, anchor: bytes) -> float:
        """Milliseconds of the anchor network, when two measurements have agreed.

        Raises:
            DeviceError: if the phone is lost, too hot, or not to be had at one pace.
        """
        try:
            self._check_cool()
        except DeviceError as error:
            say(f"{error}. Waiting for it.")
            self._patiently(self._check_cool)
        self._push({ANCHOR: anchor})
        times_ms = [self._anchor_ms()]
        for _ in range(START_TRIES):
            times_ms.append(self._anchor_ms())
            if abs(times_ms[-1] / times_ms[-2] - 1) <= self._pace.max_drift:
                return min(times_ms[-2:])
            self._wait(self._pace.cooldown_s)
        raise DeviceError(f"{self.phone.serial} keeps no pace: its anchor network never took the same time twice "
                          f"within {self._pace.max_drift:.0%}. Close its apps, let it cool down")

    def batch(self, models: Mapping[Any, bytes], anchor: bytes, reference_ms: float) -> Done:
        """Times models, then the anchor network, which shows whether the phone still keeps its pace.

        Args:
            models: contents of `.tflite` files by name.
            anchor: the anchor network's.
            reference_ms: what the anchor took at the start.

        Raises:
            DeviceError: if the phone is lost, full, too hot or has changed its pace: then nothing of it counts.
        """
        before = self._check_cool()
        names = {name: f"m{number:03}.tflite" for number, name in enumerate(models)}
        self._push({**{names[name]: content for name, content in models.items()}, ANCHOR: anchor})
        found, failed = self._time_all(names)
        anchor_ms = self._anchor_ms()
        self._check_pace(anchor_ms, reference_ms)
        facts = {"phone": self.phone.name, "anchor_ms": anchor_ms, **_both(before, self.phone.state())}
        return Done({name: {**_times(one), **facts} for name, one in found.items()}, failed)

    def recover(self, anchor: bytes, reference_ms: float) -> None:
        """Waits until the phone is there, cool and at its old pace.

        Raises:
            DeviceError: if that takes too long.
        """
        def back():
            self._prepare(self.phone)
            self._check_cool()
            self._push({ANCHOR: anchor})
            self._check_pace(self._anchor_ms(), reference_ms)

        self._wait(self._pace.cooldown_s)
        self._patiently(back)

    def _patiently(self, action):
        deadline = time.monotonic() + self._pace.wait_s
        while True:
            try:
                return action()
            except DeviceError as error:
                if time.monotonic() >= deadline:
                    raise DeviceError(f"{error} (for {self._pace.wait_s:g} s)") from None
            self._wait(max(self._pace.cooldown_s, 0.1))

    def _time_all(self, file_names):
        found: dict[Any, Benchmark] = {}
        failed: dict[Any, str] = {}
        rng = random.Random(0)
        for _ in range(self._pace.rounds):
            for name in rng.sample(list(file_names), len(file_names)):
                try:
                    one = self._tried(file_names[name])
                except BenchmarkError as error:
                    failed[name] = str(error)
                else:
                    found[name] = min(one, found.get(name, one), key=_typical_ms)
        return {name: one for name, one in found.items() if name not in failed}, failed

    def _tried(self, file_name):
        for last in (False,) * (MODEL_TRIES - 1) + (True,):
            self._wait(self._pace.pause_s)
            try:
                return self.phone.time(file_name)
            except BenchmarkError:
                if last:
                    raise
        raise AssertionError

    def _anchor_ms(self):
        try:
            return _typical_ms(self._tried(ANCHOR))
        except BenchmarkError as error:  # what every phone can do that works
            raise DeviceError(f"{self.phone.serial} cannot time its anchor network: {error}") from None

    def _check_pace(self, now_ms, reference_ms):
        drift = now_ms / reference_ms - 1
        if abs(drift) > self._pace.max_drift:
            raise DeviceError(f"{self.phone.serial} has changed its pace: its anchor network takes {abs(drift):.0%} "
                              f"{'longer' if drift > 0 else 'less'} than at the start")

    def _check_cool(self) -> State:
        state = self.phone.state()
        if (state.battery_celsius or 0) > self._pace.max_celsius:
            raise DeviceError(f"{self.phone.serial} is too hot: {state.battery_celsius} degrees Celsius, limit "
                              f"{self._pace.max_celsius:g} (--max_celsius)")
        if (state.thermal_status or 0) >= THROTTLING:
            raise DeviceError(f"{self.phone.serial} is too hot: thermal status {state.thermal_status}, Android slows "
                              "it down")
        return state

    def _push(self, contents):
        with files(contents) as paths:
            self.phone.push(paths)

    def _wait(self, seconds):
        if self._stopped.wait(seconds):
            raise Stopped


def _typical(found: Benchmark) -> str:
    """Which of the tool's figures is taken: the median if there is one that its whole microseconds do not blur."""
    return "median" if (found.median_ms or 0) >= CLEAR_MEDIAN_MS else "mean"


def _typical_ms(found):
    return found.median_ms if _typical(found) == "median" else found.mean_ms


def _times(found):
    return {"median_ms": _typical_ms(found), "median_from": _typical(found), "min_ms": found.min_ms,
            "mean_ms": found.mean_ms, "std_ms": found.std_ms, "runs": found.runs}


def _both(before, after):
    return {name: [getattr(before, name), getattr(after, name)] for name in (f.name for f in dataclasses.fields(State))}


@contextlib.contextmanager
def files(contents: Mapping[str, bytes]) -> Iterator[list[str]]:
    """Paths of temporary files of these names and contents."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in contents]
        for path, content in zip(paths, contents.values(), strict=True):
            with open(path, "wb") as file:
                file.write(content)
        yield paths


def say(text: str) -> None:
    """Tells the user what happened, past a progress bar."""
    from tqdm import tqdm

    tqdm.write(printable(text), file=sys.stderr)
