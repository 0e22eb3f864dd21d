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
# What adds no computation to its input: a candidate of tree cells, and the sum of a cell and its shortcut.
IDENTITY, JOIN = "identity", "join"
PASSED_ON = (IDENTITY, JOIN)

_BUILDERS: dict[str, Callable] = {}
_ALLOWED: dict[str, dict[str, Collection[int]]] = {}
# By type, from (input channels, filters, strides, parameters) to what the op needs and lacks, "" for nothing.
_NEEDS: dict[str, Callable[..., str]] = {}

# Normal with variance 2 / (k * k * out channels), as the original draws every convolution. A depthwise
# kernel is [k, k, channels, 1] in Keras, so there the same number is the fan-in.
_HE_FAN_OUT = {"class_name": "VarianceScaling",
               "config": {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"}}
_HE_DEPTHWISE = {"class_name": "VarianceScaling",
                 "config": {"scale": 2.0, "mode": "fan_in", "distribution": "untruncated_normal"}}
_THREE = {"class_name": "Constant", "config": {"value": 3.0}}


def register(type_name: str, needs: Callable[..., str] | None = None, **allowed: Collection[int]
             ) -> Callable[[Callable], Callable]:
    """Decorator that adds an op type to the language.

    The builder is called as `build(x, layers, name, filters, strides, shortcut, **parameters)` and
    returns a tensor. `layers` is a namespace of Keras layers (`keras.layers`, `tf_keras.layers`, ...):
    construct every layer from it, in the same order on every call, and prefix layer names with `name`.

    Args:
        type_name: first part of the op text; lower-case letters.
        needs: called as `needs(channels, filters, strides, **parameters)`; says what shapes the op asks for that these
            are not, or "". An op without it takes any.
        **allowed: for each parameter (one letter) the values it may take.
    """
    if not re.fullmatch(r"[a-z]+", type_name):
        raise ValueError(f"An op type is lower-case letters, got {type_name!r}.")
    if type_name in _BUILDERS:
        raise ValueError(f"There is an op type {type_name!r} already.")

    def add(build: Callable) -> Callable:
        _BUILDERS[type_name] = build
        _ALLOWED[type_name] = allowed
        if needs:
            _NEEDS[type_name] = needs
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
        raise InputError(f"Unknown op {op!r}. Known op types: {', '.join(sorted(_BUILDERS))}; "
                         "those of a file of yours come by --import=FILE.py.")
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


def check(op: str, where: str, channels: int, filters: int, strides: int) -> None:
    """Raises InputError that begins with `where`, if an op cannot be built with so many channels, filters and strides.

    Raises:
        InputError: also if the op is unknown.
    """
    type_name, values = parse(op)
    lacking = _NEEDS[type_name](channels, filters, strides, **values) if type_name in _NEEDS else ""
    if lacking:
        raise InputError(f"{where}: {op} needs {lacking}, got {channels} channels, {filters} filters and stride "
                         f"{strides}.")


def types() -> list[str]:
    """Registered op types, sorted."""
    return sorted(_BUILDERS)


def examples(type_name: str) -> list[str]:
    """Op texts of a type: with the first and with the last value of every parameter."""
    ends = [{letter: list(values)[end] for letter, values in _ALLOWED[type_name].items()} for end in (0, -1)]
    return list(dict.fromkeys(format_op(type_name, values) for values in ends))


def _form(type_name: str) -> str:
    parameters = ", ".join(f"{letter} in {_show(values)}" for letter, values in _ALLOWED[type_name].items())
    form = "_".join([type_name, *(f"{letter}N" for letter in _ALLOWED[type_name])])
    return f"Expected {form}" + (f" with {parameters}." if parameters else ".")


def _show(values: Collection[int]) -> str:
    values = list(values)
    return str(values) if len(values) < 8 else f"[{values[0]}, {values[1]}, ..., {values[-1]}]"


def _convolution(x, layers, name, filters, k, strides, **more):
    return layers.Conv2D(filters, k, strides=strides, padding="same", use_bias=False, kernel_initializer=_HE_FAN_OUT,
                         name=name, **more)(x)


def _batch_norm(x, layers, name, gamma="ones"):
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-3, gamma_initializer=gamma, name=name)(x)


def _expand_and_filter(x, layers, name, strides, k, e):
    """The first part of an MBConv: 1x1 to e times the channels, then depthwise k x k."""
    if e > 1:
        x = layers.Conv2D(x.shape[-1] * e, 1, use_bias=False, kernel_initializer=_HE_FAN_OUT,
                          name=f"{name}_expand")(x)
        x = _batch_norm(x, layers, f"{name}_expand_bn")
        x = layers.ReLU(6.0, name=f"{name}_expand_relu")(x)
    x = layers.DepthwiseConv2D(k, strides=strides, padding="same", use_bias=False,
                               depthwise_initializer=_HE_DEPTHWISE, name=f"{name}_depthwise")(x)
    x = _batch_norm(x, layers, f"{name}_depthwise_bn")
    return layers.ReLU(6.0, name=f"{name}_depthwise_relu")(x)


def _project(x, layers, name, filters, shortcut):
    """The last part: 1x1 without activation."""
    x = layers.Conv2D(filters, 1, use_bias=False, kernel_initializer=_HE_FAN_OUT, name=f"{name}_project")(x)
    return _batch_norm(x, layers, f"{name}_project_bn", "zeros" if shortcut else "ones")


@register(ZERO)
def _zero(x, layers, name, filters, strides, shortcut):
    """Skips the block (paper section 3.1); has no layer."""
    raise ValueError("zero has no layers: leave its block out.")


@register("conv", k=range(1, 12, 2))
def _conv(x, layers, name, filters, strides, shortcut, k):
    """Convolution k x k, batch norm, ReLU6: the stem and the feature mix."""
    x = _convolution(x, layers, f"{name}_conv", filters, k, strides)
    x = _batch_norm(x, layers, f"{name}_bn", "zeros" if shortcut else "ones")
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


@register("mb", k=range(1, 12, 2), e=range(1, 13))
def _mbconv(x, layers, name, filters, strides, shortcut, k, e):
    """Mobile inverted bottleneck (MobileNetV2): expand 1x1, depthwise k x k, project 1x1 without activation."""
    return _project(_expand_and_filter(x, layers, name, strides, k, e), layers, name, filters, shortcut)


@register("mbse", k=range(1, 12, 2), e=range(1, 13))
def _mbconv_se(x, layers, name, filters, strides, shortcut, k, e):
    """MBConv with squeeze-and-excite on its expanded channels, as in MobileNetV3.

    The gate is ReLU6 of its logits + 3, six times a hard sigmoid: batch norm after the projection takes the factor, and
    the gate is part of a convolution in a `.tflite`.
    """
    x = _expand_and_filter(x, layers, name, strides, k, e)
    channels = x.shape[-1]
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze_pool")(x)
    gate = layers.Conv2D(max(8, channels // 32 * 8), 1, kernel_initializer=_HE_FAN_OUT, name=f"{name}_squeeze")(gate)
    gate = layers.ReLU(6.0, name=f"{name}_squeeze_relu")(gate)
    gate = layers.Conv2D(channels, 1, bias_initializer=_THREE, kernel_initializer=_HE_FAN_OUT,
                         name=f"{name}_excite")(gate)
    gate = layers.ReLU(6.0, name=f"{name}_excite_relu")(gate)
    x = layers.Multiply(name=f"{name}_gate")([x, gate])
    return _project(x, layers, name, filters, shortcut)


@register("fused", k=range(1, 12, 2), e=range(1, 13))
def _fused_mbconv(x, layers, name, filters, strides, shortcut, k, e):
    """Fused MBConv (EfficientNetV2): one k x k convolution expands, 1x1 projects; fast where depthwise is slow."""
    x = _convolution(x, layers, f"{name}_expand", x.shape[-1] * e, k, strides)
    x = _batch_norm(x, layers, f"{name}_expand_bn")
    x = layers.ReLU(6.0, name=f"{name}_expand_relu")(x)
    return _project(x, layers, name, filters, shortcut)


@register("classifier")
def _classifier(x, layers, name, filters, strides, shortcut):
    """Global average pool and a dense layer of logits, in float32 under every policy."""
    x = layers.GlobalAveragePooling2D(name=f"{name}_pool")(x)
    return layers.Dense(filters, dtype="float32", name=f"{name}_dense")(x)


# The ops of tree cells (paper section 4.1) work in PyramidNet's order: batch norm and ReLU come before a convolution.

def _same_shape(channels, filters, strides, **_):
    return "" if channels == filters and strides == 1 else "as many filters as channels and stride 1"


def _same_channels(channels, filters, strides, **_):
    return "" if channels == filters else "as many filters as channels"


def _more_channels(channels, filters, strides, **_):
    return "" if channels <= filters else "at least as many filters as channels"


def _whole_groups(channels, filters, strides, g, **_):
    return "" if channels % g == filters % g == 0 else f"channels and filters in {g} equal groups"


@register(IDENTITY, needs=_same_shape)
def _identity(x, layers, name, filters, strides, shortcut):
    """Its input, without a layer."""
    return x


@register(JOIN, needs=_same_shape)
def _join(x, layers, name, filters, strides, shortcut):
    """The sum of a cell and, as the last of the inputs, its shortcut; the sum is the block's."""
    return x


def _pre_activation(x, layers, name):
    return layers.ReLU(name=f"{name}_relu")(_batch_norm(x, layers, f"{name}_bn"))


def _separable(x, layers, name, filters, strides, shortcut, k, dilation):
    x = _pre_activation(x, layers, name)
    x = layers.DepthwiseConv2D(k, strides=strides, padding="same", use_bias=False, dilation_rate=dilation,
                               depthwise_initializer=_HE_DEPTHWISE, name=f"{name}_depthwise")(x)
    return layers.Conv2D(filters, 1, use_bias=False, kernel_initializer=_HE_FAN_OUT, name=f"{name}_pointwise")(x)


@register("sep", k=range(1, 12, 2))
def _sep(x, layers, name, filters, strides, shortcut, k):
    """Batch norm, ReLU, depthwise-separable convolution k x k."""
    return _separable(x, layers, name, filters, strides, shortcut, k, 1)


@register("dil", needs=lambda channels, filters, strides, k: "" if strides == 1 else "stride 1", k=range(3, 12, 2))
def _dil(x, layers, name, filters, strides, shortcut, k):
    """As `sep`, with holes: dilation 2."""
    return _separable(x, layers, name, filters, strides, shortcut, k, 2)


@register("avg", needs=_same_channels, k=range(2, 8))
def _avg(x, layers, name, filters, strides, shortcut, k):
    """Average pool k x k; pixels beyond the border do not count."""
    return layers.AveragePooling2D(k, strides=strides, padding="same", name=f"{name}_pool")(x)


@register("max", needs=_same_channels, k=range(2, 8))
def _max(x, layers, name, filters, strides, shortcut, k):
    """Max pool k x k."""
    return layers.MaxPooling2D(k, strides=strides, padding="same", name=f"{name}_pool")(x)


@register("linear", k=range(1, 12, 2))
def _linear(x, layers, name, filters, strides, shortcut, k):
    """Convolution k x k and batch norm, without activation: the stem of a PyramidNet."""
    x = _convolution(x, layers, f"{name}_conv", filters, k, strides)
    return _batch_norm(x, layers, f"{name}_bn")


@register("reduce", k=range(1, 12, 2))
def _reduce(x, layers, name, filters, strides, shortcut, k):
    """Batch norm, convolution; then batch norm and ReLU for the grouped convolutions that read it."""
    x = _batch_norm(x, layers, f"{name}_bn")
    x = _convolution(x, layers, f"{name}_conv", filters, k, strides)
    x = _batch_norm(x, layers, f"{name}_conv_bn")
    return layers.ReLU(name=f"{name}_relu")(x)


@register("group", needs=_whole_groups, k=range(1, 12, 2), g=range(1, 65))
def _group(x, layers, name, filters, strides, shortcut, k, g):
    """Convolution k x k in g groups, alone."""
    return _convolution(x, layers, f"{name}_conv", filters, k, strides, groups=g)


@register("bn", needs=_same_shape)
def _bn(x, layers, name, filters, strides, shortcut):
    """Batch norm alone."""
    return _batch_norm(x, layers, f"{name}_bn")


@register("act", needs=_same_shape)
def _act(x, layers, name, filters, strides, shortcut):
    """Batch norm and ReLU: what follows the last block."""
    return _pre_activation(x, layers, name)


@register("expand", k=range(1, 12, 2))
def _expand(x, layers, name, filters, strides, shortcut, k):
    """Batch norm, ReLU, convolution, batch norm: the end of a PyramidNet's block."""
    x = _pre_activation(x, layers, name)
    x = _convolution(x, layers, f"{name}_conv", filters, k, strides)
    return _batch_norm(x, layers, f"{name}_conv_bn")


@register("widen", needs=_more_channels)
def _widen(x, layers, name, filters, strides, shortcut):
    """Shortcut without weights: average pool by the strides, then channels of zeros for those that are missing."""
    if strides > 1:
        x = layers.AveragePooling2D(strides, strides=strides, padding="same", name=f"{name}_pool")(x)
    missing = filters - x.shape[-1]
    # Keras pads the last two of three axes where channels come first: here width (by nothing) and channels.
    return layers.ZeroPadding2D(((0, 0), (0, missing)), data_format="channels_first", name=f"{name}_zeros")(x) \
        if missing else x
