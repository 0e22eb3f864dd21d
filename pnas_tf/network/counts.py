"""TODO: docstring."""

import keras
import numpy as np


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
