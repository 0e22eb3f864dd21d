"""A training that diverges stops in one line, keeps what was good before, and no model that answers NaN is written."""

import json
import re

import keras
import numpy as np
import pytest

from pnas_tf.errors import InputError
from pnas_tf.network import build
from pnas_tf.run_folder import RunFolder
from pnas_tf.train import fit as fit_lib
from pnas_tf.train import initial_weights
from pnas_tf.train.recipe import Recipe

SHORT = {"init_weights": "scratch", "teacher": "none", "batch_size": 64, "epochs": 2, "seed": 1}


def spoiled(model):
    """A copy of a model with one weight that is not a number."""
    model = keras.models.clone_model(model)
    kernel = model.get_layer("classifier_classifier_dense")
    kernel.set_weights([np.full_like(value, np.nan) for value in kernel.get_weights()])
    return model


@pytest.mark.parametrize(("changes", "flag"), [
    ({"lr": 1e9}, "--lr"), pytest.param({"weight_decay": 1e30}, "--weight_decay", marks=pytest.mark.slow),
    pytest.param({"lr": 1e9, "ema": 0.9}, "--lr", marks=pytest.mark.slow)])
def test_a_training_that_diverges_leaves_the_model_before_it(small_arch, small_data, tmp_path, changes, flag):
    folder = RunFolder(str(tmp_path))
    (tmp_path / "model.keras").write_bytes(b"a good model")
    (tmp_path / "train.json").write_text("{}")
    with pytest.raises(InputError, match=r"Step \d+ of 14 \(epoch [12]\)|Epoch [12] of 2") as error:
        fit_lib.fit(small_arch, small_data, Recipe(**SHORT, **changes), folder, overwrite=True)
    assert flag in str(error.value) and re.search("is (nan|inf|-inf)", str(error.value))
    assert (tmp_path / "model.keras").read_bytes() == b"a good model" and (tmp_path / "train.json").read_text() == "{}"


def test_the_last_good_epoch_is_kept(small_arch, small_data, tmp_path, monkeypatch):
    """Its weights are those at its end, though the epochs are too short for each to be written."""
    good = {}

    class Spoils(fit_lib.Progress):
        def on_epoch_begin(self, epoch, logs=None):
            super().on_epoch_begin(epoch)
            if epoch == 2:
                good.update({weight.path: weight.numpy() for weight in self.model.weights})
                self.model.get_layer("classifier_classifier_dense").kernel.assign(np.full([32, 4], np.nan))

    monkeypatch.setattr(fit_lib, "Progress", Spoils)
    recipe = Recipe(**{**SHORT, "epochs": 4})
    with pytest.raises(InputError, match=r"Step 15 of 28 \(epoch 3\): the loss is nan.*after epoch 2 is kept"):
        fit_lib.fit(small_arch, small_data, recipe, RunFolder(str(tmp_path)))
    state = json.loads((tmp_path / "training" / "state.json").read_text())
    assert state["epochs_done"] == 2 and len(state["history"]["loss"]) == 2
    model = initial_weights.build(small_arch, "scratch", RunFolder(str(tmp_path))).model
    model.compile("sgd")
    model.load_weights(tmp_path / "training" / "epoch_2.weights.h5", skip_mismatch=False)
    assert len(good) == len(model.weights)
    for weight in model.weights:
        np.testing.assert_array_equal(weight, good[weight.path], err_msg=weight.path)

    monkeypatch.undo()  # the same command goes on from there
    facts = fit_lib.fit(small_arch, small_data, recipe, RunFolder(str(tmp_path)))
    assert len(facts["history"]["loss"]) == 4 and np.isfinite(facts["test_loss"])


def test_an_interrupt_keeps_the_last_complete_epoch(small_arch, small_data, tmp_path, monkeypatch):
    """Although epochs are too short for each to be written."""
    class Interrupts(fit_lib.Progress):
        def on_train_batch_end(self, batch, logs=None):
            if self._epoch == 3 and batch == 2:
                raise KeyboardInterrupt

        def on_epoch_begin(self, epoch, logs=None):
            super().on_epoch_begin(epoch)
            self._epoch = epoch

    monkeypatch.setattr(fit_lib, "Progress", Interrupts)
    recipe = Recipe(**{**SHORT, "epochs": 5, "max_steps": 35})
    with pytest.raises(KeyboardInterrupt):
        fit_lib.fit(small_arch, small_data, recipe, RunFolder(str(tmp_path)))
    assert json.loads((tmp_path / "training" / "state.json").read_text())["epochs_done"] == 3


def test_an_epoch_whose_weights_broke_in_its_last_step_is_not_kept(small_arch, small_data, tmp_path, monkeypatch):
    class Spoils(fit_lib.Progress):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 6:
                self.model.get_layer("classifier_classifier_dense").kernel.assign(np.full([32, 4], np.nan))

    monkeypatch.setattr(fit_lib, "Progress", Spoils)
    with pytest.raises(InputError, match="Epoch 1 of 2: the held-out loss is nan"):
        fit_lib.fit(small_arch, small_data, Recipe(**SHORT), RunFolder(str(tmp_path)))
    assert not (tmp_path / "training" / "state.json").exists() and not (tmp_path / "model.keras").exists()


def test_initial_weights_that_are_not_numbers_are_refused(small_arch, small_model, tmp_path):
    spoiled(small_model).save(tmp_path / "spoiled.keras")
    with pytest.raises(InputError, match=r"spoiled.keras: classifier_classifier_dense holds nan"):
        initial_weights.build(small_arch, str(tmp_path / "spoiled.keras"), RunFolder(str(tmp_path)))


def test_a_model_of_nan_is_not_saved(small_model, tmp_path):
    (tmp_path / "model.keras").write_bytes(b"a good model")
    with pytest.raises(InputError, match=r"model.keras: not written, as classifier_classifier_dense holds nan"):
        build.save_model(spoiled(small_model), str(tmp_path / "model.keras"))
    assert (tmp_path / "model.keras").read_bytes() == b"a good model"
