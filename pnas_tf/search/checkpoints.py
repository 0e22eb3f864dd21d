"""Checkpoints of a search: written whole or not at all, checked when read, and exact even in the middle of an epoch.

A checkpoint is one .npz file with every variable, and with the means and seconds of the epoch so far. One rename puts
the whole file in place, and the archive's checksums reveal a damaged disk. (HDF5, in which Keras saves weights, has no
checksums, and its library crashes on a full disk.)
"""

import glob
import io
import json
import os
import zipfile
import zlib

import keras
import numpy as np
import tensorflow as tf

from pnas_tf import files, terminal
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.search import stopping
from pnas_tf.search.searcher import Searcher
from pnas_tf.supernet.supernet import Supernet

# Number of checkpoints that are kept.
KEPT = 2
# Entry of the archive with the means and seconds of the epoch so far.
PROGRESS = "progress"

# Exceptions that NumPy and Python raise for files that are damaged or hold another network.
UNREADABLE = (OSError, EOFError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, NotImplementedError,
              MemoryError, zipfile.BadZipFile, zlib.error)


def save(searcher: Searcher, folder: RunFolder, epoch_seconds: float = 0.0) -> None:
    """Writes a checkpoint and removes old checkpoints.

    Args:
        searcher: Searcher after a step.
        folder: Folder of the run.
        epoch_seconds: Seconds that the epoch has taken so far.

    Raises:
        InputError: If the file cannot be written, or a loss or an alpha is not finite. Earlier checkpoints stay.
    """
    stopping.check_state_finite(searcher)
    epoch, steps = divmod(int(searcher.step.value.numpy()), searcher.schedule.steps_per_epoch)
    path = os.path.join(folder.checkpoints, _name(epoch, steps))
    progress = {"epoch_seconds": epoch_seconds,
                "sums": {name: [float(total), count] for name, (total, count) in searcher.sums.items()}}

    archive = io.BytesIO()  # written in memory first: on a full disk, closing the archive would raise a second error
    np.savez(archive, **{PROGRESS: np.array(json.dumps(progress))},
             **{name: keras.ops.convert_to_numpy(variable) for name, variable in _variables(searcher).items()})

    def write(temporary):
        with open(temporary, "wb") as file:
            file.write(archive.getbuffer())

    files.write_whole(path, write)
    # A checkpoint with a later name was skipped by `restore` because it is damaged.
    checkpoints = _files(folder)
    for other in set(checkpoints) - set(checkpoints[:checkpoints.index(path) + 1][-KEPT:]):
        os.unlink(other)


def restore(searcher: Searcher, folder: RunFolder) -> float:
    """Loads the newest checkpoint that is intact, if there is one.

    Returns:
        Seconds that the epoch in progress has taken so far.

    Raises:
        InputError: If there are checkpoints but none can be read, or none fits.
    """
    checkpoints, reason = _files(folder), ""
    for path in reversed(checkpoints):
        try:
            return _load(searcher, path)
        except UNREADABLE as error:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            if path != checkpoints[0]:
                terminal.warn(f"{path} cannot be loaded ({reason}). Continuing from the checkpoint before it.")
    if checkpoints:
        raise InputError(f"{checkpoints[0]} cannot be loaded ({reason}). Remove {folder.checkpoints} to search from "
                         "the start, or choose another --run_dir.")
    return 0.0


def read_weights(folder: RunFolder) -> dict[str, np.ndarray]:
    """The variables of the newest checkpoint that is intact, by layer and name: `b01_mb_k3_e6/kernel`.

    Raises:
        InputError: If the folder has no checkpoint that can be read.
    """
    for path in reversed(_files(folder)):
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {name.partition(" ")[2]: archive[name] for name in archive.files if name != PROGRESS}
        except UNREADABLE:
            continue
    raise InputError(f"{folder}: no checkpoint of a search that can be read.")


def into_supernet(net: Supernet, folder: RunFolder) -> None:
    """Gives a supernet all variables that the supernet of a search has in the newest checkpoint.

    Args:
        net: Supernet with the space, the goals and the sharing of the search.
        folder: Folder of the search.

    Raises:
        InputError: If the checkpoint cannot be read or is of another supernet.
    """
    try:
        with np.load(_files(folder)[-1], allow_pickle=False) as archive:
            paths = {variable.path for variable in net.weights}
            names = [name for name in archive.files if name.partition(" ")[2] in paths]
            for name, variable in zip(names, net.weights, strict=True):
                if name.partition(" ")[2] != variable.path:
                    raise ValueError(name)
                variable.assign(archive[name])
    except (IndexError, *UNREADABLE) as error:
        raise InputError(f"{folder}: no checkpoint of this supernet ({' '.join(str(error).split())[:120]}).") from None


def _load(searcher: Searcher, path: str) -> float:
    with np.load(path, allow_pickle=False) as archive:
        values = {name: archive[name] for name in archive.files}
    progress, variables = json.loads(str(values.pop(PROGRESS))), _variables(searcher)
    if {name: value.shape for name, value in values.items()} != {
            name: tuple(variable.shape) for name, variable in variables.items()}:
        raise ValueError("it holds another space or was made with other settings")
    for name, variable in variables.items():
        variable.assign(values[name])
    searcher.sums = {name: (tf.constant(total, tf.float32), int(count))
                     for name, (total, count) in progress["sums"].items()}
    return float(progress["epoch_seconds"])


def _variables(searcher: Searcher) -> dict[str, keras.Variable]:
    """Every variable that a search changes, by a unique name."""
    weights = [(variable.path, variable) for variable in searcher.weights]
    # Keras numbers the optimizers of a process, so their paths differ between processes.
    slots = [(f"optimizer {number}/{variable.name}", variable)
             for number, optimizer in enumerate(searcher.optimizers) for variable in optimizer.variables]
    return {f"{number:05d} {name}": variable for number, (name, variable) in enumerate([*weights, *slots])}


def _name(epoch: int, steps: int) -> str:
    """File name after whole epochs and some steps of the next epoch; names sort in the order of time."""
    return f"epoch_{epoch:05d}{f'_step_{steps:07d}' if steps else ''}.npz"


def _files(folder: RunFolder) -> list[str]:
    """Paths of the checkpoints, oldest first."""
    return sorted(glob.glob(os.path.join(glob.escape(folder.checkpoints), "epoch_*.npz")))
