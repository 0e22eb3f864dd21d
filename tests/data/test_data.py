"""Data sets: their contents, splits and batches, and the errors for bad files."""

import gzip
import importlib.util
import io
import itertools
import os
import pickle
from importlib import resources

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from pnas_tf import data
from pnas_tf.data import augment, decoding, labelled, sources
from pnas_tf.data.readers import FASHION_MNIST_DIR
from pnas_tf.errors import InputError
from pnas_tf.network import evaluate


@pytest.fixture(scope="module")
def small():
    return data.load("fashion_mnist_small")


@pytest.fixture
def toy_npz(tmp_path):
    """27 grey images 8x8 of 3 classes, each a constant of its own, and 10 test images."""
    def arrays(size, first):
        return np.repeat(np.arange(first, first + size, dtype=np.uint8), 64).reshape(size, 8, 8), np.arange(size) % 3

    (x_train, y_train), (x_test, y_test) = arrays(27, 0), arrays(10, 100)
    path = str(tmp_path / "toy.npz")
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


def write_image(path, colour, size=(20, 16), mode="RGB", **options):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    PIL.Image.new(mode, size, colour).save(path, **options)


@pytest.fixture
def toy_folder(tmp_path):
    """Two classes of files in every format, mode and a few sizes; reddish and bluish."""
    for folder, colour in (("red", (200, 30, 10)), ("blue", (10, 40, 210))):
        root = str(tmp_path / "toy" / folder)
        write_image(f"{root}/a.jpg", colour, (40, 30), quality=95)
        write_image(f"{root}/b.JPEG", colour, (17, 61), quality=95)
        write_image(f"{root}/c.png", colour)
        write_image(f"{root}/d.png", (*colour, 128), (9, 9), "RGBA")
        write_image(f"{root}/e.png", 77, (33, 12), "L")
        write_image(f"{root}/f.jpg", 77, (64, 64), "L")
        write_image(f"{root}/g.bmp", colour, (21, 20))
        write_image(f"{root}/h.gif", colour, (12, 13))
        write_image(f"{root}/i.bmp", 77, (12, 12), "L")
        write_image(f"{root}/j.png", (77, 128), (12, 12), "LA")
        with open(f"{root}/notes.txt", "w") as file:
            file.write("not an image")
    return str(tmp_path / "toy")


def pixels(part_data, batch):
    """Undoes the normalisation, in NumPy."""
    return batch[0].numpy() * np.array(part_data.std) + np.array(part_data.mean)


def take(part, steps, *args, **kwargs):
    return [(x.numpy(), y.numpy()) for x, y in part.batches(*args, **kwargs).take(steps)]


def assert_equal_batches(left, right):
    assert len(left) == len(right) > 0
    for (x, y), (x_other, y_other) in zip(left, right, strict=True):
        np.testing.assert_array_equal(x, x_other)
        np.testing.assert_array_equal(y, y_other)


def error_of(spec, **kwargs):
    with pytest.raises(InputError) as caught:
        data.load(spec, **kwargs)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    return str(caught.value)


# The embedded set.

def test_embedded_set_is_balanced_and_has_its_notice(small):
    with resources.files("pnas_tf.datasets").joinpath("fashion_mnist_small.npz").open("rb") as file:
        archive = np.load(io.BytesIO(file.read()), allow_pickle=False)
    assert archive["x_train"].shape == (6000, 28, 28) and archive["x_test"].shape == (2000, 28, 28)
    assert np.bincount(archive["y_train"]).tolist() == [600] * 10
    assert np.bincount(archive["y_test"]).tolist() == [200] * 10
    notice = resources.files("pnas_tf.datasets").joinpath("fashion_mnist_small.LICENSE").read_text()
    assert "MIT License" in notice and "Zalando SE" in notice
    assert small.num_classes == 10 and small.class_names[9] == "ankle_boot" and small.image_shape == (28, 28, 1)
    assert (small.train.size, small.held_out.size, small.test.size) == (4800, 1200, 2000)
    np.testing.assert_allclose(small.mean, [archive["x_train"].mean()], atol=1e-3)
    np.testing.assert_allclose(small.std, [archive["x_train"].std()], atol=1e-3)


