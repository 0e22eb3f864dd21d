"""Flag files (--flagfile), looked through before absl reads them: it opens pipes, and reads files of any size."""

import os
from collections.abc import Sequence

from pnas_tf import files
from pnas_tf.errors import InputError

# Files that may be read in all. One that is named several times counts each time, as it is read each time.
MAX_FILES = 100
_FLAGS = ("--flagfile", "-flagfile")


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
        text = files.read_text(path, files.MAX_FLAGS_BYTES, "Name a file of flags, one on each line.")
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
