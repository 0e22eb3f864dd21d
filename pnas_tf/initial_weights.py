"""Where the training of a derived network starts: anew, from the supernet, or from a trained network."""

import os
from typing import Any

from pnas_tf import run_folder
from pnas_tf.arch import Arch
from pnas_tf.errors import InputError

SCRATCH, INHERITED = "scratch", "inherited"
ENDING = ".keras"


def check(init: str) -> None:
    """Raises InputError if it is neither a known word nor a .keras file that is there."""
    if init in (SCRATCH, INHERITED):
        return
    if not init.endswith(ENDING):
        raise InputError(f"--init must be {SCRATCH}, {INHERITED} or a {ENDING} file, got {init[:100]!r}.")
    if not os.path.isfile(init):
        raise InputError(f"--init={init}: no such file. Train a network, or import one: "
                         "python -m pnas_tf.import_weights.")


def build(arch: Arch, init: str, run_dir: str, *, dropout: float = 0.0) -> Any:
    """A network, ready to train.

    Args:
        arch: fits the data it will see.
        init: `scratch`; `inherited`, the supernet's weights that a search left in the folder; or a .keras file of the
            same arch, whose classifier starts anew where the classes are others in number.
        run_dir: folder of the search.
        dropout: rate before the classifier.

    Returns:
        Keras model, images to logits. It pads as PyTorch does if the file's network does.

    Raises:
        InputError: if the weights are missing, damaged or of another network.
    """
    from pnas_tf import fast_layers, network, torch_padding

    if init in (SCRATCH, INHERITED):
        model = network.build_network(arch, dropout=dropout)
        if init == INHERITED:
            _inherit(model, run_folder.path(run_dir, "inherited.weights.h5"))
        return model
    source = _load(init)
    layers = torch_padding.Layers(fast_layers) if torch_padding.is_used(source) else fast_layers
    model = network.build_network(arch, dropout=dropout, layers=layers)
    _copy(source, model, init, head=f"{arch.space.head[-1].name}_")
    return model


def _inherit(model, path):
    if not os.path.exists(path):
        raise InputError(f"{path} is missing: --init=inherited needs the folder of a finished search.")
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError):
        raise InputError(f"{path} does not fit this arch (was arch.json edited?). Use --init=scratch.") from None


def _load(path):
    import keras

    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Which one depends on where the file is damaged; none is a defect of ours.
        raise InputError(f"{path}: not a Keras model that can be loaded ({' '.join(str(error).split())[:150]}). "
                         "Save it again.") from None


def _copy(source, model, path, head):
    """By layer name, since names tell block and op."""
    given = {layer.name: layer for layer in getattr(source, "layers", ()) if layer.weights}
    wanted = {layer.name: layer for layer in model.layers if layer.weights}
    other = sorted(given.keys() ^ wanted.keys())
    if other:
        raise InputError(f"{path} is of another network than {model.name}: only one of them has {other[0][:60]}. Name "
                         "its network by --arch.")
    for name, layer in wanted.items():
        shapes = [[tuple(weight.shape) for weight in one.weights] for one in (given[name], layer)]
        if shapes[0] == shapes[1]:
            layer.set_weights(given[name].get_weights())
        elif not name.startswith(head):
            raise InputError(f"{path}: {name} holds {shapes[0]}, {model.name} needs {shapes[1]}. Name its network by "
                             "--arch.")
