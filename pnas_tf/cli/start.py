"""Shared by all entry points: parsing of flags, one-line errors about wrong input, and the text of all flags."""

import copy
import functools
import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from absl import app, flags

from pnas_tf import __version__, machine, shell
from pnas_tf.cli import flag_files, output
from pnas_tf.cli import help as command_help
from pnas_tf.errors import InputError, printable
from pnas_tf.terminal import quiet


def start(run: Callable[[], None], check_imported: Callable[[list[str]], None] | None = None, *, manual: str = "",
          takes: str = "") -> None:
    """Parses the flags and runs an entry point. An InputError becomes one line on stderr and exit code 1.

    Output that cannot be written is dropped, see `output`. TensorFlow's C++ part logs nothing unless --verbosity=1 or
    the environment (TF_CPP_MIN_LOG_LEVEL=0) asks for it, and it computes as `set_environment` says.

    Args:
        run: Function that does the work of the command, called after the flags are parsed.
        check_imported: Function that takes the op types that the files of --import have registered, and raises
            InputError if the command cannot use them.
        manual: Text that --help prints above the flags; the docstring of the module of `run` if empty.
        takes: Name of a flag that an argument without a name sets, as in `pnas_tf.auto photos`; "" for none.
    """
    output.guard()
    flags.DEFINE_multi_string("import", [], "Your Python file that registers ops or spaces; may be repeated.")
    set_environment()

    def main(_):
        try:
            if flags.FLAGS["import"].value:
                _import(flags.FLAGS["import"].value, check_imported)
            run()
        except InputError as error:
            _fail(str(error))
        except KeyboardInterrupt:
            print("Stopped.", file=sys.stderr)
            sys.exit(130)

    # The manual cannot come from the main module: under a console script, the main module is the script.
    app.run(main, flags_parser=functools.partial(_parse, manual or sys.modules[run.__module__].__doc__ or "", takes))


def _parse(manual, takes, argv):
    """Parses the flags. Exits after it prints the requested help, or one line about a mistake in the flags."""
    names = {argument.lstrip("-") for argument in argv[1:] if argument.startswith("-")}
    if names & {"help", "h", "?", "helpshort", "helpfull"}:
        print(command_help.render(manual, _own_flags(), full="helpfull" in names))
        sys.exit(0)
    if "version" in names:
        print(f"pnas_tf {__version__}")
        sys.exit(0)
    try:
        _check_text(argv)
        argv = [argv[0], *flag_files.found(argv[1:])]
        flag_files.check(argv[1:])
        positional = flags.FLAGS(argv)
        if takes and len(positional) > 1 and not flags.FLAGS[takes].present:
            flags.FLAGS[takes].parse(positional.pop(1))
        if len(positional) > 1:
            raise flags.Error(f"Unexpected argument {positional[1]!r}; all {'other ' if takes else ''}arguments are "
                              "flags (--name=value)")
    except InputError as error:
        _fail(str(error))
    except flags.Error as error:
        _fail(f"{printable(str(error).rstrip('.'))}. All flags: --help.")
    verbosity = flags.FLAGS["verbosity"]
    if verbosity.present and verbosity.value >= 0:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"
    return positional


def _fail(words: str) -> NoReturn:
    print(f"Error: {words}", file=sys.stderr)
    sys.exit(1)


def _check_text(arguments: Sequence[str]) -> None:
    """Raises flags.Error if an argument is not UTF-8, as the files of a run folder and TensorFlow's paths are."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise flags.Error(f"{argument}: not UTF-8. Rename the file or folder") from None


def _own_flags() -> dict[str, flags.Flag]:
    """The flags of the running entry point by name, without those that libraries define.

    For absl, the name of the started module is its path, `sys.argv[0]`.
    """
    return {flag.name: flag for module, module_flags in flags.FLAGS.flags_by_module_dict().items()
            if module == sys.argv[0] or module.split(".")[0] in ("pnas_tf", "export", "latency")
            for flag in module_flags}


def _import(paths, check_imported):
    load_tensorflow()
    from pnas_tf.supernet import extensions

    op_types = extensions.load(paths)
    if check_imported and op_types:
        check_imported(op_types)


def set_environment() -> None:
    """Sets what TensorFlow reads from the environment when it is loaded, unless the user has set it.

    Its C++ part logs nothing: what goes wrong becomes an exception. On x86 it computes with oneDNN, which by itself it
    does on newer CPUs alone (AVX512_VNNI, AVX_VNNI, AMX). In a container, it has as many threads as the quota allows.
    """
    for name, value in machine.settings_under_quota().items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def load_tensorflow() -> None:
    """Imports TensorFlow and Keras, and silences the lines that TensorFlow prints while it loads and later.

    Raises:
        InputError: If Keras has settings of another project that cannot be replaced.
    """
    with quiet():
        try:
            import keras  # noqa: F401
            import tensorflow as tf
        except (AssertionError, AttributeError, OSError, TypeError, ValueError) as error:  # both read Keras' file
            raise InputError("TensorFlow cannot be imported with this file of Keras' settings: "
                             f"{os.environ.get('KERAS_HOME', '~/.keras')}/keras.json ({type(error).__name__} {error}). "
                             "Correct or remove it.") from None
        from pnas_tf.network import keras_settings
    keras_settings.pin()
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] != "0":
        tf.get_logger().setLevel("ERROR")


def next_command(module: str, *arguments: str) -> str:
    """A command for the user to paste; it loads the same files of the user's (--import) as the running one.

    Args:
        module: Module of the command.
        arguments: Its arguments.
    """
    return shell.line(["python", "-m", module, *import_flags(), *arguments])


def import_flags() -> list[str]:
    """The flags --import of the running command, without which others do not know the user's own ops and spaces."""
    return [f"--import={path}" for path in flags.FLAGS["import"].value] if "import" in flags.FLAGS else []


def as_text() -> str:
    """Every flag of the running entry point with its value, one per line, as `--flagfile` reads them."""
    return _as_text(_own_flags().values())


def default_text() -> str:
    """As `as_text`, with every flag at its default."""
    at_defaults = [copy.deepcopy(flag) for flag in _own_flags().values()]
    for flag in at_defaults:
        flag.value = flag.default
    return _as_text(at_defaults)


def _as_text(own: Iterable[flags.Flag]) -> str:
    return "\n".join(sorted(flag.serialize() for flag in own if flag.value is not None and flag.serialize())) + "\n"
