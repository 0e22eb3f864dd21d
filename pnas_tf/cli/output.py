"""Standard output and errors of a command that nobody may read: they never stop its work.

The reader of a pipe may have ended (`| head -1`, or `| tee log` on Ctrl-C), the disk of a log may be full, the terminal
may be gone, or there may be no standard output at all. What cannot be written is then dropped, and the work goes on.
"""

import contextlib
import errno
import io
import os
import sys

# Errors of a reader that has gone, which a command does not mention, as is usual in pipes.
_NO_READER = (errno.EPIPE, errno.EIO)


class _Droppable(io.FileIO):
    """A file whose writes never fail: after the first failure, everything goes to /dev/null."""

    def write(self, data, /) -> int:
        """Writes bytes, or drops them."""
        try:
            return super().write(data) or 0
        except BlockingIOError:
            raise
        except OSError as error:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())  # also for C++ code and for child processes
            os.close(null)
            if error.errno not in _NO_READER and self.fileno() == 1:
                with contextlib.suppress(OSError):
                    os.write(2, f"Standard output cannot be written ({error.strerror}). The work goes on without "
                                "it.\n".encode())
            return len(memoryview(data).cast("B"))


def guard() -> None:
    """Replaces the process's own sys.stdout and sys.stderr by streams that never fail.

    Letters that their encoding does not have are written as \\x escapes. A closed descriptor is opened on /dev/null, so
    that no file of the command can take its number and receive what C++ code prints. Streams that a program has put in
    place of its own are left alone.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    sys.stdout = _guarded(sys.stdout, sys.__stdout__, 1)
    sys.stderr = _guarded(sys.stderr, sys.__stderr__, 2)


def _guarded(stream, own, descriptor):
    if stream is not own:
        return stream
    if stream is not None:
        with contextlib.suppress(OSError):
            stream.flush()
    raw = _Droppable(descriptor, "w", closefd=False)
    encoding = stream.encoding if stream is not None else "utf-8"
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="backslashreplace",
                            line_buffering=descriptor == 2 or raw.isatty(), write_through=descriptor == 2)
