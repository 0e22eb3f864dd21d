"""The op language: text to op and back."""

import keras
import pytest

from pnas_tf.errors import InputError
from pnas_tf.network import layers as fast_layers
from pnas_tf.space import ops, spaces


def test_every_op_of_every_space_round_trips():
    for each in spaces.SPACES.values():
        for block in each.all_blocks:
            for op in block.ops:
                assert ops.format_op(*ops.parse(op)) == op


@pytest.mark.parametrize("text", [
    "", "mb", "mb_k5", "mb_e3_k5", "mb_k5_e3_e3", "mb_k05_e3", "mb_k4_e3", "mb_k5_e0", "mb_k5_e99", "MB_k5_e3",
    "mb_k5_e3 ", "mb_k5_e3\n", "nope_k3", "zero_k3", "mb_k\u0665_e3", "mb_k5_e-3", "x" * 101, None, 7])
def test_what_is_not_an_op_is_refused_in_one_line(text):
    with pytest.raises(InputError) as error:
        ops.parse(text)
    assert "\n" not in str(error.value).replace(repr(text), "")


@pytest.mark.parametrize("layers", [keras.layers, fast_layers])
def test_builders_give_the_promised_shape_and_names(layers):
    for op, strides, expected in (("mb_k5_e6", 2, (None, 4, 4, 24)), ("mb_k3_e1", 1, (None, 7, 7, 24)),
                                  ("conv_k3", 2, (None, 4, 4, 24)), ("classifier", 1, (None, 24))):
        inputs = keras.Input((7, 7, 16))
        y = ops.build(op, inputs, layers=layers, name=f"b07_{op}", filters=24, strides=strides, shortcut=False)
        assert tuple(y.shape) == expected
        assert all(layer.name.startswith(f"b07_{op}_") for layer in keras.Model(inputs, y).layers[1:])


def test_zero_cannot_be_built():
    with pytest.raises(ValueError, match="leave its block out"):
        ops.build("zero", None, layers=keras.layers, name="b", filters=8, strides=1, shortcut=True)
