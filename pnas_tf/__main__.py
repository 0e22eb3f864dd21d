"""The door to all commands, which it lists in the order in which they take a network from data to a phone.

    python -m pnas_tf
    python -m pnas_tf search --flagfile=quickstart.flags --run_dir=runs/quickstart

After `pip install`, `pnas search` does the same, and so does `pnas-search`.
"""

import ast
import difflib
import importlib.util
import runpy
import sys
from collections.abc import Mapping

from pnas_tf import __version__, siblings
from pnas_tf.cli import output
from pnas_tf.errors import printable

# Modules of the commands by the word that starts them.
COMMANDS: Mapping[str, str] = {
    "doctor": "pnas_tf.doctor", "auto": "pnas_tf.auto", "latency": "latency.build_table", "compare": "latency.compare",
    "transfer": "latency.transfer", "import-table": "latency.import_table", "search": "pnas_tf.search",
    "search-timed": "latency.search", "train": "pnas_tf.train", "export": "export.tflite", "bundle": "export.bundle",
    "profile": "latency.profile", "report": "pnas_tf.report", "import-weights": "pnas_tf.import_weights",
    "net-config": "pnas_tf.net_config"}


def first_line(module: str) -> str:
    """First line of a command's docstring, read without importing it.

    Args:
        module: Name of the module, such as `pnas_tf.search`.

    Returns:
        The line; "not installed", or what is in the way, if there is no such module.
    """
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        path = _in_the_way()
        return f"not found: {path} is in its way" if path else "not installed"
    with open(spec.origin, encoding="utf-8") as file:
        return (ast.get_docstring(ast.parse(file.read())) or "").partition("\n")[0]


def main() -> None:
    """Runs the command that the first argument names, as `python -m` runs its module; without one, lists them all."""
    output.guard()
    word, *arguments = sys.argv[1:] or [""]
    if word in ("", "help", "-h", "--help"):
        _list()
    elif word in ("version", "--version"):
        print(f"pnas_tf {__version__}")
    elif word in COMMANDS:
        sys.argv = [sys.argv[0], *arguments]
        try:
            runpy.run_module(COMMANDS[word], run_name="__main__", alter_sys=True)
        except ImportError as error:
            if not (path := _in_the_way()):
                raise
            sys.exit(f"Error: {printable(path)} is in the way: {printable(error)}")
    else:
        sys.exit(f"Error: {_unknown(word)} All commands: python -m pnas_tf.")


def _list() -> None:
    print("ProxylessNAS for Keras and TFLite: the best network for your data on your device.\n")
    for word, module in COMMANDS.items():
        print(f"  {word:<16} python -m {module:<22} {first_line(module)}")
    print("\nEach has a --help: python -m pnas_tf search --help. To begin with pictures, a folder with one subfolder "
          "for each class: python -m pnas_tf auto FOLDER.")


def _unknown(word: str) -> str:
    """What is wrong with a word that is no command, and the command that may be meant."""
    if word.startswith("-"):
        return f"Name a command before its flags, such as search; got {printable(word, 60)!r}."
    # The names of modules count as words, too.
    words = {module.rpartition(".")[2]: name for name, module in COMMANDS.items()} | dict(zip(COMMANDS, COMMANDS,
                                                                                              strict=True))
    near = difflib.get_close_matches(word.lower().removeprefix("pnas-").rpartition(".")[2], words, 1)
    return f"There is no command {printable(word, 60)!r}." + (f" Did you mean {words[near[0]]}?" if near else "")


def _in_the_way() -> str | None:
    return next(filter(None, map(siblings.in_the_way, siblings.NAMES)), None)


if __name__ == "__main__":
    main()
