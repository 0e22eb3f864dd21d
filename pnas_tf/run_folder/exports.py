"""Which model an exported file was made from, and whether the folder still holds that model."""

import os
from typing import Any

from pnas_tf import files
from pnas_tf.errors import InputError


def origin(model_path: str) -> dict[str, str]:
    """The entry `model` of the facts of an export: name and SHA-256 of the .keras file that it was made from."""
    return {"file": os.path.basename(model_path), "sha256": files.sha256(model_path)}


def is_stale(run_dir: str, facts: dict[str, Any]) -> bool:
    """Whether an export was made from another model than the one that its folder holds now.

    Args:
        run_dir: Folder of the export.
        facts: Facts of the export, from its <mode>.json. Those that name no model, and whose model is gone, cannot
            tell; they count as not stale.

    Raises:
        InputError: If the model cannot be read.
    """
    model = facts.get("model")
    name, digest = (model.get("file"), model.get("sha256")) if isinstance(model, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(digest, str) or name != os.path.basename(name):
        return False
    path = os.path.join(run_dir, name)
    return os.path.isfile(path) and files.sha256(path) != digest


def check_current(run_dir: str, mode: str, facts: dict[str, Any]) -> None:
    """Raises InputError if an export was made from another model than the one that its folder holds now."""
    if is_stale(run_dir, facts):
        raise InputError(f"{mode}.tflite in {run_dir} was made from an earlier {facts['model']['file']}. Export it "
                         f"again: python -m export.tflite --run_dir={run_dir} --mode={mode}")
