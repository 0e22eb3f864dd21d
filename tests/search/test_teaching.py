"""Searches with a teacher: from a pretrained network, and from scratch with the largest network of the space."""

import dataclasses
import json
import os

import keras
import numpy as np
import pytest

from pnas_tf import data as data_lib
from pnas_tf import network
from pnas_tf.errors import InputError
from pnas_tf.network import pretrained
from pnas_tf.run_folder import RunFolder
from pnas_tf.search import command, teaching
from pnas_tf.search.config import FROM_SCRATCH, PRETRAINED_FEW, SearchConfig
from pnas_tf.search.problem import Request
from pnas_tf.space import spaces
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Space
from pnas_tf.supernet import supernet
from pnas_tf.train import initial_weights
from pnas_tf.train.fit import fit
from pnas_tf.train.recipe import Recipe
from tests import forked
from tests.spaces import TINY

LITE0 = spaces.SPACES["lite0"]
# The first blocks of lite0 on small images: quick to build.
SHORT = Space("short", 32, 3, 1000, LITE0.stem, LITE0.blocks[:5], (LITE0.head[-1],), LITE0.normalisation,
              LITE0.pretrained).for_data(32, 3, 3)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three classes of colour images that differ in their brightest channel, 20 of each, as files."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("photos")
    for channel, name in enumerate("abc"):
        os.makedirs(folder / name)
        for number in range(20):
            image = random.integers(0, 120, (32, 32, 3), dtype=np.uint8)
            image[..., channel] += 100
            keras.utils.save_img(folder / name / f"{number}.png", image, scale=False)
    return str(folder)


def test_every_op_starts_as_its_part_of_the_pretrained_network():
    net = supernet.Supernet(SHORT, share="kernels")
    teaching.start_from_pretrained(net)
    whole = Arch(SHORT, {"b01": "mb_k3_e6", "b02": "mb_k3_e6", "b03": "mb_k5_e6", "b04": "mb_k5_e6"})
    model, mine = network.build_network(whole), pretrained.load("efficientnet_lite0")
    net.copy_weights_to(model, whole)
    # Channels are sorted, so the network computes the same as the original's first blocks, and has the same weights.
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    original = network.build_network(whole)
    for layer in original.layers:
        if layer.weights and not layer.name.startswith("classifier"):
            layer.set_weights(mine[layer.name])
    end = "b04_mb_k5_e6_add"
    outputs = [keras.Model(each.inputs, each.get_layer(end).output)(images) for each in (model, original)]
    np.testing.assert_allclose(*outputs, rtol=1e-3, atol=1e-3)
    filters, theirs = (sorted(kernel[:, :, channel].tobytes() for channel in range(240)) for kernel in (
        model.get_layer("b04_mb_k5_e6_depthwise").get_weights()[0], mine["b04_mb_k5_e6_depthwise"][0]))
    assert filters == theirs


def test_a_smaller_network_starts_from_imagenet(tmp_path):
    arch = Arch(SHORT, {"b01": "mb_k3_e3", "b02": "zero", "b03": "mb_k3_e4", "b04": "mb_k5_e3"})
    model = initial_weights.build(arch, initial_weights.IMAGENET, RunFolder(str(tmp_path))).model
    theirs = pretrained.load("efficientnet_lite0")["b03_mb_k5_e6_depthwise"][0]
    kernel = model.get_layer("b03_mb_k3_e4_depthwise").get_weights()[0]
    centres = {theirs[1:4, 1:4, channel].tobytes() for channel in range(theirs.shape[2])}
    assert kernel.shape == (3, 3, 96, 1)
    assert {kernel[:, :, channel].tobytes() for channel in range(96)} < centres
    with pytest.raises(InputError, match="tiny has no shipped weights"):
        initial_weights.build(Arch(TINY, {"b01": "zero", "b02": "zero"}), "imagenet", RunFolder(str(tmp_path)))


