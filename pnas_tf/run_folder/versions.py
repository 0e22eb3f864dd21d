"""What a run was made with: versions of Python, of every installed package, and the machine, in versions.json."""

import datetime
import json
import os
import platform
from importlib import metadata
from typing import Any

from pnas_tf import __version__, files
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder

FORMAT = "pnas_tf.versions/1"
# Those that a result depends on most, for a line of text.
MAIN = ("pnas_tf", "tensorflow", "keras", "numpy", "ai-edge-litert")


def current() -> dict[str, Any]:
    """Of this process: python, machine and packages, by name."""
    packages = {one.name: one.version for one in metadata.distributions() if one.name}
    return {"python": platform.python_version(), "machine": f"{platform.platform()}, {os.cpu_count()} cores",
            "packages": dict(sorted({**packages, "pnas_tf": __version__}.items()))}


def note(run_dir: str) -> None:
    """Adds what is current to versions.json, if the last start of the run had other versions or there was none.

    Raises:
        InputError: if the file is damaged or cannot be written.
    """
    file_path, now = RunFolder(run_dir).versions, current()
    starts = read(run_dir)
    last = starts[-1] if starts else {}
    if {name: last.get(name) for name in now} == now:
        return
    if last:
        others = changed(last, now)
        print(f"Warning: other versions than at the last start ({', '.join(others[:5])}"
              f"{', ...' if len(others) > 5 else ''}): the result may differ from that of a search in one go.")
    entry = {"date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), **now}
    files.write_text(file_path, json.dumps({"format": FORMAT, "starts": [*starts, entry]}, indent=1) + "\n")


def read(run_dir: str) -> list[dict[str, Any]]:
    """The starts of a run, oldest first; each as `current` gives it, and its date. None for a run without.

    Raises:
        InputError: if versions.json is damaged.
    """
    file_path = RunFolder(run_dir).versions
    if not os.path.exists(file_path):
        return []
    data = files.read_json(file_path)
    starts = data.get("starts") if isinstance(data, dict) else None
    if not isinstance(starts, list) or not all(isinstance(one, dict) and isinstance(one.get("packages"), dict)
                                               for one in starts):
        raise InputError(f"{file_path}: not the versions of a run. Remove it.")
    return starts


def changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two starts, as text: `keras 3.14.0, then 3.15.1`."""
    def flat(start):
        return {"python": start.get("python"), "machine": start.get("machine"), **start["packages"]}

    old, new = flat(before), flat(now)
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return [f"{name} {old.get(name, 'absent')}, now {new.get(name, 'absent')}" for name in names]


def summary(start: dict[str, Any]) -> str:
    """The main versions of a start in a line: `Python 3.11.9, pnas_tf 0.1, tensorflow 2.21.0, ...`."""
    packages = [f"{name} {start['packages'][name]}" for name in MAIN if isinstance(start["packages"].get(name), str)]
    return ", ".join([f"Python {start.get('python')}", *packages])
