"""The network that other frameworks train is the one that is trained here."""

import pytest

from benchmarks.speed import supernet_step, training_step
from pnas_tf.errors import InputError
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import spaces


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


def test_supernet_of_other_frameworks_has_the_published_number_of_weights():
    """Of the paper's space, each op once; a path names one op of each block, the only one where there is no choice."""
    task = supernet_step.task(spaces.SPACES["proxyless_imagenet"], batch_size=2, seed=0)
    assert sum(parameters(nodes) for block in task["blocks"] for nodes in block if nodes) == 16_034_168
    assert [len(block) for block in task["blocks"]].count(7) == 15
    for path in task["paths"]:
        assert all(0 <= index < len(block) for index, block in zip(path, task["blocks"], strict=True))
    assert len({tuple(path) for path in task["paths"]}) > 1


def test_other_layers_are_refused():
    import keras

    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.Softmax()(keras.layers.UpSampling2D()(inputs)))
    with pytest.raises(InputError, match="is a UpSampling2D, which is not compared"):
        training_step.described(model)
