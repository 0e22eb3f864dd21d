"""What every entry point shares: starting, bad input in one line, and the record of its flags."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable

from absl import app, flags

from pnas_tf.cli import help as command_help
from pnas_tf.errors import InputError, printable
from pnas_tf.terminal import quiet


def start(run: Callable[[], None], check_imported: Callable[[list[str]], None] | None = None, *, manual: str = ""
          ) -> None:
    """Parses flags, runs an entry point, and turns an InputError into one line and exit code 1.

    TensorFlow's C++ chatter is off unless --verbosity=1 or the environment asks for it (TF_CPP_MIN_LOG_LEVEL=0).

    Args:
        run: the work.
        check_imported: takes the op types that files of --import have registered, and raises InputError if they
            cannot do what the command needs of them.
        manual: What --help prints above the flags; the docstring of the module of `run` if empty.
    """
    flags.DEFINE_multi_string("import", [], "A Python file of yours that registers ops or spaces; may be repeated.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    def main(_):
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

    # A console script is another main module than the entry point that it calls.
    app.run(main, flags_parser=functools.partial(_parse, manual or sys.modules[run.__module__].__doc__ or ""))


def _parse(doc, argv):
    """Parses flags, or prints help or one line about what is wrong with them, and exits."""
    asked = {argument.lstrip("-") for argument in argv[1:] if argument.startswith("-")}
    if asked & {"help", "h", "?", "helpshort", "helpfull"}:
        with contextlib.suppress(BrokenPipeError):
            print(command_help.render(doc, _own_flags(), full="helpfull" in asked), flush=True)
        sys.exit(0)
    try:
        rest = flags.FLAGS(argv)
        if len(rest) > 1:
            raise flags.Error(f"Unexpected argument {rest[1]!r}; all input is by flags (--name=value)")
    except flags.Error as error:
        print(f"Error: {printable(str(error).rstrip('.'))}. All flags: --help.", file=sys.stderr)
        sys.exit(1)
    verbosity = flags.FLAGS["verbosity"]
    if verbosity.present and verbosity.value >= 0:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"
    return rest


def _own_flags() -> dict[str, flags.Flag]:
    """By name, those of the running entry point: libraries define flags too. What was started goes by its path."""
    return {flag.name: flag for module, module_flags in flags.FLAGS.flags_by_module_dict().items()
            if module == sys.argv[0] or module.split(".")[0] in ("pnas_tf", "export", "latency")
            for flag in module_flags}


def _import(paths, check_imported):
    load_tensorflow()
    from pnas_tf.supernet import extensions

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
    lines = [flag.serialize() for flag in _own_flags().values() if flag.value is not None and flag.serialize()]
    return "\n".join(sorted(lines)) + "\n"
