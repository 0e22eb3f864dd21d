"""ProxylessNAS for Keras and TFLite: the best network for your data on your device.

Importing the package is quick: only modules that need TensorFlow load it. They need Keras with TensorFlow as its
backend, so a backend that was chosen for another project is replaced, unless Keras is loaded already. `pnas_tf.Search`
and `pnas_tf.build_network` are loaded when they are first used.
"""

import importlib
import os
import sys
from typing import Any

if "keras" not in sys.modules:
    os.environ["KERAS_BACKEND"] = "tensorflow"

__version__ = "0.1.0"

# Modules of the names that need TensorFlow.
_LAZY = {"Search": "notebook", "build_network": "network"}


def __getattr__(name: str) -> Any:
    """Loads a name of `_LAZY` (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
