"""Bounds on image files: bytes, scans, pixels of any frame, and how many large ones are decoded at once."""

import io
import threading

import numpy as np
import PIL.Image
import pytest

from pnas_tf.data import file_ends, jpeg_scans, pictures, plain_jpeg
from tests.attacks import materials
from tests.data import odd_images


def refused(content, match):
    with pytest.raises(pictures.Unreadable, match=match):
        pictures.header(io.BytesIO(content))
    with pytest.raises(pictures.Unreadable, match=match):
        pictures.decode(content, pictures.Rendering())


def test_a_frame_larger_than_its_screen():
    refused(materials.gif((8, 8), [(40_000, 40_000)]), "more than 134,217,728 pixels")


def test_frames_behind_the_first_are_not_decoded():
    content = materials.gif_with_more_frames([(40_000, 40_000)] * 100)
    assert pictures.decode(content, pictures.Rendering()).shape == odd_images.PHOTO.shape


def test_scans_are_counted(tmp_path):
    assert jpeg_scans.count(io.BytesIO(odd_images.encoded(odd_images.PHOTO, "JPEG"))) == 1
    progressive = odd_images.encoded(odd_images.PHOTO, "JPEG", progressive=True)
    assert jpeg_scans.count(io.BytesIO(progressive)) == progressive.count(b"\xff\xda") == 10
    refused(materials.jpeg_of_scans(5000, side=64), "more than 64 scans")
    # A sequential file whose first scan lacks a channel: decoders then read all scans there are.
    plain = odd_images.encoded(odd_images.PHOTO, "JPEG")
    at = plain.index(b"\xff\xda")
    refused(plain[:at] + plain[at:at + 4] + b"\x02" + plain[at + 5:-2] + plain[at:-2] * 100, "more than 64 scans")


def test_plain_files_are_told_without_pillow():
    """Most files are plain JPEG. What is said of them from their first bytes is what Pillow says, too."""
    def told(read, content):
        try:
            return read(io.BytesIO(content), file_ends.read(io.BytesIO(content)))
        except pictures.Unreadable as error:
            return str(error)

    contents = odd_images.files()
    plain = {name for name, content in contents.items() if plain_jpeg.pixels(file_ends.read(io.BytesIO(content)))}
    assert {"plain.jpg", "grey.jpg", "ENDING.JPG", "jpeg_named.png"} <= plain
    assert not {name for name in plain if "turned" in name or "cmyk" in name or "progressive" in name}
    content = contents["plain.jpg"]
    assert pictures.header(None, file_ends.read(io.BytesIO(content))).pixels == odd_images.GREY.size  # no file to open
    head = range(content.index(b"\xff\xda") + 5)
    contents |= {f"{at} {bits}": odd_images.flipped(content, (at + 0.5) / len(content), bits)
                 for at in head for bits in (0xff, 1, 0x10)}
    for name, content in contents.items():
        assert told(pictures.header, content) == told(pictures.by_pillow, content), name


def test_scans_across_chunks(monkeypatch):
    monkeypatch.setattr(jpeg_scans, "_CHUNK_BYTES", 7)
    progressive = odd_images.encoded(odd_images.PHOTO, "JPEG", progressive=True)
    assert jpeg_scans.count(io.BytesIO(progressive)) == 10


def test_odd_files_keep_their_scans():
    """Metadata that looks like scans, and photos of several images, stay within the bound."""
    for name, content in odd_images.files().items():
        if content.startswith(b"\xff\xd8"):
            assert jpeg_scans.count(io.BytesIO(content)) <= 20, name


def test_a_file_of_20_gigabytes(tmp_path):
    with open(tmp_path / "x.png", "w+b") as file:
        file.write(odd_images.encoded(odd_images.PHOTO, "PNG"))
        file.truncate(20 * 10**9)
        with pytest.raises(pictures.Unreadable, match="more than 268,435,456 bytes"):
            pictures.header(file)


def test_wide_images_have_fewer_pixels(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_WIDE_PIXELS", 100)
    refused(odd_images.png(odd_images.PHOTO.astype(np.uint16) * 257, 2), "more than 100 pixels of 16 bits")


def test_large_images_are_decoded_one_at_a_time(monkeypatch):
    monkeypatch.setattr(pictures, "LARGE_PIXELS", 100)
    content, at_once, most = odd_images.encoded(odd_images.PHOTO, "PNG"), [], []
    assert pictures.reading_of(content) == pictures.BY_PILLOW

    real = pictures._upright

    def upright(image):
        at_once.append(1)
        most.append(len(at_once))
        try:
            return real(image)
        finally:
            at_once.pop()

    monkeypatch.setattr(pictures, "_upright", upright)
    threads = [threading.Thread(target=pictures.decode, args=(content, pictures.Rendering())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 8 and max(most) == 1


def test_transparency_is_as_pillow_composes_it():
    rgba = np.random.default_rng(0).integers(0, 256, (64, 64, 4), np.uint8)
    image, behind = PIL.Image.fromarray(rgba), (10, 200, 77)
    alpha = rgba[..., 3:].astype(np.int64)
    expected = (rgba[..., :3] * alpha + np.array(behind) * (255 - alpha) + 127) // 255
    content = odd_images.encoded(np.asarray(image), "PNG")
    assert (pictures.decode(content, pictures.Rendering(behind)) == expected).all()
