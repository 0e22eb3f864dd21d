"""The ops: one builder for each op type. Text such as `mb_k5_e6` names an op (see `op_language.py`).

To add an op, register one builder here. The same builder makes the op for the search, for training, for timing and for
the `.tflite`.
"""

from pnas_tf.space.op_language import build, check, examples, format_op, parse, register, requirement, types

__all__ = ["IDENTITY", "JOIN", "PASSED_ON", "ZERO", "build", "check", "examples", "format_op", "is_classifier", "parse",
           "register", "requirement", "types"]

ZERO = "zero"
# Ops that add no computation to their input: `identity` is a candidate of tree cells, and `join` is the sum of a cell
# and its shortcut.
IDENTITY, JOIN = "identity", "join"
PASSED_ON = (IDENTITY, JOIN)
# Types of the last op of a network, which ends in logits. Every network has one of them, exactly once.
CLASSIFIERS = ("classifier", "mlpclassifier")

# Normal with variance 2 / (k * k * output channels), as for every convolution of the original code. A depthwise kernel
# is [k, k, channels, 1] in Keras, so for it the same number is the fan-in.
_HE_FAN_OUT = {"class_name": "VarianceScaling",
               "config": {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"}}
_HE_DEPTHWISE = {"class_name": "VarianceScaling",
                 "config": {"scale": 2.0, "mode": "fan_in", "distribution": "untruncated_normal"}}
_THREE = {"class_name": "Constant", "config": {"value": 3.0}}


def _convolution(x, layers, name, filters, k, strides, **more):
    return layers.Conv2D(filters, k, strides=strides, padding="same", use_bias=False, kernel_initializer=_HE_FAN_OUT,
                         name=name, **more)(x)


def _batch_norm(x, layers, name, gamma="ones"):
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-3, gamma_initializer=gamma, name=name)(x)


def _expansion(x, layers, name, e, max_value=6.0):
    """1x1 convolution to e times the channels, batch norm, activation: ReLU6, or ReLU with `max_value=None`."""
    x = layers.Conv2D(x.shape[-1] * e, 1, use_bias=False, kernel_initializer=_HE_FAN_OUT, name=f"{name}_expand")(x)
    x = _batch_norm(x, layers, f"{name}_expand_bn")
    return layers.ReLU(max_value, name=f"{name}_expand_relu")(x)


def _depthwise(x, layers, name, strides, k):
    """Depthwise k x k and batch norm, without activation."""
    x = layers.DepthwiseConv2D(k, strides=strides, padding="same", use_bias=False,
                               depthwise_initializer=_HE_DEPTHWISE, name=name)(x)
    return _batch_norm(x, layers, f"{name}_bn")


def _expand_and_filter(x, layers, name, strides, k, e):
    """First part of an MBConv: 1x1 convolution to e times the channels, then depthwise k x k."""
    if e > 1:
        x = _expansion(x, layers, name, e)
    x = _depthwise(x, layers, f"{name}_depthwise", strides, k)
    return layers.ReLU(6.0, name=f"{name}_depthwise_relu")(x)


def _project(x, layers, name, filters, shortcut):
    """Last part of an MBConv: 1x1 convolution without activation."""
    x = layers.Conv2D(filters, 1, use_bias=False, kernel_initializer=_HE_FAN_OUT, name=f"{name}_project")(x)
    return _batch_norm(x, layers, f"{name}_project_bn", "zeros" if shortcut else "ones")


@register(ZERO)
def _zero(x, layers, name, filters, strides, shortcut):
    """The op that skips its block (paper section 3.1). It has no layers."""
    raise ValueError("zero has no layers: leave its block out.")


def _activated_convolution(x, layers, name, filters, strides, shortcut, k, max_value):
    x = _convolution(x, layers, f"{name}_conv", filters, k, strides)
    x = _batch_norm(x, layers, f"{name}_bn", "zeros" if shortcut else "ones")
    return layers.ReLU(max_value, name=f"{name}_relu")(x)


@register("conv", k=range(1, 12, 2))
def _conv(x, layers, name, filters, strides, shortcut, k):
    """Convolution k x k, batch norm, ReLU6: the stem and the feature mix."""
    return _activated_convolution(x, layers, name, filters, strides, shortcut, k, 6.0)


@register("convrelu", k=range(1, 12, 2))
def _conv_relu(x, layers, name, filters, strides, shortcut, k):
    """Convolution k x k, batch norm, ReLU: stem, first blocks and feature mix of MobileNetV4."""
    return _activated_convolution(x, layers, name, filters, strides, shortcut, k, None)


@register("mb", k=range(1, 12, 2), e=range(1, 13))
def _mbconv(x, layers, name, filters, strides, shortcut, k, e):
    """Mobile inverted bottleneck (MobileNetV2): 1x1 expands, depthwise k x k, 1x1 projects without activation."""
    return _project(_expand_and_filter(x, layers, name, strides, k, e), layers, name, filters, shortcut)


@register("mbse", k=range(1, 12, 2), e=range(1, 13))
def _mbconv_se(x, layers, name, filters, strides, shortcut, k, e):
    """MBConv with squeeze-and-excite on its expanded channels, as in MobileNetV3.

    The gate is `relu6(logits + 3)`, which is six times a hard sigmoid. Batch norm after the projection absorbs the
    factor, and a `.tflite` fuses this gate with the convolution before it.
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


def _fused(x, layers, name, filters, strides, shortcut, k, e, max_value):
    x = _convolution(x, layers, f"{name}_expand", x.shape[-1] * e, k, strides)
    x = _batch_norm(x, layers, f"{name}_expand_bn")
    x = layers.ReLU(max_value, name=f"{name}_expand_relu")(x)
    return _project(x, layers, name, filters, shortcut)


@register("fused", k=range(1, 12, 2), e=range(1, 13))
def _fused_mbconv(x, layers, name, filters, strides, shortcut, k, e):
    """Fused MBConv (EfficientNetV2): k x k convolution expands, 1x1 projects. Fast where depthwise ops are slow."""
    return _fused(x, layers, name, filters, strides, shortcut, k, e, 6.0)


@register("fusedrelu", k=range(1, 12, 2), e=range(1, 13))
def _fused_mbconv_relu(x, layers, name, filters, strides, shortcut, k, e):
    """Fused MBConv with ReLU: the first block of MobileNetV4-Conv-M."""
    return _fused(x, layers, name, filters, strides, shortcut, k, e, None)


@register("dsrelu", k=range(1, 12, 2))
def _depthwise_separable(x, layers, name, filters, strides, shortcut, k):
    """Depthwise k x k with ReLU, then 1x1 without activation: `mb_k3_e1` with ReLU, the first block of MnasNet."""
    x = _depthwise(x, layers, f"{name}_depthwise", strides, k)
    x = layers.ReLU(name=f"{name}_depthwise_relu")(x)
    return _project(x, layers, name, filters, shortcut)


def _depthwise_to_stride(channels, filters, strides, s, m, e):
    return "" if strides == 1 or s or m else "stride 1, as it has no depthwise convolution (s and m are 0)"


@register("uib", needs=_depthwise_to_stride, s=(0, 3, 5), m=(0, 3, 5), e=range(1, 7))
def _universal_inverted_bottleneck(x, layers, name, filters, strides, shortcut, s, m, e):
    """Universal inverted bottleneck (MobileNetV4, arXiv 2404.10518): `uib_s5_m3_e4`.

    Depthwise s x s at the start, without activation; 1x1 expands, ReLU; depthwise m x m in the middle, ReLU; 1x1
    projects without activation. A depthwise convolution of size 0 is left out, which gives four kinds of block:

        uib_s0_m3_e4    inverted bottleneck (MobileNetV2, with ReLU)
        uib_s3_m0_e4    like ConvNeXt
        uib_s3_m3_e4    extra depthwise
        uib_s0_m0_e4    feed-forward network

    The middle depthwise strides; the start depthwise does if there is no middle one.
    """
    if s:
        x = _depthwise(x, layers, f"{name}_start", 1 if m else strides, s)
    x = _expansion(x, layers, name, e, max_value=None)
    if m:
        x = _depthwise(x, layers, f"{name}_depthwise", strides, m)
        x = layers.ReLU(name=f"{name}_depthwise_relu")(x)
    return _project(x, layers, name, filters, shortcut)


def is_classifier(op: str) -> bool:
    """Whether an op ends a network: it pools the last feature map and returns logits."""
    return op.partition("_")[0] in CLASSIFIERS


@register("classifier")
def _classifier(x, layers, name, filters, strides, shortcut):
    """Global average pool and a dense layer of logits, float32 under every Keras policy."""
    x = layers.GlobalAveragePooling2D(name=f"{name}_pool")(x)
    return layers.Dense(filters, dtype="float32", name=f"{name}_dense")(x)


@register("mlpclassifier", h=range(8, 4097, 8))
def _mlp_classifier(x, layers, name, filters, strides, shortcut, h):
    """Global average pool, h hidden features with batch norm and ReLU, and a dense layer of logits (MobileNetV4)."""
    x = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_pool")(x)
    x = _activated_convolution(x, layers, f"{name}_hidden", h, 1, False, 1, None)
    x = layers.Flatten(name=f"{name}_flat")(x)
    return layers.Dense(filters, dtype="float32", name=f"{name}_dense")(x)


# The ops of tree cells (paper section 4.1) have PyramidNet's order: batch norm and ReLU come before the convolution.


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
    """Passes its input on. It has no layers."""
    return x


@register(JOIN, needs=_same_shape)
def _join(x, layers, name, filters, strides, shortcut):
    """Passes on the sum of a cell and its shortcut, the last input. The block adds them up."""
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
    """Like `sep`, with dilation 2."""
    return _separable(x, layers, name, filters, strides, shortcut, k, 2)


@register("avg", needs=_same_channels, k=range(2, 8))
def _avg(x, layers, name, filters, strides, shortcut, k):
    """Average pool k x k. Padding is left out of the average."""
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
    """Batch norm, convolution k x k, then batch norm and ReLU for the grouped convolutions that follow."""
    x = _batch_norm(x, layers, f"{name}_bn")
    x = _convolution(x, layers, f"{name}_conv", filters, k, strides)
    x = _batch_norm(x, layers, f"{name}_conv_bn")
    return layers.ReLU(name=f"{name}_relu")(x)


@register("group", needs=_whole_groups, k=range(1, 12, 2), g=range(1, 65))
def _group(x, layers, name, filters, strides, shortcut, k, g):
    """Convolution k x k in g groups, without batch norm or activation."""
    return _convolution(x, layers, f"{name}_conv", filters, k, strides, groups=g)


@register("bn", needs=_same_shape)
def _bn(x, layers, name, filters, strides, shortcut):
    """Batch norm alone."""
    return _batch_norm(x, layers, f"{name}_bn")


@register("act", needs=_same_shape)
def _act(x, layers, name, filters, strides, shortcut):
    """Batch norm and ReLU, after the last block of a PyramidNet."""
    return _pre_activation(x, layers, name)


@register("expand", k=range(1, 12, 2))
def _expand(x, layers, name, filters, strides, shortcut, k):
    """Batch norm, ReLU, convolution k x k, batch norm: the end of a PyramidNet's block."""
    x = _pre_activation(x, layers, name)
    x = _convolution(x, layers, f"{name}_conv", filters, k, strides)
    return _batch_norm(x, layers, f"{name}_conv_bn")


@register("widen", needs=_more_channels)
def _widen(x, layers, name, filters, strides, shortcut):
    """Shortcut without weights: average pool by the stride, then channels of zeros up to the block's width."""
    if strides > 1:
        x = layers.AveragePooling2D(strides, strides=strides, padding="same", name=f"{name}_pool")(x)
    missing = filters - x.shape[-1]
    if not missing:
        return x
    # With channels first, Keras pads the last two axes: here width, by 0, and channels.
    return layers.ZeroPadding2D(((0, 0), (0, missing)), data_format="channels_first", name=f"{name}_zeros")(x)
