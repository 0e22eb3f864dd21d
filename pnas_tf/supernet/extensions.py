"""Ops and spaces of the user's own, from Python files named by --import.

A file registers op types (`@ops.register`) and enters spaces (`space.SPACES[...] = ...`). It is code and runs as such:
name only files that you would run. Nothing is ever imported because a run folder or an arch says so.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence

from pnas_tf.errors import InputError
from pnas_tf.space import ops
from pnas_tf.space.blocks import OpKey

# What a new op is tried on: height, width, channels and filters of a block, with and without stride.
_SIDE, _CHANNELS, _FILTERS = 8, 8, 16


def load(paths: Sequence[str]) -> list[str]:
    """Runs the files in order, and tries every op type that they register.

    Args:
        paths: of Python files.

    Returns:
        The new op types.

    Raises:
        InputError: if a file is missing or fails, or an op does not do what a block needs.
    """
    known = set(ops.types())
    for number, path in enumerate(paths):
        _run(path, f"pnas_tf_imported_{number}")
    new = [name for name in ops.types() if name not in known]
    for name in new:
        for op in ops.examples(name):
            for key in keys(op):
                _check(key)
    return new


def keys(op: str) -> list[OpKey]:
    """The blocks that an op is tried in, of those that it fits: with and without a shortcut, stride and more filters.

    Raises:
        InputError: if it fits none.
    """
    side, found = (_SIDE, _SIDE, _CHANNELS), []
    for filters, strides, shortcut in ((_CHANNELS, 1, True), (_FILTERS, 2, False), (_FILTERS, 1, False),
                                       (_CHANNELS, 2, False)):
        try:
            ops.check(op, "", _CHANNELS, filters, strides)
            found.append(OpKey(op, side, filters, strides, shortcut))
        except InputError as error:
            reason = error
    if not found:
        raise reason
    return found


def _run(path, name):
    if not path.endswith(".py") or not os.path.isfile(path):
        raise InputError(f"--import={path[:200]}: no such Python file.")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as an import statement would, so that classes in it can be found
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's code raises
        raise InputError(f"--import={path[:200]}: {type(error).__name__} in line "
                         f"{_last_line_in(error.__traceback__, path) or '?'}: "
                         f"{' '.join(str(error).split())[:200]}") from error


def _last_line_in(traceback, path):
    lines = []
    while traceback:
        if traceback.tb_frame.f_code.co_filename == path:
            lines.append(traceback.tb_lineno)
        traceback = traceback.tb_next
    return lines[-1] if lines else None


def _check(key):
    """That an op gives the shape its block promises, names its layers, and runs in the supernet as in a network."""
    import keras
    import numpy as np

    from pnas_tf import network
    from pnas_tf.supernet.candidate import Candidate

    try:
        candidate = Candidate(key, key.op)
        named = candidate.layer_names
        if not all(name.startswith(key.op) for name in named):
            raise InputError(f"Op {key}: prefix the names of its layers with `name`, got "
                             f"{next(name for name in named if not name.startswith(key.op))[:60]}.")
        # Without the residual add, which is the block's.
        bare = OpKey(key.op, key.input, key.filters, key.strides, False)
        model = network.build_op(bare, layers=keras.layers)
        for name, weights in candidate.layer_weights().items():
            model.get_layer(name).set_weights(weights)
        images = np.random.default_rng(0).standard_normal((4, *key.input)).astype(np.float32)
        mine, plain = np.asarray(candidate.run(images)), np.asarray(model(images, training=True))
    except InputError:
        raise
    except Exception as error:  # whatever the user's builder raises
        raise InputError(f"Op {key}: cannot be built ({type(error).__name__}: {' '.join(str(error).split())[:200]}). "
                         "Build every layer from `layers`, in the same order each time.") from error
    expected = (4, *(-(-side // key.strides) for side in key.input[:2]), key.filters)
    if plain.shape != expected:
        raise InputError(f"Op {key}: gives {plain.shape[1:]}, but its block promises {expected[1:]}.")
    if not np.allclose(mine, plain, atol=1e-3):
        raise InputError(f"Op {key}: gives other numbers in the supernet than alone, by up to "
                         f"{np.abs(mine - plain).max():.2g}. Only layers of `layers` may compute.")
