"""A test device that adb takes for an Android device: it speaks adb's device protocol on a port of loopback.

    python tests/adb_device/device.py --root=SANDBOX

The device prints its port, for `adb connect 127.0.0.1:PORT`. It implements CNXN, AUTH, OPEN, OKAY, WRTE and CLSE, with
one WRTE under way in each stream, and the services shell (plain and v2), exec and sync (version 1). /data, /sdcard and
/sys are folders of the sandbox: their paths are rewritten in commands, and the sandbox is removed from the output.
SANDBOX/system/bin comes first in the PATH; it holds getprop, dumpsys and other programs of Android.

Faults are files in SANDBOX/faults, which may come and go at any time:

    unplugged       connections are cut, and new ones are refused
    unauthorized    new connections wait for a dialog that nobody answers
    no_space        a file that is pushed is cut at 100 bytes, with the error of a full disk
    wrong_length    packets of the shell claim to be longer than they are, by the number in the file
    shell           the commands in the file run before every command, and may end or replace it

The protocol is described in Android's packages/modules/adb: protocol.txt, SYNC.TXT and shell_protocol.h.
"""

import argparse
import asyncio
import contextlib
import errno
import os
import re
import signal
import stat
import struct
from pathlib import Path

VERSION, MAX_DATA = 0x01000001, 256 * 1024
AUTH_TOKEN, AUTH_RSAPUBLICKEY = 1, 3
SHELL_STDIN, SHELL_STDOUT, SHELL_STDERR, SHELL_EXIT, SHELL_CLOSE_STDIN = range(5)


class Stream:
    """A stream of a connection; each write waits for the answer to the previous one."""

    def __init__(self, connection, local, remote):
        self.connection, self.local, self.remote = connection, local, remote
        self.received: asyncio.Queue = asyncio.Queue()
        self.ready = asyncio.Event()
        self.closed = False
        self._rest = b""

    async def write(self, data):
        for start in range(0, len(data), self.connection.max_data):
            self.ready.clear()
            await self.connection.send(b"WRTE", self.local, self.remote, data[start:start + self.connection.max_data])
            await self.ready.wait()
            if self.closed:
                raise ConnectionError("closed by the host")

    async def read_some(self):
        data, self._rest = self._rest, b""
        if not data:
            data = await self.received.get()
        if data is None:
            raise EOFError
        return data

    async def read(self, count):
        data = b""
        while len(data) < count:
            data += await self.read_some()
        data, self._rest = data[:count], data[count:]
        return data

    def end(self):
        self.closed = True
        self.ready.set()
        self.received.put_nowait(None)


