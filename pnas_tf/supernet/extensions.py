"""The user's own ops and spaces, from Python files named by --import.

A file registers op types (`@ops.register`) and adds spaces (`spaces.SPACES[...] = ...`). It is code and is executed:
name only files that you would run. Nothing is ever imported because a run folder or an arch says so.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence

from pnas_tf.errors import InputError
from pnas_tf.space import ops
from pnas_tf.space.blocks import OpKey

# Blocks in which a new op is tested: height and width, channels of the input, and filters of the wider blocks.
_SIDE, _CHANNELS, _FILTERS = 8, 8, 16
# Beginning of the names under which the files are modules.
MODULE = "pnas_tf_imported_"


def load(paths: Sequence[str]) -> list[str]:
    """Runs the files in order, and tests every op type that they register.

    Args:
        paths: Paths of Python files.

    Returns:
        Names of the new op types.

    Raises:
        InputError: If a file is missing or fails, or an op does not work in the test blocks.
    """
    before = set(ops.types())
    for number, path in enumerate(paths):
        _run(path, f"{MODULE}{number}")
    new = [name for name in ops.types() if name not in before]
    for name in new:
        for op in ops.examples(name):
            for key in keys(op):
                _check(key)
    return new


def loaded() -> list[str]:
    """Paths of the files that `load` has run, in order."""
    return [str(module.__file__) for name, module in sys.modules.items() if name.startswith(MODULE)]


def keys(op: str) -> list[OpKey]:
    """Blocks in which an op is tested: those that it fits, of four with and without shortcut, stride and more filters.

    Args:
        op: Name of the op.

    Raises:
        InputError: If the op fits none of the four.
    """
    input_shape, fitting = (_SIDE, _SIDE, _CHANNELS), []
    for filters, strides, shortcut in ((_CHANNELS, 1, True), (_FILTERS, 2, False), (_FILTERS, 1, False),
                                       (_CHANNELS, 2, False)):
        try:
            ops.check(op, "", _CHANNELS, filters, strides)
            fitting.append(OpKey(op, input_shape, filters, strides, shortcut))
        except InputError as error:
            reason = error
    if not fitting:
        raise reason
    return fitting


def _run(path, name):
    if not path.endswith(".py") or not os.path.isfile(path):
        raise InputError(f"--import={path[:200]}: no such Python file.")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as an import statement does, so that the module's classes can be found by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
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
    """Raises InputError unless an op has its block's output shape, names its layers, and runs alike in the supernet."""
    import keras
    import numpy as np

    from pnas_tf import network
    from pnas_tf.supernet.candidate import Candidate

    try:
        candidate = Candidate(key, key.op)
        misnamed = next((name for name in candidate.layer_names if not name.startswith(key.op)), None)
        if misnamed is not None:
            raise InputError(f"Op {key}: the names of its layers must begin with `name`, got {misnamed[:60]}.")
        # Without the residual add, which belongs to the block.
        bare = OpKey(key.op, key.input, key.filters, key.strides, False)
        model = network.build_op(bare, layers=keras.layers)
        for name, weights in candidate.layer_weights().items():
            model.get_layer(name).set_weights(weights)
        images = np.random.default_rng(0).standard_normal((4, *key.input)).astype(np.float32)
        in_supernet, alone = np.asarray(candidate.run(images)), np.asarray(model(images, training=True))
    except InputError:
        raise
    except Exception as error:  # the user's builder may raise anything
        raise InputError(f"Op {key}: cannot be built ({type(error).__name__}: {' '.join(str(error).split())[:200]}). "
                         "Build every layer from `layers`, in the same order each time.") from error
    expected = (4, *(-(-side // key.strides) for side in key.input[:2]), key.filters)
    if alone.shape != expected:
        raise InputError(f"Op {key}: returns shape {alone.shape[1:]}, but its block needs {expected[1:]}.")
    if not np.allclose(in_supernet, alone, atol=1e-3):
        raise InputError(f"Op {key}: its output in the supernet differs from the output of the op alone by up "
                         f"to {np.abs(in_supernet - alone).max():.2g}. Compute only with layers of `layers`.")
