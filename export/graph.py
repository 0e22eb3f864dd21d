"""The graph of a `.tflite`: reads it, checks it for faults of the converter, and unpacks and packs the flatbuffer."""

import dataclasses
import math
from typing import Any

import numpy as np

from export import litert
from pnas_tf.errors import InputError

# Operators of models whose variables were not frozen, and custom operators. Built-in kernels run none of them.
NOT_BUILT_IN = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE", "CUSTOM")
# Operators that batch norm and ReLU6 become if they are not folded into the op before them.
AFFINE = ("MUL", "SUB", "ADD", "DIV")
ACTIVATIONS = ("RELU", "RELU6", "MINIMUM", "MAXIMUM")
WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
INTEGERS = frozenset({"INT8", "UINT8", "INT16", "INT32", "INT64", "BOOL"})

MODEL_IDENTIFIER = b"TFL3"
# Bytes, by force_align in the TFLite schema: kernels read weights in place.
BUFFER_ALIGNMENT = 16


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of the main graph.

    Attributes:
        name: Name, which contains the names of Keras layers.
        dtype: Type of its elements: FLOAT32, INT8, ...
        shape: Sizes of its dimensions.
        size_bytes: Bytes of all its elements.
        constant: Whether the file holds its values.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    constant: bool


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator of the main graph.

    Attributes:
        name: Name of the built-in operator, such as CONV_2D.
        inputs: Positions of the tensors that it reads.
        outputs: Positions of the tensors that it writes.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Contents:
    """The main graph.

    Attributes:
        operators: Operators in order of execution.
        tensors: Tensors by position.
        inputs: Positions of the graph's input tensors.
        outputs: Positions of the graph's output tensors.
    """

    operators: tuple[Operator, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def ops(self) -> tuple[str, ...]:
        """Names of the operators in order of execution."""
        return tuple(operator.name for operator in self.operators)

    @property
    def dtypes(self) -> frozenset[str]:
        """Types of the tensors."""
        return frozenset(tensor.dtype for tensor in self.tensors)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the first input."""
        return self.tensors[self.inputs[0]].shape


def describe(content: bytes) -> Contents:
    """Reads the main graph of a `.tflite`.

    Only an interpreter checks every part of a file. If the file comes from outside, load it in an interpreter first.

    Raises:
        InputError: If the file is damaged, or newer than this version of LiteRT.
    """
    try:
        return _described(content)
    except Exception as error:  # The type depends on where the file is damaged; none is a defect of this program.
        raise InputError("Not a .tflite that this version of LiteRT can describe "
                         f"({type(error).__name__}: {' '.join(str(error).split())[:100]}). Export it again.") from None


def _described(content: bytes) -> Contents:
    schema = litert.schema()

    op_names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    type_names = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}
    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)

    def tensor(entry: Any) -> Tensor:
        dtype, shape = type_names[entry.Type()], tuple(int(size) for size in _ints(entry.ShapeAsNumpy()))
        item_bytes = np.dtype(dtype.lower()).itemsize if hasattr(np, dtype.lower()) else 1
        return Tensor(entry.Name().decode(), dtype, shape, item_bytes * int(np.prod(shape, dtype=np.int64)),
                      model.Buffers(entry.Buffer()).DataLength() > 0)

    def operator(entry: Any) -> Operator:
        code = model.OperatorCodes(entry.OpcodeIndex())
        # Codes up to 127 are also in the deprecated field, for old readers; larger codes are only in the new field.
        return Operator(op_names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())],
                        _ints(entry.InputsAsNumpy()), _ints(entry.OutputsAsNumpy()))

    return Contents(tuple(operator(graph.Operators(i)) for i in range(graph.OperatorsLength())),
                    tuple(tensor(graph.Tensors(i)) for i in range(graph.TensorsLength())),
                    _ints(graph.InputsAsNumpy()), _ints(graph.OutputsAsNumpy()))


def _ints(array: Any) -> tuple[int, ...]:
    # The generated reader returns 0 for a missing vector; -1 stands for an optional input that is left out.
    return tuple(int(value) for value in array if value >= 0) if isinstance(array, np.ndarray) else ()


def check_runnable(contents: Contents, *, integer: bool) -> None:
    """Refuses faulty models, of kinds that the converter is known to write without an error.

    Args:
        contents: Graph of a newly converted `.tflite`.
        integer: Whether only input and output may be floats.

    Raises:
        InputError: If the graph has variables that are not frozen, custom ops, batch norm that is not folded, ReLU that
            is not fused, or floats in an integer model.
    """
    unfrozen = sorted(set(contents.ops) & set(NOT_BUILT_IN))
    if unfrozen:
        raise InputError(f"The converted model holds {', '.join(unfrozen)}: expected only built-in ops and constants. "
                         "Use stock Keras layers with fixed weights.")
    loose = _loose(contents)
    if loose:
        where = contents.tensors[loose[0].outputs[0]].name[-80:]
        raise InputError(f"The converted model holds {loose[0].name} ({where}) right after a convolution: expected "
                         "batch norm folded into the convolution and ReLU6 fused with it. Build that layer from stock "
                         "Keras batch norm and ReLU.")
    if integer:
        ends = {*contents.inputs, *contents.outputs}
        floats = sorted({tensor.dtype for position, tensor in enumerate(contents.tensors)
                         if position not in ends} - INTEGERS)
        if floats:
            raise InputError(f"The int8 model still holds tensors of {', '.join(floats)}: some layer has no int8 form "
                             "in TFLite. Export it as float16.")


def _loose(contents: Contents) -> list[Operator]:
    """Scales, shifts and activations that stand alone although the op before them could have absorbed them."""
    producers = {position: operator for operator in contents.operators for position in operator.outputs}
    readers: dict[int, int] = {}
    for operator in contents.operators:
        for position in operator.inputs:
            readers[position] = readers.get(position, 0) + 1

    def follows_weights(operator: Operator) -> bool:
        activations = [position for position in operator.inputs if not contents.tensors[position].constant]
        before = producers.get(activations[0]) if len(activations) == 1 else None
        return before is not None and before.name in WITH_WEIGHTS and readers[activations[0]] == 1

    return [operator for operator in contents.operators
            if operator.name in AFFINE + ACTIVATIONS and follows_weights(operator)]


def peak_activation_bytes(contents: Contents) -> int:
    """Largest number of bytes of activations that are alive at once when the operators run in order.

    A tensor is alive from the operator that writes it to the last operator that reads it. A runtime's arena needs at
    least this number of bytes, plus the scratch memory of its kernels.
    """
    constant = {position for position, tensor in enumerate(contents.tensors) if tensor.constant}
    first = dict.fromkeys(contents.inputs, 0)
    last = {position: len(contents.operators) - 1 for position in contents.outputs}
    for step, operator in enumerate(contents.operators):
        if set(operator.inputs) <= constant:  # float16 weights on their way to float32
            constant |= set(operator.outputs)
        for position in operator.outputs:
            first.setdefault(position, step)
        for position in (*operator.inputs, *operator.outputs):
            last[position] = max(last.get(position, 0), step)
    alive = [sum(contents.tensors[position].size_bytes for position, begin in first.items()
                 if position not in constant and begin <= step <= last[position])
             for step in range(len(contents.operators))]
    return max(alive, default=0)


def count_macs(contents: Contents) -> int:
    """Multiply-accumulates of the layers with weights, for one image.

    A weight of a convolution or dense layer is used once for each position and filter of the output; that of a
    depthwise convolution once for each position.
    """
    total = 0
    for operator in contents.operators:
        if operator.name in WITH_WEIGHTS:
            output, weights = contents.tensors[operator.outputs[0]], contents.tensors[operator.inputs[1]]
            total += math.prod(output.shape[:-1]) * math.prod(weights.shape)
    return total


def unpack(content: bytes) -> Any:
    """Unpacks a `.tflite` to the schema's `ModelT`.

    Args:
        content: A file that the converter has just written or an interpreter has accepted; nothing is checked here.
    """
    schema = litert.schema()

    return schema.ModelT.InitFromPackedBuf(content, 0)


def pack(model: Any) -> bytes:
    """Packs a `ModelT` to a `.tflite`; a zip archive of labels that was appended to the file is not included."""
    import flatbuffers
    schema = litert.schema()

    buffers = model.buffers
    builder = flatbuffers.Builder(4096 + sum(len(buffer.data) for buffer in buffers if buffer.data is not None))
    model.buffers = [_AlignedBuffer(schema, buffer.data) for buffer in buffers]
    try:
        builder.Finish(model.Pack(builder), MODEL_IDENTIFIER)
    finally:
        model.buffers = buffers
    return bytes(builder.Output())


class _AlignedBuffer:
    """Replaces the schema's BufferT, which packs data without the alignment that the schema demands."""

    def __init__(self, schema: Any, data: Any):
        self._schema, self._data = schema, None if data is None else np.asarray(data, np.uint8).tobytes()

    def Pack(self, builder: Any) -> int:
        if self._data is not None:
            size = len(self._data)
            builder.StartVector(1, size, BUFFER_ALIGNMENT)
            builder.head = builder.head - size
            builder.Bytes[builder.head:builder.head + size] = self._data
            data = builder.EndVector()
        self._schema.BufferStart(builder)
        if self._data is not None:
            self._schema.BufferAddData(builder, data)
        return self._schema.BufferEnd(builder)
