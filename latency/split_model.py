"""Cuts a `.tflite` into one `.tflite` for each operator, with its weights, types and scales: to time them apart."""

import copy
import dataclasses
from typing import Any

from export import graph as graph_lib
from pnas_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class Piece:
    """An operator as a model of its own.

    Attributes:
        operator: its name, CONV_2D or the like.
        name: of the layer: the tensor that it writes, or one that it reads if that has none.
        inputs: positions in the whole model of the tensors that it reads, constants left out.
        outputs: positions of the tensors that it writes.
        output_shape: of the first of them.
        content: the `.tflite`, whose inputs and outputs are those.
    """

    operator: str
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    output_shape: tuple[int, ...]
    content: bytes


def cut(content: bytes) -> list[Piece]:
    """One piece for each operator, in order of execution.

    What only unpacks constants (float16 weights) happens once and not in every run, so it is no piece of its own but
    goes with the operator that reads it.

    Args:
        content: of a `.tflite` that an interpreter has accepted.

    Raises:
        InputError: if it has branches or loops.
    """
    model = graph_lib.unpack(content)
    if len(model.subgraphs) != 1:
        raise InputError(f"The model has {len(model.subgraphs)} graphs: expected one, without branches and loops. "
                         "Profile it on a phone (--measurer=android).")
    found, graph = graph_lib.describe(content), model.subgraphs[0]
    constant = {position for position, tensor in enumerate(found.tensors) if tensor.constant}
    unpacking: dict[int, int] = {}  # by position of the tensor, the operator that writes it
    pieces = []
    for number, operator in enumerate(found.operators):
        if set(operator.inputs) <= constant | set(unpacking):
            unpacking |= dict.fromkeys(operator.outputs, number)
            continue
        before = [unpacking[position] for position in operator.inputs if position in unpacking]
        inputs = tuple(dict.fromkeys(position for position in operator.inputs
                                     if position not in constant and position not in unpacking))
        steps = [graph.operators[step] for step in (*before, number)]
        pieces.append(Piece(operator.name, _layer(found, operator), inputs, operator.outputs,
                            found.tensors[operator.outputs[0]].shape,
                            graph_lib.pack(_model_of(model, steps, inputs, operator.outputs))))
    return pieces


def _layer(found: graph_lib.Contents, operator: graph_lib.Operator) -> str:
    """A tensor's name with a layer's path in it: what is written, else (the network's output) weights, else inputs."""
    read = sorted(operator.inputs, key=lambda position: not found.tensors[position].constant)
    names = [found.tensors[position].name for position in (*operator.outputs, *read)]
    return next((name for name in names if "/" in name), names[0])


def _model_of(model: Any, steps: list[Any], inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Any:
    """A `ModelT` of some operators of another."""
    graph = model.subgraphs[0]
    used = sorted({int(position) for step in steps for position in (*step.inputs, *step.outputs) if position >= 0})
    place = {position: number for number, position in enumerate(used)} | {-1: -1}  # -1 is an input left out

    def places(positions):
        return [place[int(position)] for position in positions]

    piece, part = copy.copy(model), copy.copy(graph)
    piece.buffers, part.tensors, part.operators = model.buffers[:1], [], []  # the first one is empty by the schema
    for position in used:
        tensor = copy.copy(graph.tensors[position])
        buffer = model.buffers[tensor.buffer]
        tensor.buffer = 0
        if buffer.data is not None and len(buffer.data):
            tensor.buffer = len(piece.buffers)
            piece.buffers.append(buffer)
        part.tensors.append(tensor)
    for step in steps:
        one = copy.copy(step)
        one.inputs, one.outputs = places(step.inputs), places(step.outputs)
        part.operators.append(one)
    part.inputs, part.outputs = places(inputs), places(outputs)
    piece.subgraphs, piece.metadata, piece.metadataBuffer, piece.signatureDefs = [part], None, None, None
    return piece
