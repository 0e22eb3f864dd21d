"""Builds Keras models from an arch or from a single op, and saves them."""

import errno
import math
import os
import shutil
from typing import Any

import keras
import numpy as np

from pnas_tf import files
from pnas_tf.errors import InputError, shown
from pnas_tf.network import keras_settings, pretrained
from pnas_tf.network import layers as fast_layers
from pnas_tf.network.any_version import saved_for_any_version
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import memory, ops
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import OpKey


def build_network(arch: Arch | str, *, weights: str | None = None, include_top: bool = True,
                  input_shape: tuple[int, int, int] | None = None, num_classes: int | None = None,
                  dropout: float = 0.0, drop_path: float = 0.0) -> keras.Model:
    """Builds a plain Keras model of an arch: no gates, no skipped blocks, float32 logits.

    Args:
        arch: An arch, the name of a shipped arch, or the path of an arch.json.
        weights: `imagenet` for trained weights that ship with the package, None for random ones. A classifier of
            another number of classes than ImageNet's 1000 is random. Images must be normalised by
            `arch.space.normalisation`.
        include_top: Whether the network ends in the classifier. Without it, the output is the last feature map.
        input_shape: Height, width and channels of the images; None for the arch's own.
        num_classes: Number of classes; None for the arch's own.
        dropout: Dropout rate before the classifier.
        drop_path: Drop path rate, as in `assemble`.

    Returns:
        Model from float32 [batch, height, width, channels] to float32 logits [batch, classes], or to the feature map
        float32 [batch, height / 32, width / 32, filters] of a network that halves its images five times.

    Raises:
        InputError: If the arch cannot be loaded, images are not square, or there are no such weights.
    """
    if isinstance(arch, str):
        arch = arch_lib.load(arch)
    if weights not in (None, pretrained.IMAGENET):
        raise InputError(f"weights must be {pretrained.IMAGENET} or None, got {shown(weights)}.")
    if weights and not arch.space.pretrained:
        raise InputError(f"No weights of {arch.space.name} ship with this package. Networks that have them: "
                         f"{', '.join(pretrained.names())}.")
    size = arch.space.input_size
    height, width, channels = input_shape or (size, size, arch.space.input_channels)
    if height != width:
        raise InputError(f"Images must be square, got input_shape {tuple(input_shape or ())}.")
    arch = arch.for_data(height, channels, num_classes or arch.space.num_classes)
    model = saved_for_any_version(assemble(arch, include_top=include_top, dropout=dropout, drop_path=drop_path))
    if weights and arch.space.pretrained:
        pretrained.into(model, arch.space.pretrained)
    return model


def assemble(arch: Arch, *, include_top: bool = True, dropout: float = 0.0, drop_path: float = 0.0,
             layers: Any = fast_layers, model_class: Any = keras.Model) -> Any:
    """Builds a network with random weights from any namespace of layers.

    Layer names begin with block and op, such as `b07_mb_k5_e6_project`, and stay the same in the `.tflite`.

    Args:
        arch: Arch, at the size and with the classes of the network.
        include_top: Whether the network ends in the classifier.
        dropout: Dropout rate before the classifier.
        drop_path: Rate at which training leaves out the last residual branch, image by image (Huang et al. 2016).
            Branch `i` of `n` is left out at the rate `drop_path * i / n`.
        layers: Namespace of layers to construct from.
        model_class: Class of the model: `tf_keras.Model` for `layers=tf_keras.layers`.

    Returns:
        Model from float32 [batch, height, width, channels] to float32 logits [batch, classes] or the last feature map.

    Raises:
        InputError: If Keras has settings of another project, or the network does not fit in memory.
    """
    keras_settings.check()
    memory.check_network(arch)
    space = arch.space
    inputs = layers.Input((space.input_size, space.input_size, space.input_channels), name="image")
    rates = _drop_path_rates(arch, drop_path)

    def run(block, values):
        op, is_top = arch.op_of(block), block is space.head[-1]
        if is_top and not include_top:
            op = ops.IDENTITY
        elif is_top and dropout:
            # Dropping whole channels before the average pool is the same as dropping features after it.
            values = [layers.SpatialDropout2D(dropout, name="dropout")(value) for value in values]
        return _apply(space.op_key(block, op), values, layers, block.layer_name(op), rates.get(block.name, 0.0))

    return model_class(inputs, space.thread(inputs, run), name=space.name)


