"""One phone that times models with `benchmark_model`, one at a time."""

import hashlib
import os
import re
import shlex
from collections.abc import Sequence

from export import graph
from latency.phones import adb, benchmark_output, tools
from latency.phones import facts as phone_facts
from latency.phones.adb import CommandError, DeviceError
from latency.phones.benchmark_output import Benchmark, OpTime, excerpt
from latency.phones.facts import Facts, State
from latency.phones.session import FOLDER, Session
from latency.phones.settings import PhoneSettings
from pnas_tf.files import read_bytes, sha256

# Seconds for commands that do not measure.
SHORT_S, PUSH_S = 30.0, 600.0
# The status that `dumpsys thermalservice` calls moderate. From here on, Android slows the phone down.
THROTTLING = 2


class BenchmarkError(Exception):
    """The tool gave no usable measurement; the message says why."""


class Phone:
    """A phone with the benchmark on it.

    Attributes:
        serial: Serial number, as adb has it.
        name: Name of the phone in tables.
        is_litert: Whether the benchmark is LiteRT's, once a session has begun.
    """

    def __init__(self, device: adb.Adb, settings: PhoneSettings):
        """Stores the arguments; the phone is not touched yet.

        Args:
            device: Connection to the phone.
            settings: Settings of the measurements.
        """
        self._device, self._settings, self._options = device, settings, [""]
        self._binary = self._taskset = ""
        self._session: Session | None = None
        self._digests: dict[str, str] = {}  # of the models that were pushed, by file name
        self._macs: dict[str, int] = {}  # likewise
        self.is_litert = False
        self.serial, self.name = device.serial, _short_hash(device.serial)

    def connect(self) -> None:
        """Connects the phone if necessary. If it cannot be used now, raises DeviceError, which says what to do."""
        self._device.connect()

    def facts(self) -> Facts:
        """Reads the facts from the phone."""
        facts = phone_facts.read_facts(self._device.shell(phone_facts.READ_FACTS, SHORT_S).output)
        if facts.identity:
            self.name = _short_hash(facts.identity[0])
        return facts

    def state(self) -> State:
        """Reads the state from the phone."""
        return phone_facts.read_state(self._device.shell(phone_facts.READ_STATE, SHORT_S).output)

    def begin(self, binary: str | None, digest: str, mask: str) -> None:
        """Begins a session: takes the phone, and pushes the benchmark unless the phone has it.

        Args:
            binary: Path of benchmark_model for the phone; None if the phone has it already.
            digest: SHA-256 of benchmark_model.
            mask: Hexadecimal mask of the cores to run on, or `all`.

        Raises:
            InUseError: If another program has the phone.
            DeviceError: If the benchmark is not on the phone afterwards, or cannot be run on these cores.
            InputError: If the benchmark does not have the delegate.
        """
        self.end()
        self._session = Session(self._device)
        self._binary = f"{FOLDER}/benchmark_model-{digest[:16]}"
        self._taskset = "" if mask == "all" else f"taskset {mask} "
        if self._taskset and (result := self._device.shell(f"{self._taskset}true", SHORT_S)).code:
            raise DeviceError(f"{self.serial}: `taskset {mask}` does not work: {excerpt(result.output, 150)}. Name "
                              "other cores by --cpu_mask; --cpu_mask=all runs on any cores, and times vary more")
        if not self._has(digest, os.path.getsize(binary) if binary else None):
            if not binary:
                raise DeviceError(f"{self.serial} has no {self._binary}: name the file by --benchmark_binary")
            self._device.push([binary], self._binary, PUSH_S)
            self._device.shell(f"chmod 755 {self._binary}", SHORT_S)
            if not self._has(digest, os.path.getsize(binary)):
                raise DeviceError(f"{self.serial}: {binary} is not the same after it was pushed")
        self.is_litert = self._device.shell(f"grep -q {tools.LITERT_MARK} {self._binary}", SHORT_S).code == 0
        self._options = self._settings.benchmark_flags(litert=self.is_litert)

    def end(self) -> None:
        """Ends the session, if there is one: the models are removed, and other programs may use the phone."""
        session, self._session, self._digests, self._macs = self._session, None, {}, {}
        if session:
            session.close()

    def _has(self, digest, size_bytes):
        """Whether the phone has the benchmark.

        Old phones have no sha256sum. On these, the size has to match, and the file's name contains the hash.
        """
        arrived = self._device.sizes([self._binary]).get(self._binary)
        if arrived is None or size_bytes not in (None, arrived):
            return False
        shown = _digest(self._device.shell(f"sha256sum {self._binary}", SHORT_S).output)
        return shown == digest if shown else size_bytes is not None

    def push(self, files: Sequence[str]) -> None:
        """Copies models to the phone and removes earlier models.

        Args:
            files: Paths on this machine.

        Raises:
            DeviceError: If the phone has no room or is lost.
        """
        folder = self._folder()
        self._device.shell(f"rm -f {folder}/*", SHORT_S)
        self._digests = {os.path.basename(file): sha256(file) for file in files}
        self._macs = {os.path.basename(file): graph.count_macs(graph.describe(read_bytes(file))) for file in files}
        self._device.push(files, folder + "/", PUSH_S)

    def time(self, file_name: str) -> Benchmark:
        """Times a model that was pushed, in one run of the tool.

        Args:
            file_name: Name of the pushed file.

        Raises:
            BenchmarkError: If the tool prints no time, or did not measure as requested.
            DeviceError: If the phone is lost.
        """
        return self._timing(self._run(file_name), file_name)

    def profile(self, file_name: str) -> list[OpTime]:
        """Times each operator of a model that was pushed, in one run of the tool.

        Args:
            file_name: Name of the pushed file.

        Returns:
            Operators in order of execution.

        Raises:
            BenchmarkError: If the tool prints no profile, or did not measure as requested.
            DeviceError: If the phone is lost.
        """
        if self.is_litert:
            raise BenchmarkError("LiteRT's benchmark_model prints no profile of operators. Take TensorFlow Lite's "
                                 f"({tools.BINARIES})")
        output = self._run(file_name, "--enable_op_profiling=true")
        self._timing(output, file_name)  # raises unless the tool measured as requested
        try:
            return benchmark_output.op_profile(output)
        except benchmark_output.NoTimingError as error:
            raise BenchmarkError(str(error)) from None

    def _run(self, file_name, *options):
        """Runs the tool on a model and returns its output.

        The model is the one that was pushed: its digest comes first. Old phones have no sha256sum; there, only sizes
        were compared.
        """
        folder = self._folder()
        path = f"{folder}/{file_name}"
        libraries = self._settings.library_path
        run = shlex.join([*(["env", f"LD_LIBRARY_PATH={libraries}"] if libraries else []), self._binary,
                          f"--graph={path}", *self._options, *options])
        # exec keeps the shell's process number. It is written to a file, so that the process can be ended.
        command = f"sha256sum {path}; sh -c " + shlex.quote(f"echo $$ > {folder}/pid; exec {self._taskset}{run}")
        try:
            result = self._device.shell(command, self._settings.timeout_seconds)
        except CommandError as error:
            self._end_benchmark()
            raise BenchmarkError(str(error)) from None
        shown, _, output = result.output.partition("\n")
        if _digest(shown) not in (None, self._digests[file_name]):
            raise DeviceError(f"{self.serial}: {file_name} on the phone is not the model that was pushed")
        if result.code:
            hints = {126: " (is it for another processor?)", 127: " (is something missing on the phone?)"}
            raise BenchmarkError(f"benchmark_model ended with {result.code}{hints.get(result.code, '')}: "
                                 f"{excerpt(output)}{_way_out(output)}")
        return output

    def _folder(self):
        """The session's folder. Raises DeviceError if the session has ended, as it does when a connection is lost."""
        if not self._session or not self._session.is_alive():
            raise DeviceError(f"{self.serial} was lost: its session has ended")
        return self._session.folder

    def _timing(self, output, file_name):
        """What the tool reported. Raises BenchmarkError unless it measured as requested."""
        try:
            benchmark = benchmark_output.parse(output)
        except benchmark_output.NoTimingError as error:
            raise BenchmarkError(str(error)) from None
        if reason := tools.doubt(benchmark, self._settings.delegate, self._macs[file_name], output):
            raise BenchmarkError(reason)
        return benchmark

    def _end_benchmark(self):
        """Ends a benchmark that hangs."""
        self._device.shell(f"p=$(cat {self._folder()}/pid) && grep -q benchmark_model /proc/$p/cmdline && kill -9 $p",
                           SHORT_S)


def _short_hash(serial: str) -> str:
    """A hash in place of a serial number, because tables are shared."""
    return hashlib.sha256(serial.encode()).hexdigest()[:8]


def _digest(line: str) -> str | None:
    """The digest in a line of sha256sum; None if there is none."""
    match = re.match(r"\s{0,9}([0-9a-f]{64})\b", line)
    return match[1] if match else None


def _way_out(output: str) -> str:
    """Advice after an error of the tool, if its text shows the reason."""
    if "taskset" in output:
        return ". Name other cores by --cpu_mask; --cpu_mask=all runs on any cores"
    if "Didn't find op for builtin opcode" in output or "old TFLite binary" in output:
        return f". The tool is older than the model: {tools.NEWER}"
    return ""
