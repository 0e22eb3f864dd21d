"""Loads the Keras model to export, and checks that it belongs to the arch.json beside it and to the data set."""

import os
from typing import Any

from pnas_tf import shell
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import arch as arch_lib
from pnas_tf.space.arch import Arch
from pnas_tf.train.initial_weights import read_model


def load(path: str) -> Any:
    """Loads a .keras file without running any code that the file may contain.

    The model computes in float32, whatever precision it was trained in.

    Raises:
        InputError: If the file is missing or damaged, or its model does not map images to one output per class.
    """
    if not os.path.isfile(path):
        folder, name = os.path.split(path)
        run_dir = shell.word(folder or ".") if name == "model.keras" else "DIR"
        raise InputError(f"No model at {path}. Train one: python -m pnas_tf.train --run_dir={run_dir}")
    model = read_model(path)
    shapes = (getattr(model, "input_shape", None), getattr(model, "output_shape", None))
    if not all(isinstance(shape, tuple) and len(shape) == rank and None not in shape[1:]
               for shape, rank in zip(shapes, (4, 2), strict=True)):
        raise InputError(f"{path}: expected a model from images [batch, height, width, channels] of a fixed size to "
                         f"logits [batch, classes], got {shapes[0]} to {shapes[1]}.")
    types = {str(weight.dtype) for weight in model.weights} & {"float16", "bfloat16", "float64"}
    if types:
        raise InputError(f"{path}: holds weights of {', '.join(sorted(types))}, expected float32. Build it with the "
                         "policy float32, or mixed_float16, and copy the weights: model.set_weights(...).")
    for layer in [model, *_layers_inside(model)]:
        if layer.compute_dtype != "float32":
            layer.dtype_policy = "float32"
    return model


def _layers_inside(model):
    """Layers of a model, and of the models inside it."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers_inside(layer)


def check_fits_data(model: Any, data: Any) -> None:
    """Raises InputError if the images or the number of classes of a model and of a data set differ."""
    of_model, of_data = (*model.input_shape[1:], model.output_shape[1]), (*data.image_shape, data.num_classes)
    if of_model != of_data:
        raise InputError(f"The model takes images {of_model[:3]} of {of_model[3]} classes, but {data.name} has "
                         f"{of_data[:3]} of {of_data[3]}. Name the data set that it was trained on: --dataset.")


def is_of_arch(model: Any, arch: Arch) -> bool:
    """Tells whether a model has layers for every op of an arch, and for no other op of its blocks."""
    block_prefixes = tuple(block.layer_name("") for block in arch.space.all_blocks)
    op_prefixes = {f"{block.layer_name(key.op)}_" for block, key in arch.op_keys()}
    layers = [layer.name for layer in model.layers if layer.name.startswith(block_prefixes)]
    return (all(any(name.startswith(prefix) for name in layers) for prefix in op_prefixes)
            and all(name.startswith(tuple(op_prefixes)) for name in layers))


def arch_beside(model: Any, folder: str) -> Arch | None:
    """Loads the arch.json in the folder of a model; None if there is none.

    Raises:
        InputError: If it describes another network, so that its facts would be wrong for this model.
    """
    path = RunFolder(folder).arch
    if not os.path.exists(path):
        return None
    arch = arch_lib.load(path)
    if not is_of_arch(model, arch):
        raise InputError(f"{path} describes another network than the model beside it. Train again, or move one "
                         "of them.")
    return arch
