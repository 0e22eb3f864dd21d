"""Runs a command through `tee` on a terminal of its own, as a shell does, and writes the command's exit code.

    python tests/programs/terminal_pipe.py FOLDER both|stdout COMMAND...

The terminal is stdin, and this process leads its session: Ctrl-C there reaches the command and `tee` alike. FOLDER gets
`log` from `tee`, and `code`.
"""

import fcntl
import os
import signal
import subprocess
import sys
import termios


def main() -> None:
    """Runs the command."""
    folder, streams, *command = sys.argv[1:]
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what started the tests may have told them to ignore it
    tee = subprocess.Popen(["tee", os.path.join(folder, "log")], stdin=subprocess.PIPE)
    process = subprocess.Popen(command, stdout=tee.stdin, stderr=subprocess.STDOUT if streams == "both" else None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does while it waits
    tee.stdin.close()
    code = process.wait()
    with open(os.path.join(folder, "code"), "w", encoding="utf-8") as file:
        file.write(f"{tee.wait()} {code}")


if __name__ == "__main__":
    main()
