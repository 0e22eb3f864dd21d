"""Image files of every kind: read as Pillow shows them, or left out by name before a run starts."""

import contextlib
import os
import warnings

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf

from pnas_tf import data
from pnas_tf.data import decoding, pictures
from pnas_tf.errors import InputError
from tests.data import odd_images
from tests.data.odd_images import GREY, PHOTO

MAX_DIFFERENCE = 2  # mean, of 255


def shown(path, background=255):
    """The image as Pillow shows it upright on a background, float64 [height, width, 3]."""
    with warnings.catch_warnings(action="ignore"), PIL.Image.open(path) as image:
        image.load()
        if image.mode.startswith("I"):  # 16 bits
            alpha = np.where(np.asarray(image) == image.info.get("transparency"), 0.0, 1.0)
            grey = np.asarray(PIL.ImageOps.exif_transpose(image)) / 257
            return np.repeat((grey * alpha + background * (1 - alpha))[..., None], 3, -1)
        with contextlib.suppress(SyntaxError):  # damaged EXIF data
            image = PIL.ImageOps.exif_transpose(image)
        rgba = np.asarray(image.convert("RGBA"), np.float64)
    return rgba[..., :3] * rgba[..., 3:] / 255 + background * (1 - rgba[..., 3:] / 255)


def files_of(loaded):
    """Image files of all parts by path."""
    return {path: part._files[position] for part in (loaded.train, loaded.held_out, loaded.test)
            for path, position in zip(part.paths(np.arange(part.size)), np.asarray(part._pass), strict=True)}


