"""Lists the commands, in the order in which they take a network from data to a phone.

    python -m pnas_tf
"""

import ast
import importlib.util

from pnas_tf import siblings
from pnas_tf.cli import output

COMMANDS = ("pnas_tf.doctor", "pnas_tf.auto", "latency.build_table", "latency.compare", "latency.transfer",
            "latency.import_table", "pnas_tf.search", "latency.search", "pnas_tf.train", "export.tflite",
            "export.bundle", "latency.profile", "pnas_tf.report", "pnas_tf.import_weights", "pnas_tf.net_config")


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
        path = next(filter(None, map(siblings.in_the_way, siblings.NAMES)), None)
        return f"not found: {path} is in its way" if path else "not installed"
    with open(spec.origin, encoding="utf-8") as file:
        return (ast.get_docstring(ast.parse(file.read())) or "").partition("\n")[0]


def main() -> None:
    """Prints the list of commands."""
    output.guard()
    print("ProxylessNAS for Keras and TFLite: the best network for your data on your device.\n")
    for module in COMMANDS:
        print(f"  python -m {module:<22} {first_line(module)}")
    print("\nEach has a --help: python -m pnas_tf.search --help. To try everything on this machine: make quickstart.")


if __name__ == "__main__":
    main()