@pytest.mark.skipif(not os.path.isdir(FASHION_MNIST_DIR), reason="dataset-fashion-mnist is not installed")
def test_embedded_images_are_fashion_mnist():
    small, full = (loader(sources.Request("", None, 0, None))
                   for loader in (sources.DATASETS["fashion_mnist_small"], sources.DATASETS["fashion_mnist"]))
    assert full.x_train.shape == (60000, 28, 28) and full.x_test.shape == (10000, 28, 28)
    for part in ("train", "test"):
        def pairs(labelled_images, part=part):
            images, labels = getattr(labelled_images, f"x_{part}"), getattr(labelled_images, f"y_{part}")
            return {(image.tobytes(), label) for image, label in zip(images, labels, strict=True)}

        chosen = pairs(small)
        assert len(chosen) == len(getattr(small, f"y_{part}")) and chosen <= pairs(full)


# Splits.

def test_parts_are_disjoint_and_whole(toy_npz):
    toy = data.load(f"npz:{toy_npz}")
    values = {name: sorted(round(float(image.mean())) for batch in getattr(toy, name).batches(4)
                           for image in pixels(toy, batch)) for name in ("train", "held_out", "test")}
    assert sorted(values["train"] + values["held_out"]) == list(range(27))
    assert values["test"] == list(range(100, 110))


@pytest.mark.parametrize("counts, size", [((600, 600, 600), 360), ((1000, 100, 10), 111), ((50, 2, 1), 10),
                                          ((3, 3), 4), ((100, 100, 100), 7)])
def test_stratified_draws_shares(counts, size):
    labels = np.random.RandomState(0).permutation(np.repeat(np.arange(len(counts)), counts))
    drawn = labelled.stratified(labels, size, seed=3)
    assert len(set(drawn.tolist())) == len(drawn) == size
    drawn_counts = np.bincount(labels[drawn], minlength=len(counts))
    for count, of_class in zip(counts, drawn_counts, strict=True):
        assert of_class < count or (count == 1 and of_class == 0)
        assert of_class >= 1 or count == 1
    exact = size * np.array(counts) / sum(counts)
    assert np.abs(drawn_counts - exact).max() <= 2
    np.testing.assert_array_equal(drawn, labelled.stratified(labels, size, seed=3))
    assert set(drawn.tolist()) != set(labelled.stratified(labels, size, seed=4).tolist())


def test_held_out_is_stratified_and_seeded(small):
    labels = np.concatenate([y for _, y in take(small.held_out, 100, 500)])
    assert np.bincount(labels).tolist() == [120] * 10
    again, other = data.load("fashion_mnist_small"), data.load("fashion_mnist_small", seed=1)
    assert_equal_batches(take(small.held_out, 2, 600), take(again.held_out, 2, 600))
    assert not np.array_equal(take(small.held_out, 1, 600)[0][0], take(other.held_out, 1, 600)[0][0])
    assert data.load("fashion_mnist_small", held_out_size=77).held_out.size == 77


@pytest.mark.parametrize("images, classes, expected", [(1_000, 10, 200), (50_000, 10, 5_000), (60_000, 10, 5_000),
                                                       (200_000, 1000, 40_000), (500_000, 1000, 50_000),
                                                       (6, 3, 3), (4, 3, 1)])
def test_default_held_out_size(images, classes, expected):
    labels = np.arange(images) % classes
    assert len(labelled.held_out(labels, None, 0, "x")) == expected


# Batches.

@pytest.mark.parametrize("augmented", [False, True])
def test_skip_steps_gives_what_an_uninterrupted_run_gives(toy_npz, augmented):
    part = data.load(f"npz:{toy_npz}").train
    assert part.size == 22 and part.steps_per_epoch(5) == 4
    whole = take(part, 11, 5, augment=augmented, seed=7)
    for skip in (1, 3, 4, 9):
        assert_equal_batches(whole[skip:], take(part, 11 - skip, 5, augment=augmented, seed=7, skip_steps=skip))
    assert not np.array_equal(whole[0][0], take(part, 1, 5, augment=augmented, seed=8)[0][0])
    assert not np.array_equal(whole[0][0], whole[4][0]), "the second epoch has the order of the first"


def test_skip_steps_of_files(toy_folder):
    part = data.load(f"folder:{toy_folder}", image_size=8).train
    whole = take(part, 7, 4, augment=True, seed=1)
    assert_equal_batches(whole[5:], take(part, 2, 4, augment=True, seed=1, skip_steps=5))
    assert not np.array_equal(whole[0][0], whole[3][0])


