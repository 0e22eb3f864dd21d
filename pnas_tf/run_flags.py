"""What every entry point shares: starting, bad input in one line, and the record of its flags."""

import os
import sys
from collections.abc import Callable

from absl import app, flags

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


def read(path):  # TODO moved
    from pnas_tf import run_folder
    return run_folder.read_flags(path)
