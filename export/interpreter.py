"""Runs a `.tflite` on this host, by whichever TFLite runtime is installed."""

import contextlib
import importlib.metadata
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from pnas_tf.errors import InputError
from pnas_tf.quiet import quiet

DELEGATES = ("xnnpack", "none")


def runtime_name() -> str:
    """Name and version of the runtime, `litert 2.3.0`."""
    return _runtime()[0]


def target_name(*, threads: int, delegate: str, dtype: str) -> str:
    """Name of this host as a target: `host_xnnpack1_float32`, `host_builtin1_int8`."""
    return f"host_{'builtin' if delegate == 'none' else delegate}{threads}_{dtype}"


def make_interpreter(model: bytes | str, *, threads: int = 1, delegate: str = "xnnpack") -> Any:
    """An interpreter with its tensors allocated.

    Args:
        model: contents of a `.tflite`, or its path.
        threads: CPU threads.
        delegate: `xnnpack`, or `none` for the runtime's built-in kernels.

    Raises:
        InputError: if the model is not a `.tflite` that this runtime can run.
    """
    if delegate not in DELEGATES:
        raise InputError(f"delegate must be one of {', '.join(DELEGATES)}, got {str(delegate)[:40]!r}.")
    where = model if isinstance(model, str) else "the model"
    if isinstance(model, str):
        try:
            with open(model, "rb") as file:
                model = file.read()
        except OSError as error:
            raise InputError(f"{where}: cannot be read ({error.strerror}).") from None
    name, interpreter_class, resolver = _runtime()
    kinds = {"xnnpack": resolver.AUTO, "none": resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    try:
        with quiet():
            interpreter = interpreter_class(model_content=model, num_threads=threads,
                                            experimental_op_resolver_type=kinds[delegate])
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{where}: {name} cannot run it ({' '.join(str(error).split())[:200]}). "
                         "Export the model again.") from None
    return interpreter


def run(interpreter: Any, images: np.ndarray) -> np.ndarray:
    """Logits of images, one at a time.

    Args:
        interpreter: of a model with batch 1.
        images: float32 [images, height, width, channels].

    Returns:
        float32 [images, classes]; quantised models get and give what their scales and zero points say.
    """
    read, write = _reader(interpreter), _writer(interpreter)
    logits = []
    for image in images:
        write(image[None])
        interpreter.invoke()
        logits.append(read()[0])
    return np.stack(logits)


def subject(interpreter: Any, seed: int = 0) -> tuple[Callable[[], None], Callable[[], None]]:
    """What to time: (invoke, feed), where `feed` writes the same random input again."""
    details = interpreter.get_input_details()[0]
    write, rng = _writer(interpreter), np.random.default_rng(seed)
    sample = rng.standard_normal(details["shape"], np.float32)

    def feed():
        write(sample)

    feed()
    return interpreter.invoke, feed


def _writer(interpreter):
    details = interpreter.get_input_details()[0]
    scale, zero_point = details["quantization"]

    def write(x):
        if details["dtype"] != np.float32:
            limits = np.iinfo(details["dtype"])
            x = np.clip(np.round(x / scale) + zero_point, limits.min, limits.max).astype(details["dtype"])
        interpreter.set_tensor(details["index"], x)

    return write


def _reader(interpreter):
    details = interpreter.get_output_details()[0]
    scale, zero_point = details["quantization"]

    def read():
        y = interpreter.get_tensor(details["index"])
        return y if details["dtype"] == np.float32 else (y.astype(np.float32) - zero_point) * np.float32(scale)

    return read


def _runtime() -> tuple[str, Any, Any]:
    """(name and version, Interpreter class, OpResolverType)."""
    with contextlib.suppress(ImportError):
        from ai_edge_litert import interpreter as litert

        return f"litert {importlib.metadata.version('ai-edge-litert')}", litert.Interpreter, litert.OpResolverType
    # tflite_runtime fails in a process that has loaded TensorFlow.
    if "tensorflow" not in sys.modules:
        with contextlib.suppress(ImportError):
            from tflite_runtime import interpreter as tflite

            version = importlib.metadata.version("tflite-runtime")
            return f"tflite_runtime {version}", tflite.Interpreter, tflite.OpResolverType
    import tensorflow as tf

    return f"tf.lite {tf.__version__}", tf.lite.Interpreter, tf.lite.experimental.OpResolverType