def test_a_broken_file_is_named_and_a_skipped_one_not_read(toy_folder):
    part = data.load(f"folder:{toy_folder}", image_size=8).train
    labels = [int(y[0]) for _, y in take(part, 12, 1, seed=1)]
    root = os.path.join(toy_folder, "red")
    for name in os.listdir(root):
        with open(os.path.join(root, name), "wb") as file:
            file.write(b"gone")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"red/\w\.\w+"):
        take(part, 12, 1, seed=1)
    blue_after_red = next(step for step in range(1, 12) if labels[step] == 0 and 1 in labels[:step])
    assert take(part, 1, 1, seed=1, skip_steps=blue_after_red)[0][1] == [0]


def test_an_epoch_holds_every_image_at_most_once_and_all_batches_are_full(toy_npz):
    toy = data.load(f"npz:{toy_npz}")
    batches = list(toy.train.batches(5, seed=0).take(8))
    values = [tuple(round(float(image.mean())) for image in pixels(toy, batch)) for batch in batches]
    assert all(len(batch) == 5 for batch in values)
    for epoch in (values[:4], values[4:]):
        assert len(set(itertools.chain(*epoch))) == 20
    assert toy.train.batches(5, seed=0).element_spec[0].shape == (5, 8, 8, 1)
    assert toy.train.batches(5, seed=0).element_spec[0].dtype == tf.float32
    assert toy.train.batches(5, seed=0).element_spec[1].dtype == tf.int32


def test_shuffling_reaches_every_position_equally(toy_npz):
    part = data.load(f"npz:{toy_npz}").test
    first = [y[0] for _, y in take(part, 3000, 10, seed=0)]
    # 3,000 draws of labels 0, 1, 2 with shares 0.4, 0.3, 0.3: five standard deviations are 134.
    np.testing.assert_allclose(np.bincount(first), [1200, 900, 900], atol=134)


def test_a_part_smaller_than_a_batch_repeats(toy_npz):
    toy = data.load(f"npz:{toy_npz}")
    assert toy.held_out.size == 5 and toy.held_out.steps_per_epoch(12) == 1
    (batch,) = toy.held_out.batches(12, seed=0).take(1)
    values = [round(float(image.mean())) for image in pixels(toy, batch)]
    assert len(values) == 12 and sorted(np.unique(values, return_counts=True)[1]) == [2, 2, 2, 3, 3]


def test_one_pass_is_in_order_and_its_last_batch_partial(toy_npz):
    toy = data.load(f"npz:{toy_npz}")
    batches = list(toy.test.batches(4))
    assert [len(y) for _, y in batches] == [4, 4, 2]
    values = [round(float(image.mean())) for batch in batches for image in pixels(toy, batch)]
    assert values == list(range(100, 110))
    assert_equal_batches(take(toy.test, 9, 4)[1:], take(toy.test, 9, 4, skip_steps=1))
    with pytest.raises(ValueError, match="seed"):
        toy.test.batches(4, augment=True)


@pytest.mark.parametrize("kind", ["arrays", "files"])
def test_every_view_of_an_image_is_another(kind, tmp_path):
    for folder in ("a", "b"):
        for number in range(3):
            write_image(str(tmp_path / folder / f"{number}.png"), (100, 150, 50 * number))
    spec = "fashion_mnist_small" if kind == "arrays" else f"folder:{tmp_path}"
    part = data.load(spec, image_size=28, held_out_size=1).held_out
    batches = take(part, 3, 8, augment=True, seed=0)
    views = {image.tobytes() for x, _ in batches for image in x}
    assert len(views) > 15  # of 24; by chance some fall on the same of 7 * 7 * 2 crops
    assert len({x.tobytes() for x, _ in batches}) == 3


# Augmentation.

def test_crop_and_flip_is_a_shifted_perhaps_mirrored_image():
    images = np.random.RandomState(0).randint(1, 256, (400, 16, 16, 3)).astype(np.uint8)
    changed = augment.crop_and_flip(tf.constant(images), tf.constant([3, 5], tf.int64), np.arange(len(images)),
                                   len(images)).numpy()
    seen = []
    for before, after in zip(images, changed, strict=True):
        padded = np.pad(before, ((2, 2), (2, 2), (0, 0)))
        matches = [(top, left, flip) for top in range(5) for left in range(5) for flip in (1, -1)
                   if np.array_equal(padded[top:top + 16, left:left + 16][:, ::flip], after)]
        assert len(matches) == 1
        seen += matches
    top, left, flip = np.array(seen).T
    for draws in (top, left):
        assert np.bincount(draws).min() > 40  # of 80 expected
    assert 140 < np.sum(flip == 1) < 260


