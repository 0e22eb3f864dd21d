"""Runs a command of this project in a process of its own, and passes on the signals that stop this one."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

from pnas_tf.errors import InputError

_STOPPING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")


@dataclasses.dataclass(frozen=True)
class Ended:
    """The end of a command.

    Attributes:
        code: Exit code; that of a process that a signal has killed is negative.
        signal: Number of the signal that asked for the end; None if none did.
        seconds: Seconds that the command took.
        cpu_seconds: Seconds of CPU time that it took.
    """

    code: int
    signal: int | None
    seconds: float
    cpu_seconds: float


class _Child:
    """A process, and the signals that it gets through this one."""

    def __init__(self):
        self.process: subprocess.Popen | None = None
        self.caught: list[int] = []

    def stop(self, number: int, frame: FrameType | None = None) -> None:
        """Handles a signal that asks to stop: the command saves its state, and ends."""
        self.caught.append(number)
        self.send(number)

    def suspend(self, number: int, frame: FrameType | None = None) -> None:
        """Handles Ctrl-Z: both processes stop, and both continue."""
        self.send(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        self.send(signal.SIGCONT)

    def send(self, number: int) -> None:
        """Sends a signal, if the process runs. On Windows, there is none to send: Ctrl-C reaches the process itself."""
        if self.process and os.name == "posix":
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


def run(module: str, arguments: Sequence[str]) -> Ended:
    """Runs `python -m MODULE ARGUMENTS` to its end.

    The process is the leader of a group of its own. So Ctrl-C, which goes to the whole group of this process, reaches
    it once, by way of this process, as does a signal to this process alone.

    Args:
        module: Module of the command.
        arguments: Its arguments.

    Raises:
        InputError: If the process cannot be started.
    """
    child, begin, used = _Child(), time.monotonic(), os.times()
    group: dict[str, Any] = {"process_group": 0} if os.name == "posix" else {}
    with _handled(child):
        try:
            child.process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdin=subprocess.DEVNULL,
                                             **group)
        except OSError as error:
            raise InputError(f"python -m {module} cannot be started ({error.strerror}).") from None
        for number in child.caught:  # while it was started
            child.send(number)
        code = child.process.wait()
    now = os.times()
    return Ended(code, child.caught[-1] if child.caught else None, time.monotonic() - begin,
                 now.children_user + now.children_system - used.children_user - used.children_system)


@contextlib.contextmanager
def _handled(child: _Child) -> Iterator[None]:
    """Handles signals by way of a child. A signal that this process ignores (nohup) stays ignored."""
    handlers = {getattr(signal, name): child.stop for name in _STOPPING if hasattr(signal, name)}
    if hasattr(signal, "SIGTSTP"):
        handlers[signal.SIGTSTP] = child.suspend
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()
              if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