def test_defaults_depend_on_the_task(tmp_path):
    config, folder = SearchConfig(), RunFolder(str(tmp_path))
    assert config.lengths(TINY, 50_000) == FROM_SCRATCH
    assert config.lengths(LITE0, 500) == PRETRAINED_FEW
    assert SearchConfig(warmup_epochs=0, lr=0.3).lengths(LITE0, 500) == PRETRAINED_FEW._replace(warmup_epochs=0, lr=0.3)
    assert config.lengths(TINY, 20).batch_size == 20
    assert (config.shared_by(LITE0), config.shared_by(TINY)) == ("kernels", "none")
    assert (config.teacher_of(LITE0), config.teacher_of(TINY)) == ("largest", "none")
    tiny = Arch(TINY, {"b01": "zero", "b02": "zero"})
    settled = Recipe().settled(tiny, 1_000_000, folder)
    assert (settled.epochs, settled.batch_size, settled.lr) == (300, 256, 0.05)  # the paper's, on ImageNet
    assert (settled.init_weights, settled.teacher) == ("scratch", "none")
    short = Arch(SHORT, {"b01": "mb_k3_e3", "b02": "zero", "b03": "mb_k3_e4", "b04": "zero"})
    few = Recipe().settled(short, 490, folder)
    assert (few.epochs, few.batch_size, few.init_weights) == (16, 32, "imagenet")
    assert (few.batch_norm, few.optimizer, few.lr, few.crop_area) == \
        ("frozen", "adamw", 0.0005, 0.35)  # as for the whole network
    whole = teaching.largest(LITE0.for_data(96, 3, 5))
    fine_tuned, retrained = (Recipe().settled(whole, images, folder) for images in (490, 10_000))
    assert (fine_tuned.batch_norm, fine_tuned.optimizer, fine_tuned.lr, fine_tuned.crop_area) == \
        ("frozen", "adamw", 0.0005, 0.35)
    assert (retrained.batch_norm, retrained.optimizer, retrained.lr, retrained.crop_area) == \
        ("batch", "sgd", 0.02, 0.08)
    assert Recipe(optimizer="sgd").settled(whole, 490, folder).lr == 0.002
    chosen = Recipe(batch_norm="batch", crop_area=0.5, lr=0.1).settled(whole, 490, folder)
    assert (chosen.batch_norm, chosen.crop_area, chosen.lr) == ("batch", 0.5, 0.1)
    os.makedirs(folder.teacher)
    (tmp_path / "run.flags").write_text("--lr=0.1\n")
    folder.part("goal")
    (tmp_path / "teacher" / "model.keras").touch()
    (tmp_path / "goal" / "inherited.weights.h5").touch()
    after = Recipe().settled(tiny, 490, RunFolder(str(tmp_path / "goal")))
    # A supernet that started from scratch is no start for the found network.
    assert (after.init_weights, after.teacher) == ("scratch", str(tmp_path / "teacher" / "model.keras"))
    teacher = str(tmp_path / "teacher" / "model.keras")
    after, many = (Recipe().settled(short, images, RunFolder(str(tmp_path / "goal"))) for images in (490, 10_000))
    assert (after.init_weights, after.teacher, after.batch_norm, after.epochs) == ("inherited", teacher, "frozen", 16)
    assert (many.init_weights, many.teacher, many.batch_norm, many.epochs) == ("inherited", teacher, "batch", 8)
    inherited = Recipe(init_weights="inherited", batch_norm="batch")
    assert [inherited.settled(short, images, RunFolder(str(tmp_path / "goal"))).epochs
            for images in (490, 1600, 9000, 10_000)] == [48, 25, 16, 8]
    assert inherited.settled(short, 490, RunFolder(str(tmp_path / "goal"))).lr == 0.02


