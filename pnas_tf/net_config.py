"""Reads and writes net.config, the JSON in which the original code, Once-for-All and MCUNet describe networks.

    python -m pnas_tf.net_config --source=runs/mine/arch.json --output=net.config
    python -m pnas_tf.net_config --source=proxyless_mobile --output=net.config
    python -m pnas_tf.net_config --source=net.config --output=arch.json

Writes an arch.json if the source is a net.config, and a net.config if it is an arch. The field `resolution`, which
MCUNet added, holds the image size. It is left out for 224, the size that the other tools assume.
"""

import json
import os
from typing import Any

from absl import flags

from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.errors import InputError, shown
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import checks, ops
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Block, Space
from pnas_tf.space.spaces import MB_OPS

NETWORK = "ProxylessNASNets"
# As in space/ops.py. Momentum is defined as in PyTorch: the weight of the new batch.
BATCH_NORM = {"momentum": 0.1, "eps": 0.001}
# Fields of every layer except MBConv, with their values in all networks that can be built here.
_PLAIN = {"use_bn": False, "act_func": None, "dropout_rate": 0, "ops_order": "weight_bn_act"}
# Names of a block in the original and in later tools, and the field of its layer.
_BLOCKS = {"MobileInvertedResidualBlock": "mobile_inverted_conv", "ResidualBlock": "conv"}
_MBCONVS = ("MBInvertedConvLayer", "MBConvLayer")
IMAGE_SIZE = 224


def write(arch: Arch) -> dict[str, Any]:
    """Describes an arch as a net.config.

    Returns:
        The JSON object.

    Raises:
        InputError: If net.config cannot describe the network.
    """
    shapes = arch.space.input_shapes()
    *mixes, classifier = arch.space.head
    if not arch.space.is_chain:
        raise InputError(f"net.config describes a chain of blocks; {arch.space.name} has blocks that read "
                         "blocks other than the previous one. Keep the arch.json.")
    if len(arch.space.stem) != 1 or len(mixes) > 1:
        raise InputError(f"net.config describes one first layer and at most one layer before the classifier; "
                         f"{arch.space.name} has {len(arch.space.stem)} and {len(mixes)}.")
    if (op := arch.op_of(classifier)) != "classifier":
        raise InputError(f"net.config describes a dense layer after the average pool; {arch.space.name} ends in {op}. "
                         "Keep the arch.json.")
    size = arch.space.input_size
    return {"name": NETWORK, **({} if size == IMAGE_SIZE else {"resolution": size}), "bn": dict(BATCH_NORM),
            "first_conv": _conv(arch, arch.space.stem[0], shapes),
            "feature_mix_layer": _conv(arch, mixes[0], shapes) if mixes else None,
            "classifier": {"name": "LinearLayer", "in_features": shapes[classifier.name][2],
                           "out_features": classifier.filters, "bias": True, **_PLAIN},
            "blocks": [_block(arch, block, shapes[block.name][2]) for block in arch.space.blocks]}


def _conv(arch, block, shapes):
    type_name, values = ops.parse(arch.op_of(block))
    if type_name != "conv" or block.shortcut:
        raise InputError(f"net.config: {block.name} must be a convolution with ReLU6 and no shortcut (conv_k3), got "
                         f"{arch.op_of(block)}{' with shortcut' if block.shortcut else ''}. Keep the arch.json.")
    return {"name": "ConvLayer", "kernel_size": values["k"], "stride": block.strides, "dilation": 1, "groups": 1,
            "bias": False, "has_shuffle": False, "in_channels": shapes[block.name][2], "out_channels": block.filters,
            **_PLAIN, "use_bn": True, "act_func": "relu6"}


def _block(arch, block, channels):
    type_name, values = ops.parse(arch.op_of(block))
    if type_name == "mb":
        layer = {"name": "MBInvertedConvLayer", "in_channels": channels, "out_channels": block.filters,
                 "kernel_size": values["k"], "stride": block.strides, "expand_ratio": values["e"]}
    elif type_name == ops.ZERO:
        layer = {"name": "ZeroLayer", "stride": block.strides}
    else:
        raise InputError(f"net.config cannot describe {arch.op_of(block)} of block {block.name}; it has only MBConv "
                         "and zero.")
    identity = {"name": "IdentityLayer", "in_channels": channels, "out_channels": block.filters, **_PLAIN}
    return {"name": "MobileInvertedResidualBlock", "mobile_inverted_conv": layer,
            "shortcut": identity if block.shortcut else None}


