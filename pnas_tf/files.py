"""Files: bounded reads of untrusted files, writes that are whole or leave no trace, and JSON Lines."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from io import BufferedReader
from typing import IO, Any

from pnas_tf import workspaces
from pnas_tf.errors import InputError

# An escape in JSON that stands for half of a surrogate pair; both halves together are fine.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# What parsed JSON may take: brackets, commas and lines, each of which can become an object of 250 bytes.
MAX_VALUES = 4_000_000
# Largest flag file, read once for each time that another one names it; and largest log of a search.
MAX_FLAGS_BYTES, MAX_LOG_BYTES = 100_000, 100_000_000
MAX_MODEL_BYTES = 1_000_000_000  # of a .tflite


def opened(path: str, way_out: str = "") -> BufferedReader:
    """Opens a regular file to read it.

    Args:
        path: File to read. Pipes and devices are refused: they may never end.
        way_out: Advice at the end of the error about a file that cannot be read.

    Raises:
        InputError: If the file is missing or not regular, or cannot be read.
    """
    try:
        # Opening a pipe without NONBLOCK waits for its writer.
        file = open(path, "rb", opener=lambda name, how: os.open(name, how | workspaces.NONBLOCK))  # noqa: SIM115
    except (OSError, ValueError) as error:  # a path with a null character is a ValueError
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}). {way_out}".rstrip()
                         ) from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(f"{path}: not a regular file. Give the path of a file.")
    return file


def read_bytes(path: str, max_bytes: int = 500_000_000, way_out: str = "Is this the folder of a search?") -> bytes:
    """The contents of a regular file.

    Args:
        path: File to read, as for `opened`.
        max_bytes: Size above which the file is refused.
        way_out: Advice at the end of the error about a file that cannot be read.

    Raises:
        InputError: If the file is missing, too large or not regular, or cannot be read.
    """
    with opened(path, way_out) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            if size <= max_bytes:
                return file.read(size)  # read(max_bytes) would take that much memory
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}). {way_out}".rstrip()) from None
    raise InputError(f"{path}: larger than {max_bytes} bytes; this is not one of our files.")


def check_values(content: bytes | str, path: str) -> None:
    """Raises InputError if JSON may hold so many values that they fill the memory, such as millions of empty lists."""
    count = sum(content.count(mark.encode()) if isinstance(content, bytes) else content.count(mark) for mark in "[{,\n")
    if count > MAX_VALUES:
        raise InputError(f"{path}: holds more than {MAX_VALUES:,} values; this is not one of our files.")


def read_text(path: str, max_bytes: int = 500_000_000, way_out: str = "Is this the folder of a search?") -> str:
    """The contents of a text file, in UTF-8; arguments and errors as `read_bytes`."""
    content = read_bytes(path, max_bytes, way_out)
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except ValueError:
        raise InputError(f"{path}: cannot be read (not UTF-8 text). {way_out}") from None


def read_json(path: str, max_bytes: int = 10_000_000) -> Any:
    """Parses an untrusted JSON file.

    Args:
        path: File to read.
        max_bytes: Size above which the file is refused. Parsed JSON can take 25 times as much memory.

    Raises:
        InputError: If the file is missing, too large, not regular, cut off or not JSON.
    """
    content = read_bytes(path, max_bytes, way_out="")
    check_values(content, path)
    try:
        return _parsed(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); it may be cut off. Write it again.") from None


def read_lines(path: str, max_bytes: int = MAX_LOG_BYTES, way_out: str = "Remove the line.") -> list[Any]:
    """Parses a JSON Lines file whose last line may be incomplete, because its program was stopped while it wrote.

    Args:
        path: File to read; it need not exist.
        max_bytes: Size above which the file is refused.
        way_out: Advice at the end of the error about a broken line.

    Returns:
        One value for each line, without blank lines and without an incomplete last line; empty if there is no file.

    Raises:
        InputError: If the file is too large, not regular or cannot be read, or a line other than the last is not JSON.
    """
    if not os.path.exists(path):
        return []
    content = read_bytes(path, max_bytes)
    check_values(content, path)
    lines, values = content.split(b"\n"), []
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                values.append(_parsed(line))
        except (ValueError, RecursionError):
            if number < len(lines):
                raise InputError(f"{path}, line {number}: not valid JSON. {way_out}") from None
    return values


def _parsed(content: bytes) -> Any:
    """The value of JSON in UTF-8. Raises ValueError for half a surrogate pair, which no text file can hold."""
    text = content.decode("utf-8")
    value = json.loads(text)
    if _SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


@contextlib.contextmanager
def only_writer(path: str) -> Iterator[None]:
    """Refuses other processes that add lines to a file meanwhile, or write it anew.

    Args:
        path: The file; it need not exist, and its folder is made if it is missing.

    Raises:
        InputError: If another process writes it, or its folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
            is_alone = stack.enter_context(workspaces.only_writer(path))
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}). Choose another file.") from None
        if not is_alone:
            raise InputError(f"{path}: another program is adding to this file. Wait for it, or stop it.")
        yield


