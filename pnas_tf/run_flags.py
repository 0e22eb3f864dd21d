"""What every entry point shares: starting, bad input in one line, and the record of its flags."""

import os
import sys
from collections.abc import Callable

from absl import app, flags

from pnas_tf.errors import InputError
from pnas_tf.quiet import quiet


def start(run: Callable[[], None], check_imported: Callable[[list[str]], None] | None = None) -> None:
    """Parses flags, runs an entry point, and turns an InputError into one line and exit code 1.

    TensorFlow's C++ chatter is off unless the environment asks for it (TF_CPP_MIN_LOG_LEVEL=0).

    Args:
        run: the work.
        check_imported: takes the op types that files of --import have registered, and raises InputError if they
            cannot do what the command needs of them.
    """
    flags.DEFINE_multi_string("import", [], "A Python file of yours that registers ops or spaces; may be repeated.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    def main(argv):
        if len(argv) > 1:
            raise app.UsageError(f"Unexpected argument {argv[1]!r}; all input is by flags (--name=value).")
        try:
            if flags.FLAGS["import"].value:
                _import(flags.FLAGS["import"].value, check_imported)
            run()
        except InputError as error:
            print(f"Error: {error}", file=sys.stderr)
            sys.exit(1)
        except KeyboardInterrupt:
            print("Stopped.", file=sys.stderr)
            sys.exit(130)

    app.run(main)


def _import(paths, check_imported):
    load_tensorflow()
    from pnas_tf import extensions

    new = extensions.load(paths)
    if check_imported and new:
        check_imported(new)


def load_tensorflow() -> None:
    """Imports TensorFlow without the lines that its C++ part prints while it loads, nor its own notices later."""
    with quiet():
        import keras  # noqa: F401
        import tensorflow as tf
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] != "0":
        tf.get_logger().setLevel("ERROR")


def as_text() -> str:
    """Every flag of the running entry point as used, one a line: a file for `--flagfile`."""
    lines = []
    for module, module_flags in flags.FLAGS.flags_by_module_dict().items():
        # Libraries define flags too. The program that was started goes by its path.
        if module == sys.argv[0] or module.split(".")[0] in ("pnas_tf", "export", "latency"):
            lines += [flag.serialize() for flag in module_flags if flag.value is not None and flag.serialize()]
    return "\n".join(sorted(lines)) + "\n"
