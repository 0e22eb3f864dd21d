"""versions.json: the Python, the packages and the machine of each start of a run."""

import datetime
import json
import os
import platform
from importlib import metadata
from typing import Any

from pnas_tf import __version__, files, terminal
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder

FORMAT = "pnas_tf.versions/1"
# Packages that a result depends on most; `summary` names them.
MAIN = ("pnas_tf", "tensorflow", "keras", "numpy", "ai-edge-litert")


def current() -> dict[str, Any]:
    """Versions of this process: `python` and `machine` as text, and `packages`, versions of all packages by name."""
    packages = {package.name: package.version for package in metadata.distributions() if package.name}
    return {"python": platform.python_version(), "machine": f"{platform.platform()}, {os.cpu_count()} cores",
            "packages": dict(sorted({**packages, "pnas_tf": __version__}.items()))}


def note(run_dir: str) -> None:
    """Adds an entry to versions.json if this is the first start of the run, or if the last start had other versions.

    Warns in the latter case.

    Args:
        run_dir: Run folder.

    Raises:
        InputError: If versions.json is damaged or cannot be written.
    """
    file_path, now = RunFolder(run_dir).versions, current()
    starts = read(run_dir)
    last = starts[-1] if starts else {}
    if {name: last.get(name) for name in now} == now:
        return
    if last:
        changes = changed(last, now)
        terminal.warn(f"versions have changed since the last start ({', '.join(changes[:5])}"
                      f"{', ...' if len(changes) > 5 else ''}). The result may differ from that of an uninterrupted "
                      "search.")
    entry = {"date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), **now}
    files.write_text(file_path, json.dumps({"format": FORMAT, "starts": [*starts, entry]}, indent=1) + "\n")


def read(run_dir: str) -> list[dict[str, Any]]:
    """Entries of versions.json, oldest first.

    Args:
        run_dir: Run folder.

    Returns:
        Results of `current`, each with its `date`; empty for a run without versions.json.

    Raises:
        InputError: If versions.json is damaged.
    """
    file_path = RunFolder(run_dir).versions
    if not os.path.exists(file_path):
        return []
    data = files.read_json(file_path)
    starts = data.get("starts") if isinstance(data, dict) else None
    if not isinstance(starts, list) or not all(
            isinstance(start, dict) and isinstance(start.get("packages"), dict) for start in starts):
        raise InputError(f"{file_path}: not the versions of a run. Remove it.")
    return starts


def changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Differences between two starts, each as text: `keras 3.14.0, now 3.15.1`."""
    def flat(start):
        return {"python": start.get("python"), "machine": start.get("machine"), **start["packages"]}

    old, new = flat(before), flat(now)
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return [f"{name} {old.get(name, 'absent')}, now {new.get(name, 'absent')}" for name in names]


def summary(start: dict[str, Any]) -> str:
    """The main versions of a start in one line: `Python 3.11.9, pnas_tf 0.1, tensorflow 2.21.0, ...`."""
    packages = [f"{name} {start['packages'][name]}" for name in MAIN if isinstance(start["packages"].get(name), str)]
    return ", ".join([f"Python {start.get('python')}", *packages])