def read(data: Any, *, name: str = "network", input_size: int | None = None, where: str = "net.config") -> Arch:
    """Reads the arch of a net.config.

    A block whose op is one of the paper's candidates offers all of them, so that the network can be searched again.

    Args:
        data: Parsed JSON, untrusted.
        name: Name of the arch's space.
        input_size: Height and width of the images; None for the file's resolution, or 224 if it has none.
        where: Start of error messages, such as the name of the file.

    Raises:
        InputError: If the data is not a net.config, or describes a network that cannot be built from the ops here.
    """
    _require(isinstance(data, dict) and isinstance(data.get("blocks"), list), where, "expected an object with blocks")
    _require(data.get("name") == NETWORK, where,
             f"expected name {NETWORK}, got {shown(data.get('name'))}")
    batch_norm = data.get("bn") or BATCH_NORM
    _require(isinstance(batch_norm, dict) and batch_norm.get("eps", BATCH_NORM["eps"]) == BATCH_NORM["eps"], where,
             f"expected batch norm with eps {BATCH_NORM['eps']}, got "
             f"{shown(batch_norm.get('eps') if isinstance(batch_norm, dict) else batch_norm)}")
    size = input_size or (_whole(data, "resolution", where) if "resolution" in data else IMAGE_SIZE)
    stem = _read_conv(data.get("first_conv"), "stem", f"{where}, first_conv")
    _require(len(data["blocks"]) <= checks.MAX_BLOCKS, where, f"at most {checks.MAX_BLOCKS} blocks")
    pairs, channels = [], stem.filters
    for number, entry in enumerate(data["blocks"]):
        pairs.append(_read_block(entry, f"b{number:02d}", channels, f"{where}, block {number}"))
        channels = pairs[-1][0].filters
    mix = data.get("feature_mix_layer")
    head = [_read_conv(mix, "mix", f"{where}, feature_mix_layer", channels)] if mix is not None else []
    classifier = _object(data.get("classifier"), f"{where}, classifier")
    classes = _whole(classifier, "out_features", f"{where}, classifier")
    _fits(classifier, "in_features", head[-1].filters if head else channels, f"{where}, classifier")
    try:
        space = Space(name, size, _whole(data["first_conv"], "in_channels", f"{where}, first_conv"), classes, (stem,),
                      tuple(block for block, _ in pairs), (*head, Block("classifier", ("classifier",), classes)))
        return Arch(space, {block.name: op for block, op in pairs if len(block.ops) > 1})
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _read_conv(entry, name, where, channels=None):
    layer = _object(entry, where)
    if channels is not None:
        _fits(layer, "in_channels", channels, where)
    _require(layer.get("name") == "ConvLayer" and layer.get("groups", 1) == 1 and layer.get("dilation", 1) == 1
             and layer.get("use_bn", True) is True and layer.get("act_func", "relu6") == "relu6"
             and not layer.get("bias"), where, "expected a plain ConvLayer with batch norm and relu6")
    return Block(name, (f"conv_k{_whole(layer, 'kernel_size', where)}",), _whole(layer, "out_channels", where),
                 _whole(layer, "stride", where))


def _read_block(entry, name, channels, where):
    """Reads a block; returns it and its op."""
    block = _object(entry, where)
    _require(block.get("name") in tuple(_BLOCKS), where, f"expected {' or '.join(_BLOCKS)}")
    layer, shortcut = block.get(_BLOCKS[block["name"]]), block.get("shortcut") is not None
    if layer is None or (isinstance(layer, dict) and layer.get("name") == "ZeroLayer"):
        _require(shortcut, where, "a ZeroLayer needs a shortcut")
        return Block(name, (*MB_OPS, ops.ZERO), channels, 1, True), ops.ZERO
    layer = _object(layer, where)
    _require(layer.get("name") in _MBCONVS, where, f"expected {', '.join(_MBCONVS)} or ZeroLayer, got "
                                                   f"{shown(layer.get('name'))}")
    _fits(layer, "in_channels", channels, where)
    expand = _whole(layer, "expand_ratio", where)
    _require(layer.get("mid_channels") in (None, channels * expand) and not layer.get("use_se")
             and layer.get("act_func", "relu6") == "relu6", where,
             "expected an MBConv with relu6, no squeeze-and-excite, and mid_channels of expand_ratio * in_channels")
    op = f"mb_k{_whole(layer, 'kernel_size', where)}_e{expand}"
    filters, strides = _whole(layer, "out_channels", where), _whole(layer, "stride", where)
    candidates = (*MB_OPS, ops.ZERO) if shortcut else MB_OPS
    return Block(name, candidates if op in MB_OPS else (op,), filters, strides, shortcut), op


def _object(value, where):
    _require(isinstance(value, dict), where, f"expected an object, got {shown(value)}")
    return value


def _whole(layer, field, where):
    value = layer.get(field)
    _require(isinstance(value, int | float) and not isinstance(value, bool) and value == value and abs(value) < 1e7
             and int(value) == value, where, f"{field} must be a whole number, got {shown(value)}")
    return int(value)


def _fits(layer, field, channels, where):
    _require(layer.get(field, channels) == channels, where,
             f"{field} must be {channels}, the channels of its input, got {shown(layer.get(field))}")


def _require(good, where, problem):
    if not good:
        raise InputError(f"{where}: {problem}.")


def is_net_config(data: Any) -> bool:
    """Whether parsed JSON looks like a net.config and not like an arch.json."""
    return isinstance(data, dict) and "format" not in data and "blocks" in data


def _define_flags() -> None:
    flags.DEFINE_string("source", None, "A net.config, an arch.json, or the name of a shipped arch.")
    flags.DEFINE_string("output", None, "File to write: an arch.json for a net.config, a net.config for an arch.")
    flags.DEFINE_integer("image_size", 0, "Height and width of the images of a net.config; 0: its resolution, or 224.",
                         0, checks.MAX_SIDE)


def _main() -> None:
    f = flags.FLAGS
    if not f.source or not f.output:
        raise InputError("Name the file to read and the file to write: --source=FILE --output=FILE.")
    data = files.read_json(f.source) if os.path.exists(f.source) else None
    if is_net_config(data):
        name = checks.name_like(os.path.splitext(os.path.basename(f.source))[0])
        arch = read(data, name=name, input_size=f.image_size or None, where=f.source)
        arch.save(f.output)
    else:
        arch = arch_lib.load(f.source)
        files.write_text(f.output, json.dumps(write(arch), indent=4) + "\n")
    print(f"{arch.draw()}\nWritten: {f.output}")


def main() -> None:
    """Console script."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
