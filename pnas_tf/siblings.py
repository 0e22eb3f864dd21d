"""The packages `latency` and `export` beside this one. Their names are plain words, so others may have them, too."""

import functools
import importlib.util
import os
import sys

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
        raise ImportError(_words(path, name), name=importer)


def _words(path: str, name: str) -> str:
    return (f"{path} is in the way of the package {name!r} of pnas_tf. Rename it, or work in another folder; python -m "
            "pnas_tf.doctor lists such files.")


def _run(module: str) -> None:
    """Runs a command of these packages. If something is in the way of one of them, a line on stderr names it."""
    for name in NAMES:
        if path := in_the_way(name):
            sys.exit(f"Error: {_words(path, name)}")
    importlib.import_module(module).main()


# Console scripts. A script that imported its module by itself would end in a traceback if another is in the way.
search_timed, export, bundle, build_table, compare, transfer, import_table, profile = (
    functools.partial(_run, module) for module in (
        "latency.search", "export.tflite", "export.bundle", "latency.build_table", "latency.compare",
        "latency.transfer", "latency.import_table", "latency.profile"))