def write(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder of odd files beside a class of plain ones, and their contents by name."""
    folder = tmp_path_factory.mktemp("corpus")
    contents = odd_images.write(str(folder / "odd"))
    for number in range(6):
        write(str(folder / "plain" / f"{number}.png"), odd_images.encoded(PHOTO, "PNG"))
    return folder, contents


def test_each_odd_file_is_read_as_pillow_shows_it_or_left_out_by_name(corpus, capfd):
    folder, contents = corpus
    assert len(contents) > 140
    side = 64  # which leaves all of them without small copies
    loaded = data.load(f"folder:{folder}", image_size=side, held_out_size=4)
    output, noise = capfd.readouterr()
    assert "Corrupt" not in noise and "Warning" not in noise

    @tf.function
    def decode(contents, reading):
        return decoding.whole(decoding.ImageFile(contents, "x", reading))

    read = files_of(loaded)
    for name in contents:
        path = str(folder / "odd" / name)
        if path not in read:
            assert f"odd/{name}" in output, f"{name} is neither read nor named"
            continue
        image, expected = decode(read[path].contents, read[path].reading).numpy(), shown(path)
        assert image.shape == expected.shape, name
        assert np.abs(image - expected).mean() <= MAX_DIFFERENCE, name
    left_out = {name for name in contents if str(folder / "odd" / name) not in read}
    assert left_out <= {*odd_images._damaged(), "float.tiff", "int32.tiff"}
    assert {f"flipped{place}.png" for place in range(1, 10)} | {"megapixels144.jpg", "few_rows.png"} <= left_out
    for part in (loaded.train, loaded.held_out, loaded.test):
        assert sum(len(labels) for _, labels in part.batches(8)) == part.size
    assert next(iter(loaded.train.batches(64, augment=True, seed=0)))[0].shape == (64, side, side, 3)


@pytest.mark.parametrize(("height", "width"), [(320, 448), (333, 501)])
def test_parts_of_jpeg_files_at_a_fraction_of_their_size_are_means_of_their_pixels(height, width):
    """The scaled part against block means of the pixels that a PNG file keeps."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows * 200 // height, columns * 200 // width,
                       128 + 60 * np.sin(rows / 30) * np.cos(columns / 40)], -1).astype(np.uint8)
    file = decoding.of_contents(odd_images.encoded(pixels, "JPEG", quality=98, subsampling=0))
    for least, scale in ((200, 1), (100, 2), (40, 4), (30, 8)):
        part = decoding._part(file, lambda shape: tf.constant([16, 32, 240, 320]), least).numpy()
        blocks = pixels[16:256, 32:352].reshape(240 // scale, scale, 320 // scale, scale, 3)
        assert part.shape == (240 // scale, 320 // scale, 3)
        assert np.abs(part - blocks.mean((1, 3))).mean() <= 1


def test_turned_files_give_the_crops_of_upright_ones():
    """Of a JPEG, only the part that is needed is decoded: the window has to be turned, too."""
    turns = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # PIL.Image.Transpose that undoes each orientation
    pixels = np.kron(PHOTO, np.ones((8, 8, 1), np.uint8))

    @tf.function
    def views(content, reading):
        file = decoding.ImageFile(content, "x", reading)
        return decoding.central_crop(file, 32), *(decoding.random_crop(file, 32, [1, step]) for step in range(4))

    for form, tolerance, options in (("PNG", 0.001, {}), ("JPEG", 1.5, {"quality": 98, "subsampling": 0})):
        expected = None
        for orientation, transpose in turns.items():
            lying = PIL.Image.fromarray(pixels)
            lying = lying if transpose is None else lying.transpose(transpose)
            content = odd_images.encoded(np.asarray(lying), form, exif=odd_images.exif(orientation), **options)
            assert pictures.reading_of(content) == orientation
            crops = [crop.numpy() for crop in views(tf.constant(content), tf.constant(orientation))]
            expected = expected or crops
            for crop, upright in zip(crops, expected, strict=True):
                assert np.abs(crop - upright).mean() < tolerance, (form, orientation)


def test_transparent_parts_show_the_background(tmp_path):
    rgba = np.concatenate([PHOTO, np.full((*GREY.shape, 1), 0, np.uint8)], -1)  # colours that must not appear
    for kind in ("a", "b"):
        for number in range(2):
            write(str(tmp_path / kind / f"{number}.png"), odd_images.encoded(rgba, "PNG"))
            write(str(tmp_path / kind / f"{number}.webp"), odd_images.encoded(rgba, "WEBP", lossless=True, exact=True))
    for background, colour in (("white", (255, 255, 255)), ("#102030", (16, 32, 48))):
        loaded = data.load(f"folder:{tmp_path}", image_size=8, held_out_size=2, background=background)
        images, _ = next(iter(loaded.train.batches(8, seed=0)))
        pixels = images.numpy() * np.array(loaded.std) + np.array(loaded.mean)
        np.testing.assert_allclose(pixels, np.broadcast_to(colour, pixels.shape), atol=1e-3)
    with pytest.raises(InputError, match="background must be a colour such as white"):
        data.load(f"folder:{tmp_path}", background="blanc")


@pytest.mark.parametrize("bits, factor", [(8, 1), (12, 16), (16, 257)])
def test_16_bit_files_are_scaled_by_the_range_of_the_data_set(tmp_path, capsys, bits, factor):
    """Many hold 8 or 12 bits, and their high bytes are nearly empty. A dark image stays darker than a light one."""
    wide, white = PHOTO.astype(np.uint16) * factor, 2 ** bits - 1
    wide[0, 0] = white
    for kind in ("a", "b"):
        write(str(tmp_path / kind / "rgb.png"), odd_images.png(wide, 2))
        write(str(tmp_path / kind / "dark.png"), odd_images.png(wide // 4, 2))
        write(str(tmp_path / kind / "grey.png"), odd_images.png(wide[..., :1], 0))
        write(str(tmp_path / kind / "grey.tiff"), odd_images.encoded(wide[..., 0], "TIFF"))
        write(str(tmp_path / kind / "alpha.png"), odd_images.png(np.concatenate([wide, np.full_like(
            wide[..., :1], white)], -1), 6))
    loaded = data.load(f"folder:{tmp_path}", image_size=16, held_out_size=2)
    assert f"white is {white:,}" in capsys.readouterr().out and loaded.rendering.white == white
    colours = wide / white * 255
    expected = {"rgb.png": colours, "alpha.png": colours, "dark.png": colours / 4,
                "grey.png": np.repeat(colours[..., :1], 3, -1), "grey.tiff": np.repeat(colours[..., :1], 3, -1)}
    for path, file in files_of(loaded).items():
        assert np.abs(decoding.whole(file).numpy() - expected[os.path.basename(path)]).max() <= 1.01, path


def test_large_data_sets_are_decoded_only_where_the_end_is_unusual(tmp_path, capsys, monkeypatch):
    from pnas_tf.data import inspection

    monkeypatch.setattr(inspection, "MAX_WHOLE", 1)
    contents = odd_images.files()
    for kind in ("a", "b"):
        for name in ("plain.jpg", "rgb.png", "plain.webp", "plain.gif", "rgb.bmp", "lzw.tiff", "turned6.jpg",
                     "cut5.png", "cut5.jpg", "cut5.webp", "cut9.bmp", "cut9.gif", "cut5.tiff", "flipped5.png"):
            write(str(tmp_path / kind / name), contents[name])
    loaded = data.load(f"folder:{tmp_path}", image_size=16)
    assert "Left out: 12 of 28 image files: cut off" in capsys.readouterr().out
    # A file that is damaged in the middle is named when it is read.
    with pytest.raises(InputError, match=r"/flipped5\.png: cut off or damaged"), data.naming_broken_images(loaded):
        for part in (loaded.train, loaded.held_out, loaded.test):
            list(part.batches(4))
