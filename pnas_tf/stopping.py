"""Ctrl-C and SIGTERM as a request to stop, which lets a step of the search end first."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """What was asked for by signals; by itself it listens to none, see `signals`.

    Attributes:
        signal: number of the last one that came, None as long as none has.
    """

    def __init__(self):
        """Nothing is asked for yet."""
        self.signal: int | None = None
        self._waits = self._interrupted = False

    @contextlib.contextmanager
    def after_step(self) -> Iterator[None]:
        """Within it the first signal is only noted: whoever enters looks at `signal` after each step.

        Raises:
            KeyboardInterrupt: at a further signal; also if TensorFlow's C++ turned that into an error of its own, as it
                does if it comes in the middle of another one.
        """
        self._waits = True
        try:
            yield
        except Exception:
            if self._interrupted:
                raise KeyboardInterrupt from None
            raise
        finally:
            self._waits = False

    def ask(self, number: int, frame: FrameType | None = None) -> None:
        """Handles a signal.

        Raises:
            KeyboardInterrupt: unless it is the first one and somebody is going to look.
        """
        first, self.signal = self.signal is None, number
        if not (first and self._waits):
            self._interrupted = True
            raise KeyboardInterrupt
        # A handler may interrupt a print, which must not be entered twice.
        os.write(2, b"\nStopping after this step. Once more (Ctrl-C) to stop now, without saving.\n")


@contextlib.contextmanager
def signals() -> Iterator[Stop]:
    """Listens to Ctrl-C and SIGTERM, in the main thread; a signal that the process ignores (nohup) stays ignored."""
    stop = Stop()
    before = {number: signal.signal(number, stop.ask) for number in SIGNALS
              if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