class Connection:
    """The connection of a host."""

    def __init__(self, device, reader, writer):
        self.device, self.reader, self.writer = device, reader, writer
        self.max_data, self.streams, self.tasks = 4096, {}, set()

    async def send(self, command, arg0, arg1, data=b""):
        number = int.from_bytes(command, "little")
        self.writer.write(struct.pack("<4s5I", command, arg0, arg1, len(data), 0, number ^ 0xFFFFFFFF) + data)
        await self.writer.drain()

    async def run(self):
        try:
            while True:
                command, arg0, arg1, length, _, _ = struct.unpack("<4s5I", await self.reader.readexactly(24))
                await self.answer(command, arg0, arg1, await self.reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            for stream in self.streams.values():
                stream.end()
            self.writer.close()

    async def answer(self, command, arg0, arg1, data):
        stream = self.streams.get(arg1)
        if command == b"CNXN":
            self.max_data = min(MAX_DATA, arg1)
            if self.device.fault("unauthorized"):
                await self.send(b"AUTH", AUTH_TOKEN, 0, os.urandom(20))
            else:
                await self.send(b"CNXN", VERSION, MAX_DATA, self.device.banner())
        elif command == b"AUTH" and arg0 != AUTH_RSAPUBLICKEY:  # a signature by an unknown key
            await self.send(b"AUTH", AUTH_TOKEN, 0, os.urandom(20))
        elif command == b"OPEN":
            stream = Stream(self, max(self.streams, default=0) + 1, arg0)
            self.streams[stream.local] = stream
            task = asyncio.create_task(self.serve(stream, data.rstrip(b"\0").decode()))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif command == b"WRTE" and stream:
            stream.received.put_nowait(data)
            await self.send(b"OKAY", arg1, arg0)
        elif command == b"OKAY" and stream:
            stream.ready.set()
        elif command == b"CLSE" and stream:
            self.streams.pop(arg1).end()

    async def serve(self, stream, service):
        kind, _, argument = service.partition(":")
        kind, *options = kind.split(",")
        with contextlib.suppress(EOFError, ConnectionError):
            if kind in ("shell", "exec"):
                await self.send(b"OKAY", stream.local, stream.remote)
                await self.device.shell(stream, argument, "v2" in options)
            elif kind == "sync":
                await self.send(b"OKAY", stream.local, stream.remote)
                await Sync(self.device, stream).run()
            if not stream.closed:
                await self.send(b"CLSE", stream.local, stream.remote)


class Device:
    """The sandbox, and the commands that run in it.

    Attributes:
        root: Folder of the sandbox.
        connections: Writers of the open connections.
    """

    def __init__(self, root):
        self.root, self.connections = Path(os.path.realpath(root)), set()
        for folder in ("data/local/tmp", "sdcard", "system/bin", "faults"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)

    def fault(self, name):
        return (self.root / "faults" / name).exists()

    def banner(self):
        properties = ";".join(f"{name}={(self.root / 'model').read_text().strip()}" for name in
                              ("ro.product.name", "ro.product.model", "ro.product.device"))
        return f"device::{properties};features=shell_v2,cmd".encode()

    def path(self, path):
        full = Path(os.path.normpath(self.root / path.lstrip("/")))
        if not full.is_relative_to(self.root):
            raise PermissionError(errno.EACCES, "outside of the sandbox")
        return full

    async def connected(self, reader, writer):
        self.connections.add(writer)
        await Connection(self, reader, writer).run()
        self.connections.discard(writer)

    async def serve(self, port):
        """Listens whenever the device is not unplugged, until the program that started it has ended."""
        server, parent = None, os.getppid()
        while os.getppid() == parent:
            if not server and not self.fault("unplugged"):
                server = await asyncio.start_server(self.connected, "127.0.0.1", port)
                if not port:
                    port = server.sockets[0].getsockname()[1]
                    print(port, flush=True)
            elif server and self.fault("unplugged"):
                server.close()
                for writer in self.connections:
                    writer.transport.abort()
                server = None
                (self.root / "was_unplugged").touch()
            await asyncio.sleep(0.01)

    async def shell(self, stream, command, v2):
        command = re.sub(r"(?<![\w./])/(data|sdcard|sys)(?=/|\b)", lambda match: f"{self.root}/{match[1]}", command)
        if command and self.fault("shell"):
            command = f"{(self.root / 'faults/shell').read_text()}\n{command}"
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", *(["-c", command] if command else []), cwd=self.root, start_new_session=True,
            env={"PATH": f"{self.root}/system/bin:/usr/bin:/bin", "HOME": str(self.root)},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE if v2 else asyncio.subprocess.STDOUT)
        feeder = asyncio.create_task(self._feed(stream, process, v2))
        pumps = [self._pump(stream, process.stdout, SHELL_STDOUT, v2)]
        if v2:
            pumps.append(self._pump(stream, process.stderr, SHELL_STDERR, v2))
        await asyncio.gather(*pumps)
        code = await process.wait()
        if v2:
            await stream.write(struct.pack("<BIB", SHELL_EXIT, 1, code if code >= 0 else 128 - code))
        feeder.cancel()

    async def _pump(self, stream, output, number, v2):
        while data := await output.read(32768):
            data = data.replace(bytes(self.root), b"")
            more = (self.root / "faults/wrong_length").read_text() if self.fault("wrong_length") else 0
            length = len(data) + int(more)
            await stream.write(struct.pack("<BI", number, length) + data if v2 else data)

    async def _feed(self, stream, process, v2):
        try:
            while True:
                number, data = SHELL_STDIN, b""
                if v2:
                    number, length = struct.unpack("<BI", await stream.read(5))
                    data = await stream.read(length)
                else:
                    data = await stream.read_some()
                if number == SHELL_CLOSE_STDIN:
                    process.stdin.close()
                elif number == SHELL_STDIN:
                    process.stdin.write(data)
        except EOFError:  # the host is gone: the programs that it started end, as on a phone
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGHUP)


class Sync:
    """The service for file transfer."""

    def __init__(self, device, stream):
        self.device, self.stream = device, stream

    async def run(self):
        while True:
            request, length = struct.unpack("<4sI", await self.stream.read(8))
            if request == b"QUIT":
                return
            argument = (await self.stream.read(length)).decode()
            answer = {b"STAT": self.stat, b"LIST": self.list, b"SEND": self.send, b"RECV": self.receive}[request]
            try:
                await answer(argument)
            except OSError as error:
                text = f"{error.strerror}".encode()
                await self.stream.write(struct.pack("<4sI", b"FAIL", len(text)) + text)

    def _status(self, path):
        try:
            status = self.device.path(path).lstat()
        except OSError:
            return bytes(12)
        return struct.pack("<3I", status.st_mode, status.st_size & 0xFFFFFFFF, int(status.st_mtime))

    async def stat(self, path):
        await self.stream.write(b"STAT" + self._status(path))

    async def list(self, path):
        folder = self.device.path(path)
        for name in sorted(os.listdir(folder)) if folder.is_dir() else []:
            await self.stream.write(b"DENT" + self._status(f"{path}/{name}") + struct.pack("<I", len(name.encode()))
                                    + name.encode())
        await self.stream.write(b"DONE" + bytes(16))

    async def receive(self, path):
        data = self.device.path(path).read_bytes()
        for start in range(0, len(data), 65536):
            chunk = data[start:start + 65536]
            await self.stream.write(struct.pack("<4sI", b"DATA", len(chunk)) + chunk)
        await self.stream.write(struct.pack("<4sI", b"DONE", 0))

    async def send(self, argument):
        name, _, mode = argument.rpartition(",")
        content = b""
        while True:
            kind, length = struct.unpack("<4sI", await self.stream.read(8))
            if kind == b"DONE":
                break
            content += await self.stream.read(length)
        path = self.device.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        full = self.device.fault("no_space")
        path.write_bytes(content[:100] if full else content)
        path.chmod(stat.S_IMODE(int(mode)) or 0o644)
        with open(self.device.root / "pushed.log", "a", encoding="utf-8") as log:
            log.write(f"{name}\n")
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        await self.stream.write(struct.pack("<4sI", b"OKAY", 0))


def main() -> None:
    """Runs the device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    # The shells end by this signal, also if what started the tests has told them to ignore it.
    signal.signal(signal.SIGHUP, lambda *_: None)
    asyncio.run(Device(arguments.root).serve(arguments.port))


if __name__ == "__main__":
    main()
