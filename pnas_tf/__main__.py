"""Lists the commands, in the order in which a network goes from data to a phone.

    python -m pnas_tf
"""

import ast
import importlib.util

COMMANDS = ("pnas_tf.doctor", "latency.build_table", "latency.compare", "latency.import_table", "pnas_tf.search",
            "latency.search", "pnas_tf.train", "export.tflite", "export.bundle", "latency.profile", "pnas_tf.report",
            "pnas_tf.import_weights", "pnas_tf.net_config")


def first_line(module: str) -> str:
    """What a command does, from its docstring, without importing it; "not installed" if it is not there."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        return "not installed"
    with open(spec.origin, encoding="utf-8") as file:
        return (ast.get_docstring(ast.parse(file.read())) or "").partition("\n")[0]


def main() -> None:
    """Prints the list."""
    print("ProxylessNAS for Keras and TFLite: the best network for your data on your device.\n")
    for module in COMMANDS:
        print(f"  python -m {module:<22} {first_line(module)}")
    print("\nEach explains itself: python -m pnas_tf.search --help. All of it, on this machine: make quickstart.")


if __name__ == "__main__":
    main()
