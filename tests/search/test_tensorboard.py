"""The events for TensorBoard, read back with TensorFlow alone, as TensorBoard's plugins read them."""

import io
import json

import pytest
from PIL import Image

from pnas_tf import data as data_lib
from pnas_tf.cost import latency_table
from pnas_tf.cost.goal import goal_for
from pnas_tf.report import drawing
from pnas_tf.run_folder import RunFolder
from pnas_tf.search import schedule
from pnas_tf.search.config import SearchConfig
from pnas_tf.search.problem import Problem
from pnas_tf.search.run import run
from tests.spaces import TINY


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, write_space, small_npz):
    """The folder of a search of a few steps."""
    folder = tmp_path_factory.mktemp("board")
    data = data_lib.load(f"npz:{small_npz}", held_out_size=100)
    space = TINY.fitted_to(data)
    write_space(space, folder / "space.json", folder / "table.jsonl")
    table = latency_table.read(str(folder / "table.jsonl"))
    config = SearchConfig(batch_size=16, bn_recalibration_batches=0)
    problem = Problem(space, data, (goal_for(space, table, 0.0),), (table,),
                      schedule.Schedule(3, 1, 2, 1, 0.05, 0.025), batch_size=16)
    run(problem, config, RunFolder(str(folder)))
    return folder


@pytest.fixture(scope="module")
def events(run_dir):
    """Tensors by (plugin, name), each a list of (epoch, tensor)."""
    import tensorflow as tf

    tensors = {}
    for path in sorted((run_dir / "logs").iterdir()):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                key = (value.metadata.plugin_data.plugin_name, value.tag)
                tensors.setdefault(key, []).append((event.step, tf.make_ndarray(value.tensor)))
    return tensors


def test_scalars_and_probabilities_are_those_of_the_metrics(run_dir, events):
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    for name in ("train_loss", "expected_ms", "entropy"):
        assert [(line["epoch"] + 1, pytest.approx(line[name], rel=1e-6)) for line in lines] == events["scalars", name]
    for choice, row in lines[-1]["probs"].items():
        for op, p in row.items():
            assert events["scalars", f"probs/{choice}/{op}"][-1] == (3, pytest.approx(p, rel=1e-6))


def test_the_architecture_is_a_picture(events):
    pictures = events["images", "architecture"]
    assert 1 <= len(pictures) <= 3 and pictures[0][0] == 1
    for _, (width, height, png) in pictures:
        assert Image.open(io.BytesIO(png)).size == (int(width), int(height)) == drawing.png_size(png)
        assert png.startswith(b"\x89PNG")


def test_the_summary_is_text_with_the_network(run_dir, events):
    texts = events["text", "summary"]
    assert [epoch for epoch, _ in texts] == [1, 2, 3]
    text = texts[-1][1].item().decode()
    assert "| epoch | 3 |" in text and "| phase | search |" in text and "    tiny: " in text
