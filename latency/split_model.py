"""Cuts a `.tflite` into a `.tflite` for each operator, with weights, types and scales, so that it is timed alone."""

import copy
import dataclasses
from typing import Any

from export import graph as graph_lib
from pnas_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class Piece:
    """An operator as a model of its own.

    Attributes:
        operator: Type of the operator, CONV_2D for example.
        name: Name of its layer, from the tensor that it writes or, failing that, from a tensor that it reads.
        inputs: Positions in the whole model of the tensors that it reads, without constants.
        outputs: Positions in the whole model of the tensors that it writes.
        output_shape: Shape of the first output.
        content: Bytes of the `.tflite`, with these inputs and outputs.
    """

    operator: str
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    output_shape: tuple[int, ...]
    content: bytes


def cut(content: bytes) -> list[Piece]:
    """Cuts a model into its operators.

    An operator that only unpacks constants (float16 weights) is executed once and not in every run. It becomes a part
    of the piece that reads its output.

    Args:
        content: Bytes of a `.tflite` that an interpreter has accepted.

    Returns:
        Pieces in order of execution.

    Raises:
        InputError: If the model has branches or loops.
    """
    model = graph_lib.unpack(content)
    if len(model.subgraphs) != 1:
        raise InputError(f"The model has {len(model.subgraphs)} graphs: expected one, without branches and loops. "
                         "Profile it on a phone (--measurer=android).")
    contents, graph = graph_lib.describe(content), model.subgraphs[0]
    constant = {position for position, tensor in enumerate(contents.tensors) if tensor.constant}
    unpacking: dict[int, int] = {}  # number of the operator that unpacks a constant, by position of the tensor
    pieces = []
    for number, operator in enumerate(contents.operators):
        if set(operator.inputs) <= constant | set(unpacking):
            unpacking |= dict.fromkeys(operator.outputs, number)
            continue
        before = [unpacking[position] for position in operator.inputs if position in unpacking]
        inputs = tuple(dict.fromkeys(position for position in operator.inputs
                                     if position not in constant and position not in unpacking))
        steps = [graph.operators[step] for step in (*before, number)]
        pieces.append(Piece(operator.name, _layer(contents, operator), inputs, operator.outputs,
                            contents.tensors[operator.outputs[0]].shape,
                            graph_lib.pack(_model_of(model, steps, inputs, operator.outputs))))
    return pieces


def _layer(contents: graph_lib.Contents, operator: graph_lib.Operator) -> str:
    """The name of a tensor of the operator that contains the path of a layer.

    Outputs come first; the output of the network has no such name, so weights and then inputs follow.
    """
    read = sorted(operator.inputs, key=lambda position: not contents.tensors[position].constant)
    names = [contents.tensors[position].name for position in (*operator.outputs, *read)]
    return next((name for name in names if "/" in name), names[0])


def _model_of(model: Any, steps: list[Any], inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Any:
    """A `ModelT` with some of the operators of another `ModelT`.

    Args:
        model: Whole model, a `ModelT`.
        steps: Operators to keep.
        inputs: Positions of the tensors that become inputs.
        outputs: Positions of the tensors that become outputs.
    """
    graph = model.subgraphs[0]
    used = sorted({int(position) for step in steps for position in (*step.inputs, *step.outputs) if position >= 0})
    place = {position: number for number, position in enumerate(used)} | {-1: -1}  # -1: an absent optional input

    def places(positions):
        return [place[int(position)] for position in positions]

    piece, part = copy.copy(model), copy.copy(graph)
    piece.buffers, part.tensors, part.operators = model.buffers[:1], [], []  # the first buffer must be empty
    for position in used:
        tensor = copy.copy(graph.tensors[position])
        buffer = model.buffers[tensor.buffer]
        tensor.buffer = 0
        if buffer.data is not None and len(buffer.data):
            tensor.buffer = len(piece.buffers)
            piece.buffers.append(buffer)
        part.tensors.append(tensor)
    for step in steps:
        operator = copy.copy(step)
        operator.inputs, operator.outputs = places(step.inputs), places(step.outputs)
        part.operators.append(operator)
    part.inputs, part.outputs = places(inputs), places(outputs)
    piece.subgraphs, piece.metadata, piece.metadataBuffer, piece.signatureDefs = [part], None, None, None
    return piece
