"""From a Keras model to the bytes of a `.tflite`: batch 1, batch norm folded, ReLU6 fused."""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from pnas_tf.errors import InputError
from pnas_tf.quiet import quiet

MODES = ("float32", "float16", "int8")


def convert(model: Any, mode: str, calibration: Iterable[np.ndarray] | None = None, *, verbose: bool = False) -> bytes:
    """Converts a model; takes about 0.1 s for one op and 1 to 2 s for a whole network.

    Args:
        model: Keras model from float32 [batch, height, width, channels] images to logits.
        mode: `float32`; `float16` (weights stored so, computed in float32 where there are no such kernels);
            `int8` (all integer, input and output too).
        calibration: for int8, batches of float32 [n, height, width, channels] to find the ranges of activations.
        verbose: whether to let the converter talk.

    Returns:
        Contents of a `.tflite`.

    Raises:
        InputError: if TFLite has no built-in op for something in the model.
    """
    if mode not in MODES:
        raise InputError(f"mode must be one of {', '.join(MODES)}, got {str(mode)[:40]!r}.")
    if mode == "int8" and calibration is None:
        raise ValueError("int8 needs calibration images.")
    with quiet(not verbose):
        content = _converted(model, mode, calibration)
    _check(describe(content), mode)
    return content


def _converted(model, mode, calibration):
    import tensorflow as tf
    from tensorflow.lite.python.convert_phase import ConverterError

    # From a concrete function alone: a Keras model beside it as "trackable" leaves its variables unfrozen and
    # outputs NaN (tensorflow 2.21 with keras 3), and the ways through a SavedModel take 2 to 4 times as long.
    spec = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")
    function = tf.function(lambda image: model(image, training=False), autograph=False).get_concrete_function(spec)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    if mode != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if mode == "int8":
        converter.representative_dataset = lambda: ([image[None]] for batch in calibration for image in batch)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    try:
        return converter.convert()
    except ConverterError as error:
        ops = sorted(set(re.findall(r"'(tf\.\w+)' op", str(error))))
        raise InputError(f"TFLite cannot express this model as {mode}: no built-in op for "
                         f"{', '.join(ops) or 'a part of it'}. Build that layer from other ops.") from error


@dataclasses.dataclass(frozen=True)
class Contents:
    """What is in a `.tflite`.

    Attributes:
        ops: name of each operator in order of execution: CONV_2D, ADD, ...
        tensors: name of each tensor; holds the Keras layer names.
        dtypes: names of the tensors' types: FLOAT32, INT8, ...
        input_shape: of the first input.
    """

    ops: tuple[str, ...]
    tensors: tuple[str, ...]
    dtypes: frozenset[str]
    input_shape: tuple[int, ...]


def describe(content: bytes) -> Contents:
    """Reads operators and tensors of the main graph."""
    from tensorflow.lite.python import schema_py_generated as schema

    op_names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    type_names = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    codes = [model.OperatorCodes(graph.Operators(i).OpcodeIndex()) for i in range(graph.OperatorsLength())]
    tensors = [graph.Tensors(i) for i in range(graph.TensorsLength())]
    return Contents(
        # Old readers know only codes up to 127, which stand in the deprecated field.
        ops=tuple(op_names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes),
        tensors=tuple(tensor.Name().decode() for tensor in tensors),
        dtypes=frozenset(type_names[tensor.Type()] for tensor in tensors),
        input_shape=tuple(int(size) for size in tensors[graph.Inputs(0)].ShapeAsNumpy()))


def _check(contents: Contents, mode: str) -> None:
    """What a converter has been seen to do wrong without saying so."""
    unfrozen = sorted({op for op in contents.ops if op in ("VAR_HANDLE", "READ_VARIABLE", "CALL_ONCE", "CUSTOM")})
    if unfrozen:
        raise InputError(f"The converted model holds {', '.join(unfrozen)}: expected only built-in ops and constants. "
                         "Use stock Keras layers with fixed weights.")
    if mode == "int8" and contents.dtypes - {"INT8", "INT16", "INT32", "INT64", "BOOL"}:
        raise InputError(f"The int8 model still holds tensors of {', '.join(sorted(contents.dtypes))}: some layer has "
                         "no int8 form in TFLite. Export it as float16.")
