"""Imports trained weights: the published ProxylessNAS state dicts of PyTorch, or Keras' own MobileNetV2.

    python -m pnas_tf.import_weights --source=net.npz --arch=proxyless_mobile --run_dir=runs/pretrained
    python -m pnas_tf.import_weights --source=mobilenet_v2.weights.h5 --run_dir=runs/mobilenet_v2

Writes model.keras and arch.json, which can be exported and trained further like any other network:

    python -m export.tflite --run_dir=runs/pretrained --dataset=folder:imagenet
    python -m pnas_tf.train --arch=runs/pretrained/arch.json --init_weights=runs/pretrained --epochs=20 --lr=0.01 \
        --dataset=folder:photos --run_dir=runs/photos

Weights of PyTorch come as a NumPy archive, because a .pth is a pickle, which may run code and is never loaded here.
Make the archive on a machine with PyTorch:

    python -c "import numpy, torch; s = torch.load('net.pth', map_location='cpu', weights_only=True); \
numpy.savez('net.npz', **{k: v.numpy() for k, v in s.get('state_dict', s).items()})"

Such a network pads as PyTorch does: k // 2 on both sides, also at stride 2. Its inputs are images normalised by the
mean and standard deviation of ImageNet, as `folder:` data sets and `--input=pixels` of export.tflite normalise them.

This command downloads nothing. On a machine with internet, Keras downloads the weights of MobileNetV2; a .keras or .h5
file of `keras.applications.MobileNetV2` at alpha 1, with its classifier, is read as it is:

    python -c "import keras; keras.applications.MobileNetV2().save_weights('mobilenet_v2.weights.h5')"

Its images are normalised to [-1, 1]; arch.json holds that, so further training and export do the same.
"""

import dataclasses
import os
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import flags

from pnas_tf import files, keras_mobilenet, net_config
from pnas_tf.cli import start
from pnas_tf.data import readers
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import ops
from pnas_tf.space.arch import Arch

MAX_BYTES = 2_000_000_000
# PyTorch's names of batch norm weights, in Keras' order.
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
# Parts of an MBConv: name here, name in the state dict, whether it is depthwise.
_MBCONV = (("expand", "inverted_bottleneck", False), ("depthwise", "depth_conv", True),
           ("project", "point_linear", False))
_IGNORED = "num_batches_tracked"
# Once-for-All's name for the mobile_inverted_conv of a block.
_LATER_NAME = re.compile(r"^(blocks\.\d+)\.conv\.")


def run(arch: Arch, source: Any, where: str = "source") -> Any:
    """Builds a Keras network with trained weights.

    Args:
        arch: Network, with as many classes as the source.
        source: Arrays by name, as in the original's `state_dict()`; or a Keras model from
            `keras.applications.MobileNetV2`.
        where: Start of error messages, such as the name of the file.

    Returns:
        Keras model of stock layers, from normalised images to logits. It pads as PyTorch does if the source is a state
        dict.

    Raises:
        InputError: If an array is missing or left over, or has another shape.
    """
    import keras

    from pnas_tf import network
    from pnas_tf.network import layers as fast_layers

    is_state = isinstance(source, Mapping)
    model = network.assemble(arch, layers=fast_layers.PyTorchPadded(keras.layers) if is_state else keras.layers)
    state = source if is_state else keras_mobilenet.state_of(source)
    # DataParallel puts "module." before every name.
    unused = {_LATER_NAME.sub(r"\1.mobile_inverted_conv.", name.removeprefix("module.")): value
            for name, value in state.items() if not name.endswith(_IGNORED)}
    advice = f"If the weights do not belong to {arch.space.name}, but to another network, name it by --arch."
    if (op := arch.op_of(arch.space.head[-1])) != "classifier":
        raise InputError(f"{arch.space.name} ends in {op}: no weights of such a network can be read. {advice}")
    for layer_name, names, convert in _plan(arch) if is_state else keras_mobilenet.plan(arch):
        layer = model.get_layer(layer_name)
        values = []
        for name, weight in zip(names, layer.weights, strict=True):
            if name not in unused:
                raise InputError(f"{where}: {name} is missing, but {layer_name} needs it. {advice}")
            value = convert(unused.pop(name))
            if value is None or value.shape != tuple(weight.shape) or not np.all(np.isfinite(value)):
                raise InputError(f"{where}: {name} does not fit {layer_name}, which needs finite numbers of shape "
                                 f"{tuple(weight.shape)}. {advice}")
            values.append(value)
        layer.set_weights(values)
    if unused:
        raise InputError(f"{where}: {next(iter(unused))[:80]} belongs to no layer of {arch.space.name} "
                         f"({len(unused)} left over). Name the right network by --arch.")
    return model


def _plan(arch):
    """Yields (layer name, names of its weights in the state dict, their conversion) for every layer with weights."""
    for block in arch.space.stem:
        yield from _conv_and_norm(f"{block.name}_{arch.op_of(block)}_conv", f"{block.name}_{arch.op_of(block)}_bn",
                                  "first_conv", False)
    for number, block in enumerate(arch.space.blocks):
        op = arch.op_of(block)
        type_name, values = ops.parse(op)
        if type_name not in ("mb", ops.ZERO):
            raise InputError(f"Block {block.name} holds {op}: only MBConv and zero have weights to import.")
        for ours, theirs, depthwise in _MBCONV if type_name == "mb" else ():
            if ours != "expand" or values["e"] > 1:
                name = f"{block.name}_{op}_{ours}"
                yield from _conv_and_norm(name, f"{name}_bn", f"blocks.{number}.mobile_inverted_conv.{theirs}",
                                          depthwise)
    for block in arch.space.head[:-1]:
        yield from _conv_and_norm(f"{block.name}_{arch.op_of(block)}_conv", f"{block.name}_{arch.op_of(block)}_bn",
                                  "feature_mix_layer", False)
    yield (f"{arch.space.head[-1].name}_classifier_dense", ["classifier.linear.weight", "classifier.linear.bias"],
           lambda value: value.T)


