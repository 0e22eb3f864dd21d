"""What every entry point shares: starting, bad input in one line, and the record of its flags."""

import os
import sys
from collections.abc import Callable

from absl import app, flags

from pnas_tf import arch as arch_lib
from pnas_tf.errors import InputError


def start(run: Callable[[], None]) -> None:
    """Parses flags, runs an entry point, and turns an InputError into one line and exit code 1.

    TensorFlow's C++ chatter is off unless the environment asks for it (TF_CPP_MIN_LOG_LEVEL=0).
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    def main(argv):
        if len(argv) > 1:
            raise app.UsageError(f"Unexpected argument {argv[1]!r}; all input is by flags (--name=value).")
        try:
            run()
        except InputError as error:
            print(f"Error: {error}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            print("Stopped.", file=sys.stderr)
            sys.exit(130)

    app.run(main)


def as_text() -> str:
    """Every flag of the running program as used, one a line: a file for `--flagfile`."""
    lines = []
    for module, module_flags in flags.FLAGS.flags_by_module_dict().items():
        if not module.startswith("absl"):
            lines += [flag.serialize() for flag in module_flags if flag.value is not None and flag.serialize()]
    return "\n".join(sorted(lines)) + "\n"


def save(path: str) -> None:
    """Writes `as_text` to a file."""
    arch_lib.write_text(path, as_text())


def read(path: str) -> dict[str, str]:
    """Flags of an earlier run by name, from its `run.flags`.

    Raises:
        InputError: if the file cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}). Is this the folder of a finished search?") from None
    values = {}
    for line in lines:
        name, separator, value = line.removeprefix("--").partition("=")
        if line.startswith("--"):
            values[name] = value if separator else ("false" if name.startswith("no") else "true")
    return values
