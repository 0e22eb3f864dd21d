"""Tree networks as `.tflite` in every mode, their ops in a latency table, and their report."""

import dataclasses

import numpy as np
import pytest

from export import convert, graph, interpreter, qat
from latency import build_table
from pnas_tf import network
from pnas_tf.cost import prices
from pnas_tf.report import drawing
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import tree_cells

SMALL = dataclasses.replace(tree_cells.tree_space("small", 1, 88), input_size=8)
IMAGES = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def tree_arch():
    return arch_lib.from_path(SMALL, [number % len(tree_cells.OPS) for number in range(len(SMALL.choices))])


@pytest.fixture(scope="module")
def model(tree_arch):
    return convert.randomise(network.build_network(tree_arch))


@pytest.mark.parametrize("mode, error", [("float32", 1e-5), ("float16", 0.01), ("dynamic", 0.05), ("int8", 0.25)])
def test_a_tree_network_gives_the_same_logits_in_every_mode(model, tmp_path, mode, error):
    content = convert.convert(model, mode, calibration=[IMAGES], int8_io="float32")
    (tmp_path / "model.tflite").write_bytes(content)
    logits = interpreter.run(interpreter.make_interpreter(str(tmp_path / "model.tflite")), IMAGES)
    expected = model(IMAGES).numpy()
    assert np.abs(logits - expected).max() < error * np.abs(expected).max()
    assert set(graph.describe(content).ops) >= {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "PAD", "AVERAGE_POOL_2D",
                                                "MAX_POOL_2D"}


@pytest.mark.slow
def test_a_tree_network_trains_with_quantisation(model, tree_arch):
    """Batch norm without a convolution and sums of four tensors get a range for int8, too."""
    import tf_keras

    quantised = qat.quantise(qat.twin(model, tree_arch))
    quantised.compile(tf_keras.optimizers.SGD(1e-4), tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    quantised.fit(IMAGES, np.arange(16) % 10, epochs=2, batch_size=8, verbose=0)
    content = convert.convert_function(lambda images: quantised(images, training=False), (1, 8, 8, 3), "int8")
    dtypes = graph.describe(content).dtypes
    assert "FLOAT32" not in dtypes and "INT8" in dtypes


def test_twin_of_a_tree_network_computes_the_same(model, tree_arch):
    np.testing.assert_allclose(qat.twin(model, tree_arch)(IMAGES), model(IMAGES), atol=1e-4)


def test_peak_of_activations_is_that_of_the_exported_graph(model):
    """The peak is not that of a single block, because two branches are alive side by side."""
    exported = graph.peak_activation_bytes(graph.describe(convert.to_time(model, "float32")))
    assert network.peak_activation_bytes(model, "float32") == exported


@pytest.mark.slow
def test_every_op_of_a_tree_has_a_row(tmp_path, tree_arch):
    space = dataclasses.replace(SMALL, input_size=4)
    table = build_table.run(space=space, output=str(tmp_path / "t.jsonl"), settings={"rounds": 1, "runs": 1})
    table.check_covers(space)
    assert {key.summed for key in table.rows} == {1, 2, 4}
    assert not any(key.op == "identity" for key in table.rows)
    arch = arch_lib.Arch(space, tree_arch.ops)
    by_hand = sum(row["median_ms"] * sum(key == other for _, other in arch.op_keys())
                  for key, row in table.rows.items())
    assert prices.of_arch(arch, prices.milliseconds(table)) == pytest.approx(by_hand)


def test_layers_tell_place_and_op(model):
    from pnas_tf.report import op_profile

    places = {op_profile.place(f"net/{layer.name}/x") for layer in model.layers[1:]}
    assert {("b01_n2", "sep_k3"), ("b01_left_norm", "bn"), ("b03", "join"), ("b02_out", "expand_k1")} <= places


def test_a_cell_is_one_box_of_the_drawing(tree_arch):
    cells = [box for box in drawing.boxes(tree_arch) if box.kind == "cell"]
    assert [len(cell.parts) for cell in cells] == [12, 12, 12]
    assert "  b01/n3     8x8x18       sep_k5 -> 18            b01/n1\n" in tree_arch.draw()
