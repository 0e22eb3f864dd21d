"""Checkpoints of a search: whole or not there, checked when read, and exact in the middle of an epoch too.

A checkpoint is one .npz file of every variable, and of the means and seconds of the epoch so far: so one rename brings
everything, and the archive's checksums show a damaged disk. (HDF5, in which Keras saves weights, has no checksums, and
its library crashes on a full disk.)
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

from pnas_tf import files
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.search import stopping
from pnas_tf.search.searcher import Searcher

KEPT = 2
PROGRESS = "progress"

# What is said of files that are damaged or of another network.
UNREADABLE = (OSError, EOFError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, NotImplementedError,
              MemoryError, zipfile.BadZipFile, zlib.error)


def save(searcher: Searcher, run_dir: str, epoch_seconds: float = 0.0) -> None:
    """Writes the state beside its place, renames it, and prunes others.

    Args:
        searcher: after some step.
        run_dir: of the search.
        epoch_seconds: that the epoch has taken so far.

    Raises:
        InputError: if it cannot be written, or a loss or an alpha is no finite number. What was saved before stays.
    """
    stopping.check_state_finite(searcher)
    epoch, steps = divmod(int(searcher.step.value.numpy()), searcher.schedule.steps_per_epoch)
    file_path = os.path.join(RunFolder(run_dir).checkpoints, _name(epoch, steps))
    progress = {"epoch_seconds": epoch_seconds,
                "sums": {name: [float(total), count] for name, (total, count) in searcher.sums.items()}}

    whole = io.BytesIO()  # an archive that a full disk cuts off would complain once more when it is closed
    np.savez(whole, **{PROGRESS: np.array(json.dumps(progress))},
             **{name: keras.ops.convert_to_numpy(variable) for name, variable in _variables(searcher).items()})

    def write(temporary):
        with open(temporary, "wb") as file:
            file.write(whole.getbuffer())

    files.write_whole(file_path, write)
    # One that seems to be later was passed over as damaged.
    found = _files(run_dir)
    unfinished = glob.glob(os.path.join(glob.escape(RunFolder(run_dir).checkpoints), ".writing-*"))  # by a killed search
    for other in {*found, *unfinished} - set(found[:found.index(file_path) + 1][-KEPT:]):
        os.unlink(other)


def restore(searcher: Searcher, run_dir: str) -> float:
    """Loads the newest checkpoint that is whole, if there is one.

    Returns:
        Seconds that the epoch in progress has taken so far.

    Raises:
        InputError: if none of those that are there can be read, or fits.
    """
    found, reason = _files(run_dir), ""
    for file_path in reversed(found):
        try:
            return _load(searcher, file_path)
        except UNREADABLE as error:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            if file_path != found[0]:
                print(f"Warning: {file_path} cannot be loaded ({reason}). Going on from the one before.", flush=True)
    if found:
        raise InputError(f"{found[0]} cannot be loaded ({reason}). Remove {os.path.dirname(found[0])} to search anew, "
                         "or choose another --run_dir.")
    return 0.0


def read_weights(run_dir: str) -> dict[str, np.ndarray]:
    """The variables of the newest checkpoint that is whole, by layer and name: `b01_mb_k3_e6/kernel`.

    Raises:
        InputError: if the folder has none that can be read.
    """
    for file_path in reversed(_files(run_dir)):
        try:
            with np.load(file_path, allow_pickle=False) as archive:
                return {name.partition(" ")[2]: archive[name] for name in archive.files if name != PROGRESS}
        except UNREADABLE:
            continue
    raise InputError(f"{run_dir}: no checkpoint of a search that can be read.")


def _load(searcher: Searcher, file_path: str) -> float:
    with np.load(file_path, allow_pickle=False) as archive:
        values = {name: archive[name] for name in archive.files}
    progress, variables = json.loads(str(values.pop(PROGRESS))), _variables(searcher)
    if {name: value.shape for name, value in values.items()} != {
            name: tuple(variable.shape) for name, variable in variables.items()}:
        raise ValueError("it is of another space or another way to search")
    for name, variable in variables.items():
        variable.assign(values[name])
    searcher.sums = {name: (tf.constant(total, tf.float32), int(count))
                     for name, (total, count) in progress["sums"].items()}
    return float(progress["epoch_seconds"])


def _variables(searcher: Searcher) -> dict[str, keras.Variable]:
    """All that a search changes, by a name of its own each."""
    weights = [(variable.path, variable) for variable in searcher.weights]
    # Keras numbers the optimizers of a process: their paths differ from process to process.
    slots = [(f"optimizer {number}/{variable.name}", variable) for number, one in enumerate(searcher.optimizers)
             for variable in one.variables]
    return {f"{number:05d} {name}": variable for number, (name, variable) in enumerate([*weights, *slots])}


def _name(epoch: int, steps: int) -> str:
    """By whole epochs and steps of the next one; sorted by name they are sorted by time."""
    return f"epoch_{epoch:05d}{f'_step_{steps:07d}' if steps else ''}.npz"


def _files(run_dir: str) -> list[str]:
    return sorted(glob.glob(os.path.join(glob.escape(RunFolder(run_dir).checkpoints), "epoch_*.npz")))
