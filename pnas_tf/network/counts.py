"""Counts of a model: parameters, multiply-accumulates, bytes of its file, bytes of its activations."""

import keras
import numpy as np

# Bytes in a `.tflite`, measured on exports: of one weight; of one output channel, for its bias and scale; of one layer,
# for its description.
FILE_BYTES = {"float32": (4, 4, 840), "float16": (2, 2, 1400), "int8": (1, 28, 930)}
# Bytes of one activation. A float16 `.tflite` computes in float32.
ACTIVATION_BYTES = {"float32": 4, "float16": 4, "int8": 1}

# Layers that a `.tflite` computes as part of the layer before them.
_FUSED = (keras.layers.BatchNormalization, keras.layers.ReLU, keras.layers.Activation, keras.layers.Dropout,
          keras.layers.SpatialDropout2D)


def count_params(model: keras.Model) -> int:
    """Number of trainable parameters. As in the paper, moving statistics of batch norm are not counted."""
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def count_macs(model: keras.Model) -> int:
    """Multiply-accumulates of convolutions and dense layers for one image.

    Biases, batch norm, pooling and sums are not counted.
    """
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


def count_size_bytes(model: keras.Model, dtype: str = "float32") -> int:
    """Bytes of the model's `.tflite` with batch norm folded, without metadata and labels.

    Args:
        model: Model of convolutions and dense layers.
        dtype: Type of the weights in the file, a key of `FILE_BYTES`.
    """
    weight_bytes, channel_bytes, layer_bytes = FILE_BYTES[dtype]
    return sum(weight_bytes * int(np.prod(kernel.shape)) + channel_bytes * int(layer.output.shape[-1]) + layer_bytes
               for layer in model.layers for kernel in _kernels(layer))


def peak_activation_bytes(model: keras.Model, dtype: str = "float32") -> int:
    """Largest number of bytes of activations that are alive at once, if layers run in order on one image.

    A tensor is alive from the layer that writes it to the last layer that reads it. As in a `.tflite`, batch norm, ReLU
    and dropout count as part of the layer before them. Scratch memory of kernels is not counted. In a chain, all
    tensors that are alive belong to one block, so the peak of the network is the largest peak of its blocks.

    Args:
        model: Functional model with one input.
        dtype: Type of the activations, a key of `ACTIVATION_BYTES`.
    """
    source: dict[int, int] = {}  # id of a fused layer's output: id of the tensor that it stands for
    size: dict[int, int] = {}  # bytes by id of the tensor
    spans: dict[int, tuple[int, int]] = {}  # first and last step by id of the tensor
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


def _kernels(layer):
    if isinstance(layer, keras.layers.SeparableConv2D):
        return layer.depthwise_kernel, layer.pointwise_kernel
    return (layer.kernel,) if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D
                                         | keras.layers.Dense) else ()
