"""A run folder: where its files are, what its flags were, its metrics as JSON Lines, and files written whole."""

import contextlib
import errno
import json
import math
import os
from collections.abc import Callable
from typing import Any

from pnas_tf import arch
from pnas_tf import space as space_lib
from pnas_tf.errors import InputError

MAX_METRICS_BYTES = 500_000_000
# Of exports: <mode>.tflite, <mode>.json and <mode>.profile.json.
MODES = ("float32", "float16", "dynamic", "int8", "int8_qat")
# How a network of finalists.json was found.
ARG_MAX, MOST_PROBABLE, MOST_MACS, SAMPLE = "arg-max", "most probable within the limits", \
    "most MACs within the limits", "sample"


def path(run_dir: str, *names: str) -> str:
    """A file of the run folder."""
    return os.path.join(run_dir, *names)


def check_there(run_dir: str) -> None:
    """Raises InputError if the folder of a running search is gone, rather than making half of it anew."""
    if not os.path.isdir(run_dir) or not os.listdir(run_dir):  # a mount point is left empty
        raise InputError(f"{run_dir} is gone: deleted, moved or unmounted while the search ran, which ends here. If it "
                         "was moved, give the same command its new --run_dir; it goes on from the last checkpoint.")


def goal_name(target: str, target_ms: float) -> str:
    """Of one goal among several, and of its folder in the run folder.

    Args:
        target: name of the table's target.
        target_ms: wanted milliseconds.
    """
    return f"{target}_{target_ms:g}ms"


def part(run_dir: str, name: str) -> str:
    """The folder of one goal among several, with flags and versions of the whole: a run folder for what follows.

    Raises:
        InputError: if it cannot be written.
    """
    folder = path(run_dir, name)
    for file_name in ("run.flags", "versions.json"):
        if os.path.exists(path(run_dir, file_name)):
            arch.write_text(path(folder, file_name), read_text(path(run_dir, file_name)))
    return folder


def read_metrics(run_dir: str) -> list[dict[str, Any]]:
    """The epochs of a search from metrics.jsonl, in order; of one logged twice the later line counts.

    Raises:
        InputError: if the file cannot be read or a line is not JSON; a half last line is ignored.
    """
    file_path, epochs = path(run_dir, "metrics.jsonl"), {}
    if not os.path.exists(file_path):
        return []
    try:
        if os.path.getsize(file_path) > MAX_METRICS_BYTES:
            raise InputError(f"{file_path}: larger than {MAX_METRICS_BYTES} bytes; this is not one of our files.")
        with open(file_path, "rb") as file:
            lines = file.read().split(b"\n")
    except OSError as error:
        raise InputError(f"{file_path}: cannot be read ({error.strerror}).") from None
    for line_number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line) if line.strip() else {}
        except (ValueError, RecursionError):
            if line_number == len(lines):
                break
            raise InputError(f"{file_path}, line {line_number}: not valid JSON. Remove the line.") from None
        epoch = entry.get("epoch") if isinstance(entry, dict) and entry.get("kind") == "search" else None
        if isinstance(epoch, int) and not isinstance(epoch, bool):
            epochs[epoch] = entry
    return [epochs[epoch] for epoch in sorted(epochs)]


def write_metrics(run_dir: str, lines: list[dict[str, Any]]) -> None:
    """Writes metrics.jsonl anew."""
    arch.write_text(path(run_dir, "metrics.jsonl"), "".join(json.dumps(line) + "\n" for line in lines))


