"""Commands of this package, each in a process of its own that needs not import TensorFlow: `from tests import forked`.

A server imports TensorFlow once and forks a process for each command, which runs as `python -m MODULE` does: with its
own flags, output, signals and exit code. Start `python -m MODULE` itself where imports are what a test is about.
"""

import contextlib
import functools
import multiprocessing
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

from pnas_tf.terminal import quiet

ROOT = Path(__file__).parents[1]
PRELOADED = "tests.programs.preloaded"


def run(arguments: Sequence[str], *, cwd: str | Path | None = None, env: Mapping[str, str] | None = None,
        timeout: float = 600, memory_bytes: int = resource.RLIM_INFINITY) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True)` returns.

    Args:
        arguments: Name of a module and its arguments, as after `python -m`.
        cwd: Working directory; this process's own if None.
        env: Environment variables; this process's own if None. TensorFlow's logging level has been read before.
        timeout: Seconds after which the command is killed.
        memory_bytes: Memory that the command may take; beyond it, allocations fail.

    Raises:
        subprocess.TimeoutExpired: If the command was killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("stdout", "stderr")]
        process = _server().Process(target=_command, args=(
            [str(argument) for argument in arguments], str(cwd or os.getcwd()), dict(env or os.environ),
            [str(path) for path in outputs], memory_bytes))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, timeout)
        said = [path.read_text(errors="replace") for path in outputs]
        return subprocess.CompletedProcess(arguments, process.exitcode, *said)


@functools.cache
def _server() -> ForkServerContext:
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([PRELOADED])
    with contextlib.chdir(ROOT):  # where it finds PRELOADED
        forkserver.ensure_running()
    return server


def _command(arguments: Sequence[str], cwd: str, env: Mapping[str, str], outputs: Sequence[str], memory_bytes: int
             ) -> None:
    """Runs a module as the main program, in the process that was forked for it."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    for descriptor, path in enumerate(outputs, start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, descriptor)
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    with quiet():  # As in `start.load_tensorflow`, TensorFlow looks for GPUs in silence.
        sys.modules["tensorflow"].config.list_physical_devices()
    sys.argv = list(arguments)
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
