"""What is in a `.tflite`: its operators, tensors and memory; and what a converter does wrong without saying so."""

import dataclasses
from typing import Any

import numpy as np

from pnas_tf.errors import InputError

# Seen when variables were not frozen, and never in a network that is to run on a phone's built-in kernels.
NOT_BUILT_IN = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE", "CUSTOM")
# What batch norm and ReLU6 become when they are not folded into the op before them.
AFFINE = ("MUL", "SUB", "ADD", "DIV")
ACTIVATIONS = ("RELU", "RELU6", "MINIMUM", "MAXIMUM")
WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
INTEGERS = frozenset({"INT8", "UINT8", "INT16", "INT32", "INT64", "BOOL"})


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of the main graph.

    Attributes:
        name: holds the Keras layer names.
        dtype: FLOAT32, INT8, ...
        shape: of its elements.
        size_bytes: of all its elements.
        constant: whether its values stand in the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int
    constant: bool


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator: its name (CONV_2D, ...), and the positions of the tensors it reads and writes."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Contents:
    """The main graph.

    Attributes:
        operators: in order of execution.
        tensors: by position.
        inputs: positions of the graph's input tensors.
        outputs: positions of the graph's output tensors.
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
        """Types that occur among the tensors."""
        return frozenset(tensor.dtype for tensor in self.tensors)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the first input."""
        return self.tensors[self.inputs[0]].shape


def describe(content: bytes) -> Contents:
    """Reads a `.tflite`; what runs it is to have accepted it before, as only that checks it in every part.

    Raises:
        InputError: if it is damaged, or newer than this version of TensorFlow knows.
    """
    try:
        return _described(content)
    except Exception as error:  # Which one depends on where it is damaged; none is a defect of ours.
        raise InputError("Not a .tflite that this version of TensorFlow can describe "
                         f"({type(error).__name__}: {' '.join(str(error).split())[:100]}). Export it again.") from None


def _described(content: bytes) -> Contents:
    from tensorflow.lite.python import schema_py_generated as schema

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
        # Old readers know only codes up to 127, which stand in the deprecated field.
        return Operator(op_names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())],
                        _ints(entry.InputsAsNumpy()), _ints(entry.OutputsAsNumpy()))

    return Contents(tuple(operator(graph.Operators(i)) for i in range(graph.OperatorsLength())),
                    tuple(tensor(graph.Tensors(i)) for i in range(graph.TensorsLength())),
                    _ints(graph.InputsAsNumpy()), _ints(graph.OutputsAsNumpy()))


def _ints(array: Any) -> tuple[int, ...]:
    # The generated reader gives 0 for a vector that is not there; -1 stands for an optional input left out.
    return tuple(int(value) for value in array if value >= 0) if isinstance(array, np.ndarray) else ()


def check_runnable(contents: Contents, *, integer: bool) -> None:
    """Refuses what a converter has been seen to write without an error.

    Args:
        contents: of a fresh `.tflite`.
        integer: whether only input and output may hold floats.

    Raises:
        InputError: for unfrozen variables or custom ops, batch norm that was not folded, ReLU that was not fused, or
            floats in an integer model.
    """
    unfrozen = sorted(set(contents.ops) & set(NOT_BUILT_IN))
    if unfrozen:
        raise InputError(f"The converted model holds {', '.join(unfrozen)}: expected only built-in ops and constants. "
                         "Use stock Keras layers with fixed weights.")
    loose = _loose(contents)
    if loose:
        where = contents.tensors[loose[0].outputs[0]].name[-80:]
        raise InputError(f"The converted model holds {loose[0].name} ({where})"
                         " right after a convolution: expected batch norm folded into it and ReLU6 fused with it.")
    if integer:
        outside = {*contents.inputs, *contents.outputs}
        floats = sorted({tensor.dtype for position, tensor in enumerate(contents.tensors)
                         if position not in outside} - INTEGERS)
        if floats:
            raise InputError(f"The int8 model still holds tensors of {', '.join(floats)}: some layer has no int8 form "
                             "in TFLite. Export it as float16.")


def _loose(contents: Contents) -> list[Operator]:
    """Scales, shifts and activations that stand alone though the op before them could have taken them in."""
    producers = {position: operator for operator in contents.operators for position in operator.outputs}
    readers: dict[int, int] = {}
    for operator in contents.operators:
        for position in operator.inputs:
            readers[position] = readers.get(position, 0) + 1

    def follows_weights(operator: Operator) -> bool:
        variable = [position for position in operator.inputs if not contents.tensors[position].constant]
        before = producers.get(variable[0]) if len(variable) == 1 else None
        return before is not None and before.name in WITH_WEIGHTS and readers[variable[0]] == 1

    return [operator for operator in contents.operators
            if operator.name in AFFINE + ACTIVATIONS and follows_weights(operator)]


def peak_activation_bytes(contents: Contents) -> int:
    """The most bytes of activations that are alive at once, when ops run in order.

    A tensor lives from the op that writes it to the last that reads it. It is what an arena needs at least; kernels'
    own scratch memory comes on top.
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

MODEL_IDENTIFIER = b"TFL3"
BUFFER_ALIGNMENT = 16  # as the TFLite schema asks (force_align): kernels read weights where they lie


def unpack(content: bytes) -> Any:
    """The schema's `ModelT` of a `.tflite` that a converter of this process wrote or an interpreter has accepted."""
    from tensorflow.lite.python import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(content, 0)


def pack(model: Any) -> bytes:
    """The `.tflite` of a `ModelT`; what is appended to a file (labels) is not part of it."""
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    buffers = model.buffers
    builder = flatbuffers.Builder(4096 + sum(len(buffer.data) for buffer in buffers if buffer.data is not None))
    model.buffers = [_AlignedBuffer(schema, buffer.data) for buffer in buffers]
    try:
        builder.Finish(model.Pack(builder), MODEL_IDENTIFIER)
    finally:
        model.buffers = buffers
    return bytes(builder.Output())


class _AlignedBuffer:
    """In place of the schema's BufferT, which packs data without the alignment that the schema asks for."""

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
