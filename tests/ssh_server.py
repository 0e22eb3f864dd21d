"""A real sshd on loopback, with keys, port and files of its own, that lets the user of this process log in."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

SSHD = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


class Server:
    """A running sshd.

    Attributes:
        config: File for `ssh -F`, in which the server is called `board`.
        folder: Folder of its files.
    """

    def __init__(self, folder: Path):
        """Makes keys and files; `start` starts it."""
        self.folder, self.config, self._process = folder, folder / "ssh_config", None
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        host_key = (folder / "host_key.pub").read_text()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}")
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile {folder}/pid\n"
            f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\n")
        self.config.write_text(
            f"Host board\n  HostName 127.0.0.1\n  Port {self.port}\n  User {getpass.getuser()}\n"
            f"  IdentityFile {folder}/user_key\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n")

    def start(self, **environment: str) -> None:
        """Starts the server, and waits until it listens."""
        if os.getuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)  # as root, sshd insists on it
        self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", self.folder / "sshd_config"],
                                         stderr=(self.folder / "log").open("ab"), stdin=subprocess.DEVNULL,
                                         env={**os.environ, **environment})
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def sessions(self) -> list[int]:
        """Process numbers of the server's children: one for each connection."""
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self._process.pid)], capture_output=True, text=True,
                                check=False)
        return [int(pid) for pid in listed.stdout.split()]

    def cut(self) -> None:
        """Cuts all connections, as if the network were gone."""
        _kill(self.sessions())

    def stop(self) -> None:
        """Ends the server and all connections."""
        sessions = self.sessions()
        self._process.terminate()
        self._process.wait(60)
        _kill(sessions)


def _kill(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
