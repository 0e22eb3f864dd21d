"""The op language: text such as `mb_k5_e6` names a computation.

An op is its type, then one part for each parameter, a letter and a number: `mb_k5_e6` is an
MBConv with kernel 5 and expansion 6. To add an op, register one builder here; the same builder
makes the op for the search, for training, for timing and for the `.tflite`.
"""

import re
from collections.abc import Callable, Collection
from typing import Any

from pnas_tf.errors import InputError, shown

ZERO = "zero"

_BUILDERS: dict[str, Callable] = {}
_ALLOWED: dict[str, dict[str, Collection[int]]] = {}

# Normal with variance 2 / (k * k * out channels), as the original draws every convolution. A depthwise
# kernel is [k, k, channels, 1] in Keras, so there the same number is the fan-in.
_HE_FAN_OUT = {"class_name": "VarianceScaling",
               "config": {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"}}
_HE_DEPTHWISE = {"class_name": "VarianceScaling",
                 "config": {"scale": 2.0, "mode": "fan_in", "distribution": "untruncated_normal"}}


def register(type_name: str, **allowed: Collection[int]) -> Callable[[Callable], Callable]:
    """Decorator that adds an op type to the language.

    The builder is called as `build(x, layers, name, filters, strides, shortcut, **parameters)` and
    returns a tensor. `layers` is a namespace of Keras layers (`keras.layers`, `tf_keras.layers`, ...):
    construct every layer from it, in the same order on every call, and prefix layer names with `name`.

    Args:
        type_name: first part of the op text; lower-case letters.
        **allowed: for each parameter (one letter) the values it may take.
    """
    if not re.fullmatch(r"[a-z]+", type_name):
        raise ValueError(f"An op type is lower-case letters, got {type_name!r}.")

    def add(build: Callable) -> Callable:
        _BUILDERS[type_name] = build
        _ALLOWED[type_name] = allowed
        return build

    return add


def parse(op: str) -> tuple[str, dict[str, int]]:
    """Splits `mb_k5_e6` into `("mb", {"k": 5, "e": 6})`.

    Raises:
        InputError: if the op is not in the language.
    """
    if not isinstance(op, str) or len(op) > 100:
        raise InputError(f"An op is a short text such as mb_k5_e6, got {shown(op)}.")
    type_name, *parts = op.split("_")
    if type_name not in _BUILDERS:
        raise InputError(f"Unknown op {op!r}. Known op types: {', '.join(sorted(_BUILDERS))}.")
    allowed = _ALLOWED[type_name]
    values: dict[str, int] = {}
    for part in parts:
        match = re.fullmatch(r"([a-z])([0-9]{1,4})", part, flags=re.ASCII)
        if not match or match[1] not in allowed or match[1] in values:
            raise InputError(f"Op {op!r}: cannot read {part!r}. {_form(type_name)}")
        values[match[1]] = int(match[2])
        if values[match[1]] not in allowed[match[1]]:
            raise InputError(f"Op {op!r}: {match[1]} may not be {values[match[1]]}. {_form(type_name)}")
    if list(values) != list(allowed) or format_op(type_name, values) != op:
        raise InputError(f"Op {op!r} is not complete or not in order. {_form(type_name)}")
    return type_name, values


def format_op(type_name: str, values: dict[str, int]) -> str:
    """The text of an op: inverse of `parse`."""
    return "_".join([type_name, *(f"{letter}{value}" for letter, value in values.items())])


def build(op: str, x: Any, *, layers: Any, name: str, filters: int, strides: int, shortcut: bool) -> Any:
    """Applies an op to a tensor; the residual add is the block's and not part of it.

    Args:
        op: op text.
        x: tensor [batch, height, width, channels].
        layers: namespace of Keras layers to construct from.
        name: prefix of the layer names.
        filters: output channels.
        strides: of the op, 1 or 2.
        shortcut: whether the block adds its input to the result (the op then starts as zero).

    Returns:
        Tensor [batch, ceil(height / strides), ceil(width / strides), filters], or [batch, filters].

    Raises:
        InputError: if the op is unknown.
        ValueError: for `zero`, which has nothing to build: a block that holds it is skipped.
    """
    type_name, values = parse(op)
    return _BUILDERS[type_name](x, layers, name, filters, strides, shortcut, **values)


def types() -> list[str]:
    """Registered op types, sorted."""
    return sorted(_BUILDERS)


def _form(type_name: str) -> str:
    parameters = ", ".join(f"{letter} in {_show(values)}" for letter, values in _ALLOWED[type_name].items())
    form = "_".join([type_name, *(f"{letter}N" for letter in _ALLOWED[type_name])])
    return f"Expected {form}" + (f" with {parameters}." if parameters else ".")


def _show(values: Collection[int]) -> str:
    values = list(values)
    return str(values) if len(values) < 8 else f"[{values[0]}, {values[1]}, ..., {values[-1]}]"


def _batch_norm(x, layers, name, gamma="ones"):
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-3, gamma_initializer=gamma, name=name)(x)


@register(ZERO)
def _zero(x, layers, name, filters, strides, shortcut):
    """Skips the block (paper section 3.1); has no layer."""
    raise ValueError("zero has no layers: leave its block out.")


@register("conv", k=range(1, 12, 2))
def _conv(x, layers, name, filters, strides, shortcut, k):
    """Convolution k x k, batch norm, ReLU6: the stem and the feature mix."""
    x = layers.Conv2D(filters, k, strides=strides, padding="same", use_bias=False,
                      kernel_initializer=_HE_FAN_OUT, name=f"{name}_conv")(x)
    x = _batch_norm(x, layers, f"{name}_bn", "zeros" if shortcut else "ones")
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


@register("mb", k=range(1, 12, 2), e=range(1, 13))
def _mbconv(x, layers, name, filters, strides, shortcut, k, e):
    """Mobile inverted bottleneck (MobileNetV2): expand 1x1, depthwise k x k, project 1x1 without activation."""
    channels = x.shape[-1]
    if e > 1:
        x = layers.Conv2D(channels * e, 1, use_bias=False, kernel_initializer=_HE_FAN_OUT,
                          name=f"{name}_expand")(x)
        x = _batch_norm(x, layers, f"{name}_expand_bn")
        x = layers.ReLU(6.0, name=f"{name}_expand_relu")(x)
    x = layers.DepthwiseConv2D(k, strides=strides, padding="same", use_bias=False,
                               depthwise_initializer=_HE_DEPTHWISE, name=f"{name}_depthwise")(x)
    x = _batch_norm(x, layers, f"{name}_depthwise_bn")
    x = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(x)
    x = layers.Conv2D(filters, 1, use_bias=False, kernel_initializer=_HE_FAN_OUT, name=f"{name}_project")(x)
    return _batch_norm(x, layers, f"{name}_project_bn", "zeros" if shortcut else "ones")


@register("classifier")
def _classifier(x, layers, name, filters, strides, shortcut):
    """Global average pool and a dense layer of logits, in float32 under every policy."""
    x = layers.GlobalAveragePooling2D(name=f"{name}_pool")(x)
    return layers.Dense(filters, dtype="float32", name=f"{name}_dense")(x)
