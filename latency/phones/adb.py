"""Drives one device through the `adb` binary.

What a device sends is never trusted: its output is bounded in size and time, and a command counts as done only if its
last line says so, as some versions of adb exit with 0 when a device is lost (Debian's 29.0.6).
"""

import dataclasses
import os
import re
import secrets
import selectors
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

from latency.phones.benchmark_output import clean, excerpt
from pnas_tf.errors import InputError

MAX_OUTPUT_BYTES = 1_000_000

# Where a device is said to be and what helps, by the state that `adb devices` shows.
WAY_OUT = {
    "unauthorized": "accept the dialog 'Allow USB debugging?' on its screen",
    "authorizing": "accept the dialog 'Allow USB debugging?' on its screen",
    "offline": "unplug it and plug it in again, or: adb reconnect offline",
    "no": "give yourself the permission to use it (udev rules): https://developer.android.com/studio/run/device",
    "not attached": "plug it in and switch on USB debugging in its developer options; adb devices should show it",
}

# No blank and no leading dash: what `adb devices` shows for USB, TCP (host:port) and Wi-Fi (mDNS) devices.
_SERIAL = re.compile(r"[A-Za-z0-9_\[][\w.:%\[\]()-]{0,199}")


class DeviceError(InputError):
    """A device cannot be used, or was lost: its work has to be done by another one, or later."""


class CommandError(DeviceError):
    """A command on a device took too long or printed too much; the device may still be there."""


class Stopped(Exception):
    """The program is ending, so this command was, too."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a remote command left: exit code, and stdout with stderr in it."""

    code: int
    output: str


def devices(path: str) -> dict[str, str]:
    """State by serial number of what is attached: `device` if usable. See `WAY_OUT`.

    Args:
        path: of the adb binary.

    Raises:
        InputError: if adb does not work.
    """
    code, text = _run([path, "devices"], timeout_s=30)
    if code or "List of devices attached" not in text:
        raise InputError(f"{path} devices: expected a list of devices, got: {excerpt(text)}. Try: adb kill-server")
    rows = [line.split() for line in text.partition("List of devices attached")[2].splitlines()]
    return {row[0]: row[1] for row in rows if len(row) > 1 and _SERIAL.fullmatch(row[0])}


def find(path: str | None) -> str:
    """The adb binary: as given, or that of the PATH.

    Raises:
        InputError: if there is none.
    """
    found = shutil.which(path or "adb")
    if not found:
        raise InputError(f"No adb at {path or 'any place of the PATH'}. Install it (Debian: apt-get install adb; else "
                         "https://developer.android.com/tools/releases/platform-tools), or name it by --adb=PATH.")
    return found


class Adb:
    """One device."""

    def __init__(self, path: str, serial: str, stopped: threading.Event):
        """Nothing is done yet.

        Args:
            path: of the adb binary.
            serial: of the device.
            stopped: when set, running commands are ended by `Stopped`.

        Raises:
            InputError: if that can be no serial number.
        """
        if not _SERIAL.fullmatch(serial):
            raise InputError(f"{clean(serial, 60)!r} is no serial number. `adb devices` shows them.")
        self._path, self.serial, self._stopped = path, serial, stopped

    def connect(self) -> None:
        """Waits for nothing; raises DeviceError with the way out if the device cannot be used.

        A device at a network address is connected again if need be: the server forgets it when it restarts. It is not
        disconnected first, as one that does not answer now would be gone from the list of devices.
        """
        state = devices(self._path).get(self.serial)
        if state in (None, "offline") and re.fullmatch(r".+:\d+", self.serial):
            _run([self._path, "connect", self.serial], timeout_s=15, stopped=self._stopped)
            state = devices(self._path).get(self.serial)
        if state != "device":
            raise DeviceError(f"{self.serial} is {state_text(state)}")

    def shell(self, command: str, timeout_s: float) -> Result:
        """Runs a command of the device's shell.

        Args:
            command: quoted by the caller: shlex.quote for whatever is not constant.
            timeout_s: seconds.

        Raises:
            DeviceError: if the command did not come to its end; a CommandError if for time or for endless output.
        """
        mark = secrets.token_hex(8)
        # stderr comes along: where it belongs between the lines, and also from devices older than Android 7.
        code, text = self._run("shell", f"echo {mark}; ( {command}\n) 2>&1; code=$?; echo; echo {mark} $code",
                               timeout_s=timeout_s)
        match = re.search(rf"^{mark}\r?\n(.*)^{mark} (\d{{1,3}})\r?$", text, flags=re.M | re.S)
        if not match:
            state = devices(self._path).get(self.serial)
            raise DeviceError(f"{self.serial} was lost in the middle of a command: it is {state_text(state)} "
                              f"(adb ended with {code}: {excerpt(text, 120)})")
        return Result(int(match[2]), match[1])

    def push(self, files: Sequence[str], target: str, timeout_s: float) -> None:
        """Copies files.

        Args:
            files: here.
            target: on the device: a folder that exists, with a slash at its end; or, for one file, its new path.
            timeout_s: seconds.

        Raises:
            DeviceError: if a file did not arrive whole.
        """
        code, text = self._run("push", *files, target, timeout_s=timeout_s)
        paths = {file: target + os.path.basename(file) if target.endswith("/") else target for file in files}
        arrived = self.sizes(list(paths.values()))
        wrong = [file for file, path in paths.items() if arrived.get(path) != os.path.getsize(file)]
        if code or wrong:
            raise DeviceError(f"{self.serial}: could not push {len(wrong) or len(files)} of {len(files)} files to "
                              f"{target}: {excerpt(text)}")

    def sizes(self, paths: Sequence[str]) -> Mapping[str, int]:
        """Bytes of files on the device by path, in names that need no quotes; those that are not there are left out."""
        command = f"for f in {' '.join(paths)}; do [ -f $f ] && echo size $f $(wc -c < $f); done; true"
        found = re.findall(r"^size (\S+) (\d{1,15})\s*$", self.shell(command, 60).output, flags=re.M)
        return {name: int(size) for name, size in found}

    def _run(self, *arguments, timeout_s):
        return _run([self._path, "-s", self.serial, *arguments], timeout_s=timeout_s, stopped=self._stopped)


def state_text(state: str | None) -> str:
    """A state of `devices` in words, with what helps."""
    state = state or "not attached"
    text = "without permissions" if state == "no" else clean(state, 40)
    return text if state == "device" else f"{text}: {WAY_OUT.get(state, 'start Android on it')}"


def _run(command: Sequence[str], *, timeout_s: float, stopped: threading.Event | None = None) -> tuple[int, str]:
    """Runs a program; returns its exit code and what it printed."""
    # A session of its own: Ctrl-C is ours to handle.
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


def _read(process, deadline, stopped):
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
            elif process.poll() is not None:  # a server that adb started may hold the pipe open
                return output
    raise TimeoutError
