"""Whether ops can ship: converted to TFLite in float32 and int8, with built-in ops alone, to the same numbers."""

from collections.abc import Iterable

import numpy as np

from export import convert, interpreter
from pnas_tf import extensions, ops
from pnas_tf.errors import InputError


def check(types: Iterable[str]) -> None:
    """Converts examples of op types and runs them.

    Raises:
        InputError: if one has no built-in op in TFLite, or gives other numbers there.
    """
    from pnas_tf import network

    for op in (op for name in types for op in ops.examples(name)):
        for key in extensions.keys(op):
            model = network.build_op(key)
            images = np.random.default_rng(0).standard_normal((8, *key.input)).astype(np.float32)
            expected = np.asarray(model(images, training=False))
            spread = max(float(expected.std()), 1e-6)
            for mode, most in (("float32", 1e-3), ("int8", 0.25)):
                try:
                    content = convert.convert(model, mode, [images], int8_io="float32")
                except InputError as reason:
                    raise InputError(f"Op {key} cannot ship: {reason}") from None
                found = interpreter.run(interpreter.make_interpreter(content), images)
                off = float(np.sqrt(np.mean((found - expected) ** 2))) / spread
                if not off <= most:
                    raise InputError(f"Op {key} cannot ship: as {mode} it is off by {off:.2g} of its output's "
                                     f"deviation, more than {most:g}.")
