"""Keras' settings of the process: TensorFlow, channels last, float32, and no limits on epochs.

Keras takes them from its file (`~/.keras/keras.json`) and from KERAS_* variables, which may have been set for another
project. With other values, networks are built wrong or not at all, or are trained for fewer epochs.
"""

import keras

from pnas_tf.errors import InputError, printable

_VARIABLES = ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH")


def pin() -> None:
    """Sets what this package needs, for a process of its own, in which Keras has just been imported.

    Raises:
        InputError: As `check` does.
    """
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    check()


def check() -> None:
    """Checks the settings of a process that may also be used for something else.

    Raises:
        InputError: If a setting is wrong; the message says how to change it.
    """
    for name, value in (("backend", "tensorflow"), ("image_data_format", "channels_last"), ("floatx", "float32")):
        current = getattr(keras.config, name)()
        if current != value:
            way_out = "import pnas_tf before keras, or set KERAS_BACKEND=tensorflow" if name == "backend" else \
                f'call keras.config.set_{name}("{value}") first, or correct Keras\' file keras.json'
            raise InputError(f"Keras' {name} must be {value} here, got {printable(current, 40)}: {way_out}.")
    for variable in _VARIABLES:
        name = variable.removeprefix("KERAS_").lower()
        limit = getattr(keras.config, name, lambda: None)()
        if limit is not None:
            raise InputError(f"Keras is limited to {limit} {name.removeprefix('max_').replace('_', ' ')} by {variable} "
                             f"or keras.config.set_{name}(), so trainings would end early: unset it.")
