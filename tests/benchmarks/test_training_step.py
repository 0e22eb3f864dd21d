"""The network that other frameworks train is the one that is trained here."""

import pytest

from benchmarks.speed import training_step
from pnas_tf.errors import InputError
from pnas_tf.space import arch as arch_lib


def parameters(nodes):
    """Trainable parameters by the formulas of the layers, which do not ask Keras."""
    count = 0
    for node in nodes:
        if node["kind"] == "conv":
            count += node["kernel"] ** 2 * node["channels"] // node["groups"] * node["filters"]
        elif node["kind"] == "batch_norm":
            count += 2 * node["channels"]
        elif node["kind"] == "dense":
            count += (node["channels"] + 1) * node["filters"]
    return count


@pytest.mark.parametrize(("name", "count"), [("proxyless_mobile", 4_080_512), ("efficientnet_lite0", 4_652_008)])
def test_described_layers_are_those_of_the_published_network(name, count):
    arch = arch_lib.load(name)
    nodes = training_step.described(training_step.build(arch, "keras"))
    assert parameters(nodes) == count
    known = {"input"}
    for node in nodes:
        assert set(node["inputs"]) <= known and len(node["inputs"]) == (2 if node["kind"] == "add" else 1)
        known.add(node["name"])
    assert nodes[-1]["kind"] == "dense"


def test_other_layers_are_refused():
    import keras

    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Softmax()(keras.layers.UpSampling2D()(inputs)))
    with pytest.raises(InputError, match="is a UpSampling2D, which is not compared"):
        training_step.described(model)
