"""Who may write a run folder: one process at a time, and runs with the same flags on the same files alone."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping

from pnas_tf import files
from pnas_tf.errors import InputError, shown
from pnas_tf.run_folder import RunFolder
from pnas_tf.run_folder import folder as run_folder

# Flags that change no result: a run may go on with others.
NO_RESULT = frozenset({"flagfile", "run_dir", "checkpoint_minutes", "overwrite"})


@contextlib.contextmanager
def claimed(run_dir: str, flags_text: str, inputs: Mapping[str, str], *, overwrite: bool = False,
            alone: bool = True) -> Iterator[None]:
    """Makes the folder, or checks that it belongs to the same run; keeps others out as long as the block runs.

    Args:
        run_dir: the folder.
        flags_text: from `run_flags.as_text`.
        inputs: what was read from files that flags name, by what it is called in an error: sizes, hashes. A table that
            was measured anew under its old name is another one.
        overwrite: whether to remove the files of a run with other flags, in place of refusing.
        alone: whether this process is the only one to write here; several workers of one search share a folder.

    Raises:
        InputError: if the folder was used with other flags or files, another process has it, or it cannot be written.
    """
    if not run_dir:
        raise InputError("Name a folder for the results: --run_dir=DIR.")
    with locked(run_dir) if alone else contextlib.nullcontext():
        file = RunFolder(run_dir).flags
        changed = _changed_flags(file, flags_text) or _changed_inputs(run_dir, inputs)
        if changed and not overwrite:
            raise InputError(f"{run_dir} holds a run with other flags: {'; '.join(changed[:5])}"
                             f"{f'; and {len(changed) - 5} more' if len(changed) > 5 else ''}. Use another --run_dir, "
                             "the same flags and files to resume, or --overwrite to remove what is there.")
        if changed:
            print(f"Removing the run in {run_dir}: it had other flags ({changed[0]}).")
            _remove_run(run_dir)
        if not os.path.exists(file):
            # Without --overwrite: it is said anew each time that something is to be removed.
            files.write_text(file, "".join(line for line in flags_text.splitlines(keepends=True)
                                          if "overwrite" not in run_folder.parse_flags(line)))
        if not os.path.exists(RunFolder(run_dir).inputs):
            files.write_text(RunFolder(run_dir).inputs, json.dumps(inputs, indent=1) + "\n")
        yield


def _changed_flags(file: str, flags_text: str) -> list[str]:
    if not os.path.exists(file):
        return []
    before, now = run_folder.read_flags(file), run_folder.parse_flags(flags_text)
    return [f"--{name}={before.get(name, '(default)')} then, {now.get(name, '(default)')} now"
            for name in sorted({*before, *now} - NO_RESULT) if before.get(name) != now.get(name)]


def _changed_inputs(run_dir: str, inputs: Mapping[str, str]) -> list[str]:
    file = RunFolder(run_dir).inputs
    before = files.read_json(file) if os.path.exists(file) else dict(inputs)
    if not isinstance(before, dict):
        raise InputError(f"{file}: not the inputs of a run. Remove it.")
    return [f"{name} {shown(before.get(name))} then, {shown(inputs.get(name))} now"
            for name in sorted({*before, *inputs}) if before.get(name) != inputs.get(name)]


@contextlib.contextmanager
def locked(run_dir: str) -> Iterator[None]:
    """Keeps other processes that ask for it out; the system lets go when the process ends, however it does.

    Raises:
        InputError: if another process has the folder, or it cannot be written.
    """
    file_path = RunFolder(run_dir).lock
    try:
        os.makedirs(run_dir, exist_ok=True)
        file = open(file_path, "a+", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{run_dir}: cannot be written ({error.strerror}). Choose another --run_dir.") from None
    with file:
        try:
            if not files.lock(file):
                file.seek(0)
                raise InputError(f"{run_dir} is in use by another process ({file.read(80).strip()}). Wait for it, "
                                 "stop it, or use another --run_dir.")
        except OSError as error:
            print(f"Warning: {run_dir} cannot be locked ({error.strerror}): see that no other process writes there.")
        with contextlib.suppress(OSError):  # on a full disk the lock holds all the same
            file.truncate(0)
            file.write(f"process {os.getpid()} on {os.uname().nodename}")
            file.flush()
        yield


def _remove_run(run_dir: str) -> None:
    """Removes what commands leave in a run folder and in its parts, nothing else; run.flags, which says so, last."""
    folder = RunFolder(run_dir)
    flags_text = files.read_text(folder.flags)
    try:
        parts = [RunFolder(entry.path) for entry in os.scandir(run_dir) if entry.is_dir(follow_symlinks=False)]
        for part in parts:
            if os.path.isfile(part.flags) and files.read_text(part.flags) == flags_text:
                _remove_files(part)
                if not os.listdir(part):
                    os.rmdir(part)
        _remove_files(folder)
    except OSError as error:
        raise InputError(f"{run_dir}: the run in it cannot be removed ({error.strerror}: {error.filename}). "
                         "Use another --run_dir.") from None


def _remove_files(folder: RunFolder) -> None:
    for name in folder.written_folders:
        if os.path.isdir(name):
            shutil.rmtree(name)
    for name in folder.written_files:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