def test_central_crop_is_the_usual_evaluation_view():
    y, x = np.mgrid[:90, :120]
    photo = np.stack([y * 2, x * 2, 128 + 100 * np.sin(x / 9) * np.cos(y / 7)], -1).astype(np.uint8)
    for kind, options in (("PNG", {}), ("JPEG", {"quality": 100, "subsampling": 0})):
        file = io.BytesIO()
        PIL.Image.fromarray(photo).save(file, kind, **options)
        view = decoding.central_crop(decoding.of_contents(tf.constant(file.getvalue())), 56).numpy()
        resized = PIL.Image.fromarray(photo).resize((85, 64), PIL.Image.Resampling.BILINEAR)  # 64 = 56 * 256 / 224
        usual = np.asarray(resized.crop((14, 4, 70, 60)), np.float32)
        assert view.shape == usual.shape and np.abs(view - usual).mean() < 2.0


def test_random_crop_stays_within_the_papers_areas():
    y, x = np.mgrid[:100, :100]
    file = io.BytesIO()
    PIL.Image.fromarray(np.stack([y * 2, x * 2, 0 * x], -1).astype(np.uint8)).save(file, "PNG")
    areas, ratios = [], []
    crop = tf.function(lambda seed: decoding.random_crop(
        decoding.of_contents(tf.constant(file.getvalue())), 32, seed))
    for step in range(150):
        view = crop(tf.constant([0, step], tf.int64)).numpy()
        # Rows and columns of the crop, read off the ramp (which half a pixel at both ends does not show).
        height, width = (np.ptp(view[..., channel]) / 2 * 32 / 31 for channel in (0, 1))
        areas.append(height * width / 1e4)
        ratios.append(width / height)
    assert 0.06 < min(areas) < 0.2 and 0.8 < max(areas) < 1.1
    assert 0.68 < min(ratios) < 0.85 and 1.18 < max(ratios) < 1.45


def test_colour_jitter_changes_brightness_and_saturation_as_much_as_the_original():
    image = tf.fill([1, 1, 3], 100.0) + tf.constant([20.0, 0.0, -20.0])
    grey, spread = [], []
    for step in range(200):
        pixel = augment.colour_jitter(image, tf.constant([1, step])).numpy()[0, 0]
        grey.append(pixel @ [0.2989, 0.587, 0.114])
        spread.append((pixel[0] - pixel[2]) / grey[-1])
    level = 100 + 20 * (0.2989 - 0.114)
    np.testing.assert_allclose([min(grey), max(grey)], [level * (1 - 32 / 255), level * (1 + 32 / 255)], rtol=0.02)
    np.testing.assert_allclose([min(spread), max(spread)], [20 / level, 60 / level], rtol=0.05)


# Other sources.

def test_folder_of_many_kinds_of_files(toy_folder):
    toy = data.load(f"folder:{toy_folder}", image_size=8)
    assert toy.class_names == ("blue", "red") and toy.image_shape == (8, 8, 3)
    assert (toy.train.size, toy.held_out.size, toy.test.size) == (13, 3, 4)
    seen = {0: [], 1: []}
    for part in (toy.train, toy.held_out, toy.test):
        for batch in part.batches(3):
            for image, label in zip(pixels(toy, batch), batch[1].numpy(), strict=True):
                seen[int(label)].append(tuple(np.round(image.mean(axis=(0, 1)), -1).astype(int)))
    # Two files of each class are half transparent: they show white.
    for label, colour, lighter in ((0, (10, 40, 210), (130, 150, 230)), (1, (200, 30, 10), (230, 140, 130))):
        assert sorted(seen[label]) == sorted([(80, 80, 80)] * 3 + [(170, 170, 170), lighter] + [colour] * 5)


