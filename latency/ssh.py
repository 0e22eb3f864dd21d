"""Times models on a Linux board over ssh: a Raspberry Pi, a Jetson, any machine with Python and a TFLite runtime.

    python -m latency.build_table --space=quickstart --measurer=ssh --host=pi@board --output=runs/board.jsonl

`board.Board` does the timing through a Python that it starts there. This file says how: by the ssh of the system, as
the user has configured it. Nothing may ask for a password or hang.
"""

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from latency.board import Board, BoardSettings
from pnas_tf.cli.settings import setting
from pnas_tf.errors import InputError, shown

# What --host may be; it never begins like an option of ssh.
_HOST = re.compile(r"(ssh://)?([\w.+][\w.+-]*@)?[\w\[][\w.:%\]-]{0,200}", re.ASCII)
# A board that does not answer for a minute is lost. Keys of boards are checked as the user's configuration says.
_OPTIONS = ("BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=4", "ControlMaster=no",
            "ClearAllForwardings=yes", "RemoteCommand=none", "RequestTTY=no")


@dataclasses.dataclass(frozen=True)
class SshSettings(BoardSettings):
    """Every setting of the measurer of boards, and those of ssh. The text beside each field explains it."""

    host: str | None = setting(None, "Board: pi@board, ssh://pi@board:2222, or a name of your ssh configuration.")
    ssh_config: str | None = setting(None, "File that ssh reads in place of ~/.ssh/config.")

    def __post_init__(self):
        super().__post_init__()
        if self.host is not None and not _HOST.fullmatch(self.host):
            raise InputError(f"host must be like pi@board or a name of your ssh configuration, got {shown(self.host)}.")


class Ssh(Board):
    """TFLite on the CPU of a Linux board, reached by ssh."""

    Settings: ClassVar[type[Any]] = SshSettings
    NAME: ClassVar[str] = "ssh"
    NEEDS: ClassVar[str] = "--host=USER@BOARD"
    WAYS_OUT: ClassVar[Mapping[str, str]] = {
        **Board.WAYS_OUT,
        r"Permission denied \(|Too many authentication": "Let ssh log in without a password: ssh-copy-id BOARD",
        "Host key verification|REMOTE HOST IDENT": "Log in by hand once, and compare its key: ssh BOARD",
        "ssh: connect|closed by|timed out|not resolve": "Is it on, and does this work? ssh BOARD true"}

    def __init__(self, settings: SshSettings):
        """Stores the settings, and connects to nothing. Raises InputError if no board is named."""
        if not settings.host:
            raise InputError(f"Name the board: {self.NEEDS}, or the environment variable PNAS_TF_HOST.")
        super().__init__(settings, settings.host)

    def command(self, python: str, arguments: Sequence[str]) -> list[str]:
        """The command that runs a Python of the board, whose path may begin at the user's home folder there."""
        settings = self._settings
        # The board's shell reads one text. Its `sh` stays until Python ends, so that a crash becomes an exit code.
        remote = shlex.join(["sh", "-c", '"$@"; exit $?', "sh", python.removeprefix("~/"), *arguments])
        return ["ssh", *(f"-o{option}" for option in _OPTIONS),
                *(["-F", settings.ssh_config] if settings.ssh_config else []), "--", settings.host, remote]