def _conv_and_norm(conv, norm, theirs, depthwise):
    # From [out, in, k, k] to [k, k, in, out]; depthwise from [channels, 1, k, k] to [k, k, channels, 1].
    axes = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
    yield conv, [f"{theirs}.conv.weight"], lambda value: value.transpose(axes) if value.ndim == 4 else None
    yield norm, [f"{theirs}.bn.{name}" for name in _BATCH_NORM], lambda value: value


def read_state(path: str) -> dict[str, np.ndarray]:
    """Reads a state dict from a .npz file.

    Returns:
        Arrays by name; floats become float32.

    Raises:
        InputError: If the file is missing, damaged, too large, or holds anything but plain numbers.
    """
    try:
        with files.opened(path) as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise InputError(f"{path}: not a numpy archive ({' '.join(str(error).split())[:120]}). Convert a .pth "
                         "with the command in --help.") from None
    if sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise InputError(f"{path}: holds more than {MAX_BYTES} bytes; expected the weights of a mobile network.")
    names = [entry.filename for entry in entries]
    if not names or not all(name.endswith(".npy") for name in names):
        raise InputError(f"{path}: holds {names[0][:60] if names else 'nothing'}; expected only .npy arrays, as "
                         "numpy.savez writes. A .pth is not read here: convert it with the command in --help.")
    arrays = readers.read_npz(path, [name.removesuffix(".npy") for name in names])
    for name, value in arrays.items():
        if value.dtype.kind not in "fiu":
            raise InputError(f"{path}: {name[:80]} must hold numbers, got {value.dtype}.")
    return {name: value.astype(np.float32) if value.dtype.kind == "f" else value for name, value in arrays.items()}


def classes_of(state: Mapping[str, np.ndarray], where: str = "state dict") -> int:
    """Number of classes of a state dict, read from its classifier.

    Args:
        state: Arrays by name.
        where: Start of error messages, such as the name of the file.

    Raises:
        InputError: If it has no classifier.
    """
    biases = [value for name, value in state.items() if name.endswith("classifier.linear.bias")]
    if len(biases) != 1 or biases[0].ndim != 1 or len(biases[0]) < 2:
        raise InputError(f"{where}: classifier.linear.bias is missing or malformed. Expected a ProxylessNAS state "
                         "dict.")
    return len(biases[0])


def load_arch(name_or_path: str, num_classes: int) -> Arch:
    """Loads a shipped arch, an arch.json or a net.config.

    Args:
        name_or_path: Name of a shipped arch, or path of the file.
        num_classes: Number of classes of the result.

    Raises:
        InputError: If there is no such arch.
    """
    if name_or_path not in arch_lib.names() and os.path.exists(name_or_path) \
            and net_config.is_net_config(data := files.read_json(name_or_path)):
        arch = net_config.read(data, where=name_or_path)
    else:
        arch = arch_lib.load(name_or_path)
    return arch.for_data(arch.space.input_size, arch.space.input_channels, num_classes)


def _define_flags() -> None:
    flags.DEFINE_string("source", None, "NumPy archive (.npz) of a state dict, or a .keras or .h5 file of Keras' "
                                        "MobileNetV2; see above for how to make it.")
    flags.DEFINE_string("arch", None, "Name of a shipped arch, or path of an arch.json or net.config; default: "
                                      "mobilenet_v2 for a file of Keras, proxyless_mobile otherwise.")
    flags.DEFINE_string("run_dir", None, "Folder for model.keras and arch.json.")
    flags.DEFINE_bool("overwrite", False, "Replace the network of the folder.")


def _main() -> None:
    f = flags.FLAGS
    if not f.source or not f.run_dir:
        raise InputError("Name the weights and the folder to write to: --source=WEIGHTS.npz --run_dir=DIR.")
    folder = RunFolder(f.run_dir)
    if not f.overwrite and os.path.lexists(folder.model):
        raise InputError(f"{folder.model} exists. Use another --run_dir, or --overwrite to replace it.")
    is_keras = f.source.endswith(keras_mobilenet.ENDINGS)
    if is_keras:
        start.load_tensorflow()
        source = keras_mobilenet.read(f.source)
        arch = load_arch(f.arch or keras_mobilenet.NAME, source.output_shape[-1])
    else:
        source = read_state(f.source)
        arch = load_arch(f.arch or "proxyless_mobile", classes_of(source, f.source))
        # The normalisation of an arch is that of other weights.
        arch = dataclasses.replace(arch, space=dataclasses.replace(arch.space, normalisation=None, pretrained=None))
        start.load_tensorflow()
    from pnas_tf.network import build

    model = run(arch, source, f.source)
    folder.keep_arch(arch)
    build.save_model(model, folder.model)
    print(f"{arch.draw()}\nModel: {folder.model}\n"
          f"Next:  {start.next_command('export.tflite', f'--run_dir={f.run_dir}', '--dataset=folder:IMAGENET')}\n"
          "or:    " + start.next_command("pnas_tf.train", f"--arch={folder.arch}", f"--init_weights={folder.model}",
                                        "--dataset=folder:PHOTOS", "--run_dir=DIR"))


def main() -> None:
    """Console script."""
    _define_flags()
    start.start(_main)


if __name__ == "__main__":
    main()
