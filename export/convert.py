"""Converts a Keras model to the bytes of a `.tflite` with a fixed batch, batch norm folded and ReLU6 fused."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from export import litert
from export.graph import check_runnable, describe
from pnas_tf.errors import InputError
from pnas_tf.terminal import quiet

MODES = ("float32", "float16", "dynamic", "int8")
INT8_IO = ("int8", "uint8", "float32")


def convert(model: Any, mode: str, calibration: Iterable[np.ndarray] | None = None, *, int8_io: str = "int8",
            batch_size: int = 1, verbose: bool = False) -> bytes:
    """Converts a model, in about 0.1 s for one op and in 1 to 2 s for a whole network.

    Args:
        model: Keras model from float32 [batch, height, width, channels] images to logits.
        mode: `float32`; `float16` (float16 weights; computed in float32 where there are no float16 kernels); `dynamic`
            (int8 weights; activations are quantised while the network runs); `int8` (all integer).
        calibration: Batches of float32 [images, height, width, channels] that set the ranges of activations; int8
            needs them.
        int8_io: Type of input and output of an int8 model, one of `INT8_IO`.
        batch_size: Number of images that the `.tflite` takes at once.
        verbose: Whether to show the output of the converter.

    Returns:
        Contents of a `.tflite`.

    Raises:
        InputError: If TFLite has no built-in op for a part of the model, calibration images do not fit the model, or
            this TensorFlow has no converter.
        ValueError: If the mode is int8 and there are no calibration images.
    """
    if mode not in MODES:
        raise InputError(f"mode must be one of {', '.join(MODES)}, got {str(mode)[:40]!r}.")
    if mode == "int8" and calibration is None:
        raise ValueError("int8 needs calibration images.")
    # A plain function, traced without autograph, which would look up the source code of every layer.
    return convert_function(lambda image: model(image, training=False), (batch_size, *model.input_shape[1:]), mode,
                            calibration, int8_io=int8_io, verbose=verbose)


def to_time(model: Any, mode: str) -> bytes:
    """Converts a model that will only be timed.

    Args:
        model: Keras model of one image input, or of several inputs of one shape, such as an op that adds them up.
        mode: One of `MODES`; int8 takes its ranges from random images, because they do not affect the time.

    Returns:
        Contents of a `.tflite` for one image at a time.
    """
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    images = np.random.default_rng(0).standard_normal((4, *shapes[0]), np.float32)
    if len(shapes) == 1:
        return convert(model, mode, calibration=[images])
    return convert_function(lambda *inputs: model(list(inputs), training=False), (1, *shapes[0]), mode, [images],
                            inputs=len(shapes))


def randomise(model: Any, seed: int = 0) -> Any:
    """Gives a model random weights and returns it. A new model has zeros, which a converter may fold away.

    Args:
        model: Keras model; it is changed.
        seed: Seed of the weights.
    """
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        values = rng.standard_normal(variable.shape, np.float32) * 0.1
        # Scales and variances: positive, and far from 0.
        variable.assign(np.abs(values) + 0.5 if variable.path.endswith(("gamma", "moving_variance")) else values)
    return model


def convert_function(function: Callable[[Any], Any], input_shape: tuple[int, ...], mode: str,
                     calibration: Iterable[np.ndarray] | None = None, *, int8_io: str = "int8",
                     verbose: bool = False, inputs: int = 1) -> bytes:
    """Converts a TensorFlow function as `convert` converts a model.

    Args:
        function: Function of one float32 tensor, or of several tensors of the same shape.
        input_shape: Shape of each input, with the batch.
        mode: One of `MODES`.
        calibration: As for `convert`. Without it, int8 takes the ranges from the function's own fake quantisation.
        int8_io: Type of input and output of an int8 model, one of `INT8_IO`.
        verbose: Whether to show the output of the converter.
        inputs: Number of inputs.

    Returns:
        Contents of a `.tflite`.

    Raises:
        InputError: If TFLite has no built-in op for a part of the function, or calibration images do not fit it.
    """
    if int8_io not in INT8_IO:
        raise InputError(f"int8_io must be one of {', '.join(INT8_IO)}, got {str(int8_io)[:40]!r}.")
    with quiet(not verbose):
        content = _converted(function, input_shape, mode, calibration, int8_io, inputs)
    check_runnable(describe(content), integer=mode == "int8")
    return content


def _converted(function, input_shape, mode, calibration, int8_io, inputs):
    import tensorflow as tf

    lite, converter_error = litert.converter()
    # The converter gets a concrete function only: if it also gets the Keras model as "trackable", variables are not
    # frozen and outputs are NaN (tensorflow 2.21 with keras 3). A SavedModel in between takes 2 to 4 times as long.
    specs = [tf.TensorSpec(input_shape, tf.float32, name="image" if number == 0 else f"image_{number}")
             for number in range(inputs)]
    concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
    converter = lite.TFLiteConverter.from_concrete_functions([concrete])
    if mode != "float32":
        converter.optimizations = [lite.Optimize.DEFAULT]
    if mode == "dynamic":
        # With a scale for each channel of dense weights, FULLY_CONNECTED has version 12, which runtimes before 2.17 do
        # not support.
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if mode == "int8":
        if calibration is not None:
            converter.representative_dataset = lambda: _samples(calibration, input_shape, inputs)
            converter.target_spec.supported_ops = [lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(int8_io)
    try:
        return converter.convert()
    except converter_error as error:
        ops = sorted(set(re.findall(r"'(tf\.\w+)' op", str(error))))
        raise InputError(f"TFLite cannot express this model as {mode}: no built-in op for "
                         f"{', '.join(ops) or 'a part of it'}. Build that layer from other ops.") from error


def _samples(calibration, input_shape, inputs):
    """Yields calibration images in batches of the size that the model takes."""
    for batch in calibration:
        if batch.shape[1:] != input_shape[1:]:
            raise InputError(f"The calibration images are {batch.shape[1:]}, but the model takes {input_shape[1:]}. "
                             "Give images of that size: --dataset, or --calibration_images from the same data set.")
        for image in batch:
            yield [np.broadcast_to(image, input_shape).astype(np.float32)] * inputs
