"""Output for people: what the library says while it works, numbers in readable units, and silence for other libraries.

Everything that functions of this package say goes through the logger `pnas_tf`, which prints it as it stands:

    logging.getLogger("pnas_tf").setLevel("ERROR")      # silence; "WARNING" leaves warnings

docs/python.md has more. Only commands print on their own.
"""

import contextlib
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
# Least seconds between two updates of a line on a terminal, and of a bar in a file.
INTERVAL_SECONDS, FILE_SECONDS = 0.2, 5.0


class _Printer(logging.Handler):
    """Prints messages on the `sys.stdout` of the moment, which notebooks and tests replace; asides on `sys.stderr`."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a message at once."""
        if getattr(record, "is_aside", False):
            from tqdm import tqdm

            tqdm.write(self.format(record), file=sys.stderr)
        else:
            print(self.format(record), flush=True)


def _logger() -> logging.Logger:
    """The logger of the package; what a program has set before the package is imported stays."""
    logger = logging.getLogger("pnas_tf")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(_Printer())
        logger.propagate = False  # the root logger would print it again, with a prefix
    return logger


_LOGGER = _logger()


def say(text: str) -> None:
    """Tells the user something: one line or several."""
    _LOGGER.info("%s", text)


def warn(text: str) -> None:
    """Warns the user; the line begins with `Warning: `."""
    _LOGGER.warning("Warning: %s", text)


def aside(text: str) -> None:
    """Tells the user something on stderr, without breaking a bar."""
    _LOGGER.info("%s", text, extra={"is_aside": True})


def is_silent() -> bool:
    """Whether a program wants no progress."""
    return not _LOGGER.isEnabledFor(logging.INFO)


def bar(total: int, what: str) -> Any:
    """A tqdm bar on stderr that counts visits to things that are measured; a file gets a line every few seconds.

    Args:
        total: Number of visits.
        what: Words in front of the bar.
    """
    from tqdm import tqdm

    return tqdm(total=total, desc=what, unit="visit", disable=is_silent(),
                mininterval=INTERVAL_SECONDS if sys.stderr.isatty() else FILE_SECONDS)


def ms(value: float) -> str:
    """Milliseconds with three significant digits: `0.412 ms`, `1.80 ms`, `78.4 ms`, `1234 ms`."""
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f} ms"


def rounded_up(value: float, digits: int = 4) -> float:
    """Rounds a positive number up, so that a network that takes `value` keeps the rounded number as its limit.

    Args:
        value: Positive number.
        digits: Number of significant digits that the result has.
    """
    places = digits - 1 - math.floor(math.log10(value))
    return float(f"{math.ceil(round(value * 10.0**places, 6)) / 10.0**places:.{digits}g}")


def percent(value: float) -> str:
    """A share as a percentage: `87.25 %`."""
    return f"{value * 100:.2f} %"


def big(value: float, unit: str = "") -> str:
    """A large number with a letter for its power of a thousand: `4.08 M`, `183 k`, `920`."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {letter}{unit}"
    return f"{value:g} {unit}".strip()


def seconds(value: float) -> str:
    """A length of time: `48 s`, `3 min 20 s`, `26 h 5 min`."""
    minutes, rest = divmod(round(value), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{value:.3g} s"


def status(text: str) -> None:
    """Shows a line that the next output replaces. Nothing happens if stdout is a file or a pipe, or in silence.

    Args:
        text: The line, cut to the width of the terminal; "" removes the line before.
    """
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not is_silent():
        width = shutil.get_terminal_size().columns - 1
        sys.stdout.write(f"\r\x1b[2K{text[:width]}")
        sys.stdout.flush()




def countdown(items: Iterable[T], what: str, count: int) -> Iterator[T]:
    """Yields items; on a terminal, a line says how many are done, and how long the others will take.

    Args:
        items: Items that take about the same time each.
        what: What is done with them, such as "scoring random networks".
        count: Number of items.
    """
    begin = shown = time.monotonic()
    for done, item in enumerate(items):
        if not done:
            status(f"{what}, 1/{count:,}")
        elif (now := time.monotonic()) - shown >= INTERVAL_SECONDS:
            shown = now
            status(f"{what}, {done + 1:,}/{count:,}, {seconds(round((now - begin) / done * (count - done)))} left")
        yield item
    status("")


@contextlib.contextmanager
def quiet(enabled: bool = True) -> Iterator[None]:
    """Discards what C++ code writes to stdout and stderr, by redirecting their file descriptors.

    `TF_CPP_MIN_LOG_LEVEL=0` in the environment turns this off.

    Args:
        enabled: Whether to discard anything; False changes nothing.
    """
    if not enabled or os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in (1, 2):
            os.dup2(null, descriptor)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, old in zip((1, 2), saved, strict=True):
            os.dup2(old, descriptor)
            os.close(old)
        os.close(null)
