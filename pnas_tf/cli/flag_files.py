"""Flag files (--flagfile): shipped ones are found by name, and all are looked through before absl reads them.

absl opens pipes, and reads files of any size.
"""

import os
from collections.abc import Sequence
from importlib import resources

from pnas_tf import files
from pnas_tf.errors import InputError

# Files that may be read in all. One that is named several times counts each time, as it is read each time.
MAX_FILES = 100
_FLAGS = ("--flagfile", "-flagfile")


def names() -> list[str]:
    """Names of the shipped flag files."""
    return sorted(entry.name for entry in resources.files("pnas_tf.flags").iterdir() if entry.name.endswith(".flags"))


def found(arguments: Sequence[str]) -> list[str]:
    """Replaces names of shipped flag files by their paths. A file of that name in the current folder wins.

    Args:
        arguments: Arguments of a command, without its name.
    """
    placed = list(arguments)
    for number, argument in enumerate(arguments):
        if argument == "--":
            break
        name, separator, value = argument.partition("=")
        if name not in _FLAGS or (not separator and number + 1 == len(arguments)):
            continue
        value = value if separator else arguments[number + 1]
        path = path_of(value)
        placed[number:number + 1 if separator else number + 2] = [f"{name}={path}"] if separator else [name, path]
    return placed


def path_of(name: str) -> str:
    """Path of a flag file: that of a shipped one if there is no file of this path, else the path itself."""
    shipped = not os.path.exists(name) and name in names()
    return str(resources.files("pnas_tf.flags") / name) if shipped else name


def check(arguments: Sequence[str]) -> None:
    """Checks the flag files that arguments name, and those that these name in turn.

    Args:
        arguments: Arguments of a command, without its name.

    Raises:
        InputError: If one is missing, not a regular file, not text or too large, or if there are too many.
    """
    named, count = _named(arguments), 0
    while named:
        path = named.pop()
        count += 1
        if count > MAX_FILES:
            raise InputError(f"--flagfile={path}: flag files name each other more than {MAX_FILES} times. Write the "
                             "flags into one file.")
        text = files.read_text(path, files.MAX_FLAGS_BYTES, "Name a file of flags, one on each line, or a "
                               f"shipped one: {', '.join(names())}.")
        # On a line of its own, absl takes the name of the file after an equals sign alone.
        named += _named([line.strip() for line in text.splitlines() if "flagfile=" in line])


def _named(arguments: Sequence[str]) -> list[str]:
    """Paths of the flag files that arguments name."""
    paths = []
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if argument == "--":
            break
        name, separator, value = argument.partition("=")
        if name in _FLAGS:
            paths.append(os.path.expanduser((value if separator else following).strip()))
    return [path for path in paths if path]
