"""The packages `latency` and `export` beside this one. Their names are plain words, so others may have them, too."""

import importlib.util
import os

NAMES = ("latency", "export")


def in_the_way(name: str) -> str | None:
    """The file or folder that Python imports in place of one of our packages.

    Args:
        name: Name of the package.

    Returns:
        Path of it; None if Python finds our package, or nothing of this name.
    """
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module that a program has made itself
        return f"a module {name} of the program itself"
    if spec is None:
        return None
    there = spec.origin or next(iter(spec.submodule_search_locations or ()), name)
    ours = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), name, "__init__.py")
    return None if os.path.realpath(there) == os.path.realpath(ours) else there


def check(name: str, importer: str) -> None:
    """Checks a package before it is imported.

    Args:
        name: Name of the package.
        importer: Package that imports it.

    Raises:
        ImportError: If something else is in its way. `python -m` shows this error in one line, because it has the name
            of the package that is imported.
    """
    if path := in_the_way(name):
        raise ImportError(f"{path} is in the way of the package {name!r} of pnas_tf. Rename it, or work in another "
                          "folder; python -m pnas_tf.doctor lists such files.", name=importer)
