"""Checkpoints of a search: whole or not there, checked when read, and exact in the middle of an epoch too.

A checkpoint is one .weights.h5 file of Keras. What is no weight (means and seconds of the epoch so far) stands in the
file's attributes, with a digest of all that it holds: so one rename brings everything, and a damaged disk shows.
"""

import glob
import hashlib
import json
import os
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

from pnas_tf import non_finite, run_folder
from pnas_tf.errors import InputError
from pnas_tf.searcher import Searcher

KEPT = 2
FOLDER, TEMPORARY = "checkpoints", "writing.weights.h5"

# What HDF5 and Keras say of files that are damaged or of another network.
UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, MemoryError)


def save(searcher: Searcher, run_dir: str, epoch_seconds: float = 0.0) -> None:
    """Writes the state beside its place, renames it, and prunes others.

    Args:
        searcher: after some step.
        run_dir: of the search.
        epoch_seconds: that the epoch has taken so far.

    Raises:
        InputError: if it cannot be written, the folder is gone, or a loss or an alpha is no finite number. What was
            saved before stays.
    """
    non_finite.check_now(searcher)
    run_folder.check_there(run_dir)
    epoch, steps = divmod(int(searcher.step.value.numpy()), searcher.schedule.steps_per_epoch)
    file_path = run_folder.path(run_dir, FOLDER, _name(epoch, steps))
    progress = {"epoch_seconds": epoch_seconds,
                "sums": {name: [float(total), count] for name, (total, count) in searcher.sums.items()}}

    def write(temporary):
        searcher.save_weights(temporary)
        with h5py.File(temporary, "r+") as file:
            file.attrs["progress"] = json.dumps(progress)
            file.attrs["sha256"] = _digest(file)

    run_folder.write_whole(file_path, write, TEMPORARY)
    # One that seems to be later was passed over as damaged.
    found = _files(run_dir)
    for other in set(found) - set(found[:found.index(file_path) + 1][-KEPT:]):
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


def _load(searcher: Searcher, file_path: str) -> float:
    progress: dict[str, Any] = {}
    with h5py.File(file_path) as file:
        if "sha256" in file.attrs:
            if file.attrs["sha256"] != _digest(file):
                raise ValueError("its contents are not those that were written")
            progress = json.loads(file.attrs["progress"])
    searcher.load_weights(file_path)
    searcher.sums = {name: (tf.constant(total, tf.float32), int(count))
                     for name, (total, count) in progress.get("sums", {}).items()}
    return float(progress.get("epoch_seconds", 0.0))


def _digest(file: h5py.File) -> str:
    digest = hashlib.sha256(str(file.attrs["progress"]).encode())

    def add(name, item):
        if isinstance(item, h5py.Dataset):
            digest.update(f"{name} {item.dtype} {item.shape}".encode())
            digest.update(np.ascontiguousarray(item[()]).tobytes())

    file.visititems(add)
    return digest.hexdigest()


def _name(epoch: int, steps: int) -> str:
    """By whole epochs and steps of the next one; sorted by name they are sorted by time."""
    return f"epoch_{epoch:05d}{f'_step_{steps:07d}' if steps else ''}.weights.h5"


def _files(run_dir: str) -> list[str]:
    return sorted(glob.glob(os.path.join(glob.escape(run_dir), FOLDER, "epoch_*.weights.h5")))
