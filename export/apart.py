"""A process of its own that times `.tflite` models, on this machine or, through ssh, on another.

Nothing has to be installed there but NumPy and a TFLite runtime: the few modules that time models are sent first. The
other side is not trusted. What it prints is bounded in size and time, and only answers to requests are read.
"""

import contextlib
import importlib.util
import io
import json
import math
import os
import secrets
import selectors
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from export.timed_runs import Visit
from pnas_tf.errors import InputError, printable

# `timed_runs` and all modules of ours that it imports.
MODULES = ("export", "export.interpreter", "export.litert", "export.machine_state", "export.timed_runs",
           "export.timing", "pnas_tf", "pnas_tf.errors", "pnas_tf.extras", "pnas_tf.files", "pnas_tf.packages",
           "pnas_tf.shell", "pnas_tf.terminal", "pnas_tf.workspaces")
MAX_ANSWER_BYTES = 1_000_000
# Seconds for a request that times nothing, for sending a model, and those that the process gets to end by itself.
SHORT_S, PUT_S, CLOSING_S = 60.0, 600.0, 3.0
# The program of the process: arguments are the mark, bytes of the archive of modules, folder for temporary files and
# seconds of idleness. It is one line, as the shells of some machines demand, and any Python can read it.
_PROGRAM = ("import sys, tempfile; sys.version_info < (3, 10) and sys.exit('Python %d.%d is too old' % "
            "sys.version_info[:2]); tempfile.tempdir = sys.argv[3] or None; "
            "code = tempfile.NamedTemporaryFile(suffix='.zip'); code.write(sys.stdin.buffer.read(int(sys.argv[2]))); "
            "code.flush(); sys.path.insert(0, code.name); from export import timed_runs; "
            "timed_runs.serve(sys.argv[1], int(sys.argv[4]))")


class EndedError(Exception):
    """The process has ended, or does not answer as it should; the message is its last words.

    Attributes:
        code: Exit code of the command; None if it did not end by itself.
    """

    def __init__(self, message: str, code: int | None):
        super().__init__(message)
        self.code = code


