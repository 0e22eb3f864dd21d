"""Times `.tflite` models one visit at a time, in this process or in a process without TensorFlow.

tflite_runtime fails in a process that has loaded TensorFlow, so `apart` starts `python -m export.timed_runs`. Each
message is a line of JSON: stdin receives the arguments of `here` and then the path of a model for each visit; stdout
answers each path with the milliseconds of its runs. No module that this module imports may load TensorFlow or absl.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from export import interpreter, timing
from pnas_tf.errors import InputError

# Function that times the model at a path and returns the milliseconds of each run.
Visit = Callable[[str], list[float]]


def here(*, runtime: str, threads: int, delegate: str, runs: int, between: str | None = None) -> Visit:
    """Makes visits in this process.

    Every visit loads its model again, because the addresses of a model in memory change its time, too.

    Args:
        runtime: One of `interpreter.RUNTIMES`.
        threads: CPU threads.
        delegate: One of `interpreter.DELEGATES`.
        runs: Timed runs per visit.
        between: Path of a model to run before each timed run. The input of the timed model is then written again, so
            that the caches hold it, as they would if the previous op of a network had just computed it.

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

        return timing.timed_ms(invoke, runs, before if run_another else None)

    return visit


@contextlib.contextmanager
def apart(**settings: Any) -> Iterator[Visit]:
    """Makes visits as `here` does, in a process that never imports TensorFlow and ends with the context.

    Args:
        **settings: Arguments of `here`.
    """
    child = subprocess.Popen([sys.executable, "-m", "export.timed_runs"], stdin=subprocess.PIPE, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})

    def send(value):
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps(value) + "\n")
            child.stdin.flush()

    def visit(path):
        send(path)
        answer = child.stdout.readline()
        if not answer:
            message = " ".join(child.stderr.read().split())[-200:]
            raise InputError(f"{settings['runtime']} failed in a process of its own ({message or child.wait()}). "
                             "Use another --runtime.")
        return json.loads(answer)

    try:
        send(settings)
        yield visit
    finally:
        child.kill()
        child.communicate()


def _main() -> None:
    visit = here(**json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        print(json.dumps(visit(json.loads(line))), flush=True)


if __name__ == "__main__":
    try:
        _main()
    except InputError as error:
        sys.exit(str(error))
