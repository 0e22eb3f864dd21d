"""Where the training of a network and of a supernet starts: anew, or from weights that were trained elsewhere."""

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
    if not init.endswith(ENDING) and not os.path.isdir(init):
        raise InputError(f"--init_weights must be {SCRATCH}, {INHERITED}, a {ENDING} file or the folder of a training, "
                         f"got {init[:100]!r}.")
    if not os.path.isfile(_model_file(init)):
        raise InputError(f"{_model_file(init)[:300]}: no such file. Train a network, or import one: "
                         "python -m pnas_tf.import_weights.")


def build(arch: Arch, init: str, run_dir: str, *, dropout: float = 0.0, drop_path: float = 0.0,
          precision: str = "float32") -> Any:
    """A network, ready to train.

    Args:
        arch: fits the data it will see.
        init: `scratch`; `inherited`, the supernet's weights that a search left in the folder; or a .keras file of the
            same arch, or the folder that has it: its classifier starts anew where the classes are others in number.
        run_dir: folder of the search.
        dropout: rate before the classifier.
        drop_path: see `network.build_network`.
        precision: Keras policy of the layers.

    Returns:
        Keras model, images to logits. It pads as PyTorch does if the file's network does.

    Raises:
        InputError: if the weights are missing, damaged or of another network.
    """
    from pnas_tf import fast_layers, network, torch_padding

    kind = fast_layers if precision == "float32" else network.Typed(fast_layers, precision)
    if init in (SCRATCH, INHERITED):
        model = network.build_network(arch, dropout=dropout, drop_path=drop_path, layers=kind)
        if init == INHERITED:
            _inherit(model, run_folder.path(run_dir, "inherited.weights.h5"))
        return model
    init = _model_file(init)
    source = _load(init)
    layers = torch_padding.Layers(kind) if torch_padding.is_used(source) else kind
    model = network.build_network(arch, dropout=dropout, drop_path=drop_path, layers=layers)
    _copy(source, model, init, head=f"{arch.space.head[-1].name}_")
    return model


def into_supernet(net: Any, source: str) -> None:
    """Gives a supernet the weights and statistics that its ops have elsewhere; says how many did.

    Args:
        net: a `Supernet`. Ops that the source lacks, or has in another shape (the classifier of other classes), keep
            what they start with.
        source: the folder of a search, whose newest checkpoint counts; or a .keras file of a derived or an imported
            network.

    Raises:
        InputError: if the source is missing or damaged, or has not a single op in common.
    """
    from pnas_tf import checkpoints

    candidates = [one for mixed_op in net.mixed_ops for one in mixed_op.candidates if one is not None]
    if os.path.isdir(source):
        values = checkpoints.read_weights(source)
        given = [_assign_flat(candidate, values) for candidate in candidates]
    elif source.endswith(ENDING) and os.path.isfile(source):
        layers = {layer.name: layer.get_weights() for layer in getattr(_load(source), "layers", ()) if layer.weights}
        given = [candidate.set_layer_weights(layers) for candidate in candidates]
    else:
        raise InputError(f"--init_weights={source[:200]}: neither the folder of a search nor a {ENDING} file.")
    if not any(given):
        raise InputError(f"{source}: has no op of {net.space.name} with weights of the same shape. Search without "
                         "--init_weights, or name a run of this space.")
    print(f"Weights of {sum(given):,} of {len(given):,} ops come from {source}; the others start anew.")


def _assign_flat(candidate, values):
    """From the flat variables of a checkpoint, by name; whether they were there, in this shape."""
    wanted = {f"{candidate.prefix}/{name}": variable
              for name, variable in (("kernel", candidate.kernel), ("stats", candidate.stats)) if variable is not None}
    fits = all(name in values and values[name].shape == tuple(variable.shape) for name, variable in wanted.items())
    if fits:
        for name, variable in wanted.items():
            variable.assign(values[name])
    return fits and bool(wanted)


def _model_file(init):
    return run_folder.path(init, "model.keras") if os.path.isdir(init) else init


def _inherit(model, path):
    if not os.path.exists(path):
        raise InputError(f"{path} is missing: --init_weights=inherited needs the folder of a finished search.")
    try:
        model.load_weights(path)
    except (ValueError, OSError, KeyError):
        raise InputError(f"{path} does not fit this arch (was arch.json edited?). Use "
                         "--init_weights=scratch.") from None


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
