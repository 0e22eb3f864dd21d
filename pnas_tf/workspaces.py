"""Folders for files in the making, hidden beside their place or among the temporary files, and locks."""

import contextlib
import ctypes
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from pnas_tf import terminal
from pnas_tf.errors import InputError

# Beginnings of the names of files and folders in the making, and of folders among the temporary files of all programs.
_WORKSPACE, _PRIVATE = ".writing-", ".pnas_tf-"
# Flags of os.open that Windows does not have, nor pipes among its files.
NONBLOCK, NOFOLLOW = getattr(os, "O_NONBLOCK", 0), getattr(os, "O_NOFOLLOW", 0)
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
    with _folder_in(folder, _WORKSPACE) as path:
        yield path


@contextlib.contextmanager
def _folder_in(folder: str, prefix: str) -> Iterator[str]:
    """A locked folder whose name begins with `prefix`; those that killed processes have left are removed first."""
    remove_left(folder, prefix)
    path, holder = _locked_folder(folder, prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if holder is not None:
            os.close(holder)


def remove_left(folder: str, prefix: str = _WORKSPACE) -> None:
    """Removes what killed processes of this user have left in a folder: that which nobody has locked.

    Args:
        folder: Folder to look into; never through links.
        prefix: Beginning of the names.
    """
    if os.name == "nt":  # see `_locked_folder`
        return
    with contextlib.suppress(OSError):
        left = [entry.path for entry in os.scandir(folder) if entry.name.startswith(prefix) and not entry.is_symlink()
                and entry.stat(follow_symlinks=False).st_uid == os.getuid()]
        for path in left:
            with contextlib.suppress(OSError), _opened(path) as holder:
                if lock(holder):
                    shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def _locked_folder(folder: str, prefix: str) -> tuple[str, int | None]:
    """Path of a new workspace, and the open file that keeps it locked until it is closed or this process ends.

    Windows opens no folders, so nothing is locked there, and `remove_left` removes nothing.
    """
    while True:
        path = tempfile.mkdtemp(prefix=prefix, dir=folder)
        if os.name == "nt":
            return path, None
        with contextlib.suppress(FileNotFoundError):  # another process has just taken it for a remnant
            holder = os.open(path, os.O_RDONLY)
            try:
                is_locked = lock(holder)
            except OSError:  # a file system without locks, on which nothing is removed either
                is_locked = True
            if is_locked and os.path.isdir(path):
                return path, holder
            os.close(holder)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    holder = os.open(path, os.O_RDONLY | NONBLOCK | NOFOLLOW)
    try:
        yield holder
    finally:
        os.close(holder)


@contextlib.contextmanager
def temporary_folder() -> Iterator[str]:
    """A folder for temporary files, which is removed when the context ends. Those of killed processes are removed, too.

    Raises:
        InputError: If it cannot be made.
    """
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(_folder_in(tempfile.gettempdir(), _PRIVATE))
        except OSError as error:
            raise InputError(f"No folder for temporary files can be made ({error.strerror}). {_TEMPORARY}") from None
        yield path


def put_folder(new: str, place: str) -> None:
    """Puts a folder into a place. Whenever the process is killed, there is the earlier folder or the new one, whole.

    Args:
        new: Path of the folder, on the disk of its place. If there was a folder before, it is at this path afterwards.
        place: Path of the place.

    Raises:
        OSError: If the folder cannot be put there; the earlier one stays.
    """
    if not os.path.lexists(place):
        os.rename(new, place)
    elif not _exchanged(new, place):  # a file system that cannot: only here, nothing is there for a moment
        aside = f"{new}.earlier"
        os.rename(place, aside)
        try:
            os.rename(new, place)
        except OSError:
            os.rename(aside, place)
            raise
        os.rename(aside, new)


def _exchanged(one: str, other: str) -> bool:
    """Exchanges two paths in one step, as Linux and macOS can on most file systems; returns whether it did."""
    if os.name == "nt":
        return False
    here, exchange = -2 if sys.platform == "darwin" else -100, 2  # AT_FDCWD; RENAME_EXCHANGE or RENAME_SWAP
    libc = ctypes.CDLL(None)
    rename = getattr(libc, "renameatx_np" if sys.platform == "darwin" else "renameat2", None)
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


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
    descriptor = file if isinstance(file, int) else file.fileno()
    try:
        import filelock  # only here: boards that time models need this module, and may not have the package
    except ImportError:  # boards run Linux, where filelock has the same locks
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
    return filelock.lock_descriptor(descriptor, blocking=False)


def lock_if_possible(file: IO[Any], path: str) -> bool:
    """As `lock`, but a file system without locks, as some of networks are, is only a warning.

    Args:
        file: Open file.
        path: What the lock is for, as the warning names it.
    """
    try:
        return lock(file)
    except OSError as error:
        terminal.warn(f"{path} cannot be locked ({error.strerror}). Make sure that no other process writes there.")
        return True


@contextlib.contextmanager
def only_writer(path: str) -> Iterator[bool]:
    """Within this context, no other process that calls this function writes a file.

    An empty hidden file beside it is locked: on Windows, nobody could read a file that is locked itself. Where the file
    system has no locks, this is only a warning.

    Args:
        path: The file; it need not exist.

    Yields:
        False if another process is the writer.

    Raises:
        OSError: If the folder cannot be written.
    """
    folder, name = os.path.split(os.path.realpath(path))
    beside = os.path.join(folder, f".lock-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}")
    with contextlib.ExitStack() as stack:
        while True:
            file = stack.enter_context(open(beside, "ab", opener=lambda own, how: os.open(own, how | NOFOLLOW, 0o666)))
            if not lock_if_possible(file, path):
                yield False
                return
            with contextlib.suppress(FileNotFoundError):  # removed by a writer that has just ended
                if os.path.samestat(os.fstat(file.fileno()), os.stat(beside)):
                    break
        try:
            yield True
        finally:
            with contextlib.suppress(OSError):  # on Windows, an open file cannot be removed
                os.unlink(beside)
