"""Writes pages about every module, class and function from their docstrings, by pdoc (requirements-dev.txt).

    python scripts/make_api_pages.py build/api     # make docs

A warning of pdoc is an error, so that every name that a package offers has its page.
"""

import importlib
import os
import pkgutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Packages that load names when they are first used. pdoc sees only what is there.
LAZY = {"pnas_tf": ("Search", "build_network"), "pnas_tf.data": None}
# What is run by its path in a bundle is no module of the interface.
LEFT_OUT = ("!export.bundle_runner",)


def offer(name: str, names: Sequence[str] | None) -> None:
    """Loads the names that a package offers, and states them and its modules as its `__all__`.

    Args:
        name: Name of the package.
        names: Names that it offers; None for its own `__all__`.
    """
    package = importlib.import_module(name)
    names = names or package.__all__
    for each in names:
        setattr(package, each, getattr(package, each))
    modules = [module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")]
    package.__all__ = [*names, *modules]


def main() -> None:
    """Writes the pages into the folder that the first argument names."""
    if len(sys.argv) != 2:
        sys.exit("Error: name the folder of the pages: python scripts/make_api_pages.py build/api")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.path.insert(0, str(ROOT))
    try:
        import pdoc
    except ImportError:
        sys.exit("Error: pdoc is not installed: pip install -r requirements-dev.txt")
    for name, names in LAZY.items():
        offer(name, names)
    warnings.filterwarnings("error", module=r"pdoc\.")
    pdoc.render.configure(docformat="google", search=True)
    folder = Path(sys.argv[1])
    pdoc.pdoc("pnas_tf", "export", "latency", *LEFT_OUT, output_directory=folder)
    print(f"Pages: {folder / 'index.html'}")


if __name__ == "__main__":
    main()
