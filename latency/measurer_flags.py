"""Flags of measurers, made from their settings: one flag for each name, which several measurers may share.

A flag that is not given leaves each measurer its own default, so no flag has a default of its own.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from pnas_tf.errors import InputError

# The flags belong to the command that defines them through this module, which is where --help looks.
flags.disclaim_key_flags()

# Settings by measurer: the dataclass, and the names of those fields that are flags.
Kinds = Mapping[str, tuple[type, Sequence[str]]]


def define(kinds: Kinds) -> None:
    """Defines one flag for each name.

    A flag accepts a value that any of the measurers accepts. If the chosen measurer refuses it, its settings raise the
    error.

    Args:
        kinds: Settings of the measurers of a command.
    """
    for name in dict.fromkeys(name for _, names in kinds.values() for name in names):
        _define(name, {measurer: _fields(settings)[name] for measurer, (settings, names) in kinds.items()
                       if name in names}, len(kinds))


def given(measurer: str, kinds: Kinds) -> dict[str, Any]:
    """Values of the flags that were given, by name.

    Args:
        measurer: Name of the measurer that gets the settings.
        kinds: Settings that the flags were defined from.

    Raises:
        InputError: If a flag was given that the measurer does not have.
    """
    names = kinds[measurer][1]
    values = {name: flags.FLAGS[name].value for _, every_name in kinds.values() for name in every_name
              if flags.FLAGS[name].value is not None}
    for name in values:
        if name not in names:
            raise InputError(f"--{name} is not a setting of --measurer={measurer}, which has --{', --'.join(names)}.")
    return values


def _fields(settings: type) -> dict[str, dataclasses.Field]:
    return {field.name: field for field in dataclasses.fields(settings)}


def _define(name: str, fields: Mapping[str, dataclasses.Field], measurers: int) -> None:
    """Defines the flag of one name from the fields of the measurers that have it."""
    about = [field.metadata for field in fields.values()]
    default, text = next(iter(fields.values())).default, _help(fields, measurers)
    if about[0]["choices"]:
        choices = dict.fromkeys(choice for metadata in about for choice in metadata["choices"])
        flags.DEFINE_enum(name, None, list(choices), text)
    elif isinstance(default, int | float):
        number = flags.DEFINE_integer if isinstance(default, int) else flags.DEFINE_float
        number(name, None, text, min(metadata["low"] for metadata in about),
               max(metadata["high"] for metadata in about))
    elif isinstance(default, tuple):
        flags.DEFINE_list(name, None, text)
    else:
        flags.DEFINE_string(name, None, text)


def _help(fields: Mapping[str, dataclasses.Field], measurers: int) -> str:
    """Meaning and default. Measurers are named if not all have the flag, or if its meaning differs between them."""
    names_by_text: dict[str, list[str]] = {}
    for measurer, field in fields.items():
        names_by_text.setdefault(_explained(field), []).append(measurer)
    if len(names_by_text) == 1 and len(fields) == measurers:
        return next(iter(names_by_text))
    return " ".join(f"{', '.join(names)}: {text}" for text, names in names_by_text.items())


def _explained(field: dataclasses.Field) -> str:
    text, default = field.metadata["help"].rstrip("."), field.default
    if default in (None, "", ()):  # the text says what happens without it
        return f"{text}."
    return f"{text}; default: {default:g}." if isinstance(default, int | float) else f"{text}; default: {default}."
