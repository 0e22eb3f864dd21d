"""The link to a board that times models: it is made again when it is lost, and repeats the work that was lost."""

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

from export.apart import Apart, EndedError
from latency.phones.worker import say
from pnas_tf.errors import InputError

# Number of times that one model may end the link, and seconds between two attempts to make it.
TRIES, PAUSE_S = 3, 2.0
KEPT = "What is done is kept: run the same command again to continue."


class Link:
    """Models on a board, and visits of them."""

    def __init__(self, start: Callable[[], Apart], explained: Callable[[Exception], str], settings: Any):
        """Makes the link.

        Args:
            start: Function that starts a process on the board, ready for visits.
            explained: Function that turns an error into text with advice.
            settings: Settings with the runs of a visit (runs), the longest time for a visit (timeout_seconds) and for
                making the link (wait_seconds).

        Raises:
            InputError: If the board cannot be used, or not before the waiting time is over.
        """
        self._start, self._explained, self._settings = start, explained, settings
        self._process = self._started()
        self._sent: set[str] = set()

    def send(self, path: str) -> None:
        """Sends a model, unless the board has it. If the link is lost, the model is sent at its next visit.

        Args:
            path: Path of the `.tflite` on this machine.

        Raises:
            InputError: If the board has no room for it.
        """
        try:
            with contextlib.suppress(EndedError):
                self._send(path)
        except InputError as error:
            raise InputError(f"{self._explained(error)}. {KEPT}") from None

    def visit(self, path: str, name: object) -> list[float]:
        """Times a model.

        Args:
            path: Path of the `.tflite` on this machine.
            name: Name of the model, for messages.

        Returns:
            Milliseconds of each run.

        Raises:
            InputError: If the board cannot run the model, or cannot be reached.
        """
        for attempt in range(1, TRIES + 1):
            try:
                self._send(path)
                return self._process.visit(os.path.basename(path), self._settings.runs, self._settings.timeout_seconds)
            except EndedError as error:
                if attempt == TRIES:
                    raise InputError(f"{self._explained(error)}. It came {TRIES} times in a row when {name} was timed. "
                                     f"{KEPT}") from None
                say(f"{self._explained(error)}. Connecting again.")
                self._process, self._sent = self._started(), set()
            except InputError as error:
                raise InputError(f"{self._explained(error)}. It came when {name} was timed.") from None
        raise AssertionError

    def drop(self, path: str) -> None:
        """Removes a model from the board."""
        self._sent.discard(path)
        with contextlib.suppress(EndedError, InputError):
            self._process.ask("drop", os.path.basename(path))

    def state(self) -> dict[str, Any]:
        """State of the board as `machine_state.read` tells it; empty if the link is lost."""
        with contextlib.suppress(EndedError, InputError):
            state = self._process.ask("state")
            return state if isinstance(state, dict) else {}
        return {}

    def close(self) -> None:
        """Ends the process on the board, which removes its models."""
        self._process.close()

    def _send(self, path):
        if path not in self._sent:
            self._process.put(path)
            self._sent.add(path)

    def _started(self) -> Apart:
        """A process on the board, as soon as there is one."""
        deadline, said = time.monotonic() + self._settings.wait_seconds, False
        while True:
            try:
                return self._start()
            except InputError as error:
                raise InputError(f"{self._explained(error)}. {KEPT}") from None
            except EndedError as error:
                text = self._explained(error)
                if time.monotonic() >= deadline:
                    raise InputError(f"{text} (for {self._settings.wait_seconds:g} s). {KEPT}") from None
                if not said:
                    said = True
                    say(f"{text}. Waiting for it.")
            time.sleep(PAUSE_S)
