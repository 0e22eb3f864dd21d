"""Settings of the recipe beyond the paper's: averaged weights, mixed images, RandAugment; against NumPy."""

import dataclasses
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnas_tf import data
from pnas_tf.data import mixing
from pnas_tf.data.parts import Changes
from pnas_tf.data.rand_augment import RandAugment
from pnas_tf.errors import InputError
from pnas_tf.network.criterion import Teacher
from pnas_tf.network.evaluate import cross_entropy
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import spaces
from pnas_tf.space.arch import Arch
from pnas_tf.train import fit as fit_lib
from pnas_tf.train.recipe import Recipe
from pnas_tf.train.state import TrainingState
from pnas_tf.train.student import Distillation

QUICK = {"epochs": 2, "batch_size": 64, "lr": 0.1, "max_steps": 14}
EVERYTHING = {"ema": 0.8, "mixup": 0.4, "cutmix": 1.0, "randaugment": 0.4, "dropout": 0.1, "class_weights": "balanced"}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_of_a_mixed_label_is_the_mean_of_its_losses(smoothing, weighted):
    rng = np.random.default_rng(0)
    logits, pair = rng.normal(size=(8, 5)).astype(np.float32), rng.integers(0, 5, (2, 8)).astype(np.int32)
    share, weights = rng.random(8).astype(np.float32), rng.uniform(0.2, 3, 5).astype(np.float32)
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    losses = [-(1 - smoothing) * log_probs[np.arange(8), labels] - smoothing * log_probs.mean(1) for labels in pair]
    if weighted:
        losses = [loss * weights[labels] for loss, labels in zip(losses, pair, strict=True)]
    mixed = share[:, None] * np.eye(5)[pair[0]] + (1 - share[:, None]) * np.eye(5)[pair[1]]
    loss = fit_lib.smoothed_loss(smoothing, weights if weighted else None)
    np.testing.assert_allclose(loss(tf.constant(mixed, tf.float32), logits),
                               np.mean(share * losses[0] + (1 - share) * losses[1]), rtol=1e-5)
    np.testing.assert_allclose(loss(pair[0], logits), np.mean(losses[0]), rtol=1e-5)
    np.testing.assert_allclose(cross_entropy(tf.one_hot(pair[0], 5), logits), cross_entropy(pair[0], logits), rtol=1e-5)


@pytest.mark.parametrize("mix", [mixing.mix_up, mixing.cut_mix])
@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_labels_are_mixed_as_the_pixels_are(mix, alpha):
    """The pixels of an image are its label, so that their mean is the mixed label."""
    labels = np.eye(6, dtype=np.float32)[np.random.default_rng(0).integers(0, 6, 500)]
    images = np.broadcast_to(labels[:, None, None], (500, 12, 10, 6)).astype(np.float32)
    mixed, shares = mix(tf.constant(images), tf.constant(labels), tf.constant([1, 2]), alpha)
    np.testing.assert_allclose(mixed.numpy().mean((1, 2)), shares, atol=1e-5)
    np.testing.assert_allclose(np.sum(shares, 1), 1, atol=1e-6)
    assert len(np.unique(np.round(shares, 3))) > 20  # each image has a share of its own
    if mix is mixing.cut_mix:
        assert set(np.unique(mixed)) == {0.0, 1.0}


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_beta_has_the_moments_of_its_definition(alpha):
    draws = mixing.beta(tf.constant(20_000), tf.constant([1, 2]), alpha).numpy()
    assert 0 <= draws.min() < draws.max() <= 1
    assert draws.mean() == pytest.approx(0.5, abs=0.01)
    assert draws.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_mixed_batches_depend_on_the_step_alone(small_data):
    def batches(skip):
        plain = small_data.train.batches(32, augment=True, changes=Changes(randaugment=0.5), seed=5, skip_steps=skip)
        return mixing.mixed(plain, 4, mixup=0.4, cutmix=1.0, seed=5, skip_steps=skip)

    steps = list(batches(0).take(12))
    for later, again in zip(steps[4:], batches(4).take(8), strict=True):
        np.testing.assert_array_equal(later[0], again[0])
        np.testing.assert_array_equal(later[1], again[1])
    plain = small_data.train.batches(32, augment=True, seed=5)
    assert mixing.mixed(plain, 4, mixup=0, cutmix=0, seed=5) is plain


@pytest.mark.parametrize("grey", [False, True])
def test_randaugment_changes_each_image_by_its_own_seed(grey):
    rng = np.random.default_rng(0)
    image = np.repeat(rng.integers(0, 256, (1, 24, 20, 1 if grey else 3)).astype(np.uint8), 60, 0)
    strong = RandAugment(1.0, grey=grey)
    batch = strong.batch(tf.constant(image), tf.constant([1, 2]), tf.range(60), 60).numpy()
    assert batch.dtype == np.float32 and batch.shape == image.shape and batch.min() >= 0 and batch.max() <= 255
    assert len(np.unique(batch.reshape(60, -1), axis=0)) > 50
    part = strong.batch(tf.constant(image[:20]), tf.constant([1, 2]), tf.range(30, 50), 60)
    np.testing.assert_array_equal(part, batch[30:50])  # whatever other images are present
    weak = RandAugment(0.01, grey=grey).batch(tf.constant(image), tf.constant([1, 2]), tf.range(60), 60)
    assert np.median(np.abs(weak - image).mean((1, 2, 3))) < 0.5 * np.median(np.abs(batch - image).mean((1, 2, 3)))