def test_what_is_not_read_is_counted_and_named(toy_folder, capsys):
    for name in ("red/scan.psd", "red/film.mp4", "blue/scan.psd", "red/Thumbs.db", "lost.jpg"):
        with open(os.path.join(toy_folder, name), "wb") as file:
            file.write(b"RIFF")
    toy = data.load(f"folder:{toy_folder}", image_size=8)
    assert toy.train.size + toy.held_out.size + toy.test.size == 20
    stray, others = capsys.readouterr().out.splitlines()
    assert stray.startswith("Left out: 1 image files of ") and stray.endswith("in no class folder (lost.jpg).")
    assert others.startswith("Left out: 5 files of ") and "(1 .mp4, 2 .psd, 2 .txt)" in others


def test_images_in_folders_inside_a_class_belong_to_it(toy_folder, capsys):
    write_image(f"{toy_folder}/red/more/k.jpe", (200, 30, 10))
    write_image(f"{toy_folder}/red/more/yet/l.jfif", (200, 30, 10), format="JPEG")
    os.symlink(toy_folder, f"{toy_folder}/red/more/loop")
    toy = data.load(f"folder:{toy_folder}", image_size=8)
    # The link leads to the images of both classes, among them those of this folder, which are read once.
    assert toy.train.size + toy.held_out.size + toy.test.size == 20 + 2 + 10
    assert f"12 images of {toy_folder} are in folders inside the class folders" in capsys.readouterr().out


