"""Runs a command of the project, and notes what its main thread does many times a second.

    python -m benchmarks.speed.sampled PARTS.json pnas_tf.search --flagfile=quickstart.flags --run_dir=D

A thread looks at the stack of the main thread, so the code that is measured knows nothing of it. The wall and CPU
seconds since the last look, those of all threads, count for the part of the work that the stack belongs to. What runs
beside the main thread, such as the input pipeline, counts for what the main thread does meanwhile.
"""

import collections
import json
import os
import runpy
import sys
import threading
import time
from types import FrameType

# Seconds between two looks.
PERIOD = 0.01

IMPORTS, TRACING, REST = "imports", "tracing and first runs", "the rest"
# Name of a part; ending of a file; function of the file, or None for all. The first entry with a frame in the stack
# counts. Tracing comes after the parts that consist of it.
PARTS = (
    (IMPORTS, "importlib._bootstrap>", None),
    ("conversion", "export/convert.py", None),
    (TRACING, "framework/func_graph.py", "func_graph_from_py_func"),
    ("waiting for images", "data/ops/iterator_ops.py", "__next__"),
    ("timing", "export/timed_runs.py", "visit"),
    ("checking files", "export/tflite.py", "_checked"),
    ("checkpoints", "search/checkpoints.py", None),
    ("checkpoints", "train/state.py", None),
    ("scoring finalists", "derive/deliver.py", "deliver"),
    ("architecture steps", "search/arch_updaters.py", None),
    ("weight steps", "search/searcher.py", "train_step"),
    ("end of epochs", "search/log.py", "on_epoch_end"),
    ("training steps", "train/fit.py", "_train"),
    ("test images", "train/mistakes.py", None),
    ("making models", "search/build.py", None),
    ("making models", "latency/measure.py", None),
    ("report", "report/command.py", None),
    ("reading data", "data/loading.py", "load"),
)
_COMPILED = ("polymorphic_function/polymorphic_function.py", "__call__")


class Sampler:
    """Looks at the main thread from a thread of its own.

    Attributes:
        seconds: Wall and CPU seconds so far of each part.
    """

    def __init__(self) -> None:
        """Starts."""
        self.seconds: dict[str, list[float]] = collections.defaultdict(lambda: [0.0, 0.0])
        # Compiled functions that are in their first call. The frames themselves: their addresses are used again.
        self._calls: set[FrameType] = set()
        self._main, self._end = threading.main_thread().ident, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        last = [0.0, 0.0]  # a process is as old as its CPU seconds, at least: Python's own start counts
        last[0] = time.monotonic() - _age()
        while not self._end.wait(PERIOD):
            frame = sys._current_frames().get(self._main or 0)
            now = [time.monotonic(), time.process_time()]
            spent = self.seconds[self.part(frame)]
            for which in range(2):
                spent[which] += now[which] - last[which]
            last = now

    def part(self, frame: FrameType | None) -> str:
        """The part of the work that a stack belongs to, from its innermost frame."""
        seen: set[str] = set()
        calls: list[FrameType] = []
        while frame is not None:
            code = frame.f_code
            name = code.co_filename.replace(os.sep, "/")
            seen |= {part for part, file, function in PARTS
                     if name.endswith(file) and function in (None, code.co_name)}
            if name.endswith(_COMPILED[0]) and code.co_name == _COMPILED[1]:
                calls.append(frame)
            frame = frame.f_back
        if TRACING in seen and calls:
            self._calls.add(calls[-1])
        self._calls.intersection_update(calls)  # the others have returned
        if self._calls:  # the first run of a function also prepares its graph
            seen.add(TRACING)
        return next((part for part, _, _ in PARTS if part in seen), REST)


def _age() -> float:
    """Seconds since this process started; 0 where the system does not say."""
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError, ValueError):
        return 0.0


def main() -> None:
    """Entry point."""
    _, output, module, *arguments = sys.argv
    sys.argv = [module, *arguments]
    sampler = Sampler()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        sampler.stop()
        with open(output, "w", encoding="utf-8") as file:
            json.dump(sampler.seconds, file, indent=1)


if __name__ == "__main__":
    main()
