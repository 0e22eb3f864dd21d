"""Specs, which name data sets: `cifar10`, `folder:PATH`."""

import os


def is_same(spec: str, other: str) -> bool:
    """Whether two specs name the same data set, however the paths of their files are written."""
    def named(spec: str) -> tuple[str, str]:
        kind, _, argument = spec.partition(":")
        is_path = argument and not kind.startswith("tfds")
        return kind, os.path.realpath(os.path.expanduser(argument)) if is_path else argument

    return named(spec) == named(other)
