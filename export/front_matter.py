"""Front matter of model cards: the YAML by which model hubs, such as Hugging Face's, list and filter a network."""

import json
import posixpath
import re
from collections.abc import Sequence
from typing import Any

from pnas_tf.errors import printable

# Licences by the names that hubs give them: those of SPDX, in small letters.
LICENSES = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
            "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "unlicense")
NO_LICENSE = "not named"
# Kinds of data sets by the names that hubs give them.
_DATASETS = {"folder": "imagefolder", "fashion_mnist_small": "fashion_mnist"}


def render(exports: Sequence[dict[str, Any]]) -> list[str]:
    """Makes the lines of the front matter.

    Args:
        exports: Facts of each file that the card is about, all of one network, the recommended one first.

    Returns:
        Lines, the first and last of which are `---`.
    """
    first = exports[0]
    kind, _, argument = first["dataset"].partition(":")
    # Cards are published, and folders may be private: a path gives its last part alone.
    dataset = posixpath.basename(argument.rstrip("/")) or kind
    lines = ["---", "library_name: litert", "pipeline_tag: image-classification", "tags:", "- tflite",
             *_license(first["license"]), "metrics:", "- accuracy", "model-index:", f"- name: {_text(first['name'])}",
             "  results:"]
    lines += ["  - task:", "      type: image-classification", "    dataset:", f"      name: {_text(dataset)}",
              f"      type: {_text(_DATASETS.get(kind, argument if kind == 'tfds' else kind))}", "      split: test",
              "    metrics:"]
    for facts in exports:
        name = f"top-1 of {facts['mode']}.tflite on {facts['checked_images']} images"
        lines += ["    - type: accuracy", f"      value: {facts['top1']:.4f}", f"      name: {_text(name)}"]
    return [*lines, "---"]


def _license(text: str) -> list[str]:
    name = text.strip().lower().replace(" ", "-")
    if name in LICENSES:
        return [f"license: {name}"]
    if name == NO_LICENSE.replace(" ", "-"):
        return []
    return ["license: other", f"license_name: {_text(re.sub('[^a-z0-9.]+', '-', name).strip('-')[:100] or 'other')}"]


def _text(value: str) -> str:
    """Text as YAML: a string of JSON is one, if all of its characters are printable."""
    return json.dumps(printable(value, 200), ensure_ascii=False)
