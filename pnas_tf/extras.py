"""Packages that only some commands need, by the extra of pyproject.toml that installs them."""

import importlib.util
import platform
import sys
from collections.abc import Mapping

from pnas_tf import shell
from pnas_tf.errors import InputError

# Packages of each extra by the modules that are imported, as pip reads them: with the range where other versions are
# refused.
EXTRAS: Mapping[str, Mapping[str, str]] = {
    "qat": {"tf_keras": "tf-keras", "tensorflow_model_optimization": "tensorflow-model-optimization"},
    "tflite-runtime": {"tflite_runtime": "tflite-runtime"},
    "cuda": {"tensorflow": "tensorflow[and-cuda]"},
    "tfds": {"tensorflow_datasets": "tensorflow-datasets"},
    "tensorboard": {"tensorboard": "tensorboard"},
    "vela": {"ethosu": "ethos-u-vela>=5,<6"},
}


def install(extra: str) -> str:
    """The command that installs an extra. It names packages: the project itself need not be installed by pip.

    Args:
        extra: Key of `EXTRAS`.
    """
    return shell.line(["pip", "install", *EXTRAS[extra].values()])


def check(extra: str, user: str) -> None:
    """Checks that the packages of an extra are installed, without importing them.

    Args:
        extra: Key of `EXTRAS`.
        user: What needs them, such as a flag with its value; the beginning of the error.

    Raises:
        InputError: If one is missing. The message names the extra and the command that installs it.
    """
    missing = [package for module, package in EXTRAS[extra].items()
               if module not in sys.modules and importlib.util.find_spec(module) is None]
    if not missing:
        return
    if extra == "tflite-runtime" and (sys.version_info >= (3, 12) or sys.platform != "linux"):
        raise InputError(f"{user} needs tflite-runtime, which exists for Linux and Python up to 3.11 alone; this is "
                         f"{platform.system()} and Python {platform.python_version()}. Use ai-edge-litert, the runtime "
                         "litert.")
    raise InputError(f"{user} needs the extra [{extra}], and {' and '.join(missing)} "
                     f"{'are' if len(missing) > 1 else 'is'} not installed: {install(extra)}.")
