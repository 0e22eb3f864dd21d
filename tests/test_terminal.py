"""Lines that a terminal shows while something runs."""

import contextlib
import os
import pty

from pnas_tf import terminal


def test_a_countdown_counts_on_a_terminal_alone(monkeypatch, capsys):
    assert list(terminal.countdown("abc", "Scoring networks", 3)) == ["a", "b", "c"]
    assert capsys.readouterr().out == ""

    monkeypatch.setenv("TERM", "xterm")
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as screen:
        monkeypatch.setattr("sys.stdout", screen)
        times = iter([0.0, 10.0, 14.0])
        monkeypatch.setattr("time.monotonic", lambda: next(times))
        assert list(terminal.countdown("abc", "Scoring networks", 3)) == ["a", "b", "c"]
    shown = b""
    with contextlib.suppress(OSError):  # the end of what was written; one read may give a part of it
        while part := os.read(reader, 4096):
            shown += part
    os.close(reader)
    lines = shown.decode().split("\r\x1b[2K")
    # After one of three in 10 s, 20 s are left; after two in 14 s, 7 s.
    assert lines == ["", "Scoring networks, 1/3", "Scoring networks, 2/3, 20 s left", "Scoring networks, 3/3, 7 s left",
                     ""]
