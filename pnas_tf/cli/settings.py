"""Settings as values: the fields of a frozen dataclass are flags, and each default, bound and meaning is stated once.

    @dataclasses.dataclass(frozen=True)
    class SearchConfig:
        batch_size: int = setting(256, "Images per step.", low=1)

        __post_init__ = check

    define(SearchConfig)         # one flag for each field
    config = read(SearchConfig)  # once flags are parsed

A program makes such a value with `SearchConfig(batch_size=64)`, and the same checks apply. This module does not import
TensorFlow, so that --help is quick.
"""

import dataclasses
import functools
import math
import numbers
import types
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

from absl import flags

from pnas_tf.errors import InputError, shown

# Keras policies that layers can compute in.
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

# Values that count as one of a field's type: those of NumPy, too.
KINDS: dict[type, Any] = {int: numbers.Integral, float: numbers.Real, tuple: (tuple, list)}

Config = TypeVar("Config")


def setting(default: Any, help: str, *, low: float | None = None, high: float | None = None,
            choices: Sequence[str] | None = None, repeated: bool = False) -> Any:
    """A field of a settings dataclass.

    Args:
        default: Value if none is given.
        help: Meaning of the setting, as --help shows it.
        low: Least value of a number.
        high: Largest value of a number.
        choices: Allowed texts.
        repeated: Whether the flag of a `tuple[str, ...]` is given once for each text; otherwise commas separate the
            texts.
    """
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices,
                                                        "repeated": repeated})


def define(settings: type, *, without: Sequence[str] = ()) -> None:
    """Defines one flag for each field.

    Args:
        settings: Dataclass whose fields come from `setting`.
        without: Fields that get no flag.
    """
    for field in dataclasses.fields(settings):
        if field.name not in without:
            _define(field, _kinds(settings)[field.name])


def _define(field: dataclasses.Field, kind: Any) -> None:
    name, about = field.name, field.metadata
    default: Any = field.default
    if about["choices"]:
        flags.DEFINE_enum(name, default, list(about["choices"]), about["help"])
    elif kind is bool:
        flags.DEFINE_bool(name, default, about["help"])
    elif kind in (int, float):
        number = flags.DEFINE_integer if kind is int else flags.DEFINE_float
        number(name, default, about["help"], about["low"], about["high"])
    elif kind is str:
        flags.DEFINE_string(name, default, about["help"])
    elif about["repeated"]:
        flags.DEFINE_multi_string(name, list(default), about["help"])
    else:
        flags.DEFINE_list(name, list(default), about["help"])


def read(settings: type[Config], **given: Any) -> Config:
    """A settings value from the parsed flags.

    Args:
        settings: Dataclass whose flags `define` has made.
        **given: Values of fields that do not come from flags.

    Raises:
        InputError: If a value is out of bounds.
    """
    values = {}
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        if field.name in flags.FLAGS and field.name not in given:
            value = flags.FLAGS[field.name].value
            values[field.name] = tuple(value) if isinstance(value, list) else value
    return settings(**values, **given)


def check(value: Any) -> None:
    """Raises InputError if a field of a settings value is out of bounds or not one of its choices.

    Serves as `__post_init__`, so that values made by a program pass the same checks as flags.
    """
    for field in dataclasses.fields(value):
        about, own = field.metadata, getattr(value, field.name)
        if not about or own is None:
            continue
        low, high, choices = about["low"], about["high"], about["choices"]
        kind = _kinds(type(value))[field.name]  # type: ignore[arg-type]
        if not isinstance(own, KINDS.get(kind, kind)):
            raise InputError(f"{field.name} must be of type {kind.__name__}, got {shown(own)}.")
        if choices and own not in choices:
            raise InputError(f"{field.name} must be one of {', '.join(choices)}, got {shown(own)}.")
        if kind is float and not math.isfinite(own):
            raise InputError(f"{field.name} must be a finite number, got {own}.")
        if (low is not None and own < low) or (high is not None and own > high):
            bounds = f"at least {low:g}" if high is None else f"from {low:g} to {high:g}"
            raise InputError(f"{field.name} must be {bounds}, got {shown(own)}.")


def differing(value: Any, settings: type) -> list[str]:
    """Flags for the fields of a settings value that differ from their defaults.

    Args:
        value: Settings value.
        settings: Dataclass with the fields that count, a base of the value's own.
    """
    return [f"--{field.name}={getattr(value, field.name)}" for field in dataclasses.fields(settings)
            if getattr(value, field.name) != field.default]


@functools.cache  # resolving annotations takes longer than all checks of a value
def _kinds(settings: type) -> dict[str, Any]:
    """The types of all fields by name, without `| None`; `tuple` for tuples of any content."""
    kinds = {}
    for name, annotation in typing.get_type_hints(settings).items():
        if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
            annotation = next(kind for kind in typing.get_args(annotation) if kind is not type(None))
        kinds[name] = typing.get_origin(annotation) or annotation
    return kinds


@dataclasses.dataclass(frozen=True)
class ImageSettings:
    """Settings of images that search and training share: broken files, small classes, crops, cutout."""

    broken_images: str = setting("skip", "Image files that cannot be read: left out and named, or an error.",
                                 choices=("skip", "refuse"))
    class_weights: str = setting("none", "Weight of an image in the loss: none gives every image 1; balanced gives "
                                 "every class the same total.", choices=("none", "balanced"))
    crop_area: float = setting(0.0, "Smallest share of an image file's area that a random crop covers; 0: the paper's "
                               "0.08, or 0.35 from pretrained weights on fewer than 10,000 images.", low=0, high=1)
    cutout: int = setting(0, "Side in pixels of a square of each training image that is set to the mean; 0: none. The "
                          "paper uses 16 for CIFAR-10.", low=0, high=8192)

    def __post_init__(self):
        check(self)
