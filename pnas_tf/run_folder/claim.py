"""Claims a run folder: one process at a time may write to it, and only a run with the same flags and input files."""

import contextlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from typing import IO, Any

from pnas_tf import files, terminal, workspaces
from pnas_tf.errors import InputError, shown
from pnas_tf.run_folder import RunFolder
from pnas_tf.run_folder import folder as run_folder

# Flags that do not influence the result: a run may resume with other values of these flags.
NO_RESULT = frozenset({"flagfile", "run_dir", "checkpoint_minutes", "overwrite"})


@contextlib.contextmanager
def claimed(run_dir: str, flags_text: str, inputs: Mapping[str, str], *, default_text: str = "",
            overwrite: bool = False, alone: bool = True) -> Iterator[None]:
    """Makes the folder, or checks that it holds the same run. Other processes are kept out while the block runs.

    Args:
        run_dir: Run folder.
        flags_text: Flags of this run, from `start.as_text`.
        inputs: Sizes or hashes of the files that flags name, by the text that names them in error messages. They tell
            two files of the same name apart, such as a latency table and a later version of it.
        default_text: The same flags at their defaults, from `start.default_text`: a run of an earlier version had these
            where it lacks a flag.
        overwrite: Whether to remove the files of a run with other flags; otherwise such a folder is refused.
        alone: Whether this process is the only one to write here. Several workers of one search share a folder.

    Raises:
        InputError: If the folder holds a run with other flags or files, another process uses it, or it cannot be
            written.
    """
    if not run_dir:
        raise InputError("Name a folder for the results: --run_dir=DIR.")
    with locked(run_dir) if alone else contextlib.nullcontext():
        file = RunFolder(run_dir).flags
        changed = _changed_flags(file, flags_text, default_text) or _changed_inputs(run_dir, inputs)
        if changed and not overwrite:
            raise InputError(f"{run_dir} holds a run with other flags or files: {'; '.join(changed[:5])}"
                             f"{f'; and {len(changed) - 5} more' if len(changed) > 5 else ''}. Use another --run_dir, "
                             "or the same flags and files to resume that run, or --overwrite to remove it.")
        if changed:
            terminal.say(f"Removing the run in {run_dir}: it had other flags or files ({changed[0]}).")
            _remove_run(run_dir)
        if not os.path.exists(file):
            # --overwrite is not recorded: the user has to give it each time that a run should be removed.
            files.write_text(file, "".join(line for line in flags_text.splitlines(keepends=True)
                                          if "overwrite" not in run_folder.parse_flags(line)))
        # An earlier version may have recorded less.
        if not os.path.exists(RunFolder(run_dir).inputs) or _recorded_inputs(run_dir) != dict(inputs):
            files.write_text(RunFolder(run_dir).inputs, json.dumps(inputs, indent=1) + "\n")
        yield


def _changed_flags(file: str, flags_text: str, default_text: str) -> list[str]:
    """Differences between run.flags and the flags of this run, each as text; empty if there is no run.flags."""
    if not os.path.exists(file):
        return []
    before, now = run_folder.read_flags(file), run_folder.parse_flags(flags_text)
    defaults = run_folder.parse_flags(default_text)
    return [f"--{name}={before.get(name, '(default)')} then, {now.get(name, '(default)')} now"
            for name in sorted({*before, *now} - NO_RESULT) if before.get(name, defaults.get(name)) != now.get(name)]


def _changed_inputs(run_dir: str, inputs: Mapping[str, str]) -> list[str]:
    """Differences between inputs.json and the inputs of this run, each as text.

    Inputs that an earlier version did not record are no difference.
    """
    before = _recorded_inputs(run_dir)
    return [f"{name} {shown(before[name])} then, {shown(inputs.get(name))} now"
            for name in sorted(before) if before[name] != inputs.get(name)]


def _recorded_inputs(run_dir: str) -> dict[str, Any]:
    """The contents of inputs.json; empty if there is no such file."""
    file = RunFolder(run_dir).inputs
    before = files.read_json(file) if os.path.exists(file) else {}
    if not isinstance(before, dict):
        raise InputError(f"{file}: not the inputs of a run. Remove it.")
    return before


@contextlib.contextmanager
def locked(run_dir: str) -> Iterator[None]:
    """Locks the folder while the block runs: other processes that call this function are refused.

    What killed processes have left half-written is removed. The operating system releases the lock when the process
    ends, even if it is killed.

    Args:
        run_dir: Run folder; it is made if it is missing.

    Raises:
        InputError: If another process has locked the folder, or it cannot be written.
    """
    file_path = RunFolder(run_dir).lock
    try:
        os.makedirs(run_dir, exist_ok=True)
        file = open(file_path, "a+", encoding="utf-8", opener=files.own)  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{run_dir}: cannot be written ({error.strerror or error}). Choose another --run_dir."
                         ) from None
    with file:
        if not workspaces.lock_if_possible(file, run_dir):
            raise InputError(f"{run_dir} is in use by another process{_holder(file)}. Wait until it ends, stop it, or "
                             "use another --run_dir.")
        with contextlib.suppress(OSError):  # the lock also holds if the disk is full and nothing can be written
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}")
            file.flush()
        _remove_left(RunFolder(run_dir))
        yield


def _holder(file: IO[str]) -> str:
    """The process that has locked a file, in brackets; "" where it is unknown, as on Windows, which hides the text."""
    with contextlib.suppress(OSError):
        file.seek(0)
        return f" ({file.read(80).strip()})"
    return ""


def _remove_left(folder: RunFolder) -> None:
    """Removes what killed processes have left in the folder and in those that commands write inside it."""
    workspaces.remove_left(folder.path)
    for written in folder.written_folders:
        for path, _, _ in os.walk(written):
            workspaces.remove_left(path)


def _remove_run(run_dir: str) -> None:
    """Removes the files of a run and of its parts, and no other files.

    run.flags is removed last: as long as it exists, the folder counts as the folder of another run.
    """
    folder = RunFolder(run_dir)
    flags_text = files.read_text(folder.flags, files.MAX_FLAGS_BYTES)
    try:
        parts = [RunFolder(entry.path) for entry in os.scandir(run_dir) if entry.is_dir(follow_symlinks=False)]
        for part in parts:
            if os.path.isfile(part.flags) and files.read_text(part.flags, files.MAX_FLAGS_BYTES) == flags_text:
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