def data_arguments(run_dir: str | None, *, dataset: str | None = None, data_dir: str | None = None, seed: int = 0,
                   trained: bool = False) -> dict[str, Any]:
    """What to call `data.load` with, apart from the image size, to get the data set of a run with the same split.

    Args:
        run_dir: folder of the run, or None.
        dataset: another data set, in place of the run's.
        data_dir: where its files are, in place of the run's.
        seed: of the split, for a data set that the run does not know.
        trained: whether to ask for the data that model.keras was trained on, where that differs from the search's.

    Raises:
        InputError: if neither the run nor the caller names a data set, or the run's record is damaged.
    """
    if dataset:
        return {"spec": dataset, "data_dir": data_dir, "seed": seed, "held_out_size": None}
    if not run_dir:
        raise InputError("A model alone does not say which images belong to it: give --dataset too.")
    record = _trained_data(path(run_dir, "train.json")) if trained else None
    used = record or read_flags(path(run_dir, "run.flags"))
    where = path(run_dir, "train.json" if record else "run.flags")
    spec, numbers = used.get("dataset"), {}
    for name in ("seed", "held_out_size"):
        try:
            numbers[name] = int(used.get(name) or 0)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"{where}: {name} must be a whole number, got {str(used[name])[:40]!r}.") from None
    if not isinstance(spec, str) or not spec:
        raise InputError(f"{where} names no data set: give --dataset.")
    return {"spec": spec, "data_dir": data_dir or used.get("data_dir"), "seed": numbers["seed"],
            "held_out_size": numbers["held_out_size"] or None}


def _trained_data(file_path: str) -> dict[str, Any] | None:
    """What train.json says of its data set, None if there is none or it does not say."""
    facts = space_lib.read_json(file_path) if os.path.exists(file_path) else {}
    found = facts.get("data") if isinstance(facts, dict) else None
    return found if isinstance(found, dict) else None


def keep_arch(run_dir: str, wanted: arch.Arch) -> None:
    """Writes arch.json, which says what model.keras is made of, unless it is there already.

    Raises:
        InputError: if it is there and of another network, whose search would be lost, or cannot be written.
    """
    file = path(run_dir, "arch.json")
    if not os.path.exists(file):
        wanted.save(file)
    elif (found := arch.load(file)).op_keys() != wanted.op_keys():
        raise InputError(f"{file} is of another network ({found.space.name}, {found.space.input_size} px, "
                         f"{found.space.num_classes} classes). Use another --run_dir.")


def save_model(model: Any, file_path: str) -> None:
    """Writes a Keras model as .keras: whole, or not at all.

    Raises:
        InputError: if it cannot be written.
    """
    write_whole(file_path, model.save, ".writing.keras")


def save_weights(model: Any, file_path: str) -> None:
    """Writes the weights of a Keras model as .weights.h5: whole, or not at all.

    Raises:
        InputError: if it cannot be written.
    """
    def write(temporary):
        # HDF5 crashes on a full disk: better to know before.
        needed_bytes = 2**20 + sum(2048 + 4 * math.prod(variable.shape) for variable in model.weights)
        disk = os.statvfs(os.path.dirname(temporary))
        if disk.f_bavail * disk.f_frsize < needed_bytes:
            raise OSError(errno.ENOSPC, f"{needed_bytes:,} bytes are needed")
        model.save_weights(temporary)

    write_whole(file_path, write, ".writing.weights.h5")


def write_whole(file_path: str, write: Callable[[str], None], temporary_name: str) -> None:
    """Has a file written beside its place, and renames it when all of it is on the disk.

    Args:
        file_path: its place.
        write: writes to the path that it is given.
        temporary_name: to write to, in the same folder.

    Raises:
        InputError: if it cannot be written; what stood in its place stays.
    """
    folder = os.path.dirname(os.path.abspath(file_path))
    temporary = path(folder, temporary_name)
    try:
        os.makedirs(folder, exist_ok=True)
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, file_path)
    except (OSError, RuntimeError, ValueError, KeyError) as error:  # libraries say any of them of a full disk
        raise InputError(f"{file_path}: cannot be written ({' '.join(str(error).split())[:150]}). Free space, and the "
                         "same command goes on; or choose another folder.") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def read_flags(path: str) -> dict[str, str]:
    """Flags of an earlier run by name, from its `run.flags`.

    Raises:
        InputError: if the file cannot be read.
    """
    return parse_flags(read_text(path))


def read_text(path: str) -> str:
    """A text file of a run. Raises InputError if it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}). Is this the folder of a search?") from None


def parse_flags(text: str) -> dict[str, str]:
    """Flags by name, from lines such as `--name=value`, `--switch` or `--noswitch`; of one given twice both values."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.strip().removeprefix("--").partition("=")
        if line.startswith("--") and not separator:
            name, value = (name[2:], "false") if name.startswith("no") else (name, "true")
        if line.startswith("--"):
            values[name] = f"{values[name]},{value}" if name in values else value
    return values
