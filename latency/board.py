"""Times models on another Linux machine through a Python there. Its subclasses say which command starts that Python.

One process there receives the timing code and the models, ends with the connection, and leaves nothing behind. Models
are visited as on this machine, so that rows mean the same.
"""

import contextlib
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from export import interpreter
from export.apart import Apart, EndedError
from latency import host
from latency.board_link import Link
from latency.conversions import Conversions
from latency.phones import facts as phone_facts
from latency.phones.worker import say
from pnas_tf import workspaces
from pnas_tf.cli.settings import setting
from pnas_tf.errors import InputError, printable

# Facts of a board that its tables keep, and those that tell it from another after the connection was lost.
FACTS = ("device", "cores", "os", "governor", "abi", "celsius", "throttled", "runtime", "cpu_mask")
SAME_BOARD = ("device", "cores", "os", "abi")
# Seconds to start Python there; seconds without a request after which the board counts us as lost.
START_S, IDLE_S = 60.0, 300


@dataclasses.dataclass(frozen=True)
class BoardSettings(host.HostSettings):
    """Every setting of the measurer of this machine, and those of a board. The text beside each field explains it."""

    remote_python: str | None = setting(None, "Python on the board, 3.10 or newer; default: python3.")
    remote_folder: str | None = setting(None, "Folder on the board for its models; default: that for temporary files.")
    cpu_mask: str = setting("auto", phone_facts.CPU_MASK)
    warmup_seconds: float = setting(0.2, "Smallest total time of the untimed runs of a visit.", low=0, high=3600)
    wait_seconds: float = setting(600.0, "Longest wait for a board that was lost or is in use.", low=0, high=1e6)
    timeout_seconds: float = setting(150.0, "Longest time that a visit of a model may take.", low=1, high=1e5)

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "cpu_mask", phone_facts.plain_mask(self.cpu_mask))


