"""LiteRT's schema, interpreters and converter: the only module that asks for `ai_edge_litert` or `tf.lite`.

`tf.lite` is to leave TensorFlow (github.com/tensorflow/tensorflow/issues/102071). ai-edge-litert has the schema and an
interpreter. It has no public converter of TensorFlow models (github.com/tensorflow/tensorflow/issues/122598), so
writing a new `.tflite` needs a TensorFlow that still has one.
"""

import sys
from typing import Any

from pnas_tf.errors import InputError


def schema() -> Any:
    """The module of the flatbuffer schema's classes, such as `Model` and `ModelT`."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError:
        from tensorflow.lite.python import schema_py_generated
    return schema_py_generated


def interpreter(name: str) -> tuple[Any, Any]:
    """Imports a runtime.

    Args:
        name: `litert`, `tflite_runtime` or `tf.lite`.

    Returns:
        Its classes Interpreter and OpResolverType.

    Raises:
        InputError: If it cannot be used in this process.
    """
    if name == "litert":
        from ai_edge_litert import interpreter as litert

        return litert.Interpreter, litert.OpResolverType
    if name == "tflite_runtime":
        if "tensorflow" in sys.modules:
            raise InputError("tflite_runtime fails in a process that has loaded TensorFlow. Use the runtime litert.")
        from tflite_runtime import interpreter as tflite

        return tflite.Interpreter, tflite.OpResolverType
    import tensorflow as tf

    try:
        return tf.lite.Interpreter, tf.lite.experimental.OpResolverType
    except AttributeError:
        raise InputError(f"TensorFlow {tf.__version__} has no tf.lite. Use the runtime litert: pip install "
                         "ai-edge-litert.") from None


def converter() -> tuple[Any, type[Exception]]:
    """The converter of TensorFlow functions.

    Returns:
        The module that has `TFLiteConverter`, `Optimize` and `OpsSet`; and the error of models without built-in ops.

    Raises:
        InputError: If this TensorFlow has no converter.
    """
    import tensorflow as tf

    try:
        from tensorflow.lite.python.convert_phase import ConverterError

        return tf.lite, ConverterError
    except (AttributeError, ImportError):
        raise InputError(f"TensorFlow {tf.__version__} has no tf.lite, whose converter writes .tflite files, and "
                         "ai-edge-litert has none for TensorFlow's models. Install an earlier one for this command: "
                         "pip install 'tensorflow==2.21.*'. Searching, training and running .tflite files go on "
                         "without it.") from None
