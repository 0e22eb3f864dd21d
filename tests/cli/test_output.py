"""Output that nobody can read never stops the work of a command, nor does a letter that its encoding does not have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A command that prints much, writes a file, and then prints more.
COMMAND = f'''"""Works."""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from pnas_tf import terminal
from pnas_tf.cli import start
from pnas_tf.errors import InputError
def work():
    for number in range(5000):
        print("line", number, "Blätter 外列")
    terminal.status("busy")
    with terminal.quiet(), open("done", "w") as file:
        file.write(f"{{file.fileno()}}")
    print("the end", file=sys.stderr, flush=True)
    if os.environ.get("FAIL"):
        raise InputError("Wrong.")
start.start(work)
'''


def shell(folder, line, **environment):
    """Runs a line of bash in a folder; COMMAND is `$command`. Its exit code is that of the command."""
    (folder / "command.py").write_text(COMMAND)
    return subprocess.run(["bash", "-c", f'{line}; exit "${{PIPESTATUS[0]}}"'], cwd=folder, capture_output=True,
                          text=True, timeout=60, env={**os.environ, "command": f"{sys.executable} command.py",
                                                      **environment})


@pytest.mark.parametrize("line", [
    "$command | head -1", "$command | true", "$command >&-", "$command <&- >&- 2>&-", "$command > /dev/full",
    "$command 2> /dev/full", "$command &> /dev/full", "$command 2>&1 | head -1", "$command 2>&-",
    "$command --help | true"])
@pytest.mark.parametrize("fails", ["", "1"])
def test_the_work_is_done_whoever_listens(tmp_path, line, fails):
    done = shell(tmp_path, line, FAIL=fails)
    is_help = "--help" in line
    assert done.returncode == (1 if fails and not is_help else 0), done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr and "BrokenPipe" not in done.stderr
    if not is_help:
        assert int((tmp_path / "done").read_text()) > 2, "a file took the number of a closed standard stream"


def test_a_full_disk_is_named_once(tmp_path):
    done = shell(tmp_path, "$command > /dev/full")
    assert done.stderr.splitlines() == [
        "Standard output cannot be written (No space left on device). The work goes on without it.", "the end"]


def test_letters_are_escaped_and_not_lost(tmp_path):
    for encoding, line in (("ascii", "line 0 Bl\\xe4tter \\u5916\\u5217\n"), ("utf-8", "line 0 Blätter 外列\n")):
        assert shell(tmp_path, "$command | head -1", PYTHONIOENCODING=encoding).stdout == line


def test_the_list_of_commands(tmp_path):
    done = shell(tmp_path, f"PYTHONPATH={ROOT} {sys.executable} -m pnas_tf | true")
    assert done.returncode == 0 and done.stderr == ""
