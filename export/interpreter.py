"""Runs a `.tflite` on this host with one of the TFLite runtimes that are installed."""

from collections.abc import Callable
from typing import Any

import numpy as np

from export import litert
from pnas_tf import extras, files, packages
from pnas_tf.errors import InputError
from pnas_tf.terminal import quiet

DELEGATES = ("xnnpack", "none")

# Runtimes in order of preference, and the PyPI packages that provide them.
RUNTIMES = {"litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime", "tf.lite": "tensorflow"}


def installed_runtime(name: str = "auto") -> str:
    """Finds an installed runtime.

    Args:
        name: One of `RUNTIMES`, or `auto` for the first of them that is installed.

    Returns:
        Name of the runtime, a key of `RUNTIMES`.

    Raises:
        InputError: If the runtime is not installed.
    """
    installed = packages.versions(RUNTIMES.values())
    for candidate in RUNTIMES if name == "auto" else [name]:
        if RUNTIMES.get(candidate) in installed:
            return candidate
    if name == "tflite_runtime":
        extras.check("tflite-runtime", "--runtime=tflite_runtime")
    raise InputError(f"The runtime {name[:40]} is not installed: expected one of auto, {', '.join(RUNTIMES)}. "
                     f"pip install {RUNTIMES.get(name, RUNTIMES['litert'])}")


def runtime_name(runtime: str = "auto") -> str:
    """Name and version of an installed runtime, such as `litert 2.3.0`, without loading it."""
    name = installed_runtime(runtime)
    return f"{name} {packages.versions(RUNTIMES.values())[RUNTIMES[name]]}"


def target_name(*, threads: int, delegate: str, dtype: str, runtime: str = "litert") -> str:
    """Name of this host as a target, such as `host_xnnpack1_float32` or `host_tflite_runtime_builtin1_int8`."""
    prefix = "" if runtime == "litert" else f"{runtime.replace('.', '_')}_"
    return f"host_{prefix}{'builtin' if delegate == 'none' else delegate}{threads}_{dtype}"


def make_interpreter(model: bytes | str, *, threads: int = 1, delegate: str = "xnnpack", runtime: str = "auto") -> Any:
    """Makes an interpreter and allocates its tensors.

    Args:
        model: Contents of a `.tflite`, or its path.
        threads: CPU threads.
        delegate: `xnnpack`, or `none` for the runtime's built-in kernels.
        runtime: One of `RUNTIMES`, or `auto`. tflite_runtime fails in a process that has loaded TensorFlow;
            `apart.visits` starts a process of its own for it.

    Raises:
        InputError: If the model is not a `.tflite` that this runtime can run.
    """
    if delegate not in DELEGATES:
        raise InputError(f"delegate must be one of {', '.join(DELEGATES)}, got {str(delegate)[:40]!r}.")
    where = model if isinstance(model, str) else "the model"
    if isinstance(model, str):
        model = files.read_bytes(model, files.MAX_MODEL_BYTES, way_out="")
    # Callers that do not name a runtime load TensorFlow sooner or later, and tflite_runtime would fail beside it.
    name = "tf.lite" if runtime == "auto" and installed_runtime() == "tflite_runtime" else installed_runtime(runtime)
    interpreter_class, resolver = litert.interpreter(name)
    kinds = {"xnnpack": resolver.AUTO, "none": resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    try:
        with quiet():
            interpreter = interpreter_class(model_content=model, num_threads=threads,
                                            experimental_op_resolver_type=kinds[delegate])
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{where}: {name} cannot run it ({' '.join(str(error).split())[:200]}). "
                         "Export the model again, or, if it is new, in another mode: where all values of a layer are "
                         "alike, they have no int8 scale.") from None
    return interpreter


def run(interpreter: Any, images: np.ndarray) -> np.ndarray:
    """Computes logits of images.

    Inputs of quantised models are quantised, and their outputs dequantised, by the scales and zero points in the file.

    Args:
        interpreter: Interpreter of a model with a fixed batch; a last batch that is not full is filled up with its
            last image.
        images: Images as the model takes them, float32 [images, height, width, channels]; at least one.

    Returns:
        float32 [images, classes].
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
    """Prepares an interpreter for timing.

    Args:
        interpreter: Interpreter of a model with any number of inputs.
        seed: Seed of the random inputs, which are written at once.

    Returns:
        (invoke, feed): `invoke` runs the model, `feed` writes the same inputs again.
    """
    rng = np.random.default_rng(seed)
    samples = [(_writer(interpreter, details), rng.standard_normal(details["shape"], np.float32))
               for details in interpreter.get_input_details()]

    def feed():
        for write, sample in samples:
            write(sample)

    feed()
    return interpreter.invoke, feed


def _writer(interpreter, details):
    """A function that writes float32 values to an input, quantised if the input is quantised."""
    scale, zero_point = details["quantization"]

    def write(values):
        if details["dtype"] != np.float32:
            limits = np.iinfo(details["dtype"])
            values = np.clip(np.round(values / scale) + zero_point, limits.min, limits.max).astype(details["dtype"])
        interpreter.set_tensor(details["index"], values)

    return write


def _reader(interpreter):
    """A function that reads the output as float32, dequantised if the output is quantised."""
    details = interpreter.get_output_details()[0]
    scale, zero_point = details["quantization"]

    def read():
        values = interpreter.get_tensor(details["index"])
        if details["dtype"] == np.float32:
            return values
        return (values.astype(np.float32) - zero_point) * np.float32(scale)

    return read