def append_line(path: str, entry: Any) -> None:
    """Adds one line to a JSON Lines file. An incomplete last line, left by a stopped program, is removed first.

    Raises:
        InputError: If the line cannot be written, or the file is a link; the lines before it stay.
    """
    with _keeping_lines(path, "line"):
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path, "ab+", buffering=0, opener=own) as file:
            drop_half_line(file)
            _write_or_undo(file, entry)


def add_line(file: IO[bytes], path: str, entry: Any, what: str = "line") -> None:
    """Adds one line to an open JSON Lines file, whole or not at all.

    Args:
        file: Unbuffered file that ends with a line break.
        path: Path of the file, for the error.
        entry: Contents of the line.
        what: What the error calls a line.

    Raises:
        InputError: If the line cannot be written; the lines before it stay.
    """
    with _keeping_lines(path, what):
        _write_or_undo(file, entry)


@contextlib.contextmanager
def _keeping_lines(path: str, what: str) -> Iterator[None]:
    """Turns an OSError into one line that says that earlier lines are kept."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: a {what} cannot be written ({error.strerror}). The {what}s before it are kept: free "
                         "some space and run the same command again to continue.") from None


def _write_or_undo(file: IO[bytes], entry: Any) -> None:
    data, end = json.dumps(entry).encode() + b"\n", file.seek(0, os.SEEK_END)
    try:
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(end)
        raise


def own(path: str, how: int) -> int:
    """Opens a file to change it, as the `opener` of `open`. A link is refused: what it leads to is not ours."""
    return os.open(path, how | workspaces.NOFOLLOW, 0o666)


def drop_half_line(file: Any) -> None:
    """Cuts an open binary file after its last line break, and leaves the position at the end."""
    file.seek(0)
    file.truncate(file.read().rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)


def sha256(path: str) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        with opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None


def number(value: Any) -> float | None:
    """The value itself if it is a number below 1e18 in size; None for everything else, booleans included."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e18 < value < 1e18:
        return None
    return value


def write_text(path: str, text: str) -> None:
    """Writes a text file: readers see the old file or the new one, never half of it.

    Raises:
        InputError: If the file cannot be written.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str, data: bytes | memoryview) -> None:
    """Writes bytes to a file, whole or not at all, as `write_text` does with text."""

    def write(temporary: str) -> None:
        with open(temporary, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)

    write_whole(path, write)


def copy(source: str, path: str) -> None:
    """Copies a file, whole or not at all; raises InputError as `write_whole` does."""
    write_whole(path, lambda temporary: shutil.copyfile(source, temporary))


def write_whole(path: str, write: Callable[[str], Any], *, replace: bool = True) -> None:
    """Lets a function write a temporary file, which takes the place of the file when all of it is on the disk.

    Args:
        path: Path of the file. Missing folders are made.
        write: Function called with the path of the temporary file, which has the same name in another folder.
        replace: Whether to replace a file of this path; otherwise it stays.

    Raises:
        InputError: If the file cannot be written; an earlier file of this path stays.
    """
    folder, name = os.path.split(os.path.abspath(path))
    try:
        os.makedirs(folder, exist_ok=True)
        with workspaces.workspace(folder) as space:
            temporary = os.path.join(space, name)
            write(temporary)
            with open(temporary, "rb+") as file:  # Windows syncs only files that are open for writing
                os.fsync(file.fileno())
            if replace:
                os.replace(temporary, path)
            else:
                _name_new(temporary, path)
    except (OSError, RuntimeError, ValueError, KeyError) as error:  # libraries raise any of these for a full disk
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())[:150]
        raise InputError(f"{path}: cannot be written ({reason}). Free some space and run the same command again, or "
                         "choose another folder.") from None


def _name_new(temporary: str, path: str) -> None:
    """Gives a file a name, unless another file has it."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except (OSError, AttributeError):  # a file system without hard links
        if not os.path.exists(path):
            os.replace(temporary, path)


def create(path: str, data: bytes) -> None:
    """Writes a file unless there is one, even one that another process makes at the same time. Errors as `write_text`.

    Args:
        path: Path of the file.
        data: Contents of a new file.
    """
    def write(temporary: str) -> None:
        with open(temporary, "xb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)

    write_whole(path, write, replace=False)
