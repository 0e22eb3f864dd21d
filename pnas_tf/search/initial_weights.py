"""TODO: docstring."""

import os
from typing import Any

from pnas_tf.errors import InputError
from pnas_tf.train.initial_weights import ENDING, load_model


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
    from pnas_tf.search import checkpoints

    candidates = [one for mixed_op in net.mixed_ops for one in mixed_op.candidates if one is not None]
    if os.path.isdir(source):
        values = checkpoints.read_weights(source)
        given = [_assign_flat(candidate, values) for candidate in candidates]
    elif source.endswith(ENDING) and os.path.isfile(source):
        layers = {layer.name: layer.get_weights() for layer in getattr(load_model(source), "layers", ()) if layer.weights}
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
