"""Times `.tflite` models one visit at a time, here or in a process of its own.

A process of its own (`python -m export.visits`: settings as a line of JSON on stdin, then a path a line; milliseconds
as a line of JSON for each on stdout) is for tflite_runtime, which fails where TensorFlow was loaded.
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

# Times the model at a path: milliseconds of each run.
Visit = Callable[[str], list[float]]


def here(*, runtime: str, threads: int, delegate: str, runs: int, between: str | None = None) -> Visit:
    """Visits in this process. A model is loaded anew for each: where its memory lies changes its time, too.

    Args:
        runtime: of `interpreter.RUNTIMES`.
        threads: CPU threads.
        delegate: of `interpreter.DELEGATES`.
        runs: timed runs of a visit.
        between: path of a model to run before each timed run; the timed model's input is then written anew, so that
            it is fresh in the caches, as from the op before.

    Raises:
        InputError: when called, if a model cannot be run so.
    """
    def subject(path):
        return interpreter.subject(interpreter.make_interpreter(path, threads=threads, delegate=delegate,
                                                                runtime=runtime))

    run_another = subject(between)[0] if between else None

    def visit(path):
        invoke, feed = subject(path)

        def before():
            run_another()
            feed()

        return timing.timed_ms(invoke, runs, before if run_another else None)

    return visit


@contextlib.contextmanager
def apart(**settings: Any) -> Iterator[Visit]:
    """As `here`, in a process that never imports TensorFlow and ends with the context."""
    child = subprocess.Popen([sys.executable, "-m", "export.visits"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True,
                             env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})

    def tell(value):
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(json.dumps(value) + "\n")
            child.stdin.flush()

    def visit(path):
        tell(path)
        answer = child.stdout.readline()
        if not answer:
            said = " ".join(child.stderr.read().split())[-200:]
            raise InputError(f"{settings['runtime']} failed in a process of its own ({said or child.wait()}). "
                             "Time with another --runtime.")
        return json.loads(answer)

    try:
        tell(settings)
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
