"""Trained weights that ship with the package, by layer name. Their origin and licences are in pnas_tf/weights.

    model = network.build_network("efficientnet_lite0", num_classes=5)
    pretrained.into(model, "efficientnet_lite0")
"""

import hashlib
import io
from importlib import resources
from typing import Any

import numpy as np

from pnas_tf.errors import InputError
from pnas_tf.space import checks

# Data set that the weights were trained on, by the name that Keras gives it.
IMAGENET = "imagenet"
SHA256 = {"efficientnet_lite0": "98be9de83bb69bad08d83583fab5e105250ec3a7686cbff0e5a4c06a9eeee287"}
CLASSIFIER = "classifier_"


def names() -> list[str]:
    """Names of the networks that have weights."""
    return sorted(checks.PRETRAINED)


def load(name: str, channels: int = 3) -> dict[str, list[np.ndarray]]:
    """Loads the weights of a network.

    Args:
        name: Name of a network, one of `names()`.
        channels: Channels of the images: 3, or 1 for grey images. The kernel for grey images is the sum over the three
            colours, which computes what the original computes on a grey image in three equal channels.

    Returns:
        Weights by layer name, float32, in the order of `layer.get_weights()`.

    Raises:
        InputError: If there are no such weights, their file is damaged, or images have another number of channels.
    """
    if name not in names():
        raise InputError(f"No weights of {name!r} ship with this package. Networks that have them: "
                         f"{', '.join(names())}.")
    if channels not in (1, 3):
        raise InputError(f"The weights of {name} are for images of 3 channels, or of 1 by their sum, got {channels}.")
    content = resources.files("pnas_tf").joinpath("weights", f"{name}.npz").read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise InputError(f"The weights of {name} are damaged: their SHA-256 is not {SHA256[name]}. Install the package "
                         "again.")
    weights: dict[str, list[np.ndarray]] = {}
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        for key in archive.files:  # "b01_mb_k3_e6_expand/0": layer and position, in the order of the network
            weights.setdefault(key.rpartition("/")[0], []).append(archive[key].astype(np.float32))
    if channels == 1:
        stem = next(iter(weights))
        weights[stem] = [weights[stem][0].sum(axis=2, keepdims=True)]
    return weights


def into(model: Any, name: str) -> None:
    """Gives a model the weights of a network.

    Args:
        model: Keras model from `build_network`, of the same ops, for images of 1 or 3 channels. Its classifier keeps
            its initial weights if it has another number of classes.
        name: Name of the network, one of `names()`.

    Raises:
        InputError: If there are no such weights, or the model is another network.
    """
    weights = load(name, model.input_shape[-1])
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    if different := sorted(name for name in layers.keys() ^ weights.keys() if not name.startswith(CLASSIFIER)):
        raise InputError(f"{model.name} is another network than {name}: only one of them has {different[0]}.")
    for layer_name, layer in layers.items():
        given = weights[layer_name]
        if [tuple(weight.shape) for weight in layer.weights] == [value.shape for value in given]:
            layer.set_weights(given)
        elif not layer_name.startswith(CLASSIFIER):
            raise InputError(f"{model.name} is another network than {name}: {layer_name} has other shapes.")