def test_randaugment_of_files_goes_on_at_any_step(tmp_path):
    rng = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(10):
            keras.utils.save_img(tmp_path / label / f"{number}.png", rng.integers(0, 256, (40, 40, 3)), scale=False)
    part = data.load(f"folder:{tmp_path}", image_size=32).train
    plain, first, again = (list(part.batches(8, augment=True, changes=Changes(randaugment=strength), seed=3,
                                             skip_steps=skip).take(3))
                           for strength, skip in ((0.0, 0), (0.5, 0), (0.5, 2)))
    np.testing.assert_array_equal(first[2][0], again[0][0])
    np.testing.assert_array_equal(first[0][1], plain[0][1])
    assert np.any(first[0][0] != plain[0][0])


class Weights(keras.callbacks.Callback):
    """Remembers the weights after each step."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append([variable.numpy() for variable in self.model.trainable_variables])


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_ema_is_the_average_of_the_weights(small_arch, small_data, tmp_path, precision):
    keras.utils.set_random_seed(0)
    model = fit_lib.initial_weights.build(small_arch, "scratch", RunFolder(str(tmp_path)), precision=precision).model
    fit_lib._compile(model, Recipe(ema=0.7, lr=0.05, precision=precision), 10, None)
    weights = Weights()
    history = model.fit(small_data.train.batches(32, seed=0), steps_per_epoch=5, epochs=2, verbose=0,
                        validation_data=small_data.held_out.batches(64),
                        callbacks=[weights, keras.callbacks.SwapEMAWeights()]).history
    averages = weights.steps[0]
    for step in weights.steps[1:]:
        averages = [0.7 * average + 0.3 * weight for average, weight in zip(averages, step, strict=True)]
    for variable, average in zip(model.trainable_variables, averages, strict=True):
        np.testing.assert_allclose(variable, average, atol=1e-5)
    loss, _ = model.evaluate(small_data.held_out.batches(64), verbose=0)
    assert loss == pytest.approx(history["val_loss"][-1], rel=1e-4)


def test_statistics_are_those_of_the_averages(small_arch, small_data, tmp_path):
    """Batch norm had seen the outputs of the raw weights, which move far at this rate."""
    recipe = Recipe(epochs=1, batch_size=32, lr=0.5, ema=0.9)
    fit_lib.fit(small_arch, small_data, recipe, RunFolder(str(tmp_path)))
    model = keras.models.load_model(tmp_path / "model.keras")
    first = next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    inputs = keras.Model(model.input, first.input)
    images = np.concatenate([images for images, _ in small_data.train.batches(64)])
    np.testing.assert_allclose(first.moving_mean, inputs(images).numpy().mean((0, 1, 2)), atol=0.03)


def test_frozen_batch_norm_needs_trained_weights(small_arch, small_data, tmp_path):
    """A block with a shortcut starts at a scale of 0, which would stay."""
    with pytest.raises(InputError, match="--batch_norm=frozen needs trained weights"):
        Recipe(batch_norm="frozen").settled(small_arch, small_data.train.size, RunFolder(str(tmp_path)))


@pytest.mark.slow
def test_interrupted_training_with_everything_ends_as_the_whole_one(small_arch, small_data, tmp_path, monkeypatch):
    recipe = Recipe(**{**QUICK, "epochs": 3, "max_steps": 21}, **EVERYTHING)
    whole = fit_lib.fit(small_arch, small_data, recipe, RunFolder(str(tmp_path / "whole")))
    real = TrainingState.on_epoch_end

    def stop_after_an_epoch(self, epoch, logs=None):
        real(self, epoch, logs)
        raise KeyboardInterrupt

    for _ in range(3):  # the third time, all epochs are done, but nothing of the results is written
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(TrainingState, "on_epoch_end", stop_after_an_epoch)
            fit_lib.fit(small_arch, small_data, recipe, RunFolder(str(tmp_path / "part")))
    part = fit_lib.fit(small_arch, small_data, recipe, RunFolder(str(tmp_path / "part")))
    for name, values in whole["history"].items():
        np.testing.assert_allclose(part["history"][name], values, rtol=1e-5, err_msg=name)
    assert part["test_loss"] == pytest.approx(whole["test_loss"], rel=1e-5)
    mine, theirs = (keras.models.load_model(tmp_path / name / "model.keras").get_weights()
                    for name in ("part", "whole"))
    for here, there in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(here, there, atol=1e-6)


def test_epochs_are_lines_and_events(small_arch, small_data, tmp_path, capsys):
    facts = fit_lib.fit(small_arch, small_data, Recipe(**QUICK), RunFolder(str(tmp_path)))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["Compiling the first step.", "epoch 1/2", "epoch 2/2"]
    for run, name in (("train", "loss"), ("validation", "val_loss")):
        file, = (tmp_path / "logs" / "train" / run).iterdir()
        events = [(event.step, tf.make_ndarray(value.tensor)) for event in
                  tf.compat.v1.train.summary_iterator(str(file)) for value in event.summary.value
                  if value.tag == "epoch_loss"]
        assert [step for step, _ in events] == [1, 2]
        np.testing.assert_allclose([value for _, value in events], facts["history"][name], rtol=1e-6)


@pytest.mark.parametrize("facts, settings, images, features, epochs, lr", [
    (True, {}, 400, 4.0, 24, 0.0005), (True, {}, 2000, 4.0, 20, 0.0005), (True, {}, 20_000, 0.0, 8, 0.02),
    (True, {"optimizer": "sgd"}, 400, 4.0, 64, 0.002), (True, {"optimizer": "sgd"}, 1000, 4.0, 40, 0.002),
    (False, {}, 400, 0.0, 16, 0.0005),  # a copy of the user's network, which a search leaves without train.json
    (True, {"batch_size": 4}, 400, 0.0, 16, 0.0005), (True, {"batch_norm": "batch"}, 400, 0.0, 48, 0.02),
    (True, {"distill_features": 0.0}, 400, 0.0, 16, 0.0005), (False, {"distill_features": 2.0}, 400, 2.0, 24, 0.0005),
    (True, {"teacher": "none", "distill_features": 2.0}, 400, 2.0, 16, 0.0005)])
def test_features_are_learned_from_the_network_that_the_search_has_trained(tmp_path, facts, settings, images, features,
                                                                            epochs, lr):
    folder = RunFolder(str(tmp_path))
    teacher = RunFolder(folder.teacher)
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "model.keras").touch()
    (tmp_path / "inherited.weights.h5").touch()
    if facts:
        (tmp_path / "teacher" / "train.json").touch()
    settled = Recipe(**settings).settled(arch_lib.load("efficientnet_lite0"), images, folder)
    assert (settled.teacher, settled.init_weights) == (settings.get("teacher", teacher.model), "inherited")
    assert (settled.distill_features, settled.epochs, settled.lr) == (features, epochs, lr)


@pytest.mark.parametrize("ops, settings, images, expected", [
    ({"b02": "zero"}, {}, 400, "teacher"), ({"b02": "mb_k3_e6"}, {}, 400, "inherited"),
    ({"b02": "zero"}, {}, 10_000, "inherited"), ({"b02": "zero"}, {"batch_norm": "batch"}, 400, "inherited"),
    ({"b02": "zero"}, {"teacher": "none"}, 400, "inherited"), ({}, {"init_weights": "imagenet"}, 400, "imagenet")])
def test_a_network_of_whole_blocks_starts_from_its_teacher(tmp_path, ops, settings, images, expected):
    folder, lite0 = RunFolder(str(tmp_path)), spaces.SPACES["lite0"]
    teacher = RunFolder(folder.teacher)
    whole = Arch(lite0, {name: block.ops[0] for name, block in lite0.choices.items()})
    (tmp_path / "teacher").mkdir()
    whole.save(teacher.arch)
    for path in (teacher.model, teacher.training_facts, folder.inherited_weights):
        open(path, "w").close()
    (tmp_path / "run.flags").write_text("--lr=0.1\n")
    settled = Recipe(**settings).settled(Arch(lite0, {**whole.ops, **ops}), images, folder)
    assert settled.init_weights == expected
    part = folder.front_part(0.2)
    if not settings:
        open(part.inherited_weights, "w").close()
        assert Recipe().settled(Arch(lite0, {**whole.ops, **ops}), images, part).init_weights == expected


def test_files_beside_the_command_are_not_those_of_a_teacher(tmp_path, monkeypatch):
    """In a run folder whose network was trained without a teacher, its own files were taken for a teacher's."""
    lite0 = arch_lib.load("efficientnet_lite0")
    lite0.save(str(tmp_path / "arch.json"))
    (tmp_path / "train.json").touch()
    monkeypatch.chdir(tmp_path)
    settled = Recipe().settled(lite0, 400, RunFolder("."))
    assert (settled.init_weights, settled.teacher, settled.distill_features) == ("imagenet", "none", 0.0)


@pytest.mark.parametrize("settings, expected", [
    ({}, "8 features here, and 5 in teacher.keras"), ({"batch_size": 4}, "got batches of 4, ")])
def test_features_that_cannot_be_learned_are_refused(settings, expected):
    def model(features):
        inputs = keras.Input((4,))
        return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(features)(inputs)))

    recipe = Recipe(**{"distill_features": 2.0, "teacher": "teacher.keras", "batch_size": 32, **settings})
    with pytest.raises(InputError, match=re.escape(expected)) as error:
        fit_lib._distillation(model(8), Teacher(model(5)), recipe)
    assert "\n" not in str(error.value)
    assert fit_lib._distillation(model(8), Teacher(model(5)), dataclasses.replace(recipe, distill_features=0.0)) \
        == Distillation(0.5, 2.0)
    fits = dataclasses.replace(recipe, batch_size=32)
    assert fit_lib._distillation(model(8), Teacher(model(8)), fits).features == 2.0