@pytest.mark.slow  # three trainings
def test_frozen_batch_norm_is_as_before_the_training(photos, tmp_path):
    arch = Arch(SHORT, {"b01": "mb_k3_e6", "b02": "mb_k3_e6", "b03": "mb_k5_e6", "b04": "mb_k5_e6"})
    data = data_lib.load(f"folder:{photos}", image_size=32, normalisation=SHORT.normalisation)

    def trained(batch_norm, epochs):  # of one step each
        folder = RunFolder(str(tmp_path / f"{batch_norm}{epochs}"))
        recipe = Recipe(init_weights="imagenet", batch_norm=batch_norm, epochs=epochs, lr=0.01)
        fit(arch, data, recipe, folder)
        return initial_weights.read_model(folder.model)

    def weights(model, is_norm):
        return [value for layer in model.layers for value in layer.get_weights()
                if isinstance(layer, keras.layers.BatchNormalization) == is_norm]

    start = initial_weights.build(arch, "imagenet", RunFolder(str(tmp_path))).model
    one, two, free = trained("frozen", 1), trained("frozen", 2), trained("batch", 1)
    assert all(np.array_equal(*pair) for pair in zip(weights(one, True), weights(two, True), strict=True))
    assert not all(np.array_equal(*pair) for pair in zip(weights(one, True), weights(free, True), strict=True))
    assert not all(np.array_equal(*pair) for pair in zip(weights(one, False), weights(two, False), strict=True))
    assert all(np.array_equal(*pair) for pair in zip(weights(one, True), weights(start, True), strict=True))
    assert all(layer.trainable for layer in one.layers)  # whoever loads the file can train all of it


@pytest.mark.slow
def test_from_photos_to_a_network(photos, write_space, tmp_path):
    """A search from a pretrained network, its training with the teacher, and the same command again."""
    run = tmp_path / "run"
    write_space(SHORT, tmp_path / "short.json", tmp_path / "table.jsonl")
    command = ["pnas_tf.search", f"--space={tmp_path / 'short.json'}", f"--table={tmp_path / 'table.jsonl'}",
               f"--dataset=folder:{photos}", "--image_size=32", "--teacher_epochs=1", "--warmup_epochs=1",
               "--search_epochs=1", "--front=2", f"--run_dir={run}"]
    done = forked.run(command)
    assert done.returncode == 0, done.stderr
    assert "First the teacher" in done.stdout and "as trained on these images" in done.stdout
    assert json.loads((run / "teacher" / "train.json").read_text())["init"] == "imagenet"
    trained = forked.run(["pnas_tf.train", f"--run_dir={run}", "--epochs=1"])
    assert trained.returncode == 0, trained.stderr
    facts = json.loads((run / "train.json").read_text())
    assert facts["init"] == "teacher" and facts["teacher"].endswith("teacher/model.keras")
    again = forked.run(command)
    assert again.returncode == 0 and "First the teacher" not in again.stdout


def test_other_widths_lose_the_pretrained_weights(capsys):
    for settings in ({"space": "lite0"}, {"space": "cifar_mb", "width_mult": 0.5}):
        command._warn_widths(SearchConfig(**settings))
    assert capsys.readouterr().out == ""
    command._warn_widths(SearchConfig(space="lite0", width_mult=0.5))
    assert "With --width_mult=0.5, the search starts from scratch" in capsys.readouterr().out
    assert LITE0.scaled(0.5).pretrained is None


def test_ops_start_from_a_teacher_that_is_the_whole_network(tmp_path, capsys):
    """A file of the user's may hold it. Any other network only teaches."""
    whole = Arch(SHORT, {"b01": "mb_k3_e6", "b02": "mb_k3_e6", "b03": "mb_k5_e6", "b04": "mb_k5_e6"})
    model, path = network.build_network(whole), str(tmp_path / "teacher.keras")
    model.save(path)
    net = supernet.Supernet(SHORT, share="kernels")
    teaching.start_from_pretrained(net, path)
    copy = network.build_network(whole)
    net.copy_weights_to(copy, whole)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(copy(images), model(images), rtol=1e-3, atol=1e-4)
    network.build_network(Arch(SHORT, {**whole.ops, "b02": "zero"})).save(path)
    teaching.start_from_pretrained(net, path)
    said = capsys.readouterr().out
    assert said.index("as trained on these images") < said.index("with its ImageNet weights")


def test_a_teacher_in_a_file_becomes_a_part_of_the_run(tmp_path):
    data, folder = data_lib.load("fashion_mnist_small"), RunFolder(str(tmp_path / "run"))
    teacher = network.build_network(Arch(TINY, dict.fromkeys(TINY.choices, "zero")))
    teacher.save(str(tmp_path / "mine.keras"))
    for _ in range(2):  # the second time, the search goes on
        teaching.criterion_of(SearchConfig(teacher=str(tmp_path / "mine.keras")), TINY, data, folder)
    with open(folder.teacher_model, "rb") as kept, open(tmp_path / "mine.keras", "rb") as given:
        assert kept.read() == given.read()


