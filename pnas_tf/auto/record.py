"""auto.json: the steps of a run folder that are complete, and how long they took."""

import json
import os
from collections.abc import Mapping
from typing import Any

from pnas_tf import files
from pnas_tf.auto.child import Ended
from pnas_tf.auto.photos import Photos
from pnas_tf.auto.plan import Step
from pnas_tf.files import number
from pnas_tf.run_folder import RunFolder

FORMAT = "pnas_tf.auto/1"


class Record:
    """The record of a run folder.

    A step is complete if the same command has ended well on files with the same contents, and what it wrote is there.
    Whether a step that is not complete may continue in this folder is decided by its own command.
    """

    def __init__(self, folder: RunFolder, photos: Photos):
        """Reads the record, if there is one.

        Args:
            folder: Run folder.
            photos: Pictures, which count by their digest.

        Raises:
            InputError: If the record is damaged.
        """
        self._file, self._photos = folder.auto, photos
        data = files.read_json(self._file) if os.path.exists(self._file) else {}
        steps = data.get("steps") if isinstance(data, dict) and data.get("format") == FORMAT else None
        self._entries: dict[str, dict[str, Any]] = {
            name: entry for name, entry in steps.items() if isinstance(entry, dict)} if isinstance(steps, dict) else {}

    def is_complete(self, step: Step) -> bool:
        """Whether a step is complete."""
        entry = self._entry(step)
        return bool(entry) and entry.get("reads") == self._digests(step) and all(map(os.path.exists, step.writes))

    def is_begun(self, step: Step) -> bool:
        """Whether an earlier start has begun a step and not completed it, even if it was killed."""
        entry = self._entry(step)
        return bool(entry) and entry.get("reads") is None

    def seconds(self, step: Step) -> float:
        """Seconds that a step has taken, over all starts of the same command."""
        return number(self._entry(step).get("seconds")) or 0.0

    def begin(self, step: Step) -> None:
        """Notes that a command begins, for the case that this process is killed.

        Raises:
            InputError: If the record cannot be written.
        """
        if not self._entry(step) and not self._was_complete(step):
            self._entries[step.name] = {"command": step.command, "reads": None}
            self._write(makes_folder=not step.reads)  # what reads nothing refuses nothing

    def add(self, step: Step, ended: Ended) -> None:
        """Notes that a command has ended.

        Raises:
            InputError: If the record cannot be written.
        """
        if self._was_complete(step) and ended.code:
            return  # such as a refusal of other pictures or flags: with the former ones, it is complete
        before = {} if self._was_complete(step) else self._entry(step)
        self._entries[step.name] = {
            "command": step.command, "reads": self._digests(step) if ended.code == 0 else None,
            "estimated_seconds": round(step.seconds, 1),
            "seconds": round((number(before.get("seconds")) or 0.0) + ended.seconds, 1),
            "cpu_seconds": round((number(before.get("cpu_seconds")) or 0.0) + ended.cpu_seconds, 1)}
        self._write()

    def _was_complete(self, step: Step) -> bool:
        """Whether a step has been completed in this folder, by this command or by one with other flags."""
        return self._entries.get(step.name, {}).get("reads") is not None

    def _write(self, makes_folder: bool = False) -> None:
        # A command that refuses its flags makes no folder.
        if makes_folder or os.path.isdir(os.path.dirname(self._file)):
            files.write_text(self._file, json.dumps({"format": FORMAT, "steps": self._entries}, indent=1) + "\n")

    def _entry(self, step: Step) -> dict[str, Any]:
        """The entry of the same command, or {}."""
        entry = self._entries.get(step.name, {})
        return entry if entry.get("command") == step.command else {}

    def _digests(self, step: Step) -> Mapping[str, str | None]:
        """Digest of each file that a step reads; None for one that is missing, such as the name of a shipped table."""
        return {path: self._photos.digest if path == self._photos.path else
                files.sha256(path) if os.path.isfile(path) else None for path in step.reads}
