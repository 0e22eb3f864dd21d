"""Runs a `.tflite` on this host, by whichever TFLite runtime is installed."""

import contextlib
import importlib.metadata
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from pnas_tf.errors import InputError
from pnas_tf.terminal import quiet

DELEGATES = ("xnnpack", "none")

# Runtimes and the PyPI packages that hold them, best first.
RUNTIMES = {"litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime", "tf.lite": "tensorflow"}


def installed_runtime(name: str = "auto") -> str:
    """A runtime of `RUNTIMES` by name, or for `auto` the best that is installed.

    Raises:
        InputError: if it is not installed.
    """
    names = list(RUNTIMES) if name == "auto" else [name]
    for candidate in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError, KeyError):
            importlib.metadata.version(RUNTIMES[candidate])
            return candidate
    raise InputError(f"The runtime {name[:40]} is not installed: expected one of auto, {', '.join(RUNTIMES)}. "
                     f"pip install {RUNTIMES.get(name, RUNTIMES['litert'])}")


def runtime_name(runtime: str = "auto") -> str:
    """Name and version of a runtime, `litert 2.3.0`; loads nothing."""
    name = installed_runtime(runtime)
    return f"{name} {importlib.metadata.version(RUNTIMES[name])}"


def target_name(*, threads: int, delegate: str, dtype: str, runtime: str = "litert") -> str:
    """Name of this host as a target: `host_xnnpack1_float32`, `host_tflite_runtime_builtin1_int8`."""
    named = "" if runtime == "litert" else f"{runtime.replace('.', '_')}_"
    return f"host_{named}{'builtin' if delegate == 'none' else delegate}{threads}_{dtype}"


def make_interpreter(model: bytes | str, *, threads: int = 1, delegate: str = "xnnpack", runtime: str = "auto") -> Any:
    """An interpreter with its tensors allocated.

    Args:
        model: contents of a `.tflite`, or its path.
        threads: CPU threads.
        delegate: `xnnpack`, or `none` for the runtime's built-in kernels.
        runtime: of `RUNTIMES`, or `auto`. tflite_runtime fails in a process that has loaded TensorFlow:
            `visits.apart` gives it one of its own.

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
    # TensorFlow is loaded or will be where nobody asked for a runtime.
    name = "tf.lite" if runtime == "auto" and installed_runtime() == "tflite_runtime" else installed_runtime(runtime)
    interpreter_class, resolver = _load(name)
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
    """Logits of images, in batches of the model's own size.

    Args:
        interpreter: of a model with a fixed batch; a last batch that is not full is filled with its last image.
        images: float32 [images, height, width, channels], at least one.

    Returns:
        float32 [images, classes]; quantised models get and give what their scales and zero points say.
    """
    read, write = _reader(interpreter), _writer(interpreter, interpreter.get_input_details()[0])
    size = int(interpreter.get_input_details()[0]["shape"][0])
    logits = []
    for start in range(0, len(images), size):
        batch = images[start:start + size]
        write(np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), 0)]) if len(batch) < size else batch)
        interpreter.invoke()
        logits.append(read()[:len(batch)])
    return np.concatenate(logits)


def subject(interpreter: Any, seed: int = 0) -> tuple[Callable[[], None], Callable[[], None]]:
    """What to time: (invoke, feed), where `feed` writes the same random inputs again."""
    rng = np.random.default_rng(seed)
    samples = [(_writer(interpreter, details), rng.standard_normal(details["shape"], np.float32))
               for details in interpreter.get_input_details()]

    def feed():
        for write, sample in samples:
            write(sample)

    feed()
    return interpreter.invoke, feed


def _writer(interpreter, details):
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


def _load(name: str) -> tuple[Any, Any]:
    """(Interpreter class, OpResolverType) of a runtime."""
    if name == "litert":
        from ai_edge_litert import interpreter as litert

        return litert.Interpreter, litert.OpResolverType
    if name == "tflite_runtime":
        if "tensorflow" in sys.modules:
            raise InputError("tflite_runtime fails in a process that has loaded TensorFlow. Use the runtime litert.")
        from tflite_runtime import interpreter as tflite

        return tflite.Interpreter, tflite.OpResolverType
    import tensorflow as tf

    return tf.lite.Interpreter, tf.lite.experimental.OpResolverType