def test_a_teacher_of_another_task_is_refused(tmp_path):
    data = data_lib.load("fashion_mnist_small")
    inputs = keras.Input((28, 28, 1))
    path = str(tmp_path / "teacher.keras")
    keras.Model(inputs, keras.layers.Dense(7)(keras.layers.Flatten()(inputs))).save(path)
    config = SearchConfig(teacher=path)
    with pytest.raises(InputError, match="returns logits of 10 classes, got"):
        teaching.criterion_of(config, TINY, data, RunFolder(str(tmp_path)))
    with pytest.raises(InputError, match="cannot be read"):
        teaching.criterion_of(dataclasses.replace(config, teacher=str(tmp_path / "none.keras")), TINY, data,
                              RunFolder(str(tmp_path)))


def test_a_teacher_that_answers_nan_is_named(tmp_path):
    data, path = data_lib.load("fashion_mnist_small"), str(tmp_path / "broken.keras")
    teacher = network.build_network(Arch(TINY, dict.fromkeys(TINY.choices, "zero")))
    kernel, bias = teacher.layers[-1].get_weights()
    teacher.layers[-1].set_weights([kernel, bias * np.nan])
    teacher.save(path)
    with pytest.raises(InputError, match=r"broken\.keras: this teacher answers images .* that are not finite"):
        teaching.criterion_of(SearchConfig(teacher=path), TINY, data, RunFolder(str(tmp_path / "run")))


def test_the_teacher_sees_larger_images_of_the_same_files(photos, capsys):
    """They are not looked at again, so what is left out is named once."""
    with open(os.path.join(photos, "a", "broken.png"), "wb") as file:
        file.write(b"no image")
    small = data_lib.load(f"folder:{photos}", image_size=8)
    assert capsys.readouterr().out.count("Left out") == 1
    large, expected = small.at_size(24), data_lib.load(f"folder:{photos}", image_size=24)
    assert capsys.readouterr().out.count("Left out") == 1 and large.image_shape == expected.image_shape
    for part in ("train", "test"):
        ours, theirs = (next(iter(getattr(each, part).batches(8)))[0] for each in (large, expected))
        np.testing.assert_array_equal(ours, theirs)
    assert next(iter(small.train.batches(8)))[0].shape == (8, 8, 8, 3)
    os.remove(os.path.join(photos, "a", "broken.png"))


def test_the_largest_network_teaches_a_search_from_scratch(tmp_path):
    data = data_lib.load("fashion_mnist_small")
    config = SearchConfig(teacher="largest", teacher_epochs=1, distill=0.3)
    criterion = teaching.criterion_of(config, TINY, data, RunFolder(str(tmp_path)))
    facts = json.loads((tmp_path / "teacher" / "train.json").read_text())
    assert facts["init"] == "scratch" and criterion.distill == 0.3
    model = keras.models.load_model(tmp_path / "teacher" / "model.keras", compile=False)
    images = next(iter(data.held_out.batches(8)))[0]
    np.testing.assert_array_equal(criterion.taught(images), model(images, training=False))
    assert [block for block, op in teaching.largest(TINY).ops.items() if op != "mb_k7_e6"] == []


def test_a_teacher_that_is_missing_is_told_before_the_images_are_read():
    with pytest.raises(InputError, match=r"--teacher must be auto, none, largest or a \.keras file that exists, got"):
        Request.of(SearchConfig(space="quickstart", table="x86_xnnpack1_float32", teacher="none.keras"))


def test_several_machines_do_not_train_a_teacher(tmp_path):
    config = SearchConfig(teacher="largest", strategy="multi_worker")
    with pytest.raises(InputError, match="train it on one with"):
        teaching.criterion_of(config, TINY, data_lib.load("fashion_mnist_small"), RunFolder(str(tmp_path)))
