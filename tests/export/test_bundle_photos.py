"""The runner of a bundle reads photos as a viewer shows them, and prepares them as the test images were prepared."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from export import bundle_runner
from pnas_tf.data import decoding

WHITE = 255.0


def smooth(height, width, seed=0):
    """A random image without sharp edges, uint8 [height, width, 3]."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(("height", "width"), [(160, 90), (61, 97), (40, 36), (23, 31), (16, 40), (9, 8)])
def test_photo_is_prepared_as_a_test_image(height, width, tmp_path):
    """Shrunk to a tenth and to a half, and enlarged; the reference is the data set's own pipeline."""
    Image.fromarray(smooth(height, width)).save(tmp_path / "photo.png")
    pixels = bundle_runner.read_image(str(tmp_path / "photo.png"))
    ours = bundle_runner.prepare(pixels, (16, 16, 3), decoding.CENTRAL_PART)
    contents = tf.constant((tmp_path / "photo.png").read_bytes())
    reference = decoding.central_crop(decoding.of_contents(contents), 16).numpy()
    assert ours.dtype == np.uint8 and np.abs(ours - reference).max() <= 0.51


def test_whole_images_and_other_shapes():
    """Without a crop, Pillow's bilinear filter is the reference; the central part has the shape of the input."""
    pixels = smooth(64, 64)
    reference = Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.abs(bundle_runner.prepare(pixels, (16, 16, 3), 1.0).astype(int) - np.asarray(reference)).max() <= 1
    reference = Image.fromarray(smooth(90, 80)[15:75]).resize((16, 12), Image.Resampling.BILINEAR)
    ours = bundle_runner.prepare(smooth(90, 80), (12, 16, 3), 1.0)
    assert ours.shape == (12, 16, 3) and np.abs(ours.astype(int) - np.asarray(reference)).max() <= 1
    np.testing.assert_array_equal(bundle_runner.prepare(pixels, (64, 64, 3), 0.875), pixels)  # already prepared


def test_grey():
    pixels = smooth(16, 16)
    grey = bundle_runner.prepare(pixels, (16, 16, 1), 0.875)
    assert np.abs(grey[..., 0].astype(int) - np.asarray(Image.fromarray(pixels).convert("L"))).max() <= 1
    np.testing.assert_array_equal(bundle_runner.prepare(grey, (16, 16, 3), 0.875), np.repeat(grey, 3, -1))


# How each EXIF orientation is stored: the operation that makes the stored pixels from the upright ones.
STORED = {1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: lambda x: x.swapaxes(0, 1),
          6: np.rot90, 7: lambda x: np.rot90(x, 2).swapaxes(0, 1), 8: lambda x: np.rot90(x, -1)}


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("orientation", STORED)
def test_orientation_is_turned(orientation, ending, tmp_path):
    upright, exif, path = smooth(24, 40), Image.Exif(), str(tmp_path / f"photo.{ending}")
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](upright))
    Image.fromarray(stored).save(path, exif=exif, quality=98, subsampling=0)
    assert np.abs(bundle_runner.read_image(path).astype(int) - upright).max() <= (0 if ending == "png" else 8)


def test_transparent_is_white(tmp_path):
    """A black sign on transparent ground stays a sign; hidden colours stay hidden."""
    rng, path = np.random.default_rng(0), str(tmp_path / "sign.png")
    pixels, alpha = rng.integers(0, 256, (9, 9, 3)), rng.integers(0, 256, (9, 9, 1))
    expected = pixels * (alpha / 255) + WHITE * (1 - alpha / 255)
    Image.fromarray(np.concatenate([pixels, alpha], -1).astype(np.uint8)).save(path)
    assert np.abs(bundle_runner.read_image(path) - expected).max() <= 1
    on_colour = pixels * (alpha / 255) + np.array([0, 128, 7]) * (1 - alpha / 255)
    assert np.abs(bundle_runner.read_image(path, [0, 128, 7]) - on_colour).max() <= 1
    grey = np.concatenate([pixels[..., :1], alpha], -1).astype(np.uint8)
    Image.fromarray(grey, "LA").save(path)
    expected = np.repeat(pixels[..., :1] * (alpha / 255) + WHITE * (1 - alpha / 255), 3, -1)
    assert np.abs(bundle_runner.read_image(path) - expected).max() <= 1
    palette = Image.fromarray((np.arange(81).reshape(9, 9) % 2).astype(np.uint8), "P")
    palette.putpalette([200, 0, 0, 0, 0, 200])
    palette.save(path, transparency=0)
    shown = bundle_runner.read_image(path)
    assert shown[0, 0].tolist() == [255, 255, 255] and shown[0, 1].tolist() == [0, 0, 200]


def damaged_files():
    """Contents of files that no photo can be read from, with words of the message."""
    whole = io.BytesIO()
    Image.fromarray(smooth(64, 64)).save(whole, "JPEG")
    deep = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(deep, "PNG")
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(10))), (b"IEND", b"")))
    pickled = io.BytesIO()
    np.save(pickled, np.array([print]), allow_pickle=True)
    return {"text.jpg": (b"not an image", "cannot be read as an image"),
            "cut.jpg": (whole.getvalue()[:-400], "cannot be read as an image"),
            "deep.png": (deep.getvalue(), "more than 8 bits"), "bomb.png": (bomb, "cannot be read as an image"),
            "pickled.npy": (pickled.getvalue(), "cannot be read as an array")}


@pytest.mark.parametrize("name", ["text.jpg", "cut.jpg", "deep.png", "bomb.png", "pickled.npy", "missing.png"])
def test_what_is_no_photo_is_one_line(name, tmp_path):
    content, words = damaged_files().get(name, (None, "cannot be read as an image"))
    if content:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SystemExit, match=words) as ended:
        bundle_runner.read_image(str(tmp_path / name))
    assert str(ended.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(ended.value)


def test_pillow_is_named_where_it_is_missing(tmp_path, monkeypatch):
    Image.fromarray(smooth(8, 8)).save(tmp_path / "photo.jpg")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(SystemExit, match="pip install pillow") as ended:
        bundle_runner.read_image(str(tmp_path / "photo.jpg"))
    assert "\n" not in str(ended.value)
