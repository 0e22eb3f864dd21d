"""Code for apps: Kotlin and Swift that prepare a photo and read its classes as the bundle's run.py does.

The files in `templates` are valid code; `render` replaces the values of their constants.
"""

import json
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from export import inputs, model_ends

KOTLIN, SWIFT = "Classifier.kt", "Classifier.swift"
# Names of the constants in each file, and how its language writes an array and a number in it.
_LANGUAGES = {KOTLIN: (("MODEL", "CENTRAL_PART", "BACKGROUND", "MEAN", "STD", "LUMA", "LOGITS"), "floatArrayOf({})",
                       "{!r}f"),
              SWIFT: (("model", "centralPart", "background", "mean", "std", "luma", "hasLogits"), "[{}]", "{!r}")}


def render(facts: dict[str, Any]) -> dict[str, bytes]:
    """Makes the code for a file.

    Args:
        facts: Facts of the file, as its <mode>.json holds them.

    Returns:
        Contents of the source files by name. None for images that are neither colour nor grey, or several at once; no
        Swift for int8 input, because Swift's interpreter has no such type.
    """
    batch, *_, channels = facts["input"]["shape"]
    if batch != 1 or channels not in (1, 3):
        return {}
    mean, std = (facts["normalisation"][name] for name in ("mean", "std"))
    values = (f"{facts['mode']}.tflite", facts["central_part"], facts["background"], mean, std, inputs.LUMA,
              facts["output_kind"] == model_ends.LOGITS)
    rendered = {}
    for name in (KOTLIN,) if facts["input"]["dtype"] == "int8" else (KOTLIN, SWIFT):
        constants, array, number = _LANGUAGES[name]
        text = resources.files("export.templates").joinpath(name).read_text(encoding="utf-8")
        for constant, value in zip(constants, values, strict=True):
            text = _with_constant(text, constant, _literal(value, array, number))
        rendered[name] = text.encode()
    return rendered


def _literal(value: str | float | Sequence[float], array: str, number: str) -> str:
    """A value as a language writes it."""
    if isinstance(value, str | bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return repr(float(value))
    return array.format(", ".join(number.format(float(item)) for item in value))


def _with_constant(text: str, name: str, literal: str) -> str:
    """Replaces the value in the only line that defines a constant."""
    text, count = re.subn(rf"^(private .*\b{name}\b[^=\n]*= ).*$", lambda line: line[1] + literal, text, flags=re.M)
    if count != 1:
        raise ValueError(f"{name} is defined {count} times.")
    return text
