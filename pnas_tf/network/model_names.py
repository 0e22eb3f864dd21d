"""Names in .keras files that TensorFlow refuses, such as those with blanks. Keras on JAX and PyTorch takes them."""

import contextlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from typing import Any

from pnas_tf import files, workspaces
from pnas_tf.machine import memory_bytes
from pnas_tf.network import model_size

CONFIG = "config.json"
# Of config.json, 5,000 layers; and of the other entries, weights above all.
MAX_CONFIG_BYTES, MAX_BYTES = 20_000_000, 4_000_000_000
# A scope of TensorFlow begins with a letter, a digit or a dot.
_REFUSED = re.compile(r"[^A-Za-z0-9_.-]")
_REFUSED_BEGIN = re.compile(r"^(?![A-Za-z0-9.])")


@contextlib.contextmanager
def accepted(path: str) -> Iterator[str]:
    """Path of a .keras file with names that TensorFlow accepts: the file itself, or a copy with `_` in place of others.

    Args:
        path: Path of a .keras file, untrusted.

    Raises:
        InputError: If the network does not fit in memory.
        ValueError: If the config of the model is too large.
        OSError, KeyError, zipfile.BadZipFile: If the file is damaged.
    """
    with files.opened(path) as opened, zipfile.ZipFile(opened) as archive:
        if archive.getinfo(CONFIG).file_size > MAX_CONFIG_BYTES:
            raise ValueError(f"{CONFIG} is larger than {MAX_CONFIG_BYTES} bytes")
        if sum(entry.file_size for entry in archive.infolist()) > min(MAX_BYTES, memory_bytes() // 2):
            raise ValueError(f"it unpacks to more than {min(MAX_BYTES, memory_bytes() // 2):,} bytes")
        content = archive.read(CONFIG)
        files.check_values(content, CONFIG)
        config = json.loads(content)
        model_size.check(config, path)
        renamed = _renamed(set(_names(config)))
        if not renamed:
            yield path
            return
        with workspaces.temporary_folder() as folder:
            copy = os.path.join(folder, "model.keras")
            with zipfile.ZipFile(copy, "w") as target:
                for entry in archive.infolist():
                    if entry.filename != CONFIG:
                        with archive.open(entry) as source, target.open(entry.filename, "w", force_zip64=True) as file:
                            shutil.copyfileobj(source, file)
                target.writestr(CONFIG, json.dumps(_replaced(config, renamed)))
            yield copy


def _names(node: Any) -> Iterator[str]:
    """Every name in a config."""
    for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if key == "name" and isinstance(child, str):
            yield child
        yield from _names(child)


def _renamed(names: set[str]) -> dict[str, str]:
    """Accepted names for those that are not, different from all others."""
    renamed: dict[str, str] = {}
    for name in sorted(names):
        plain = _REFUSED_BEGIN.sub("m", _REFUSED.sub("_", name))
        if plain != name:
            while plain in names or plain in renamed.values():
                plain += "_"
            renamed[name] = plain
    return renamed


def _replaced(node: Any, renamed: dict[str, str]) -> Any:
    """A config with other names, wherever a name stands: layers refer to each other by it."""
    if isinstance(node, dict):
        return {key: _replaced(child, renamed) for key, child in node.items()}
    if isinstance(node, list):
        return [_replaced(child, renamed) for child in node]
    return renamed.get(node, node) if isinstance(node, str) else node
