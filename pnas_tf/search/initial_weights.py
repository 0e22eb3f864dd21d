"""Starts a supernet from trained weights: from an earlier search, or from a single network."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pnas_tf import terminal
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.search import checkpoints
from pnas_tf.supernet.mixed_op import MixedOp
from pnas_tf.supernet.supernet import Supernet
from pnas_tf.train.initial_weights import ENDING, read_model


def into_supernet(net: Supernet, source: str) -> None:
    """Gives the ops of a supernet trained weights and statistics; prints the number of ops that have received them.

    Args:
        net: Supernet. Ops that the source lacks, or has in another shape (such as a classifier of other classes), keep
            their initial weights.
        source: Folder of a search, whose newest checkpoint is read; or a .keras file of a derived or imported network.

    Raises:
        InputError: If the source is missing or damaged, or has no op in common.
    """
    candidates = [candidate for mixed_op in net.mixed_ops for candidate in mixed_op.candidates if candidate is not None]
    if os.path.isdir(source):
        values = checkpoints.read_weights(RunFolder(source))
        given = [given for mixed_op in net.mixed_ops for given in _assign_flat(mixed_op, values)]
    elif source.endswith(ENDING) and os.path.isfile(source):
        model = read_model(source)
        layers = {layer.name: layer.get_weights() for layer in getattr(model, "layers", ()) if layer.weights}
        given = [candidate.set_layer_weights(layers) for candidate in candidates]
    else:
        raise InputError(f"--init_weights={source[:200]}: neither the folder of a search nor a {ENDING} file.")
    if not any(given):
        raise InputError(f"{source}: no op of {net.space.name} has weights of the same shape in it. Search without "
                         "--init_weights, or name a run of this space.")
    terminal.say(f"Weights of {sum(given):,} of {len(given):,} ops come from {source}; the others start from scratch.")


def _assign_flat(mixed_op: MixedOp, values: Mapping[str, np.ndarray]) -> Iterator[bool]:
    """Assigns the flat variables of a checkpoint by name; yields for each op whether it has received all of its own.

    Weights that ops share are assigned together; without them, the ops that share them receive nothing.
    """
    known = {label for shared in mixed_op.shared if _assign({
        f"{shared.name}/{variable.name}": variable for variable in shared.kernels}, values) for label in shared.slices}
    sharing = {label for shared in mixed_op.shared for label in shared.slices}
    for candidate in filter(None, mixed_op.candidates):
        label = candidate.name.removeprefix(f"{mixed_op.block.prefix}_")
        own = {f"{candidate.name}/{name}": variable for name, variable in (("kernel", candidate.kernel),
                                                                           ("stats", candidate.stats))
               if variable is not None}
        yield (label in known or label not in sharing) and _assign(own, values) and bool(own or label in known)


def _assign(variables: Mapping[str, Any], values: Mapping[str, np.ndarray]) -> bool:
    """Assigns variables by name, if all of them have values of their shapes; returns whether they have."""
    fits = all(name in values and values[name].shape == tuple(variable.shape) for name, variable in variables.items())
    if fits:
        for name, variable in variables.items():
            variable.assign(values[name])
    return fits