class Board(host.Host):
    """TFLite on the CPU of a board. Subclasses have `Settings` of their own, and a command."""

    Settings: ClassVar[type[Any]] = BoardSettings
    # Name of the measurer, and the flag that every command needs, with a word in capitals in place of its value.
    NAME: ClassVar[str]
    NEEDS: ClassVar[str | None] = None
    _settings: Any
    # Advice by a pattern of what the command or the board says.
    WAYS_OUT: ClassVar[Mapping[str, str]] = {
        "is too old|not found|Exec format|cannot execute": "Name a Python that it has, 3.10 or newer: "
                                                           "--remote_python=PATH",
        "is not installed": "Do so there, or name a Python there that has it: --remote_python=PATH",
        "No module named|cannot open|ELF|multiarray":
            "Install the runtime for its Python (python3 -m pip install numpy ai-edge-litert), or name another Python, "
            "such as that of a virtual environment: --remote_python=PATH",
        "No space left|Disk quota|File too large|No usable temp":
            "Free some space there, or name another folder there: --remote_folder=PATH",
        "Invalid argument": "Name cores that it has: --cpu_mask=MASK, or all"}

    def __init__(self, settings: Any, name: str):
        """Stores the arguments, and connects to nothing.

        Args:
            settings: Settings of the measurements.
            name: Name of the board in messages.

        Raises:
            InputError: If this machine runs Windows.
        """
        if os.name == "nt":  # it cannot wait for a program's output and input at once
            raise InputError("Boards are timed from Linux and macOS; on Windows, run this command in WSL.")
        self._settings, self._name, self._convert = settings, name, Conversions(settings.dtype)
        self._timed = {name: getattr(settings, name) for name in (
            "runtime", "threads", "delegate", "runs", "warmup_seconds")}

    def command(self, python: str, arguments: Sequence[str]) -> Sequence[str]:
        """The command that runs a Python of the board with arguments, and its stdin and stdout.

        Args:
            python: Path or name of the Python there.
            arguments: Arguments of Python. Any shell on the way has to leave them as they are.
        """
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """See `measure.Measurer`. Heat and throttling are those before anything is measured."""
        settings, board = self._settings, self._board
        target = interpreter.target_name(threads=settings.threads, delegate=settings.delegate, dtype=settings.dtype,
                                         runtime=board["runtime"].partition(" ")[0])
        device = re.sub(r"[^a-z0-9]+", "_", str(board.get("device") or "").lower()).strip("_")[:50] or "board"
        return {"target": f"{device}_{target.removeprefix('host_')}", "measurer": self.NAME, "device":
                "unknown", **board, **host.facts_of(settings), "needs": self.NEEDS, **{
                    name: getattr(settings, name) for name in ("warmup_seconds", "wait_seconds", "timeout_seconds")}}

    def measure(self, builds: Mapping[Any, Callable[[], Any]], between: Callable[[], Any] | None = None,
                visited: Callable[[], object] = lambda: None) -> Iterator[tuple[Any, dict[str, Any]]]:
        """See `measure.Measurer`. A row has heat and throttling of the board after its last visit."""
        warned = False
        for name, times in super().measure(builds, between, visited):
            state = _plain(self._link.state())
            limits = state.get("throttled")
            now = [text for text in limits if text.endswith("now")] if isinstance(limits, list) else []
            if now and not warned:
                say(f"{self._name} is slowed down ({', '.join(now)}; {state.get('celsius')} degrees Celsius): its "
                    "times are too long. Cool it, give it a stronger power supply, or close its other programs.")
                warned = True
            yield name, {**times, **state}

    @contextlib.contextmanager
    def visiting(self, builds: Mapping[Any, Callable[[], Any]], between: Callable[[], Any] | None = None
                 ) -> Iterator[tuple[Callable[[Any], list[float]], Callable[[Any], None]]]:
        """See `Host.visiting`. Models that start together are sent together."""
        names, size = list(builds), self._settings.together
        paths: dict[Any, str] = {}
        with workspaces.temporary_folder() as folder, contextlib.ExitStack() as stack:
            before = self._converted(between, folder, "between") if between else None
            self._link = stack.enter_context(contextlib.closing(Link(
                functools.partial(self._ready, before), self._explained, self._settings)))

            def visit(name):
                first = names.index(name) // size * size
                for each in names[first:first + size] if name not in paths else ():
                    paths[each] = self._converted(builds[each], folder, str(len(paths)))
                    self._link.send(paths[each])
                return self._link.visit(paths[name], name)

            def forget(name):
                os.unlink(paths[name])
                self._link.drop(paths[name])

            yield visit, forget

    @functools.cached_property
    def _board(self) -> dict[str, Any]:
        """Facts of the board, with the runtime and the cores that are used."""
        try:
            with contextlib.closing(self._started()) as process:
                khz = process.facts.get("core_khz")
                cores = {int(core): value for core, value in (khz if isinstance(khz, dict) else {}).items()
                         if re.fullmatch("[0-9]{1,2}", core) and isinstance(value, int)}
                mask = self._settings.cpu_mask
                mask = phone_facts.cpu_mask(cores, self._settings.threads) if mask == "auto" else mask
                runtime = process.ask("begin", self._timed, mask)
                if not isinstance(runtime, str) or runtime.partition(" ")[0] not in interpreter.RUNTIMES:
                    raise EndedError("an answer that names no runtime", None)
                return _plain({**process.facts, "runtime": runtime, "cpu_mask": mask})
        except (EndedError, InputError) as error:
            raise InputError(self._explained(error)) from None

    def _ready(self, before: str | None) -> Apart:
        """A process on the board that is ready for visits, in which a model runs before each timed run."""
        board, process = self._board, self._started()
        try:
            if other := [name for name in SAME_BOARD if _plain(process.facts).get(name) != board.get(name)]:
                raise InputError(f"it is another board than before, by {' and '.join(other)}. Start again")
            if not process.ask("alone"):
                raise EndedError("it is in use by another program that times models there", None)
            if before:
                process.put(before)
            process.ask("begin", {**self._timed, "between": os.path.basename(before) if before else None},
                        board["cpu_mask"])
        except BaseException:
            process.close()
            raise
        return process

    def _started(self) -> Apart:
        settings = self._settings
        return Apart(functools.partial(self.command, settings.remote_python or "python3"), idle_s=IDLE_S,
                     folder=settings.remote_folder or "", timeout_s=START_S)

    def _explained(self, error: Exception) -> str:
        """An error of the connection or of the board, with advice."""
        text = str(error).rstrip(".")
        advice = next((advice for pattern, advice in self.WAYS_OUT.items() if re.search(pattern, text)), None)
        return f"{self._name}: {text}" + (f". {advice}" if advice else "")


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a board says about itself, without anything that is not a number or a short text."""
    def plain(value):
        if isinstance(value, list):
            return [printable(text, 60) for text in value[:20]]
        return printable(value, 120) if isinstance(value, str) else value if isinstance(value, int | float) else None

    return {name: plain(value) for name, value in facts.items() if name in FACTS}
