"""Commands as text that a user pastes into the shell of this machine."""

import os
import re
import shlex
from collections.abc import Iterable


def line(words: Iterable[str]) -> str:
    """A command, in the syntax of this machine's shell."""
    return " ".join(map(word, words))


def word(text: str, for_windows: bool = os.name == "nt") -> str:
    """One word of a command, in quotes if it needs them.

    Args:
        text: The word.
        for_windows: Whether for cmd and PowerShell. File names have no double quotes there, so these are left out.
    """
    if not for_windows:
        return shlex.quote(text)
    return text if re.fullmatch(r"[\w.:\\/=+-]+", text) else '"{}"'.format(text.replace('"', ""))
