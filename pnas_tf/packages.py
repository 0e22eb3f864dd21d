"""Versions of installed packages, looked up without importing them."""

import contextlib
from collections.abc import Iterable
from importlib import metadata


def versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of packages.

    Args:
        names: Names of packages, as pip knows them.

    Returns:
        The version of each package that is installed, in the order of `names`; the others are left out.
    """
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