class Apart:
    """A process that times models.

    Attributes:
        facts: Facts and state of its machine, as `timed_runs.serve` tells them.
    """

    def __init__(self, command: Callable[[Sequence[str]], Sequence[str]], *, folder: str = "", idle_s: int = 0,
                 timeout_s: float = SHORT_S, environment: dict[str, str] | None = None):
        """Starts the process.

        Args:
            command: Function that turns arguments of Python into the command that runs Python with them.
            folder: Folder for temporary files there; empty for the usual one.
            idle_s: Seconds without a request after which the process ends; 0 for no limit.
            timeout_s: Seconds until it has to be ready.
            environment: Environment variables of the command, if they differ from those of this process.

        Raises:
            EndedError: If it does not start.
        """
        mark, modules = secrets.token_hex(8), _archive()
        self._mark = f"\n{mark}".encode()
        # In a session of its own, because Ctrl-C must not reach it: this program ends it.
        words = command(["-c", _PROGRAM, mark, str(len(modules)), folder, str(idle_s)])
        try:
            self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
                                             stderr=subprocess.STDOUT, env=environment, start_new_session=True)
        except OSError as error:
            raise EndedError(f"{words[0]} cannot be run on this machine ({error.strerror})", None) from None
        assert self._process.stdin and self._process.stdout
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)
        try:
            self.facts: dict[str, Any] = self._exchange(modules, timeout_s)
            if not isinstance(self.facts, dict):
                raise EndedError("no facts", None)
        except BaseException:
            self.close()
            raise

    def ask(self, *request: Any, content: bytes = b"", timeout_s: float = SHORT_S) -> Any:
        """Sends a request and returns its answer.

        Args:
            *request: Name and arguments, see `timed_runs.serve`.
            content: Bytes that follow the request.
            timeout_s: Seconds that the answer may take.

        Raises:
            InputError: If the request failed there; the process can answer further ones.
            EndedError: If there is no answer; the process is closed.
        """
        try:
            answer = self._exchange(json.dumps(request).encode() + b"\n" + content, timeout_s)
        except BaseException:
            self.close()
            raise
        if isinstance(answer, dict) and "error" in answer:
            raise InputError(printable(answer["error"], 400))
        return answer

    def put(self, path: str) -> None:
        """Sends a model, which gets the name of its file there. Raises as `ask` does."""
        with open(path, "rb") as file:
            content = file.read()
        self.ask("put", os.path.basename(path), len(content), content=content, timeout_s=PUT_S)

    def visit(self, path: str, runs: int, timeout_s: float = math.inf) -> list[float]:
        """Milliseconds of each run of a model.

        Args:
            path: Path of the model there.
            runs: Number of runs that the settings ask for.
            timeout_s: Seconds that the visit may take.

        Raises:
            InputError: If the model cannot be run.
            EndedError: If there are no times.
        """
        times = self.ask("visit", path, timeout_s=timeout_s)
        if not (isinstance(times, list) and len(times) == runs
                and all(isinstance(ms, int | float) and 0 < ms < 1e7 for ms in times)):
            self.close()
            raise EndedError("an answer that is no list of times", None)
        return times

    def close(self) -> None:
        """Ends the input of the process, which then ends; kills it if that takes too long."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._stdin.close()
            self._process.wait(CLOSING_S)
        self._process.kill()
        self._process.wait()
        self._stdout.close()

    def _exchange(self, content, timeout_s):
        """Sends bytes and returns the next answer."""
        if self._stdin.closed:
            raise EndedError("the connection was closed", None)
        deadline, output, unsent = time.monotonic() + timeout_s, b"", memoryview(content)
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            selector.register(self._stdin, selectors.EVENT_WRITE)
            while (left_s := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(min(left_s, 1.0)):
                    if key.fileobj is self._stdout:
                        chunk = os.read(self._stdout.fileno(), 65536)
                        output += chunk
                        answer, end, _ = output.partition(self._mark)[2].partition(b"\n")
                        if end:
                            return self._parsed(answer)
                        if not chunk:
                            raise self._ended(output)
                        if len(output) > MAX_ANSWER_BYTES:
                            raise EndedError(f"more than {MAX_ANSWER_BYTES} bytes before an answer", None)
                        continue
                    try:
                        unsent = unsent[os.write(self._stdin.fileno(), unsent[:65536]):]
                    except BlockingIOError:
                        continue
                    except BrokenPipeError:  # its last words tell why
                        unsent = unsent[:0]
                    if not unsent:
                        selector.unregister(self._stdin)
        raise EndedError(f"no answer in {timeout_s:g} s", None)

    @staticmethod
    def _parsed(answer):
        try:
            return json.loads(answer)
        except (ValueError, RecursionError):
            raise EndedError("an answer that is not JSON", None) from None

    def _ended(self, output):
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(CLOSING_S)
        lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
        return EndedError(printable(lines[-1] if lines else f"exit code {code}", 300), code)


@contextlib.contextmanager
def visits(*, runtime: str, runs: int, **settings: Any) -> Iterator[Visit]:
    """Makes visits as `timed_runs.here` does, in a process without TensorFlow that ends with the context.

    Args:
        runtime: One of `interpreter.RUNTIMES`.
        runs: Timed runs per visit.
        **settings: Further arguments of `timed_runs.here`.
    """
    @contextlib.contextmanager
    def explained():
        try:
            yield
        except (EndedError, InputError) as error:
            raise InputError(f"{runtime} failed in a process of its own ({error}). Use another --runtime.") from None

    with contextlib.ExitStack() as stack:
        with explained():
            process = Apart(lambda arguments: [sys.executable, *arguments],
                            environment={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
            stack.callback(process.close)
            process.ask("begin", {"runtime": runtime, "runs": runs, **settings}, "all")

        def visit(path):
            with explained():
                return process.visit(path, runs)

        yield visit


def _archive() -> bytes:
    """The source of `MODULES` as a zip archive that Python imports from."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in MODULES:
            spec = importlib.util.find_spec(name)
            assert spec and spec.loader
            file = name.replace(".", "/") + ("/__init__.py" if spec.submodule_search_locations else ".py")
            archive.writestr(file, spec.loader.get_source(name))  # type: ignore[attr-defined]
    return content.getvalue()
