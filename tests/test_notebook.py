"""docs/quickstart.ipynb runs, and a search from Python is the search of the command."""

import contextlib
import dataclasses
import json
import logging
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import pnas_tf
from pnas_tf import data, network
from pnas_tf.cost import image_size, latency_table
from pnas_tf.errors import InputError
from pnas_tf.notebook import Search
from pnas_tf.space import blocks, spaces

ROOT = Path(__file__).parent.parent
TINY = spaces.mb_space("tiny", input_size=16, input_channels=3, num_classes=4,
                      stem=blocks.Block("stem", ("conv_k3",), 8, 2), first=blocks.Block("b00", ("mb_k3_e1",), 8, 2),
                      stages=(spaces.Stage(8, 2, 1),), mix=16)


LITE0 = spaces.SPACES["lite0"]
# The first blocks of lite0 on small images: quick to build.
SHORT = blocks.Space("short", 32, 3, 1000, LITE0.stem, LITE0.blocks[:5], (LITE0.head[-1],), LITE0.normalisation,
                     LITE0.pretrained).for_data(32, 3, 3)


@pytest.fixture(scope="module")
def table(tmp_path_factory, write_space):
    folder = tmp_path_factory.mktemp("table")
    write_space(TINY, folder / "space.json", folder / "table.jsonl")
    return latency_table.read(str(folder / "table.jsonl"))


def test_the_package_has_them_at_its_top():
    """tests/test_structure.py checks that importing it loads no TensorFlow."""
    assert pnas_tf.Search is Search and pnas_tf.build_network is network.build_network
    assert {"Search", "build_network"} <= set(dir(pnas_tf))
    with pytest.raises(AttributeError, match="'pnas_tf' has no attribute 'search_all'"):
        pnas_tf.search_all  # noqa: B018


def small_search(table, small_data, **kwargs):
    return Search(TINY, table, small_data, warmup_epochs=1, search_epochs=2, arch_every=1, batch_size=64, **kwargs)


class Watch(keras.callbacks.Callback):
    """Keeps the logs of epochs, and counts batches."""

    def __init__(self):
        super().__init__()
        self.epochs, self.batches = [], 0

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append((epoch, sorted(logs)))

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1


@pytest.mark.slow
def test_space_and_table_to_network(table, small_data, tmp_path):
    search, watch = small_search(table, small_data), Watch()
    history = search.fit(callbacks=[watch, keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))])
    steps = small_data.train.steps_per_epoch(64)
    assert watch.batches == 3 * steps and [epoch for epoch, _ in watch.epochs] == [0, 1, 2]
    assert {"train_loss", "train_accuracy"} <= set(watch.epochs[0][1])
    assert "held_out_loss" in watch.epochs[2][1] and len(history.history["train_loss"]) == 3
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4
    arch = search.arch()
    priced = sum(table.ms(block.name, key) for block, key in arch.op_keys())
    assert arch.costs["table_ms"] == pytest.approx(priced) and priced <= search.goal.target_ms * 1.0001
    model = network.build_network(arch)
    assert arch.costs["params"] == network.count_params(model)
    inherited = search.inherited(arch)
    images, _ = next(iter(small_data.test.batches(8)))
    batch = inherited(images, training=True)
    np.testing.assert_allclose(batch, search.searcher.supernet(images, search.searcher.supernet.path(arch)), atol=1e-4)


