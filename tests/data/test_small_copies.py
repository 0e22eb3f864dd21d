"""Small copies of large photos: the same views as from the photos themselves, at a fraction of the pixels."""

import dataclasses
import io
import os

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from pnas_tf import data
from pnas_tf.data import decoding, inspection, parts, pictures, small_copies
from pnas_tf.data.pictures import Header
from pnas_tf.search import problem
from pnas_tf.search.config import SearchConfig
from pnas_tf.space import spaces
from tests.data import odd_images

SIDE = 16  # of the network's images
WIDTH, HEIGHT = 448, 320
Y, X = np.mgrid[:HEIGHT, :WIDTH]
# A picture that is like none of its turns, with the detail of a photo.
PHOTO = np.clip(np.stack([Y * 0.8, X * 0.6, 128 + 100 * np.sin(X / 40) * np.cos(Y / 50)], -1)
                + np.random.default_rng(0).normal(0, 8, (HEIGHT, WIDTH, 1)), 0, 255).astype(np.uint8)
ALPHA = np.repeat(np.clip(X - 100, 0, 255)[..., None], 1, -1).astype(np.uint8)
BLUE = (0, 0, 255)


def save(folder, name, content):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(content)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of two classes of large photos of every kind, and one small one each."""
    root = str(tmp_path_factory.mktemp("photos"))
    for folder in ("train", "test"):
        for number in range(2):
            place = os.path.join(root, folder, f"class{number}")
            save(place, "plain.jpg", odd_images.encoded(PHOTO, "JPEG", quality=95))
            for turn in (3, 6):
                save(place, f"turned{turn}.jpg", odd_images.encoded(PHOTO, "JPEG", quality=95,
                                                                    exif=odd_images.exif(turn)))
            save(place, "plain.png", odd_images.encoded(PHOTO, "PNG"))
            save(place, "alpha.png", odd_images.encoded(np.concatenate([PHOTO, ALPHA], -1), "PNG"))
            save(place, "plain.webp", odd_images.encoded(PHOTO, "WEBP", quality=95))
            save(place, "small.png", odd_images.encoded(PHOTO[:60, :60], "PNG"))
    return root


def copy_of(content, side):
    return small_copies.of_file(content, pictures.header(io.BytesIO(content)), BLUE, side)


def load(root, image_size=SIDE, background="blue"):
    return data.load(f"folder:{root}", image_size=image_size, held_out_size=2, background=background)


def seen(part):
    """Pixels of each image of a part as the network sees them, by the place of its file."""
    pixels = [view.numpy() for view in part._views(np.asarray(part._pass))]
    return dict(zip([os.sep.join(path.split(os.sep)[-2:]) for path in part.paths(np.arange(part.size))], pixels,
                    strict=True))


def in_training(loaded):
    return seen(loaded.train) | seen(loaded.held_out)


def test_network_sees_what_it_sees_of_the_photo(photos):
    loaded = load(photos)
    tested, trained = seen(loaded.test), in_training(loaded)  # the same files; those of the test are not copied
    assert len(trained) == len(tested) == 14 and loaded.test._files.copies is None
    for name, image in trained.items():
        is_small = name.endswith("small.png")
        assert np.abs(image - tested[name]).mean() <= (0 if is_small else 2), name
    # Pillow on its own: the middle of the turned picture, averaged over the pixels that become one.
    turned = PIL.Image.fromarray(np.rot90(PHOTO, -1)).crop((20, 84, 300, 364)).resize((SIDE, SIDE),
                                                                                     PIL.Image.Resampling.BILINEAR)
    assert np.abs(trained[os.path.join("class0", "turned6.jpg")] - np.asarray(turned, np.float32)).mean() < 2


def test_crops_of_the_whole_are_those_of_the_photo(photos):
    loaded = load(photos)
    whole = loaded.train.at_size(SIDE)
    whole._files = loaded.train._files.suiting(SIDE + 1)  # copies are too small for it
    assert loaded.train._files.copies is not None and whole._files.copies is None
    options = {"augment": True, "changes": parts.Changes(jitter="none", crop_area=1.0), "seed": 0}
    for (copied, labels), (original, same) in zip(loaded.train.batches(8, **options).take(4),
                                                  whole.batches(8, **options).take(4), strict=True):
        assert labels.numpy().tolist() == same.numpy().tolist()
        difference, mirrored = (np.abs((copied - other) * loaded.std).mean(axis=(1, 2, 3))
                                for other in (original, original[:, :, ::-1]))
        assert difference.max() < 4 and mirrored.min() > 10


def test_copies_are_small_upright_and_the_same_every_time(photos):
    files, again = (load(photos).train._files for _ in range(2))
    copies = dict(zip(map(os.path.basename, map(os.fsdecode, files.paths.numpy())), files.copies.numpy(), strict=True))
    assert files.copies.numpy().tolist() == again.copies.numpy().tolist()
    assert copies["small.png"] == b""
    for name, copy in copies.items():
        if copy:
            size = PIL.Image.open(io.BytesIO(copy)).size
            assert size == ((64, 90) if name == "turned6.jpg" else (90, 64)), name


def test_larger_images_are_read_from_the_photos(photos):
    loaded = load(photos)
    assert loaded.at_size(8).train._files.copies is not None
    larger = loaded.at_size(64)
    assert larger.train._files.copies is None
    own = in_training(load(photos, 64))  # WORTH is not reached at this size
    for name, image in in_training(larger).items():
        np.testing.assert_array_equal(image, own[name])


def test_search_at_a_smaller_size_than_its_teacher_makes_copies_for_both(photos):
    request = problem.Request(SearchConfig(dataset=f"folder:{photos}", held_out_size=2),
                              dataclasses.replace(spaces.SPACES["quickstart"], input_size=12), [], (), SIDE)
    loaded = request.load_data()
    assert loaded.image_shape == (12, 12, 3)
    np.testing.assert_array_equal(loaded.at_size(SIDE).train._files.copies.numpy(),
                                  load(photos, background="white").train._files.copies.numpy())


def test_large_photo_that_is_cut_off_is_left_out(photos, tmp_path, capfd):
    for number in range(2):
        for name in ("a.png", "b.png", "c.png", "d.png"):
            save(tmp_path / f"class{number}", name, odd_images.encoded(PHOTO, "PNG"))
    for name, form in (("cut.jpg", "JPEG"), ("cut.webp", "WEBP")):
        content = odd_images.encoded(PHOTO, form)
        save(tmp_path / "class0", name, content[:len(content) // 2])
    loaded = load(str(tmp_path))
    assert loaded.train.size + loaded.held_out.size + loaded.test.size == 8
    text = capfd.readouterr().out
    assert "Left out: 2 of 10 image files" in text and "cut.jpg" in text and "cut.webp" in text


def test_copies_fill_their_memory_and_no_more(photos, monkeypatch, capfd):
    monkeypatch.setattr(small_copies, "MAX_BYTES", 1)
    monkeypatch.setattr(inspection, "_FILES", 4)
    files = load(photos).train._files
    copied = [path for path, copy in zip(files.paths.numpy(), files.copies.numpy(), strict=True) if copy]
    assert 1 <= len(copied) <= 4  # one group of files
    assert "Small copies of large photos fill their memory" in capfd.readouterr().out


def test_if_copies_fill_their_memory_all_classes_have_some(tmp_path, monkeypatch):
    content = odd_images.encoded(PHOTO, "JPEG")
    for number in range(2):
        for name in range(32):
            save(tmp_path / f"class{number}", f"{name:02d}.jpg", content)
    monkeypatch.setattr(inspection, "_FILES", 8)
    monkeypatch.setattr(small_copies, "MAX_BYTES", 16 * len(copy_of(content, 64)))
    files = load(str(tmp_path)).train._files
    copied = [b"class0" in path for path, copy in zip(files.paths.numpy(), files.copies.numpy(), strict=True) if copy]
    assert 12 <= len(copied) <= 24 and 0.25 <= np.mean(copied) <= 0.75


def test_large_photos_are_those_of_eight_bits_and_four_times_the_pixels():
    assert small_copies.is_large(Header(1, False, True, 4 * 384 ** 2), 384)
    assert not small_copies.is_large(Header(1, False, True, 4 * 384 ** 2 - 1), 384)
    assert not small_copies.is_large(Header(0, True, True, 12_000_000), 384)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_long_photos_are_read_as_they_are(form, tmp_path):
    long = np.tile(PHOTO, (1, 4, 1))
    content = odd_images.encoded(long, form)
    assert len(long) >= 2 * 64 and copy_of(content, 64) == b""
    for number in range(2):
        for name in "abcdef":
            save(tmp_path / f"class{number}", f"{name}.{form.lower()}", content)
    assert load(str(tmp_path)).train._files.copies is None


def test_smallest_crop_of_a_copy_has_the_resolution_of_the_network():
    shortest = np.sqrt(pictures.CROP_AREA * decoding.CROP_RATIO[0])  # of a square photo's side
    assert small_copies.side(224) * shortest >= 0.95 * 224
    assert tf.io.decode_jpeg(copy_of(odd_images.encoded(PHOTO, "JPEG"), 64)).shape == (64, 90, 3)
    for too_large in (HEIGHT // 2 + 1, HEIGHT, 2 * HEIGHT):
        assert copy_of(odd_images.encoded(PHOTO, "JPEG"), too_large) == b""
    assert copy_of(odd_images.encoded(PHOTO, "JPEG"), HEIGHT // 2)


def test_crops_smaller_than_usual_are_read_from_the_photos(photos):
    loaded = load(photos)
    tiny = parts.Changes(jitter="none", crop_area=0.01)
    whole = loaded.at_size(SIDE)
    whole.train._files = dataclasses.replace(loaded.train._files.suiting(SIDE + 1), largest=SIDE)
    for copied, original in zip(*(each.train.batches(8, augment=True, changes=tiny, seed=0).take(2)
                                  for each in (loaded, whole)), strict=True):
        np.testing.assert_array_equal(copied[0], original[0])
