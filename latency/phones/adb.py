"""Drives one device through the `adb` binary.

A device's output is never trusted: it is bounded in size and time. A command counts as done only if its last line says
so, because some versions of adb exit with 0 when a device is lost (Debian's 29.0.6).
"""

import contextlib
import dataclasses
import os
import re
import secrets
import selectors
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

from latency.phones.benchmark_output import clean, excerpt
from pnas_tf import adb_path
from pnas_tf.errors import InputError

MAX_OUTPUT_BYTES = 1_000_000
# Seconds that a command gets to end by itself when its input has ended. Before Android 7, it does not see that end.
CLOSING_S = 3.0

# Advice that makes a device usable, by the state that `adb devices` shows.
WAY_OUT = {
    "unauthorized": "accept the dialog 'Allow USB debugging?' on its screen",
    "authorizing": "accept the dialog 'Allow USB debugging?' on its screen",
    "offline": "unplug it and plug it in again, or: adb reconnect offline",
    "no": "give yourself the permission to use it (udev rules): https://developer.android.com/studio/run/device",
    "not attached": "plug it in and switch on USB debugging in its developer options; adb devices should show it",
}

# Serial numbers of USB, TCP (host:port) and Wi-Fi (mDNS) devices: no leading dash. A name that mDNS has given twice has
# blanks: `adb-X (2)._adb-tls-connect._tcp`.
_SERIAL = re.compile(r"[A-Za-z0-9_\[][\w.:%\[\]() -]{0,199}")


class DeviceError(InputError):
    """A device cannot be used or was lost: another device has to do its work, or the same device later."""


class CommandError(DeviceError):
    """A command on a device took too long or printed too much; the device may still be attached."""


class Stopped(Exception):
    """The program is ending, so this command was ended too."""


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a remote command.

    Attributes:
        code: Exit code.
        output: Text of stdout and stderr, mixed as it came.
    """

    code: int
    output: str


def devices(path: str) -> dict[str, str]:
    """Attached devices.

    Args:
        path: Path of the adb binary.

    Returns:
        State by serial number: `device` if the device can be used, else a key of `WAY_OUT` or another word from adb.

    Raises:
        DeviceError: If adb does not work, as while its server restarts.
    """
    code, text = _run([path, "devices"], timeout_s=30)
    if code or "List of devices attached" not in text:
        raise DeviceError(f"{path} devices: expected a list of devices, got: {excerpt(text)}. Try: adb kill-server")
    rows = [line.split("\t", 1) for line in text.partition("List of devices attached")[2].splitlines()]
    return {row[0]: row[1].split()[0] for row in rows if len(row) > 1 and row[1].strip() and _SERIAL.fullmatch(row[0])}


def find(path: str | None) -> str:
    """Path of the adb binary.

    Args:
        path: Path or name that the user gave; None for the adb on the PATH, or else that of the package adbutils.

    Raises:
        InputError: If there is no such program.
    """
    program = adb_path.find(path)
    if not program:
        raise InputError(f"No adb at {path or 'any place on the PATH'}. Install it (pip install adbutils; Debian: "
                         "apt-get install adb; else https://developer.android.com/tools/releases/platform-tools), or "
                         "name it by --adb=PATH.")
    return program


class Adb:
    """Connection to one device."""

    def __init__(self, path: str, serial: str, stopped: threading.Event):
        """Checks the serial number; the device is not touched yet.

        Args:
            path: Path of the adb binary.
            serial: Serial number of the device.
            stopped: Event that makes running commands raise `Stopped`.

        Raises:
            InputError: If no device can have that serial number.
        """
        if not _SERIAL.fullmatch(serial):
            raise InputError(f"{clean(serial, 60)!r} is no serial number. `adb devices` shows them.")
        self._path, self.serial, self._stopped = path, serial, stopped

    def connect(self) -> None:
        """Checks that the device can be used now.

        A device at a network address is connected again if necessary, because a restarted adb server has forgotten it.
        It is not disconnected first: a device that does not answer now would vanish from the list of devices.

        Raises:
            DeviceError: If the device cannot be used; the message says what to do.
        """
        state = devices(self._path).get(self.serial)
        if state in (None, "offline") and re.fullmatch(r".+:\d+", self.serial):
            _run([self._path, "connect", self.serial], timeout_s=15, stopped=self._stopped)
            state = devices(self._path).get(self.serial)
        if state != "device":
            raise DeviceError(f"{self.serial} is {state_text(state)}")

    def shell(self, command: str, timeout_s: float) -> Result:
        """Runs a command in the device's shell.

        Args:
            command: Command line. The caller has to quote (shlex.quote) every part that is not constant.
            timeout_s: Seconds that the command may take.

        Raises:
            DeviceError: If the command did not reach its end; a CommandError if it took too long or printed too much.
        """
        mark = secrets.token_hex(8)
        # stderr goes into stdout: the order of lines is kept, and devices before Android 7 send no stderr of their own.
        code, text = self._run("shell", f"echo {mark}; ( {command}\n) 2>&1; code=$?; echo; echo {mark} $code",
                               timeout_s=timeout_s)
        # Not one pattern for both marks: on the text of a malicious device it would take quadratic time.
        output, _, end = text.partition(mark)[2].rpartition(f"\n{mark} ")
        ended = re.match(r"(\d{1,3})\r?(?:\n|$)", end)
        if not ended:
            state = devices(self._path).get(self.serial)
            raise DeviceError(f"{self.serial} was lost in the middle of a command: it is {state_text(state)} "
                              f"(adb ended with {code}: {excerpt(text, 120)})")
        return Result(int(ended[1]), output.lstrip("\r").removeprefix("\n"))

    def hold(self, command: str, timeout_s: float) -> "Held":
        """Starts a command in the device's shell that runs until its input ends.

        Its input ends when this program closes it or ends, even by SIGKILL, and when the connection is lost.

        Args:
            command: Command line that prints a line once it is ready. The caller has to quote every part that is not
                constant.
            timeout_s: Seconds until it has to be ready.

        Raises:
            DeviceError: If the command ends before it is ready, or takes too long.
        """
        mark = secrets.token_hex(8)
        process = subprocess.Popen([self._path, "-s", self.serial, "shell", f"echo; echo {mark}; {command}"],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   start_new_session=True)
        held = Held(process)
        try:
            output = _read(process, time.monotonic() + timeout_s, self._stopped, f"{mark}\r?\n.*\n".encode())
        except (TimeoutError, OverflowError):
            held.close()
            raise CommandError(f"{self.serial}: a command did not start in {timeout_s:g} s") from None
        except BaseException:
            held.close()
            raise
        held.said = clean(output.decode("utf-8", "replace").rpartition(mark)[2], 300)
        if not held.said:
            held.close()
            raise DeviceError(f"{self.serial} was lost in the middle of a command: it is "
                              f"{state_text(devices(self._path).get(self.serial))}")
        return held

    def push(self, files: Sequence[str], target: str, timeout_s: float) -> None:
        """Copies files to the device.

        Args:
            files: Paths on this machine.
            target: Existing folder on the device, with a slash at its end; or, for a single file, its new path.
            timeout_s: Seconds that copying may take.

        Raises:
            DeviceError: If a file did not arrive whole.
        """
        code, text = self._run("push", *files, target, timeout_s=timeout_s)
        paths = {file: target + os.path.basename(file) if target.endswith("/") else target for file in files}
        arrived = self.sizes(list(paths.values()))
        wrong = [file for file, path in paths.items() if arrived.get(path) != os.path.getsize(file)]
        if code or wrong:
            raise DeviceError(f"{self.serial}: could not push {len(wrong) or len(files)} of {len(files)} files to "
                              f"{target}: {excerpt(text)}")

    def sizes(self, paths: Sequence[str]) -> Mapping[str, int]:
        """Sizes of files on the device.

        Args:
            paths: Paths on the device, made of characters that need no quotes.

        Returns:
            Bytes by path; missing files are left out.
        """
        command = f"for f in {' '.join(paths)}; do [ -f $f ] && echo size $f $(wc -c < $f); done; true"
        lines = re.findall(r"^size (\S+) (\d{1,15})\s*$", self.shell(command, 60).output, flags=re.M)
        return {name: int(size) for name, size in lines}

    def _run(self, *arguments, timeout_s):
        return _run([self._path, "-s", self.serial, *arguments], timeout_s=timeout_s, stopped=self._stopped)


class Held:
    """A command on a device that runs until it is closed, or its connection is lost.

    Attributes:
        said: Line that the command printed when it was ready.
    """

    def __init__(self, process: subprocess.Popen):
        """Takes the process of adb, whose standard input is a pipe."""
        self._process, self.said = process, ""

    def is_alive(self) -> bool:
        """Whether the command still runs, as far as adb knows."""
        return self._process.poll() is None

    def close(self) -> None:
        """Ends the input of the command, which then ends, and waits for that; ends adb if it takes too long."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if self._process.stdin:
                self._process.stdin.close()
            self._process.wait(CLOSING_S)
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()