def test_broken_files_are_left_out_and_named_or_refused(toy_folder, capfd):
    red = os.path.join(toy_folder, "red")
    with open(f"{red}/a.jpg", "rb") as file:
        jpeg = file.read()
    with open(f"{red}/c.png", "rb") as file:
        png = file.read()
    contents = {"empty.jpg": b"", "page.png": b"<html>", "cut.jpg": jpeg[:len(jpeg) * 2 // 3], "cut.png": png[:-20],
                "more.jpg": jpeg + b"appended by the camera", "zeros.jpg": jpeg + bytes(100)}
    for name, content in contents.items():
        with open(f"{red}/{name}", "wb") as file:
            file.write(content)
    toy = data.load(f"folder:{toy_folder}", image_size=8, seed=2)
    assert toy.train.size + toy.held_out.size + toy.test.size == 22
    for part in (toy.train, toy.held_out, toy.test):
        assert sum(len(labels) for _, labels in part.batches(4)) == part.size  # each is decoded
    output, noise = capfd.readouterr()
    assert noise == ""
    assert output.splitlines()[1:] == ["Left out: 4 of 26 image files: cut off or damaged (red/cut.jpg, red/cut.png); "
                                       "not an image (red/empty.jpg, red/page.png)."]
    assert "4 of 26 image files cannot be read" in error_of(f"folder:{toy_folder}", broken_images="refuse")
    for name in os.listdir(red):
        with open(f"{red}/{name}", "wb") as file:
            file.write(b"gone")
    assert "no image that can be read is left in the train part of class 'red'" in error_of(f"folder:{toy_folder}")


def test_balanced_class_weights(tmp_path):
    for folder, count in (("few", 4), ("many", 12)):
        for number in range(count):
            write_image(str(tmp_path / folder / f"{number}.png"), (number, 0, 0))
    train = data.load(f"folder:{tmp_path}", image_size=8, held_out_size=3).train
    counts = train.class_counts()
    assert counts.sum() == train.size and counts[1] > 2 * counts[0] > 0
    weights = data.class_weights(train, "balanced")
    assert weights.dtype == np.float32 and data.class_weights(train, "none") is None
    np.testing.assert_allclose(weights * counts, [train.size / 2, train.size / 2], rtol=1e-6)
    assert data.imbalance(train) == ""
    for number in range(12, 40):
        write_image(str(tmp_path / "many" / f"{number}.png"), (number, 0, 0))
    train = data.load(f"folder:{tmp_path}", image_size=8, held_out_size=3).train
    few, many = train.class_counts()
    assert data.imbalance(train).startswith(f"Classes have {few} to {many} training images: with --class_weights=bal")


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_an_image_of_weight_two_counts_as_two_images(label_smoothing):
    logits = np.random.RandomState(0).normal(size=(3, 4)).astype(np.float32)
    twice = evaluate.cross_entropy(tf.constant([2, 2, 0]), logits[[0, 0, 1]], label_smoothing)
    weighted = evaluate.cross_entropy(tf.constant([2, 0]), logits[:2], label_smoothing,
                                           np.array([1, 9, 2, 9], np.float32))
    np.testing.assert_allclose(3 * twice, 2 * weighted, rtol=1e-6)


def test_folder_with_train_and_val(tmp_path):
    for part, count in (("train", 4), ("val", 2)):
        for label, folder in enumerate(("cat", "dog")):
            for number in range(count):
                write_image(str(tmp_path / part / folder / f"{number}.png"), (100 * label, 0, 0))
    toy = data.load(f"folder:{tmp_path}", held_out_size=2)
    assert toy.image_shape == (224, 224, 3) and toy.class_names == ("cat", "dog")
    assert (toy.train.size, toy.held_out.size, toy.test.size) == (6, 2, 4)
    os.rename(tmp_path / "val" / "dog", tmp_path / "val" / "wolf")
    assert "'wolf'" in error_of(f"folder:{tmp_path}")


def test_other_parts_beside_train_are_read_or_named(tmp_path, capsys):
    for part, count in (("train", 4), ("valid", 2), ("extra", 1)):
        for folder in ("cat", "dog"):
            for number in range(count):
                write_image(str(tmp_path / part / folder / f"{number}.png"), (100, 0, 0))
    assert data.load(f"folder:{tmp_path}", held_out_size=2).test.size == 4
    assert f"Left out: 2 images of {tmp_path}/extra. " in capsys.readouterr().out
    os.rename(tmp_path / "extra", tmp_path / "test")
    assert data.load(f"folder:{tmp_path}", held_out_size=2).test.size == 2
    assert f"Left out: 4 images of {tmp_path}/valid. " in capsys.readouterr().out
    os.rename(tmp_path / "train", tmp_path / "training")
    assert "look like parts of a data set" in error_of(f"folder:{tmp_path}")


@pytest.mark.parametrize("part", ["test", "Validation"])
def test_a_part_beside_the_classes_is_no_class(tmp_path, part):
    for folder in ("cat", "dog", f"{part}/cat", "dog/test"):  # a class may have any folders in it
        for number in range(4):
            write_image(str(tmp_path / folder / f"{number}.png"), (100, 0, 0))
    message = error_of(f"folder:{tmp_path}")
    assert f"{tmp_path}/{part}: holds folders of classes (cat)" in message and f"into {tmp_path}/train" in message
    os.rename(tmp_path / part / "cat", tmp_path / part / "wolf")  # a class of its own
    assert data.load(f"folder:{tmp_path}").class_names == tuple(sorted(("cat", "dog", part)))


def test_cifar10_binary_and_arrays_and_jpeg(tmp_path):
    random = np.random.RandomState(0)
    images, labels = random.randint(0, 256, (60, 32, 32, 3)).astype(np.uint8), np.arange(60) % 10
    folder = tmp_path / "binary" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    names = [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]
    for name, part, part_labels in zip(names, np.split(images, 6), np.split(labels, 6), strict=True):
        records = [bytes([label]) + b"".join(image[..., channel].tobytes() for channel in range(3))
                   for image, label in zip(part, part_labels, strict=True)]
        (folder / name).write_bytes(b"".join(records))
    arrays = {"x_train": images[:50], "y_train": labels[:50, None], "x_test": images[50:], "y_test": labels[50:, None]}
    (tmp_path / "arrays").mkdir()
    np.savez(tmp_path / "arrays" / "cifar10.npz", **arrays)
    loaded = [data.load("cifar10", data_dir=str(tmp_path / name)) for name in ("binary", "arrays")]
    for toy in loaded:
        (batch,) = toy.test.batches(10)
        np.testing.assert_allclose(pixels(toy, batch), images[50:], atol=1e-3)
        np.testing.assert_array_equal(batch[1], labels[50:])
        assert toy.class_names[9] == "truck"

    def encode(part):
        files = []
        for image in part:
            file = io.BytesIO()
            PIL.Image.fromarray(image).save(file, "JPEG")
            files.append(file.getvalue())
        return np.frombuffer(b"".join(files), np.uint8), np.cumsum([0, *map(len, files)]), files

    archive = {}
    for part, x, y in (("train", images[:50], labels[:50]), ("test", images[50:], labels[50:])):
        archive[f"{part}_jpeg"], archive[f"{part}_offsets"], files = encode(x)
        archive[f"{part}_labels"] = y
    np.savez(tmp_path / "cifar10_jpeg.npz", **archive)
    toy = data.load("cifar10", data_dir=str(tmp_path))
    (batch,) = toy.test.batches(10)
    expected = np.stack([np.asarray(PIL.Image.open(io.BytesIO(file))) for file in files])
    np.testing.assert_allclose(pixels(toy, batch), expected, atol=1e-3)
    (folder / "data_batch_3.bin").write_bytes(b"short")
    assert "data_batch_3.bin" in error_of("cifar10", data_dir=str(tmp_path / "binary"))


def test_arrays_are_resized(toy_npz):
    toy = data.load(f"npz:{toy_npz}", image_size=12)
    assert toy.image_shape == (12, 12, 1)
    (batch,) = toy.test.batches(10)
    np.testing.assert_allclose(pixels(toy, batch)[3], 103, atol=1e-3)


def test_tfds(tmp_path):
    if importlib.util.find_spec("tensorflow_datasets") is None:
        assert "pip install tensorflow-datasets" in error_of("tfds:cifar10")
        return
    import tensorflow_datasets as tfds
    shape = {"fixed": (6, 6, 3), "photos": (None, None, 3)}
    for name in shape:
        features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=shape[name], encoding_format="png"),
                                               "label": tfds.features.ClassLabel(names=["no", "yes"])})
        train = [{"image": np.full((6, 6, 3), number, np.uint8), "label": number % 2} for number in range(20)]
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name, version="1.0.0", features=features, data_dir=str(tmp_path),
            split_datasets={"train": tf.data.Dataset.from_generator(
                lambda examples=train: examples, output_signature={"image": tf.TensorSpec((6, 6, 3), tf.uint8),
                                                                   "label": tf.TensorSpec((), tf.int64)})})
        toy = data.load(f"tfds:{name}", data_dir=str(tmp_path), image_size=8 if name == "photos" else None)
        assert toy.class_names == ("no", "yes") and toy.image_shape[0] == (8 if name == "photos" else 6)
        values = [(round(float(image.mean())), int(label)) for part in (toy.train, toy.held_out, toy.test)
                  for batch in part.batches(4) for image, label in zip(pixels(toy, batch), batch[1], strict=True)]
        assert sorted(values) == [(number, number % 2) for number in range(20)]
    assert "tfds build mnist" in error_of("tfds:mnist", data_dir=str(tmp_path))
    assert "no_such_set" in error_of("tfds:no_such_set", data_dir=str(tmp_path))


