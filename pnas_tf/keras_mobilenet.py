"""Reads `keras.applications.MobileNetV2`: its files, and its names of the layers of our arch `mobilenet_v2`."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pnas_tf import files
from pnas_tf.errors import InputError
from pnas_tf.space import ops
from pnas_tf.space.arch import Arch
from pnas_tf.train.initial_weights import ENDING, read_model

NAME = "mobilenet_v2"
ENDINGS = (ENDING, ".h5")
MAX_BYTES = 500_000_000
FEATURES = 1280


def state_of(model: Any) -> dict[str, np.ndarray]:
    """Arrays by the name of their layer and their position in it: `block_1_expand/0`.

    Args:
        model: Keras model.
    """
    return {f"{layer.name}/{number}": value for layer in getattr(model, "layers", ())
            for number, value in enumerate(layer.get_weights())}


def plan(arch: Arch) -> Iterator[tuple[str, list[str], Callable[[np.ndarray], np.ndarray]]]:
    """Triples of a layer's name, the names of its arrays in `state_of`, and their conversion, which is none.

    Args:
        arch: Network of MBConvs.

    Raises:
        InputError: If a block holds another op.
    """
    for ours, theirs in _layers(arch):
        count = 4 if ours.endswith("_bn") else 2 if ours.endswith("_dense") else 1
        yield ours, [f"{theirs}/{number}" for number in range(count)], lambda value: value


def _layers(arch):
    """Pairs of a layer's name here and in Keras."""
    for part, conv, norm in ((arch.space.stem, "Conv1", "bn_Conv1"), (arch.space.head[:-1], "Conv_1", "Conv_1_bn")):
        for block in part:
            name = block.layer_name(arch.op_of(block))
            yield from ((f"{name}_conv", conv), (f"{name}_bn", norm))
    for number, block in enumerate(arch.space.blocks):
        op, theirs = arch.op_of(block), f"block_{number}" if number else "expanded_conv"
        type_name, values = ops.parse(op)
        if type_name != "mb":
            raise InputError(f"Block {block.name} holds {op}: MobileNetV2 has MBConvs alone. Leave --arch out.")
        for part in ("expand", "depthwise", "project") if values["e"] > 1 else ("depthwise", "project"):
            ours = f"{block.layer_name(op)}_{part}"
            yield from ((ours, f"{theirs}_{part}"), (f"{ours}_bn", f"{theirs}_{part}_BN"))
    yield f"{arch.space.head[-1].name}_classifier_dense", "predictions"


def read(path: str) -> Any:
    """Reads a MobileNetV2 at alpha 1 from a .keras file, or from an .h5 file of the model or of its weights.

    Args:
        path: Path of the file, untrusted.

    Returns:
        Keras model, whose output has as many columns as the file has classes.

    Raises:
        InputError: If the file is missing, damaged, or of another network.
    """
    if path.endswith(ENDING):
        return read_model(path)
    import keras

    # Only weights are read, also from the file of a whole model.
    model = keras.applications.MobileNetV2(weights=None, classes=_classes(path), classifier_activation=None)
    try:
        model.load_weights(path)
    except Exception as error:  # the exception depends on where the file is damaged; none is a defect of this program
        raise InputError(f"{path}: not the weights of MobileNetV2 at alpha 1 ({' '.join(str(error).split())[:150]}). "
                         "Make the file as --help says.") from None
    return model


def _classes(path: str) -> int:
    """Number of classes of an .h5 file: the columns of its only matrix with 1280 rows, the classifier's kernel."""
    import h5py

    shapes: list[tuple[int, ...]] = []
    files.opened(path).close()
    try:
        with h5py.File(path, "r") as file:
            file.visititems(lambda _, item: shapes.append(item.shape) if isinstance(item, h5py.Dataset) else None)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"{path}: cannot be read as HDF5 ({' '.join(str(error).split())[:120]}). Make the file as "
                         "--help says.") from None
    if sum(4 * math.prod(shape or ()) for shape in shapes) > MAX_BYTES:
        raise InputError(f"{path}: holds more than {MAX_BYTES:,} bytes; expected the weights of MobileNetV2.")
    columns = {shape[1] for shape in shapes if shape and len(shape) == 2 and shape[0] == FEATURES}
    if len(columns) != 1 or min(columns) < 2:
        raise InputError(f"{path}: no classifier of MobileNetV2 at alpha 1 in it. Expected a file with "
                         "include_top=True.")
    return columns.pop()
