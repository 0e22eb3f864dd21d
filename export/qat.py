"""Quantisation-aware training: a `tf_keras` twin of the network, fine-tuned with the rounding in place.

The only importer of tfmot and `tf_keras`: tfmot does not know Keras 3, and importing it makes `tf.keras` mean
`tf_keras` for the whole process and its children, which is undone here.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from export import convert, inputs
from pnas_tf.errors import InputError
from pnas_tf.network import layers as fast_layers
from pnas_tf.space.arch import Arch
from pnas_tf.terminal import quiet


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to fine-tune.

    Attributes:
        epochs: passes over the training images.
        lr: learning rate at the start; a cosine to 0.
        batch_size: images a step.
        seed: of the data order.
    """

    epochs: int = 3
    lr: float = 0.003
    batch_size: int = 64
    seed: int = 0


def export(model: Any, arch: Arch, data: Any, settings: Settings, *, form: str, int8_io: str, batch_size: int = 1,
           verbose: bool = False) -> bytes:
    """Fine-tunes a copy of a network with fake quantisation and converts it to int8.

    Args:
        model: trained Keras model of the arch; not changed.
        arch: says how to build the twin.
        data: from `data.load`; its training images fine-tune.
        settings: of the fine-tuning.
        form: of `samples.FORMS`, what the `.tflite` takes.
        int8_io: as for `convert.convert`.
        batch_size: images the `.tflite` takes at once.
        verbose: whether to let the libraries talk.

    Returns:
        Contents of a `.tflite`.

    Raises:
        InputError: if tfmot cannot quantise a layer of the network.
    """
    import tensorflow as tf

    with quiet(not verbose):
        quantised = quantise(twin(model, arch))
        fine_tune(quantised, data, settings)
    if form == "normalised":
        return convert.convert_function(lambda images: quantised(images, training=False),
                                        (batch_size, *model.input_shape[1:]), "int8", int8_io=int8_io, verbose=verbose)
    kernel, bias = inputs.normalising_convolution(data.mean, data.std, rgb=form == "rgb")

    def on_pixels(images):
        # The ranges that training learns for every other layer: here they are known.
        images = tf.quantization.fake_quant_with_min_max_args(images, 0.0, 255.0)
        with tf.name_scope(inputs.LAYER_NAME):
            exact = tf.quantization.fake_quant_with_min_max_vars_per_channel(
                kernel, -kernel.max((0, 1, 2)), kernel.max((0, 1, 2)), narrow_range=True)
            images = tf.nn.bias_add(tf.nn.conv2d(images, exact, 1, "SAME"), bias)
        return quantised(images, training=False)

    return convert.convert_function(on_pixels, (batch_size, *model.input_shape[1:3], kernel.shape[2]), "int8",
                                    int8_io=int8_io, verbose=verbose)


def twin(model: Any, arch: Arch) -> Any:
    """A `tf_keras` model of the same layers and weights, matched by layer name.

    Raises:
        InputError: if the model holds other layers than the arch's.
    """
    import tf_keras

    from pnas_tf import network

    layers = _Layers(fast_layers.PyTorchPadded(tf_keras.layers) if fast_layers.is_pytorch_padded(model) else tf_keras.layers)
    copy = network.build_network(arch, num_classes=model.output_shape[1], input_size=model.input_shape[1],
                                 layers=layers, model_class=tf_keras.Model)
    weights = {layer.name: layer.get_weights() for layer in model.layers}
    for layer in copy.layers:
        if layer.name.endswith(_Layers.SUFFIX):
            continue
        given = weights.pop(layer.name, None)
        if layer.get_weights() and [w.shape for w in given or []] != [w.shape for w in layer.get_weights()]:
            raise InputError(f"int8_qat: the model has no layer {layer.name} as arch.json says. Export int8, or the "
                             "model of that arch.")
        layer.set_weights(given or [])
    if any(weights.values()):
        raise InputError(f"int8_qat: arch.json knows no layer {next(name for name in weights if weights[name])}. "
                         "Export int8, or the model of that arch.")
    return copy


class _Layers:
    """A namespace of what tfmot has rules for, in place of what it has none for.

    It folds batch norm into the convolution before it; one that stands alone, as before pre-activations, is given a
    convolution (depthwise, 1x1, of ones, which then learns). A sum of several learns the range of each partial sum.
    """

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
        """An `Add` as a callable of any number of tensors."""
        def call(tensors):
            x, *others = tensors
            for number, other in enumerate(others[:-1], start=1):
                x = self._layers.Add(name=f"{last.name}_{number}")([x, other])
            return last([x, others[-1]])

        return call

    def _alone(self, layer, before):
        """The batch norm as a callable; `before` is the layer that was made just before it."""
        def call(x):
            # Convolution and batch norm of one op are made one after the other.
            if x._keras_history.layer is before and "Conv2D" in type(before).__name__:
                return layer(x)
            return layer(self._layers.DepthwiseConv2D(1, use_bias=False, depthwise_initializer="ones",
                                                      name=layer.name + self.SUFFIX)(x))

        return call


def quantise(model: Any) -> Any:
    """Puts fake quantisation into a `tf_keras` model: weights by channel, activations by tensor.

    Raises:
        InputError: if tfmot has no rule for a layer.
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
    """The model with a rule for layers that tfmot has none for: the range of the output is learned."""
    import tf_keras
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import default_8bit_quantize_configs

    def annotate(layer):
        if isinstance(layer, tf_keras.layers.Multiply):
            return tfmot.quantization.keras.quantize_annotate_layer(
                layer, default_8bit_quantize_configs.Default8BitOutputQuantizeConfig())
        return layer

    return tf_keras.models.clone_model(model, clone_function=annotate)


def fine_tune(model: Any, data: Any, settings: Settings) -> None:
    """Trains a quantised `tf_keras` model with SGD, Nesterov momentum and a cosine to 0."""
    import tf_keras

    steps = data.train.steps_per_epoch(settings.batch_size)
    schedule = tf_keras.optimizers.schedules.CosineDecay(settings.lr, steps * settings.epochs)
    model.compile(tf_keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True),
                  tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(data.train.batches(settings.batch_size, augment=True, seed=settings.seed), epochs=settings.epochs,
              steps_per_epoch=steps, verbose=0)


@contextlib.contextmanager
def environment_kept() -> Iterator[None]:
    """Leaves the environment variables as they were: tfmot sets TF_USE_LEGACY_KERAS when it is imported."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