def test_arrays_and_tf_data_are_searched_like_their_file(table, small_data, small_npz, capsys):
    arrays = np.load(small_npz)
    train, test = ((arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test"))
    pairs = tf.data.Dataset.from_tensor_slices
    data_of_search = small_search(table, (train, pairs(test).batch(32))).data
    assert (data_of_search.mean, data_of_search.image_shape) == (small_data.mean, small_data.image_shape)
    for part in ("train", "held_out", "test"):
        batches = [next(iter(getattr(each, part).batches(500)))[0] for each in (data_of_search, small_data)]
        np.testing.assert_array_equal(*batches)
    assert "architecture steps" in capsys.readouterr().out
    log = logging.getLogger("pnas_tf")
    log.setLevel("ERROR")
    assert small_search(table, train).data.test.size == round(len(train[1]) / 5)
    log.setLevel("INFO")
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_a_callback_stops_a_search_and_fit_goes_on(table, small_data):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.step.value.numpy() == 5:
                raise KeyboardInterrupt

    whole, cut = small_search(table, small_data), small_search(table, small_data)
    whole.fit()
    with pytest.raises(KeyboardInterrupt):
        cut.fit(callbacks=[Stop()])
    assert int(cut.searcher.step.value.numpy()) == 5
    cut.fit()
    np.testing.assert_allclose(cut.searcher.supernet.probs(), whole.searcher.supernet.probs(), atol=1e-6)


@pytest.mark.slow
def test_a_pretrained_space_has_its_teacher_and_says_its_size(tmp_path, write_space, capsys):
    """As for the command: a larger size of the table is the teacher's."""
    folder = tmp_path / "photos"
    for label in range(3):
        (folder / str(label)).mkdir(parents=True)
        for number in range(20):
            keras.utils.save_img(folder / str(label) / f"{number}.png", np.full((32, 32, 3), 40 * label + number),
                                 scale=False)
    for side in (32, 48):
        write_space(dataclasses.replace(SHORT, input_size=side), tmp_path / f"{side}.json", tmp_path / f"{side}.jsonl")
    small, large = ([json.loads(line) for line in (tmp_path / f"{side}.jsonl").read_text().splitlines()]
                    for side in (32, 48))
    slower = [row | {"median_ms": 4 * row["median_ms"]} for row in large[1:] if row["op"] != "classifier"]
    path = tmp_path / "both.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [*small, *slower]))
    target_ms = 0.9 * image_size.whole_ms(SHORT, latency_table.read(str(path)))
    search = Search(SHORT, str(path), f"folder:{folder}", target_ms=target_ms, teacher_epochs=1, warmup_epochs=1,
                    search_epochs=1, front=2)
    said = capsys.readouterr().out
    assert "Images of 32 x 32 pixels suit the target; the table also has larger ones, up to 48." in said
    assert "First the teacher" in said and "as trained on these images" in said
    search.fit()
    assert search.arch().costs["table_ms"] > 0
    quiet = Search(SHORT, str(path), f"folder:{folder}", teacher="none", warmup_epochs=1, search_epochs=1)
    assert "First the teacher" not in capsys.readouterr().out and quiet.problem.plan.epochs == 2


def test_limits_and_misfits_are_one_line(table, small_data):
    with pytest.raises(InputError, match="ask for"):
        small_search(table, small_data, target_ms=1e-6)
    with pytest.raises(InputError, match="params<=1: "):
        small_search(table, small_data, limit=["params<=1"])
    for setting in ({"trials": 2}, {"init_weights": "runs/x"}, {"targets": ("a.jsonl", "b.jsonl")},
                    {"strategy": "mirrored"}, {"stages": "widths,ops"}, {"checkpoint_minutes": 1.0}):
        with pytest.raises(InputError, match=f"{next(iter(setting))} needs a run folder: use python -m pnas_tf.search"):
            small_search(table, small_data, **setting)
    with pytest.raises(InputError, match="no row"):
        Search("quickstart", table, data.load("fashion_mnist_small"))


def cells():
    notebook = json.loads((ROOT / "docs" / "quickstart.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4 and not any(cell.get("outputs") for cell in notebook["cells"])
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_cells(folder, *, changed=()):
    names, code = {}, cells()
    for old, new in changed:
        assert sum(old in cell for cell in code) == 1, old
        code = [cell.replace(old, new) for cell in code]
    with contextlib.chdir(folder):
        for number, cell in enumerate(code):
            exec(compile(cell, f"quickstart.ipynb, cell {number}", "exec"), names)
    return names


@pytest.mark.slow
def test_quickstart_notebook_on_few_images(tmp_path, table, small_npz):
    """Every cell runs, with few images and a small space, within seconds."""
    (tmp_path / "space.json").write_text(json.dumps(TINY.to_json()))
    names = run_cells(tmp_path, changed=[
        ('"fashion_mnist_small"', f'"npz:{small_npz}"'), ('"quickstart"', f'"{tmp_path}/space.json"'),
        ("warmup_epochs=8, search_epochs=6", "warmup_epochs=1, search_epochs=1"),
        ("epochs, steps = 12", "epochs, steps = 1"),
    ])
    assert names["history"].history["train_loss"] and (tmp_path / "runs/notebook/int8.tflite").exists()
    assert [facts["mode"] for facts in names["facts"]] == ["float32", "int8"]


@pytest.mark.slow
def test_quickstart_notebook(tmp_path):
    names = run_cells(tmp_path)
    assert names["accuracy"] >= 0.8
    assert names["arch"].costs["table_ms"] <= names["search"].goal.target_ms * 1.0001


def test_an_unknown_setting_is_named(table, small_data):
    with pytest.raises(InputError, match=r"Search has no setting 'epochs'\. Settings: .*search_epochs"):
        Search(TINY, table, small_data, epochs=3)
