"""Quantisation-aware training: fine-tunes a `tf_keras` twin of the network with int8 rounding in place.

tfmot, the TensorFlow Model Optimization Toolkit, does not support Keras 3. Importing it redirects `tf.keras` to
`tf_keras` in the whole process and its children; this module undoes that. No other module imports tfmot or `tf_keras`.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from export import convert, inputs
from export.settings import ExportConfig
from pnas_tf.errors import InputError
from pnas_tf.space.arch import Arch
from pnas_tf.terminal import quiet
from pnas_tf.train.recipe import FEW, crop_area_for


def export(model: Any, arch: Arch, data: Any, config: ExportConfig) -> bytes:
    """Fine-tunes a copy of a network with fake quantisation and converts it to int8.

    Args:
        model: Trained Keras model of the arch; it is not changed.
        arch: Architecture, from which the twin is built.
        data: Data set from `data.load`, whose training images fine-tune the twin.
        config: Settings of the export, with those of the fine-tuning.

    Returns:
        Contents of a `.tflite`.

    Raises:
        InputError: If tfmot cannot quantise a layer of the network.
    """
    import tensorflow as tf

    with quiet(not config.verbose):
        unquantised = twin(model, arch)
        quantised = quantise(unquantised)
        start_ranges(quantised, unquantised, data, config)
        fine_tune(quantised, data, config, is_pretrained=arch.space.pretrained is not None)
    if config.input == "normalised":
        return convert.convert_function(
            lambda images: quantised(images, training=False), (config.batch_size, *model.input_shape[1:]), "int8",
            int8_io=config.int8_io, verbose=config.verbose)
    kernel, bias = inputs.normalising_convolution(data.mean, data.std, rgb=config.input == "rgb")

    def on_pixels(images):
        # Training learns these ranges for every other layer; for pixels and their normalisation they are known.
        images = tf.quantization.fake_quant_with_min_max_args(images, 0.0, 255.0)
        with tf.name_scope(inputs.LAYER_NAME):
            exact = tf.quantization.fake_quant_with_min_max_vars_per_channel(
                kernel, -kernel.max((0, 1, 2)), kernel.max((0, 1, 2)), narrow_range=True)
            images = tf.nn.bias_add(tf.nn.conv2d(images, exact, 1, "SAME"), bias)
        return quantised(images, training=False)

    return convert.convert_function(on_pixels, (config.batch_size, *model.input_shape[1:3], kernel.shape[2]), "int8",
                                    int8_io=config.int8_io, verbose=config.verbose)


def twin(model: Any, arch: Arch) -> Any:
    """Builds a `tf_keras` model with the same layers and weights, matched by layer name.

    Args:
        model: Keras model of the arch.
        arch: Architecture.

    Raises:
        InputError: If the layers of the model differ from those of the arch.
    """
    import tf_keras

    from pnas_tf import network
    from pnas_tf.network import layers as fast_layers

    padded = fast_layers.is_pytorch_padded(model)
    tf_keras.backend.set_image_data_format("channels_last")  # it reads the same file as Keras
    tf_keras.backend.set_floatx("float32")
    layers = _Layers(fast_layers.PyTorchPadded(tf_keras.layers) if padded else tf_keras.layers)
    arch = arch.for_data(model.input_shape[1], arch.space.input_channels, model.output_shape[1])
    copy = network.assemble(arch, layers=layers, model_class=tf_keras.Model)
    weights = {layer.name: layer.get_weights() for layer in model.layers}
    for layer in copy.layers:
        if layer.name.endswith(_Layers.SUFFIX):
            continue
        trained = weights.pop(layer.name, None) or []
        if layer.get_weights() and [w.shape for w in trained] != [w.shape for w in layer.get_weights()]:
            raise InputError(f"int8_qat: arch.json describes a layer {layer.name} that the model does not have in that "
                             "shape. Export int8, or the model of that arch.")
        layer.set_weights(trained)
    surplus = [name for name in weights if weights[name]]
    if surplus:
        raise InputError(f"int8_qat: the model has a layer {surplus[0]} that arch.json does not describe. Export int8, "
                         "or the model of that arch.")
    return copy


class _Layers:
    """A namespace of Keras layers that replaces layers for which tfmot has no rule.

    tfmot can only fold batch norm into the convolution before it. A batch norm without a convolution before it, as in
    pre-activation blocks, gets a depthwise 1x1 convolution with weights of 1, which are then trained. The sum of more
    than two tensors is computed two at a time, so that the range of each partial sum is learned.
    """

    # Ending of the names of the added convolutions.
    SUFFIX = "_one"

    def __init__(self, layers):
        self._layers, self._made = layers, None

    def __getattr__(self, name):
        def make(*args, **kwargs):
            layer = getattr(self._layers, name)(*args, **kwargs)
            before, self._made = self._made, layer
            if name == "BatchNormalization":
                return self._alone(layer, before)
            return self._by_twos(layer) if name == "Add" else layer

        return make

    def _by_twos(self, last):
        """Returns a function that adds any number of tensors, two at a time; `last` is the layer of the last sum."""
        def call(tensors):
            total, *others = tensors
            for number, other in enumerate(others[:-1], start=1):
                total = self._layers.Add(name=f"{last.name}_{number}")([total, other])
            return last([total, others[-1]])

        return call

    def _alone(self, layer, before):
        """Returns a function that applies a batch norm; `before` is the layer that was made just before it."""
        def call(tensor):
            # The convolution and the batch norm of an op are made in this order, with no other layer in between.
            if tensor._keras_history.layer is before and "Conv2D" in type(before).__name__:
                return layer(tensor)
            return layer(self._layers.DepthwiseConv2D(1, use_bias=False, depthwise_initializer="ones",
                                                      name=layer.name + self.SUFFIX)(tensor))

        return call


def quantise(model: Any) -> Any:
    """Adds fake quantisation to a `tf_keras` model: one range per channel of weights, one per tensor of activations.

    Raises:
        InputError: If tfmot has no rule for a layer.
    """
    with environment_kept():
        import tensorflow_model_optimization as tfmot

        try:
            with tfmot.quantization.keras.quantize_scope():
                annotated = tfmot.quantization.keras.quantize_annotate_model(_with_rules(model, tfmot))
                return tfmot.quantization.keras.quantize_apply(annotated)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"int8_qat: {' '.join(str(error).split())[:200]} Export int8 instead.") from None


def _with_rules(model, tfmot):
    """Gives a rule to layers for which tfmot has none: the range of their output is learned."""
    import tf_keras
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import default_8bit_quantize_configs

    def annotate(layer):
        if isinstance(layer, tf_keras.layers.Multiply):
            return tfmot.quantization.keras.quantize_annotate_layer(
                layer, default_8bit_quantize_configs.Default8BitOutputQuantizeConfig())
        return layer

    return tf_keras.models.clone_model(model, clone_function=annotate)


def start_ranges(model: Any, unquantised: Any, data: Any, config: ExportConfig) -> None:
    """Starts the ranges of activations as those of the network before it is quantised.

    tfmot starts them at -6 and 6, and moves them by a thousandth in each step. Few images give few steps.

    Args:
        model: `tf_keras` model from `quantise`; its ranges change.
        unquantised: `tf_keras` model that it was made of.
        data: Data set from `data.load`, of whose training images `calibration_images` are looked at.
        config: Settings of the export.
    """
    import tf_keras

    outputs = {f"quant_{layer.name}": layer.output for layer in unquantised.layers}
    # That of the images; a second model in the same process gets a number behind the name.
    outputs |= {layer.name: unquantised.inputs[0] for layer in model.layers if layer.name.startswith("quantize_layer")}
    ranges = {layer.name: (0.0, 1e-6) for layer in model.layers if layer.name in outputs}
    look = tf_keras.Model(unquantised.inputs, {name: outputs[name] for name in ranges})
    for images, _ in data.train.batches(inputs.BATCH).take(-(-config.calibration_images // inputs.BATCH)):
        for name, values in look(images, training=False).items():
            least, most = ranges[name]
            ranges[name] = min(least, float(np.min(values))), max(most, float(np.max(values)))
    for layer in model.layers:
        for variable in layer.weights if layer.name in ranges else ():
            end = {"_min:0": 0, "_max:0": 1}.get(variable.name[-6:])
            if end is not None and "kernel" not in variable.name:
                variable.assign(ranges[layer.name][end])


def fine_tune(model: Any, data: Any, config: ExportConfig, is_pretrained: bool = False) -> None:
    """Trains a quantised model with SGD and Nesterov momentum; the learning rate falls to 0 along a cosine.

    A pretrained network on few images keeps batch norm as it is and sees larger crops, as in `train`.

    Args:
        model: `tf_keras` model from `quantise`; its weights change.
        data: Data set from `data.load`.
        config: Settings of the export: qat_epochs, qat_lr, qat_batch_size (reduced if there are fewer images) and seed.
        is_pretrained: Whether the network is a pretrained one, or a part of it.
    """
    import tf_keras

    from pnas_tf.data.parts import Changes  # imports TensorFlow

    if is_pretrained and data.train.size < FEW:
        for layer in model.layers:
            inner = getattr(layer, "layer", layer)  # of the wrapper that quantises it
            inner.trainable = not isinstance(inner, tf_keras.layers.BatchNormalization)
    batch_size = min(config.qat_batch_size, data.train.size)
    steps = data.train.steps_per_epoch(batch_size)
    schedule = tf_keras.optimizers.schedules.CosineDecay(config.qat_lr, steps * config.qat_epochs)
    model.compile(tf_keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True),
                  tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    changes = Changes(crop_area=crop_area_for(data.train.size, is_pretrained))
    model.fit(data.train.batches(batch_size, augment=True, changes=changes, seed=config.seed),
              epochs=config.qat_epochs, steps_per_epoch=steps, verbose=0)


@contextlib.contextmanager
def environment_kept() -> Iterator[None]:
    """Restores the environment variables when the context ends: importing tfmot sets TF_USE_LEGACY_KERAS."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
