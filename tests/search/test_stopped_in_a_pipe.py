"""Ctrl-C in `python -m pnas_tf.search ... | tee log` on a real terminal: tee dies of it, and the search still saves."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests import forked
from tests.spaces import TINY

ROOT = Path(__file__).parents[2]
PIPE = str(ROOT / "tests" / "programs" / "terminal_pipe.py")


class Terminal:
    """A command behind tee on a terminal.

    Attributes:
        text: Bytes that the terminal has shown.
    """

    def __init__(self, folder, streams, command):
        self.folder, self.text = folder, b""
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen([sys.executable, PIPE, str(folder), streams, *command], cwd=ROOT, stdin=slave,
                                        stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            while part := os.read(self._master, 4096):
                self.text += part
        except OSError:  # the terminal has no more programs
            pass

    def wait_for(self, text, seconds=120):
        end = time.monotonic() + seconds
        while text not in self.text and time.monotonic() < end and self.process.poll() is None:
            time.sleep(0.02)
        assert text in self.text, self.text.decode()

    def press_ctrl_c(self):
        os.write(self._master, b"\x03")

    def codes(self):
        """Exit codes of tee and of the command."""
        try:
            self.process.wait(120)
        finally:
            self.process.kill()
        return [int(code) for code in (self.folder / "code").read_text().split()]


@pytest.mark.parametrize("streams", ["stdout", "both"])
def test_a_command_ends_as_it_would_without_a_pipe(tmp_path, streams):
    script = tmp_path / "command.py"
    script.write_text('"""Waits."""\nimport sys, time\n'
                      f"sys.path.insert(0, {str(ROOT)!r})\nfrom pnas_tf.cli import start\n"
                      "def work():\n    try:\n        print('ready', flush=True)\n        time.sleep(600)\n"
                      "    except KeyboardInterrupt:\n        time.sleep(0.3)\n        print('saving', flush=True)\n"
                      f"        open({str(tmp_path / 'saved')!r}, 'w').close()\n        raise\nstart.start(work)\n")
    terminal = Terminal(tmp_path, streams, [sys.executable, str(script)])
    terminal.wait_for(b"ready")
    terminal.press_ctrl_c()
    assert terminal.codes() == [-signal.SIGINT, 130]
    assert (tmp_path / "saved").exists() and b"Traceback" not in terminal.text


@pytest.mark.slow
@pytest.mark.parametrize("streams", ["stdout", "both"])
def test_a_search_saves_and_continues_to_the_same_result(tmp_path, write_space, streams):
    write_space(TINY, tmp_path / "space.json", tmp_path / "table.jsonl")

    def command(folder):
        return ["pnas_tf.search", f"--space={tmp_path}/space.json", f"--table={tmp_path}/table.jsonl",
                "--batch_size=32", "--warmup_epochs=1", "--search_epochs=3", "--arch_every=1", "--front=2",
                "--max_steps=400", f"--run_dir={folder}"]

    terminal = Terminal(tmp_path, streams, [sys.executable, "-m", *command(tmp_path / "run")])
    terminal.wait_for(b"epoch 1/4")
    terminal.press_ctrl_c()
    assert terminal.codes() == [-signal.SIGINT, 130]
    assert b"Traceback" not in terminal.text and b"BrokenPipe" not in terminal.text
    again, whole = (forked.run(command(tmp_path / name), cwd=ROOT) for name in ("run", "whole"))
    assert again.returncode == whole.returncode == 0, again.stderr + whole.stderr
    assert "Continuing after" in again.stdout
    assert (tmp_path / "run" / "arch.json").read_bytes() == (tmp_path / "whole" / "arch.json").read_bytes()
