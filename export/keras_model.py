"""Loads the model to export, and checks that it belongs to the arch and the data that are beside it."""

import os
import shlex
from typing import Any

from pnas_tf.errors import InputError
from pnas_tf.space import arch as arch_lib
from pnas_tf.space.arch import Arch


def load(path: str) -> Any:
    """Loads a .keras file; runs no code that the file may bring along.

    Raises:
        InputError: if it is missing, damaged, or not from images to logits.
    """
    import keras

    from pnas_tf.network import layers as fast_layers  # noqa: F401  (registers the layers that a file may hold)

    if not os.path.isfile(path):
        folder, name = os.path.split(path)
        run_dir = shlex.quote(folder or ".") if name == "model.keras" else "DIR"
        raise InputError(f"No model at {path}. Train one: python -m pnas_tf.train --run_dir={run_dir}")
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Which one depends on where the file is damaged; none is a defect of ours.
        raise InputError(f"{path}: not a Keras model that can be loaded ({' '.join(str(error).split())[:150]}). "
                         "Train it again.") from None
    shapes = (getattr(model, "input_shape", None), getattr(model, "output_shape", None))
    if not all(isinstance(shape, tuple) and len(shape) == rank and None not in shape[1:]
               for shape, rank in zip(shapes, (4, 2), strict=True)):
        raise InputError(f"{path}: expected a model from images [batch, height, width, channels] of a fixed size to "
                         f"logits [batch, classes], got {shapes[0]} to {shapes[1]}.")
    return model


def check_fits_data(model: Any, data: Any) -> None:
    """Raises InputError if a model is for other images or classes than a data set's."""
    wanted, given = (*model.input_shape[1:], model.output_shape[1]), (*data.image_shape, data.num_classes)
    if wanted != given:
        raise InputError(f"The model takes images {wanted[:3]} of {wanted[3]} classes, but {data.name} has {given[:3]} "
                         f"of {given[3]}. Name the data set that it was trained on: --dataset.")


def is_of_arch(model: Any, arch: Arch) -> bool:
    """Whether the layers of a model are those of an arch: every op of a block has layers, and no other op has."""
    wanted = {block.layer_name(key.op) for block, key in arch.op_keys()}
    starts = {block.layer_name("") for block in arch.space.all_blocks}
    named = [layer.name for layer in model.layers if layer.name.startswith(tuple(starts))]
    return {start for start in wanted if any(name.startswith(start + "_") for name in named)} == wanted \
        and all(name.startswith(tuple(start + "_" for start in wanted)) for name in named)


def arch_beside(model: Any, folder: str) -> Arch | None:
    """The arch.json in the folder of a model, None if there is none.

    Raises:
        InputError: if it is of another network: what it says would be wrong of this one.
    """
    path = os.path.join(folder, "arch.json")
    if not os.path.exists(path):
        return None
    arch = arch_lib.load(path)
    if not is_of_arch(model, arch):
        raise InputError(f"{path} is of another network than the model beside it. Train again, or move one of them.")
    return arch