# Errors for bad input.

def test_unknown_specs_name_the_known_ones():
    for spec in ("imagenet", "npz", "npz:", "folder", "cifar10:x", "", "fashion_mnist_small:x"):
        assert "npz:PATH" in error_of(spec)
    assert "image_size" in error_of("fashion_mnist_small", image_size=0)
    for size in (0, -1, 5991, 6000):
        assert "5990" in error_of("fashion_mnist_small", held_out_size=size)


def test_missing_files_say_how_to_get_them(tmp_path):
    empty = str(tmp_path)
    assert "apt-get install dataset-fashion-mnist" in error_of("fashion_mnist", data_dir=empty)
    assert "cifar-10-binary.tar.gz" in error_of("cifar10", data_dir=empty)
    assert "no such file" in error_of(f"npz:{empty}/none.npz")
    assert "No such file or directory" in error_of(f"folder:{empty}/none")


GOOD = {"x_train": np.zeros((6, 8, 8), np.uint8), "y_train": np.array([0, 1] * 3),
        "x_test": np.zeros((2, 8, 8), np.uint8), "y_test": np.array([0, 1])}


@pytest.mark.parametrize("change, message", [
    ({"y_test": None}, "y_test is missing"),
    ({"x_train": np.zeros((6, 8), np.uint8)}, "shape"),
    ({"x_train": np.zeros((6, 8, 8, 2), np.uint8)}, "shape"),
    ({"x_train": np.array(5)}, "labels for x_train"),
    ({"x_train": np.zeros((6, 0, 8), np.uint8)}, "shape"),
    ({"x_train": np.zeros((6, 8, 8), np.float32)}, "uint8"),
    ({"x_train": np.full((6, 8, 8), 256)}, "0 to 255"),
    ({"x_train": np.zeros((6, 8, 10), np.uint8)}, "--image_size"),
    ({"x_test": np.zeros((2, 9, 9), np.uint8)}, "--image_size"),
    ({"x_test": np.zeros((2, 8, 8, 3), np.uint8)}, "channels"),
    ({"y_train": np.array([0, 1])}, "2 labels"),
    ({"y_train": np.eye(2)[[0, 1] * 3]}, "whole number"),
    ({"y_train": np.array(["a", "b"] * 3)}, "whole number"),
    ({"y_train": np.zeros(6, int)}, "only one class"),
    ({"y_train": np.array([0, 2] * 3)}, "gap"),
    ({"y_train": np.array([0, 10**12] * 3)}, "0 to classes - 1"),
    ({"y_train": np.array([0, -1] * 3)}, "0 to classes - 1"),
    ({"y_train": np.arange(6)}, "Add images"),
    ({"y_test": np.array([0, 2])}, "y_test"),
    ({"class_names": np.array(["a", "b", "c"])}, "3 class names"),
    ({"x_train": np.array([{}, {}], object)}, "pickle"),
    ({"y_train": np.array([print], object)}, "pickle"),
])
def test_bad_arrays(tmp_path, change, message):
    arrays = {name: array for name, array in {**GOOD, **change}.items() if array is not None}
    np.savez(tmp_path / "bad.npz", **arrays)
    assert message in error_of(f"npz:{tmp_path}/bad.npz")


