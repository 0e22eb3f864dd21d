"""Counts by shapes alone against Keras' own: every op type, and every op of every space that ships."""

import pytest

from pnas_tf import network
from pnas_tf.cost import goal
from pnas_tf.errors import InputError
from pnas_tf.space import op_language, ops, shape_layers, spaces
from pnas_tf.space.blocks import Block, OpKey, Space
from pnas_tf.supernet import extensions


def keys_of(op):
    """Blocks that an op fits; groups may need more channels than the usual ones."""
    try:
        return extensions.keys(op)
    except InputError:
        return [OpKey(op, (8, 8, 64), 64, 1, False)]


KEYS = {str(key): key for type_name in ops.types() if type_name != ops.ZERO
        for op in ops.examples(type_name) for key in keys_of(op)}


@pytest.mark.parametrize("name", KEYS)
def test_counts_of_every_op_type_are_those_of_keras(name):
    key = KEYS[name]
    counted, model = shape_layers.count(key), network.build_op(key)
    assert (counted.params, counted.macs) == (network.count_params(model), network.count_macs(model))
    assert counted.spatial == sum(max(getattr(layer, "kernel_size", (1,))) > 1 for layer in model.layers)


@pytest.mark.parametrize("name", ["quickstart", "cifar_mb", "cifar_tree_b1_f88"])
def test_counts_of_a_space_are_those_of_keras(name):
    keys = {key for _, key in spaces.load(name).op_keys()}
    for key in keys:
        counted, model = shape_layers.count(key), network.build_op(key)
        assert (counted.params, counted.macs) == (network.count_params(model), network.count_macs(model)), key


def test_an_op_with_other_layers_is_not_counted(monkeypatch):
    for name in ("_BUILDERS", "_ALLOWED", "_NEEDS"):
        monkeypatch.setattr(op_language, name, dict(getattr(op_language, name)))

    @ops.register("odd")
    def _odd(x, layers, name, filters, strides, shortcut):
        return layers.SeparableConv2D(filters, 3, strides=strides, padding="same", name=f"{name}_conv")(x)

    assert shape_layers.count(extensions.keys("odd")[0]) is None


def test_an_op_of_the_users_is_not_counted(monkeypatch):
    """Its layers may be used in any way: with functions of Keras between them, twice, without a scale."""
    for name in ("_BUILDERS", "_ALLOWED", "_NEEDS"):
        monkeypatch.setattr(op_language, name, dict(getattr(op_language, name)))

    @ops.register("bare")
    def _bare(x, layers, name, filters, strides, shortcut):
        x = layers.Conv2D(filters, 1, strides=strides, use_bias=False, name=f"{name}_conv")(x)
        return layers.BatchNormalization(scale=False, center=False, name=f"{name}_bn")(x)

    assert shape_layers.count(extensions.keys("bare")[0]) is None


@pytest.mark.parametrize("first", ["bn", "group_k3_g3", "max_k3", "conv_k3"])
def test_a_space_whose_first_block_depends_on_the_images_is_not_refused(first):
    """Only colour images fit it, and the check has not seen them yet."""
    space = Space("rgb", input_size=8, input_channels=3, num_classes=4,
                  stem=(Block("norm", (first,), 3, shortcut=first == "conv_k3"),),
                  blocks=(Block("b01", ("mb_k3_e3", "mb_k5_e3"), 8),),
                  head=(Block("classifier", ("classifier",), 4),))
    goal.check_limits(space, [])
    goal.check_limits(space, [("params", 1e6), ("macs", 1e9)])
    with pytest.raises(InputError, match="keeps params<=10: they have"):
        goal.check_limits(space, [("params", 10)])
