"""Waits for what another process does: `from tests.waiting import wait_for`."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    """Waits until a condition holds, and fails if it never does.

    Args:
        condition: Function that returns whether it holds.
        seconds: Longest wait, far above the usual one: busy machines are slow.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        time.sleep(0.02)
