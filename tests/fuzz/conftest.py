"""The rules that hold for every reader of files from others, checked on inputs that hypothesis generates.

A reader returns a value, or raises InputError with one line that is safe to show in a terminal. Anything else is a
failure: another exception, more than `CPU_SECONDS` of computing, or more than `MEMORY_BYTES` of additional memory.
"""

import copy
import json
import math
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pnas_tf.errors import InputError

QUICK_CASES, SLOW_CASES = 25, 900
CPU_SECONDS, MEMORY_BYTES = 2, 500_000_000
COUNTS = {"read": 0, "refused": 0}

# Lists and objects are parsed from text, so that each is a new object: an input may be changed later.
NASTY = st.one_of(
    st.sampled_from([None, True, False, 0, -1, 1, 2, 1.5, -0.5, math.nan, math.inf, -math.inf, 1e308, 10**400, -10**400,
                     2**63, "", " ", "../../x", "/etc/passwd", "a/b", "$(touch pwned)", "; touch pwned", "\x1b[2J\r\n",
                     "\ud800", "\u202e", "\x00", "x" * 5000, "mb_k3_e3", "mb_k5_e6", "zero", "classifier", "conv_k3"]),
    st.sampled_from(["[]", "{}", "[[]]", '{"": []}', "[1, 2, 3]", "[1e9, 1e9, 1e9]", '["zero"]', "[" * 300 + "]" * 300]
                    ).map(json.loads),
    st.text(max_size=20), st.integers(), st.floats(),
    st.lists(st.integers(), max_size=4), st.dictionaries(st.text(max_size=3), st.integers(), max_size=3))
NASTY_BYTES = st.one_of(st.binary(max_size=20), st.sampled_from([
    b"\n", b"\r\n", b"\x00" * 50, b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 100_000, b'{"a":' * 50_000,
    b"\xff\xfe", b"\x1b]0;x\x07", b"-", b"0x" + b"f" * 5000, b"1.2.3", b'"' + b"x" * 200_000, b"&a [*a]"]))
NASTY_NUMBERS = st.sampled_from([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"\0\0\0\x80"])


def spots(value: Any) -> Iterator[tuple[Any, Any]]:
    """(list or object, key) of every value inside a JSON document."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from spots(inner)


@st.composite
def changed_document(draw, document):
    """A JSON document in which some values are replaced, removed, doubled, or moved to the place of others."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(0, 3))):
        inside = list(spots(document))
        if not inside:
            break
        (parent, key), (other, other_key) = (inside[draw(st.integers(0, len(inside) - 1))] for _ in range(2))
        action = draw(st.sampled_from(["new", "new", "new", "gone", "twice", "moved"]))
        if action == "new":
            parent[key] = draw(NASTY)
        elif action == "gone":
            del parent[key]
        elif action == "moved":
            parent[key] = copy.deepcopy(other[other_key])
        elif isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        else:
            parent[draw(st.text(max_size=8))] = copy.deepcopy(parent[key])
    return document


@st.composite
def damaged_bytes(draw, content):
    """Bytes of which some are changed, removed, doubled, or inserted."""
    content = bytearray(content)
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(content)))
        length = draw(st.one_of(st.integers(0, 8), st.integers(0, len(content) - at)))
        action = draw(st.sampled_from(["flip", "cut", "drop", "twice", "insert", "number"]))
        if action == "flip" and at < len(content):
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif action == "cut":
            del content[at:]
        elif action == "drop":
            del content[at:at + length]
        elif action == "twice":
            content[at:at] = content[at:at + length]
        elif action == "insert":
            content[at:at] = draw(NASTY_BYTES)
        else:
            content[at:at + 4] = draw(NASTY_NUMBERS)
    return bytes(content)


@contextmanager
def bounded() -> Iterator[None]:
    """Ends code that computes for too long or takes too much memory, whatever else the machine does."""
    def stop(number, frame):
        raise TimeoutError(f"computed for {CPU_SECONDS} s")

    now_bytes = psutil.Process().memory_info().vms
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGVTALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (now_bytes + MEMORY_BYTES, hard))
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, before)


class Fuzz:
    """Runs a reader on many inputs."""

    def __init__(self, cases: int, same: bool):
        """
        Args:
            cases: Number of inputs for a share of 1.
            same: Whether the inputs are the same each time.
        """
        self._cases, self._same = cases, same

    def __call__(self, inputs: st.SearchStrategy, read: Callable[[Any], Any],
                 check: Callable[[Any], None] = lambda value: None, share: float = 1.0) -> None:
        """Fails if a reader breaks the rules on one of the inputs. Hypothesis then shows the smallest such input.

        Args:
            inputs: Strategy of hypothesis that generates the inputs.
            read: Reader, from one input to a value.
            check: Check of a value that was read, for example that it survives being written and read again.
            share: Factor of the usual number of inputs.
        """
        @settings(max_examples=max(1, round(self._cases * share)), deadline=None, database=None,
                  derandomize=self._same, suppress_health_check=list(HealthCheck))
        @given(inputs)
        def cases(case):
            value = self.read_one(read, case)
            if value is not None:
                check(value)

        cases()

    def read_one(self, read: Callable[[Any], Any], case: Any) -> Any:
        """Reads one input; returns the value, or None if the reader refuses the input."""
        try:
            with bounded():
                value = read(case)
        except InputError as error:
            COUNTS["refused"] += 1
            assert str(error).isprintable() and 0 < len(str(error)) <= 2000
            return None
        COUNTS["read"] += 1
        return value

    def changed(self, document: Any) -> st.SearchStrategy:
        """Strategy of changed JSON documents, see `changed_document`."""
        return changed_document(document)

    def damaged(self, content: bytes) -> st.SearchStrategy:
        """Strategy of damaged bytes, see `damaged_bytes`."""
        return damaged_bytes(content)

    def damaged_text(self, text: str) -> st.SearchStrategy:
        """Strategy of damaged text; a byte that is not UTF-8 becomes a replacement character."""
        return damaged_bytes(text.encode()).map(lambda content: content.decode("utf-8", "replace"))


@pytest.fixture(params=["quick", pytest.param("slow", marks=pytest.mark.slow)])
def fuzz(request):
    """A `Fuzz`. Quick: a few inputs, the same each time. Slow: many inputs, different each time."""
    return Fuzz(QUICK_CASES, True) if request.param == "quick" else Fuzz(SLOW_CASES, False)


def pytest_terminal_summary(terminalreporter):
    """Prints the number of inputs, and how many were read or refused."""
    if any(COUNTS.values()):
        terminalreporter.write_line(f"fuzzing: {sum(COUNTS.values()):,} cases, {COUNTS['read']:,} read and "
                                    f"{COUNTS['refused']:,} refused in one line")
