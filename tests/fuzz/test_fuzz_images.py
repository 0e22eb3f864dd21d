"""Readers of images, limits and models, on damaged inputs."""

import io
import re
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from export import convert, graph
from pnas_tf import data, network
from pnas_tf.cost import limits
from pnas_tf.data import decoding, pictures
from pnas_tf.errors import InputError
from pnas_tf.space.blocks import OpKey


def image(form, mode="RGB", size=(13, 9), **options):
    content = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    PIL.Image.fromarray(pixels, "RGBA").convert(mode).save(content, form, **options)
    return content.getvalue()


IMAGES = {"jpeg": image("JPEG"), "progressive": image("JPEG", progressive=True), "grey": image("JPEG", "L"),
          "png": image("PNG", "RGBA"), "palette": image("PNG", "P"), "gif": image("GIF", "P"), "bmp": image("BMP")}


@tf.function(input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)])
def views(contents, reading):
    """Decodes and crops a file as a data set does, in training and in evaluation."""
    file = decoding.ImageFile(contents, tf.constant("photos/x.jpg"), reading)
    return decoding.random_crop(file, 8, tf.constant([1, 2])), decoding.central_crop(file, 8)


def read(content):
    """Views of a file that a data set has just found."""
    try:
        reading = pictures.header(io.BytesIO(content)).reading
    except pictures.Unreadable as error:
        raise InputError(f"photos/x.jpg: {error}") from None
    return read_later(content, reading)


def read_later(content, reading=6):
    """Views of a file that was a turned JPEG or PNG file when the data set was loaded."""
    with data.naming_broken_images():
        return [view.numpy() for view in views(content, reading)]


def check(images):
    assert all(view.shape == (8, 8, 3) and 0 <= view.min() <= view.max() <= 255 for view in images)


@pytest.mark.parametrize("kind", IMAGES)
def test_images(fuzz, kind):
    assert read(IMAGES[kind])
    fuzz(fuzz.damaged(IMAGES[kind]), read, check, share=0.4)
    fuzz(fuzz.damaged(IMAGES[kind]), read_later, check, share=0.2)


def png(width, height):
    """A file whose header claims a size, and that contains hardly any data."""
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0)) + chunk(
        b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def jpeg(width, height, progressive=False):
    whole = bytearray(image("JPEG", progressive=progressive))
    at = whole.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    whole[at + 5:at + 9] = struct.pack(">HH", height, width)
    return bytes(whole)


@pytest.mark.parametrize("content", [
    png(40_000, 40_000), png(2**31 - 1, 2**31 - 1), jpeg(65_500, 65_500), jpeg(65_500, 65_500, progressive=True),
    b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + image("GIF", "P")[10:],
    b"BM" + image("BMP")[2:18] + struct.pack("<ii", 60_000, -60_000) + image("BMP")[26:]],
    ids=["png", "largest png", "jpeg", "progressive jpeg", "gif", "bmp"])
def test_headers_that_claim_gigabytes(content):
    before = peak_bytes()
    for reader in (read, read_later, lambda content: read_later(content, pictures.BY_PILLOW)):
        with pytest.raises(InputError) as caught:
            reader(content)
        expected = "not a jpeg or png image|not an image" if content[:2] not in (b"\xff\xd8", b"\x89P") else "an image"
        assert re.match(f"photos/x.jpg: (more than 134,217,728 pixels|{expected})", str(caught.value), re.IGNORECASE)
    assert peak_bytes() - before < 200_000_000


def peak_bytes():
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def test_limits(fuzz):
    texts = st.one_of(st.text(max_size=20), fuzz.damaged_text("params<=3e6"),
                      st.text("0123456789.e+-nif_", max_size=8).map(lambda text: f"macs<={text}"))

    def check(limit):
        assert limits.parse(f"{limit[0]}<={limit[1]!r}") == limit and 0 < limit[1] < float("inf")

    fuzz(texts, limits.parse, check, share=2)


def test_models(fuzz):
    whole = convert.to_time(network.build_op(OpKey("mb_k3_e3", (6, 6, 4), 4, 1, False)), "float32")

    assert graph.describe(whole).ops == ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D")
    fuzz(fuzz.damaged(whole), graph.describe)
