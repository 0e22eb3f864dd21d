"""Lines that a terminal shows while something runs."""

import contextlib
import io
import logging
import os
import pty

import pytest

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


@pytest.fixture
def log():
    """The logger of the package, which is as before after the test."""
    log = logging.getLogger("pnas_tf")
    level, handlers = log.level, list(log.handlers)
    yield log
    log.setLevel(level)
    log.handlers[:] = handlers


def test_messages_are_lines_on_standard_output_until_a_program_says_otherwise(log, capsys, monkeypatch):
    terminal.say("20 % of 5 images")
    terminal.warn("few images.")
    assert capsys.readouterr() == ("20 % of 5 images\nWarning: few images.\n", "")
    with contextlib.redirect_stdout(io.StringIO()) as elsewhere:
        terminal.say("there")
    assert elsewhere.getvalue() == "there\n"

    log.setLevel("WARNING")
    terminal.say("progress")
    terminal.warn("few images.")
    assert capsys.readouterr().out == "Warning: few images.\n"
    log.setLevel("ERROR")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal.warn("few images.")
    terminal.status("1 of 9")
    terminal.aside("a device waits")
    with terminal.bar(9, "ops") as bar:
        bar.update(9)
    assert capsys.readouterr() == ("", "")
    log.setLevel("INFO")
    terminal.aside("a device waits")
    with terminal.bar(9, "ops") as bar:
        bar.update(9)
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("a device waits\n") and "ops: 100%" in shown.err
    terminal.status("1 of 9")
    assert "1 of 9" in capsys.readouterr().out

    written = io.StringIO()
    log.handlers[:] = [handler := logging.StreamHandler(written)]
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    terminal.say("one\ntwo")
    assert written.getvalue() == "INFO one\ntwo\n" and capsys.readouterr() == ("", "")


def test_what_a_program_has_set_before_the_import_stays(log):
    log.setLevel("ERROR")
    log.handlers[:] = [handler := logging.NullHandler()]
    assert terminal._logger() is log and (log.level, log.handlers) == (logging.ERROR, [handler])
