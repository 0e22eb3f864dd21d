"""Folders for files in the making, hidden beside their place or among the temporary files, and locks."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from pnas_tf.errors import InputError

# Beginning of the names of files and folders in the making.
_WORKSPACE = ".writing-"
_TEMPORARY = "Free some space, or name another folder by the environment variable TMPDIR."


@contextlib.contextmanager
def workspace(folder: str) -> Iterator[str]:
    """A hidden folder for files in the making, on the disk of those that they will replace. It is removed at the end.

    Removes what killed processes have left in the same place, too.

    Args:
        folder: Folder to make it in.

    Raises:
        OSError: If it cannot be made.
    """
    remove_left(folder)
    path, holder = _locked_folder(folder)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(holder)


def remove_left(folder: str) -> None:
    """Removes the workspaces that killed processes have left in a folder: those that nobody has locked."""
    with contextlib.suppress(OSError):
        left = [entry.path for entry in os.scandir(folder)
                if entry.name.startswith(_WORKSPACE) and not entry.is_symlink()]
        for path in left:
            with contextlib.suppress(OSError), _opened(path) as holder:
                if lock(holder):
                    shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def _locked_folder(folder: str) -> tuple[str, int]:
    """Path of a new workspace, and the open file that keeps it locked until it is closed or this process ends."""
    while True:
        path = tempfile.mkdtemp(prefix=_WORKSPACE, dir=folder)
        with contextlib.suppress(FileNotFoundError):  # another process has just taken it for a remnant
            holder = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                is_locked = lock(holder)
            except OSError:  # a file system without locks, on which nothing is removed either
                is_locked = True
            if is_locked and os.path.isdir(path):
                return path, holder
            os.close(holder)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    holder = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield holder
    finally:
        os.close(holder)


@contextlib.contextmanager
def temporary_folder() -> Iterator[str]:
    """A folder for temporary files, which is removed when the context ends.

    Raises:
        InputError: If it cannot be made.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="pnas_tf-")
    except OSError as error:
        raise InputError(f"No folder for temporary files can be made ({error.strerror}). {_TEMPORARY}") from None
    with folder as path:
        yield path


def write_temporary(folder: str, name: str, data: bytes) -> str:
    """Writes a file into a `temporary_folder` and returns its path. Raises InputError if it cannot be written."""
    path = os.path.join(folder, name)
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}). {_TEMPORARY}") from None
    return path


def lock(file: IO[Any] | int) -> bool:
    """Locks a file against other processes that call this function, until it is closed or this process ends.

    Args:
        file: Open file, or its number.

    Returns:
        False if another process holds the lock.

    Raises:
        OSError: If the file system does not support locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
