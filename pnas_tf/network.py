"""From an arch to a flat functional Keras model, and from one op to a model of it alone."""

from typing import Any

import keras
import numpy as np

from pnas_tf import arch as arch_lib
from pnas_tf import fast_layers, ops
from pnas_tf.arch import Arch
from pnas_tf.space import OpKey


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


class Typed:
    """A namespace of layers that compute in another type: pass it as `layers=`.

    Weights and the classifier stay float32.
    """

    def __init__(self, layers: Any, precision: str):
        """Wraps a namespace such as `fast_layers` with a Keras policy, `mixed_bfloat16` or another."""
        self._layers, self._precision = layers, precision

    def __getattr__(self, name: str) -> Any:
        if name == "Input":
            return self._layers.Input
        layer = getattr(self._layers, name)
        return lambda *args, **kwargs: layer(*args, **{"dtype": self._precision, **kwargs})


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


def count_params(model: keras.Model) -> int:
    """Trainable parameters: moving statistics of batch norm are not counted, as in the paper."""
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def count_macs(model: keras.Model) -> int:
    """Multiply-accumulates of one image: convolutions and dense layers; no bias, batch norm, pooling or add."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.Conv2D):
            per_position = int(np.prod(layer.kernel.shape)) if hasattr(layer, "kernel") else 0
            total += per_position * int(np.prod(layer.output.shape[1:3]))
        elif isinstance(layer, keras.layers.SeparableConv2D):
            kernels = int(np.prod(layer.depthwise_kernel.shape)) + int(np.prod(layer.pointwise_kernel.shape))
            total += kernels * int(np.prod(layer.output.shape[1:3]))
        elif isinstance(layer, keras.layers.Dense):
            total += int(np.prod(layer.kernel.shape)) * int(np.prod(layer.output.shape[1:-1]))
    return total


# Of a weight, of a channel of bias and scales, and of what describes a layer in the file: measured on exports.
FILE_BYTES = {"float32": (4, 4, 840), "float16": (2, 2, 1400), "int8": (1, 28, 930)}
ACTIVATION_BYTES = {"float32": 4, "float16": 4, "int8": 1}


def count_size_bytes(model: keras.Model, dtype: str = "float32") -> int:
    """Bytes of the model's `.tflite`, batch norm folded; metadata and labels come on top.

    Args:
        model: convolutions and dense layers.
        dtype: one of `FILE_BYTES`.
    """
    weight, channel, described = FILE_BYTES[dtype]
    return sum(weight * int(np.prod(kernel.shape)) + channel * int(layer.output.shape[-1]) + described
               for layer in model.layers for kernel in _kernels(layer))


def peak_activation_bytes(model: keras.Model, dtype: str = "float32") -> int:
    """The most bytes of activations that are alive at once, when layers run in order on one image.

    Batch norm, ReLU and dropout are part of the layer before them, as in a `.tflite`. A tensor lives from the layer
    that writes it to the last that reads it; kernels' own scratch memory comes on top. In a network of blocks one
    after the other all that is alive belongs to one block, so its peak is that of its dearest block.

    Args:
        model: functional, one input.
        dtype: one of `ACTIVATION_BYTES`.
    """
    source: dict[int, int] = {}
    size: dict[int, int] = {}
    spans: dict[int, tuple[int, int]] = {}
    step = -1
    for layer in model.layers:
        read = [source.get(id(tensor), id(tensor)) for tensor in keras.tree.flatten(layer.input)]
        written = id(layer.output)
        if isinstance(layer, _FUSED):
            source[written] = read[0]
            continue
        if not isinstance(layer, keras.layers.InputLayer):
            step += 1
        size[written] = ACTIVATION_BYTES[dtype] * int(np.prod(layer.output.shape[1:]))
        for tensor in (*read, written):
            spans[tensor] = (spans.get(tensor, (max(step, 0),))[0], max(step, 0))
    return max(sum(size[tensor] for tensor, (first, last) in spans.items() if first <= now <= last)
               for now in range(step + 1))


_FUSED = (keras.layers.BatchNormalization, keras.layers.ReLU, keras.layers.Activation, keras.layers.Dropout,
          keras.layers.SpatialDropout2D)


def _kernels(layer):
    if isinstance(layer, keras.layers.SeparableConv2D):
        return layer.depthwise_kernel, layer.pointwise_kernel
    return (layer.kernel,) if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D
                                         | keras.layers.Dense) else ()
