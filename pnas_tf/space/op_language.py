"""The op language: how text such as `mb_k5_e6` is read and built. `ops.py` has the ops themselves.

An op is its type, followed by a letter and a number for each parameter: `mb_k5_e6` is an MBConv with kernel 5 and
expansion 6.
"""

import functools
import re
from collections.abc import Callable, Collection
from typing import Any

from pnas_tf.errors import InputError, shown

_BUILDERS: dict[str, Callable] = {}
_ALLOWED: dict[str, dict[str, Collection[int]]] = {}
# The argument `needs` of `register`, by op type.
_NEEDS: dict[str, Callable[..., str]] = {}


def register(type_name: str, needs: Callable[..., str] | None = None, **allowed: Collection[int]
             ) -> Callable[[Callable], Callable]:
    """Decorator that adds an op type to the language.

    The builder is called as `build(x, layers, name, filters, strides, shortcut, **parameters)` and returns a tensor.
    `layers` is a namespace of Keras layers (`keras.layers`, `tf_keras.layers`, ...): construct every layer from it, in
    the same order on every call, and begin every layer name with `name`.

    Args:
        type_name: First part of the op text, lower-case letters.
        needs: Function `needs(channels, filters, strides, **parameters)` that returns the requirement that these
            shapes violate, or "" if they are allowed. None if the op works on any shapes.
        **allowed: Allowed values of each parameter, whose name is one letter.

    Raises:
        ValueError: If the type name is not lower-case letters or is already registered.
    """
    if not re.fullmatch(r"[a-z]+", type_name):
        raise ValueError(f"An op type is lower-case letters, got {type_name!r}.")
    if type_name in _BUILDERS:
        raise ValueError(f"The op type {type_name!r} is already registered.")

    def add(build: Callable) -> Callable:
        _BUILDERS[type_name] = build
        _ALLOWED[type_name] = allowed
        if needs:
            _NEEDS[type_name] = needs
        return build

    return add


def parse(op: str) -> tuple[str, dict[str, int]]:
    """Splits `mb_k5_e6` into `("mb", {"k": 5, "e": 6})`.

    Raises:
        InputError: If the op is not in the language.
    """
    if not isinstance(op, str) or len(op) > 100:
        raise InputError(f"An op is a short text such as mb_k5_e6, got {shown(op)}.")
    type_name, values = _parse(op)
    return type_name, dict(values)


# Cached, because the largest space has the same few ops in hundreds of blocks. Errors are not cached, so an op type may
# be registered after its text was refused.
@functools.lru_cache(maxsize=1000)
def _parse(op: str) -> tuple[str, dict[str, int]]:
    type_name, *parts = op.split("_")
    if type_name not in _BUILDERS:
        raise InputError(f"Unknown op {op!r}. Known op types: {', '.join(sorted(_BUILDERS))}. "
                         "If a file of yours registers it, name that file: --import=FILE.py.")
    allowed = _ALLOWED[type_name]
    values: dict[str, int] = {}
    for part in parts:
        match = re.fullmatch(r"([a-z])([0-9]{1,4})", part, flags=re.ASCII)
        if not match or match[1] not in allowed or match[1] in values:
            raise InputError(f"Op {op!r}: cannot read {part!r}. {_form(type_name)}")
        values[match[1]] = int(match[2])
        if values[match[1]] not in allowed[match[1]]:
            raise InputError(f"Op {op!r}: {match[1]} may not be {values[match[1]]}. {_form(type_name)}")
    if list(values) != list(allowed) or format_op(type_name, values) != op:
        raise InputError(f"Op {op!r} is incomplete or out of order. {_form(type_name)}")
    return type_name, values


def format_op(type_name: str, values: dict[str, int]) -> str:
    """Text of an op; the inverse of `parse`."""
    return "_".join([type_name, *(f"{letter}{value}" for letter, value in values.items())])


def build(op: str, x: Any, *, layers: Any, name: str, filters: int, strides: int, shortcut: bool) -> Any:
    """Applies an op to a tensor. The residual add belongs to the block and is not part of the op.

    Args:
        op: Op text.
        x: Tensor [batch, height, width, channels].
        layers: Namespace of Keras layers to construct from.
        name: Prefix of the layer names.
        filters: Output channels.
        strides: Stride of the op, 1 or 2.
        shortcut: Whether the block adds its input to the op's output. The op's last batch norm then starts at 0.

    Returns:
        Tensor [batch, ceil(height / strides), ceil(width / strides), filters]; [batch, filters] for a classifier.

    Raises:
        InputError: If the op is unknown.
        ValueError: If the op is `zero`, which has no layers: a block that holds it is skipped.
    """
    type_name, values = parse(op)
    return _BUILDERS[type_name](x, layers, name, filters, strides, shortcut, **values)


def check(op: str, where: str, channels: int, filters: int, strides: int) -> None:
    """Checks that an op can be built for a block's shapes.

    Args:
        op: Op text.
        where: Start of the error message.
        channels: Input channels.
        filters: Output channels.
        strides: Stride, 1 or 2.

    Raises:
        InputError: If the op is unknown or does not work on these shapes.
    """
    if needed := requirement(op, channels, filters, strides):
        raise InputError(f"{where}: {op} needs {needed}, got {channels} channels, {filters} filters and stride "
                         f"{strides}.")


def requirement(op: str, channels: int, filters: int, strides: int) -> str:
    """What an op needs that a block's shapes do not give it, such as `stride 1`; "" if it can be built for them.

    Args:
        op: Op text.
        channels: Input channels.
        filters: Output channels.
        strides: Stride, 1 or 2.

    Raises:
        InputError: If the op is unknown.
    """
    type_name, values = parse(op)
    return _NEEDS[type_name](channels, filters, strides, **values) if type_name in _NEEDS else ""


def module_of(op: str) -> str:
    """Name of the module that registered the type of an op.

    Raises:
        InputError: If the op is not in the language.
    """
    return _BUILDERS[parse(op)[0]].__module__


def types() -> list[str]:
    """All registered op types, sorted."""
    return sorted(_BUILDERS)


def examples(type_name: str) -> list[str]:
    """Op texts of a type with the first and with the last value of every parameter; one text if both are the same."""
    ends = [{letter: list(values)[end] for letter, values in _ALLOWED[type_name].items()} for end in (0, -1)]
    return list(dict.fromkeys(format_op(type_name, values) for values in ends))


def _form(type_name: str) -> str:
    parameters = ", ".join(f"{letter} in {_show(values)}" for letter, values in _ALLOWED[type_name].items())
    form = "_".join([type_name, *(f"{letter}N" for letter in _ALLOWED[type_name])])
    return f"Expected {form}" + (f" with {parameters}." if parameters else ".")


def _show(values: Collection[int]) -> str:
    values = list(values)
    return str(values) if len(values) < 8 else f"[{values[0]}, {values[1]}, ..., {values[-1]}]"
