"""The size of the network that a .keras file describes, before any of its weights are made."""

import math
from concurrent import futures
from typing import Any

import keras

from pnas_tf.space import memory
from pnas_tf.space.memory import BYTES, COPIES, Need


def check(config: Any, path: str) -> None:
    """Checks that a network fits in the memory of this machine.

    Args:
        config: Contents of config.json, untrusted.
        path: Path of the file, for the error.

    Raises:
        InputError: If the network needs more.
        Exception: If Keras cannot read the config; the exception depends on what is wrong.
    """
    memory.check(Need(0, 0, _layers(config)), f"{path}: its network")
    # Keras keeps a list of variables without values for each thread, and makes the values later: this thread ends.
    with futures.ThreadPoolExecutor(1) as thread:
        memory.check(thread.submit(_need, config).result(), f"{path}: its network")


def _need(config: Any) -> Need:
    """What a network needs, without its weights."""
    with keras.StatelessScope(initialize_variables=False):  # in which variables have shapes and no values
        model = keras.saving.deserialize_keras_object(_not_compiled(config), safe_mode=True)
        layers = list(getattr(model, "layers", ()))
        weights = sum(math.prod(variable.shape) for variable in getattr(model, "variables", ()))
    peak = max((_elements(layer) for layer in layers), default=0)
    return Need(BYTES * COPIES * weights, BYTES * peak, len(layers))


def _not_compiled(node: Any) -> Any:
    """A config without those of optimizers, which make variables with values."""
    if isinstance(node, list):
        return [_not_compiled(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {name: _not_compiled(value) for name, value in node.items() if name != "compile_config"}


def _layers(node: Any) -> int:
    """Number of layers in a config, inner ones included."""
    if isinstance(node, list):
        return sum(map(_layers, node))
    if not isinstance(node, dict):
        return 0
    own = node.get("layers")
    return (len(own) if isinstance(own, list) else 0) + sum(map(_layers, node.values()))


def _elements(layer: Any) -> int:
    """Number of elements of a layer's inputs and outputs for one image; 0 for a layer whose shapes are not fixed."""
    try:
        tensors = keras.tree.flatten([layer.input, layer.output])
    except (AttributeError, ValueError):
        return 0
    return sum(math.prod(side or 1 for side in tensor.shape) for tensor in tensors)
