"""From an arch to a flat functional Keras model, and from one op to a model of it alone."""

import errno
import math
import os
from typing import Any

import keras

from pnas_tf import files
from pnas_tf.network import layers as fast_layers
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import ops
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import OpKey


def build_network(arch: Arch | str, *, num_classes: int | None = None, input_size: int | None = None,
                  dropout: float = 0.0, drop_path: float = 0.0, batch_size: int | None = None,
                  layers: Any = fast_layers, model_class: Any = keras.Model) -> keras.Model:
    """A plain Keras model of an arch: no gate, no skipped block, float32 logits.

    Layer names begin with block and op, `b07_mb_k5_e6_project`, and end up in the `.tflite`.

    Args:
        arch: an arch, the name of a shipped one, or the path of an arch.json.
        num_classes: of the classifier; the arch's own if None.
        input_size: height and width of the images; the arch's own if None.
        dropout: rate before the classifier.
        drop_path: rate at which the last residual branch is left out, image by image, in training; at the first it is
            that over their number, and grows linearly with depth (Huang et al. 2016).
        batch_size: fixed batch of the input, or None.
        layers: namespace of layers to construct from.
        model_class: what joins them; `tf_keras.Model` for `layers=tf_keras.layers`.

    Returns:
        Model from float32 [batch, height, width, channels] to float32 logits [batch, classes].

    Raises:
        InputError: if the arch cannot be loaded.
    """
    if isinstance(arch, str):
        arch = arch_lib.load(arch)
    space = arch.space.for_data(input_size or arch.space.input_size, arch.space.input_channels,
                                num_classes or arch.space.num_classes)
    arch = Arch(space, arch.ops, arch.costs)
    inputs = layers.Input((space.input_size, space.input_size, space.input_channels), batch_size=batch_size,
                          name="image")
    rates = _drop_path_rates(arch, drop_path)

    def run(block, values):
        op = arch.op_of(block)
        if block is space.head[-1] and dropout:
            # Whole channels dropped before the average pool are features dropped after it.
            values = [layers.SpatialDropout2D(dropout, name="dropout")(value) for value in values]
        return _apply(space.op_key(block, op), values, layers, block.layer_name(op), rates.get(block.name, 0.0))

    return model_class(inputs, space.thread(inputs, run), name=space.name)


def build_op(key: OpKey, *, batch_size: int | None = None, layers: Any = fast_layers,
             model_class: Any = keras.Model) -> keras.Model:
    """A model of one op alone, with the sum of its inputs and the residual add if there are: what a table row times."""
    names = ["input", *(f"input_{number}" for number in range(2, key.summed + 1))]
    inputs = [layers.Input(key.input, batch_size=batch_size, name=name) for name in names]
    return model_class(inputs if key.summed > 1 else inputs[0], _apply(key, inputs, layers, key.op), name=key.op)


def _apply(key, values, layers, name, drop_rate=0.0):
    """An op with the sum before it and the residual add after it; both sums may leave out their residual branch."""
    def dropped(value, number=""):
        if not drop_rate:
            return value
        return layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1), name=f"{name}_drop_path{number}")(value)

    if key.op == ops.JOIN:
        values = [*(dropped(value, number) for number, value in enumerate(values[:-1])), values[-1]]
    x = layers.Add(name=f"{name}_sum")(values) if len(values) > 1 else values[0]
    if key.op == ops.ZERO:
        return x
    y = ops.build(key.op, x, layers=layers, name=name, filters=key.filters, strides=key.strides, shortcut=key.shortcut)
    return layers.Add(name=f"{name}_add")([x, dropped(y)]) if key.shortcut else y


def _drop_path_rates(arch, rate):
    """By name of the places that add a residual branch to a shortcut."""
    names = [block.name for block, op in arch.blocks() if block.shortcut or op == ops.JOIN]
    return {name: rate * number / len(names) for number, name in enumerate(names, start=1)} if rate else {}


def portable(model: keras.Model) -> keras.Model:
    """The same model in stock Keras layers, float32, weights copied, not compiled: it loads without this package."""

    def stock(layer):
        fast = type(layer).__module__ == fast_layers.__name__
        kind = getattr(keras.layers, type(layer).__name__) if fast else type(layer)
        return kind.from_config({**layer.get_config(), "dtype": "float32"})

    # A clone would take the compiled loss along, which may be a function that no other program knows.
    uncompiled = keras.Model(model.inputs, model.outputs, name=model.name)
    copy = keras.models.clone_model(uncompiled, clone_function=stock)
    copy.set_weights(model.get_weights())
    return copy

def save_model(model: Any, file_path: str) -> None:
    """Writes a Keras model as .keras: whole, or not at all.

    Raises:
        InputError: if it cannot be written.
    """
    files.write_whole(file_path, model.save)


def save_weights(model: Any, file_path: str) -> None:
    """Writes the weights of a Keras model as .weights.h5: whole, or not at all.

    Raises:
        InputError: if it cannot be written.
    """
    def write(temporary):
        # HDF5 crashes on a full disk: better to know before.
        needed_bytes = 2**20 + sum(2048 + 4 * math.prod(variable.shape) for variable in model.weights)
        disk = os.statvfs(os.path.dirname(temporary))
        if disk.f_bavail * disk.f_frsize < needed_bytes:
            raise OSError(errno.ENOSPC, f"{needed_bytes:,} bytes are needed")
        model.save_weights(temporary)

    files.write_whole(file_path, write)
