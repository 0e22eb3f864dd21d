"""Folders of pictures: which picture belongs to which class, how it is set on white, and what the loader reads."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality import photo_folders
from pnas_tf import data as data_lib
from pnas_tf.errors import InputError


def blob(colour, size=(60, 40), alpha=255, page=(200, 200)):
    """A transparent page with a filled rectangle in it."""
    picture = Image.new("RGBA", page, (0, 0, 0, 0))
    picture.paste((*colour, alpha), (30, 70, 30 + size[0], 70 + size[1]))
    return picture


def test_picture_is_composited_on_white_and_cut_to_a_square():
    square = photo_folders.on_white_square(blob((200, 0, 0), alpha=128))
    pixels = np.asarray(square)
    assert pixels.shape == (65, 65, 3)  # 60 pixels and 4 % on each side
    assert pixels[0, 0].tolist() == [255, 255, 255]
    # By hand: half of (200, 0, 0) and half of white.
    np.testing.assert_allclose(pixels[32, 32], [227, 127, 127], atol=1)
    assert (pixels[:, 32] < 250).any(axis=-1).sum() == 40


def test_large_pictures_shrink_and_empty_or_tiny_ones_are_left_out():
    large = photo_folders.on_white_square(blob((0, 0, 9), size=(900, 300), page=(1000, 1000)))
    assert large.size == (photo_folders.SIDE, photo_folders.SIDE)
    assert photo_folders.on_white_square(Image.new("RGBA", (90, 90), (9, 9, 9, 0))) is None
    assert photo_folders.on_white_square(Image.new("L", (90, 90), 255)) is None
    assert photo_folders.on_white_square(blob((0, 0, 0), size=(10, 10))) is None


def test_class_of_a_picture_is_the_beginning_of_its_path():
    paths = ["town/houses/b.png", "animals/dog.png", "animals/dog_mirror.png", "townhall.png", "military/tank.png",
             "military/vehicles/tank.png", "symbols/money/00_symbols/cent.png", "symbols/money/cent.png"]
    assert photo_folders.classed(paths, photo_folders.STAMPS) == [
        ("animals", "animals/dog.png"), ("vehicles", "military/vehicles/tank.png"), ("coins", "symbols/money/cent.png"),
        ("buildings", "town/houses/b.png")]


def test_copies_are_left_out_and_the_draw_is_the_same_again(tmp_path):
    def pictures():
        for number in range(12):
            yield "ab"[number % 2], blob((20 * number, 0, 0), size=(50 + 5 * number, 100))
        yield "b", blob((0, 0, 0), size=(100, 200), page=(300, 300))  # a copy of the first, twice as large

    assert photo_folders.write(pictures(), str(tmp_path / "all")) == {"a": 6, "b": 6}
    for folder in ("one", "two"):
        assert photo_folders.write(pictures(), str(tmp_path / folder), most=4) == {"a": 4, "b": 4}
    one, two = (sorted(path.read_bytes() for path in (tmp_path / folder).rglob("*.png")) for folder in ("one", "two"))
    assert len(one) == 8 and one == two


def test_cifar10_is_cut_to_a_few_images_of_each_class(tmp_path):
    rng = np.random.default_rng(0)
    labels = {"train": rng.permutation(np.repeat(np.arange(10), 60)), "test": np.repeat(np.arange(10), 110)}
    images = {part: rng.integers(0, 256, [len(labels[part]), 8, 8, 3], np.uint8) for part in labels}
    np.savez(tmp_path / "cifar10.npz", x_train=images["train"], y_train=labels["train"], x_test=images["test"],
             y_test=labels["test"])
    path = photo_folders.make("cifar10_50", str(tmp_path / "out"), str(tmp_path), str(tmp_path))
    data = data_lib.load(f"folder:{path}", image_size=8)
    assert data.class_names[2] == "bird" and data.test.class_counts().tolist() == [100] * 10
    assert (data.train.class_counts() + data.held_out.class_counts()).tolist() == [50] * 10
    first = Image.open(tmp_path / "out/cifar10_50/train/bird/000.png")
    np.testing.assert_array_equal(first, images["train"][np.flatnonzero(labels["train"] == 2)[0]])


def test_wrong_names_and_missing_sources_are_named(tmp_path):
    with pytest.raises(InputError, match="Known: stamps"):
        photo_folders.make("cats", str(tmp_path), str(tmp_path))
    with pytest.raises(InputError, match="--cifar10_dir"):
        photo_folders.make("cifar10_50", str(tmp_path), str(tmp_path))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/tuxpaint-stamps-default_1_all.deb").write_text("damaged")
    with pytest.raises(InputError, match="tuxpaint-stamps-default: "):
        photo_folders.make("stamps", str(tmp_path / "out"), str(tmp_path / "cache"))
    assert not (tmp_path / "out/stamps").exists()