def state_text(state: str | None) -> str:
    """A state of `devices` in words, with advice."""
    state = state or "not attached"
    text = "without permissions" if state == "no" else clean(state, 40)
    return text if state == "device" else f"{text}: {WAY_OUT.get(state, 'start Android on it')}"


def _run(command: Sequence[str], *, timeout_s: float, stopped: threading.Event | None = None) -> tuple[int, str]:
    """Runs a program; returns its exit code and its output."""
    # adb runs in a session of its own, because Ctrl-C must not reach it: this program ends adb.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               start_new_session=True)
    try:
        output = _read(process, time.monotonic() + timeout_s, stopped)
        return process.wait(5), output.decode("utf-8", "replace")
    except (TimeoutError, subprocess.TimeoutExpired):
        raise CommandError(f"adb {_words(command)} did not end in {timeout_s:g} s") from None
    except OverflowError:
        raise CommandError(f"adb {_words(command)} printed more than {MAX_OUTPUT_BYTES} bytes") from None
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def _words(command):
    return " ".join(clean(word, 60) for word in command[1:4])


def _read(process, deadline, stopped, until=None):
    """Output of a process, to its end or to the first match of the pattern `until`."""
    output = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            if stopped and stopped.is_set():
                raise Stopped
            if selector.select(min(0.2, max(0.0, deadline - time.monotonic()))):
                chunk = os.read(process.stdout.fileno(), 65536)
                output += chunk
                if not chunk:
                    return output
                if len(output) > MAX_OUTPUT_BYTES:
                    raise OverflowError
                if until and re.search(until, output):
                    return output
            elif process.poll() is not None:  # a server that adb started may hold the pipe open
                return output
    raise TimeoutError
