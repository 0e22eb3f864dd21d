"""Times `.tflite` models one visit at a time; `serve` does so for another process, which `export.apart` starts.

No module that this module imports may load TensorFlow or absl: tflite_runtime fails beside TensorFlow, and the boards
that times come from have neither.
"""

import json
import os
import platform
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from export import interpreter, litert, machine_state, timing
from pnas_tf import workspaces
from pnas_tf.errors import InputError

# Function that times the model at a path and returns the milliseconds of each run.
Visit = Callable[[str], list[float]]
# Address that only one process of a Linux machine can hold. The kernel frees it when that process ends, however it
# ends.
ALONE = "\0pnas_tf times models"


def here(*, runtime: str, threads: int, delegate: str, runs: int, between: str | None = None,
         warmup_seconds: float = 0.0) -> Visit:
    """Makes visits in this process.

    Every visit loads its model again, because the addresses of a model in memory change its time, too.

    Args:
        runtime: One of `interpreter.RUNTIMES`.
        threads: CPU threads.
        delegate: One of `interpreter.DELEGATES`.
        runs: Timed runs per visit.
        between: Path of a model to run before each timed run. The input of the timed model is then written again, so
            that the caches hold it, as they would if the previous op of a network had just computed it.
        warmup_seconds: Smallest total time of the untimed runs of a visit.

    Returns:
        A function that takes the path of a model and returns its times. It raises InputError if the model cannot be
        run in this way.
    """
    def load(path):
        model = interpreter.make_interpreter(path, threads=threads, delegate=delegate, runtime=runtime)
        return interpreter.subject(model)

    run_another = load(between)[0] if between else None

    def visit(path):
        invoke, feed = load(path)

        def before():
            run_another()
            feed()

        return timing.timed_ms(invoke, runs, before if run_another else None, warmup_seconds)

    return visit


def serve(mark: str, idle_s: int) -> None:
    """Answers requests until stdin ends. Models are kept in a folder that is removed at the end.

    A request is a line of JSON: the name of a method of `_Server` and its arguments. An answer is a line of JSON after
    the mark: what the method returns, or {"error": why it could not}. The facts of the machine are the first answer.

    Args:
        mark: Text that no other line begins with, so that what libraries and login shells print is never an answer.
        idle_s: Seconds without a request after which this process ends, because the connection must have been lost;
            0 for no limit.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)

    def answer(value):
        answers.write(f"\n{mark}{json.dumps(value)}\n")
        answers.flush()

    with workspaces.workspace(tempfile.gettempdir()) as folder:
        os.chdir(folder)
        server = _Server()
        requests: dict[str, Callable[..., Any]] = {
            "alone": server.alone, "begin": server.begin, "put": server.put, "drop": os.unlink, "visit": server.visit,
            "state": machine_state.read}
        answer({**timing.machine_facts(), "abi": f"{platform.machine()}, {struct.calcsize('P') * 8} bit",
                "core_khz": machine_state.core_khz(), **machine_state.read()})
        while True:
            signal.alarm(idle_s)
            line = sys.stdin.buffer.readline()
            signal.alarm(0)
            if not line:
                return
            name, *arguments = json.loads(line)
            try:
                result = requests[name](*arguments)
            except (InputError, ImportError, OSError) as error:
                result = {"error": str(error)}
            answer(result)


class _Server:
    """The requests of `serve` that need a state."""

    def __init__(self) -> None:
        self._visit: Visit | None = None
        self._alone: socket.socket | None = None

    def alone(self) -> bool:
        """Takes the right to time models on this machine; returns False if another process has it."""
        self._alone = socket.socket(socket.AF_UNIX)
        try:
            self._alone.bind(ALONE)
        except OSError:
            return False
        return True

    def begin(self, settings: dict[str, Any], cpu_mask: str) -> str:
        """Chooses how models are timed: arguments of `here`, and hexadecimal cores or `all`; returns the runtime."""
        if cpu_mask != "all":
            os.sched_setaffinity(0, {core for core in range(64) if int(cpu_mask, 16) >> core & 1})
        runtime = interpreter.installed_runtime(settings["runtime"])
        litert.interpreter(runtime)
        self._visit = here(**{**settings, "runtime": runtime})
        return interpreter.runtime_name(runtime)

    def put(self, name: str, size: int) -> None:
        """Keeps a model, whose bytes follow the request."""
        content = sys.stdin.buffer.read(size)
        with open(name, "wb") as file:
            file.write(content)

    def visit(self, path: str) -> list[float]:
        """Times a model."""
        assert self._visit
        return self._visit(path)