def build_op(key: OpKey, *, batch_size: int | None = None, layers: Any = fast_layers,
             model_class: Any = keras.Model) -> keras.Model:
    """Builds a model of one op, which a row of a latency table measures.

    The model includes the sum of several inputs and the residual add, if the key has them.

    Args:
        key: Op, input shape and everything else that the measurement depends on.
        batch_size: Fixed batch size of the inputs; None for any.
        layers: Namespace of layers to construct from.
        model_class: Class of the model: `tf_keras.Model` for `layers=tf_keras.layers`.

    Returns:
        Model from one float32 [batch, height, width, channels], or from a list of `key.summed` of them.

    Raises:
        InputError: If Keras has settings of another project, or the op does not fit in memory.
    """
    keras_settings.check()
    memory.check_op(key)
    names = ["input", *(f"input_{number}" for number in range(2, key.summed + 1))]
    inputs = [layers.Input(key.input, batch_size=batch_size, name=name) for name in names]
    return model_class(inputs if key.summed > 1 else inputs[0], _apply(key, inputs, layers, key.op), name=key.op)


def _apply(key, values, layers, name, drop_rate=0.0):
    """Adds up the inputs, applies the op, and adds the shortcut. Drop path applies to the residual branch."""
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
    """Drop path rate by name of the blocks that add a residual branch to a shortcut."""
    names = [block.name for block, op in arch.blocks() if block.shortcut or op == ops.JOIN]
    return {name: rate * number / len(names) for number, name in enumerate(names, start=1)} if rate else {}


def portable(model: keras.Model) -> keras.Model:
    """Copies a model into float32 layers, so that its file loads in every version of Keras 3, without this package.

    Args:
        model: Functional model of stock layers or those of `layers.py`.

    Returns:
        The same network with a copy of the weights, in stock layers, not compiled.
    """
    def stock(layer):
        return layer.__class__.from_config({**layer.get_config(), "dtype": "float32"})

    # A clone keeps the compiled loss, which may be a function that other programs do not have.
    uncompiled = keras.Model(model.inputs, model.outputs, name=model.name)
    copy = keras.models.clone_model(uncompiled, clone_function=stock)
    copy.set_weights(model.get_weights())
    return saved_for_any_version(copy)


def non_finite_layer(model: Any) -> str | None:
    """The first layer of a model with a weight that is not a finite number, with that value, as text; None if all are.

    Args:
        model: Keras model.
    """
    for layer in model.layers:
        for weight in layer.get_weights():
            if not np.all(finite := np.isfinite(weight)):
                return f"{layer.name} holds {weight[~finite].flat[0]}"
    return None


def save_model(model: Any, file_path: str) -> None:
    """Writes a model as a .keras file that every version of Keras 3 loads, whole or not at all.

    Args:
        model: Functional Keras model; the file holds what `portable` makes of it.
        file_path: Path of the file.

    Raises:
        InputError: If a weight is not a finite number, or the file cannot be written; an earlier file stays.
    """
    if found := non_finite_layer(model):
        raise InputError(f"{file_path}: not written, as {found}, and such a network answers nothing. Train it again "
                         "at a lower learning rate.")
    files.write_whole(file_path, portable(model).save)


def save_weights(model: Any, file_path: str) -> None:
    """Writes the weights of a model as a .weights.h5 file, whole or not at all.

    Args:
        model: Keras model.
        file_path: Path of the file.

    Raises:
        InputError: If the file cannot be written, or the disk has too little space.
    """
    def write(temporary):
        # HDF5 crashes on a full disk, so free space is checked first.
        needed_bytes = 2**20 + sum(2048 + 4 * math.prod(variable.shape) for variable in model.weights)
        if shutil.disk_usage(os.path.dirname(temporary)).free < needed_bytes:
            raise OSError(errno.ENOSPC, f"{needed_bytes:,} bytes are needed")
        model.save_weights(temporary)

    files.write_whole(file_path, write)