def test_good_arrays_pass(tmp_path):
    np.savez(tmp_path / "good.npz", **GOOD, class_names=np.array(["no", "yes"]))
    assert data.load(f"npz:{tmp_path}/good.npz").class_names == ("no", "yes")


def test_damaged_npz(tmp_path, toy_npz):
    with open(toy_npz, "rb") as file:
        whole = file.read()
    npy, pickled = io.BytesIO(), pickle.dumps({"x_train": 1})
    np.save(npy, np.zeros(3))
    middle = bytearray(whole)
    middle[300:900] = b"\xff" * 600
    for content in (b"", b"hello", whole[:len(whole) // 2], whole[:-10], bytes(middle), npy.getvalue(), pickled):
        (tmp_path / "bad.npz").write_bytes(content)
        assert "bad.npz" in error_of(f"npz:{tmp_path}/bad.npz")


def test_damaged_idx(tmp_path):
    names = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    for name in names:
        (tmp_path / name).write_bytes(b"junk")
    good = bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3])
    for content in (b"", b"junk", gzip.compress(b""), gzip.compress(good[:-1]), gzip.compress(good)[:-9],
                    gzip.compress(good + b"x"), gzip.compress(b"\1\2\3\4"),
                    gzip.compress(bytes([0, 0, 8, 4]) + b"\xff" * 16)):
        (tmp_path / names[0]).write_bytes(content)
        assert names[0] in error_of("fashion_mnist", data_dir=str(tmp_path))


def test_bad_folders(tmp_path):
    assert "at least two folders" in error_of(f"folder:{tmp_path}")
    write_image(str(tmp_path / "cat" / "1.png"), (1, 2, 3))
    assert "at least two folders" in error_of(f"folder:{tmp_path}")
    (tmp_path / "dog").mkdir()
    (tmp_path / ".hidden").mkdir()
    assert "dog: no images" in error_of(f"folder:{tmp_path}")
    write_image(str(tmp_path / "dog" / "1.png"), (1, 2, 3))
    assert "Add images" in error_of(f"folder:{tmp_path}")
    for number in range(2, 5):
        for folder in ("cat", "dog"):
            write_image(str(tmp_path / folder / f"{number}.png"), (1, 2, 3))
    assert data.load(f"folder:{tmp_path}", image_size=8).num_classes == 2


def test_a_folder_without_its_kind_is_named(tmp_path):
    with pytest.raises(InputError, match=f"Unknown data set '{tmp_path}'.*For the images in this folder: "
                                         f"folder:{tmp_path}$"):
        data.load(str(tmp_path))


def test_a_few_batches_of_one_pass_have_all_classes(tmp_path):
    """Files are listed class by class; losses of a few batches rank networks, and set ranges of numbers."""
    labels = np.repeat(np.arange(6), 20).astype(np.int32)
    images = np.zeros((120, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "sorted.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    loaded = data.load(f"npz:{tmp_path}/sorted.npz", held_out_size=36)
    for part, count in ((loaded.train, 28), (loaded.held_out, 18)):
        first = next(iter(part.batches(count)))[1].numpy()
        assert set(first) == set(range(6)), first
        np.testing.assert_array_equal(first, part.labels()[:count])
