"""The adb program that the commands use."""

import importlib.util
import os
import shutil


def find(path: str | None = None) -> str | None:
    """Path of adb: of the one that is named; else of the one on the PATH; else of the copy in the package adbutils.

    Args:
        path: Path or name that the user gave.

    Returns:
        Path of a program, or None if there is none.
    """
    if path:
        return shutil.which(path)
    spec = importlib.util.find_spec("adbutils")  # found, not imported
    folders = spec.submodule_search_locations if spec else None
    copies = [os.path.join(folder, "binaries", "adb") for folder in folders or ()]
    return next(filter(None, map(shutil.which, ["adb", *copies])), None)
