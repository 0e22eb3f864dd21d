"""Fingerprints of images: they tell other contents under the same name apart, and nothing else."""

import hashlib
import os
import shutil

import keras
import numpy as np
import pytest

from pnas_tf import data
from pnas_tf.data import file_ends, fingerprint, inspection

PARTS = ("train", "held_out", "test")


def prints(loaded):
    return [getattr(loaded, part).fingerprint for part in PARTS]


def changed(before, after):
    return [part for part, one, other in zip(PARTS, before, after, strict=True) if one != other]


def test_of_arrays():
    x, y = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8), np.arange(40) % 4
    test = (x[:8] ^ 255, y[:8])

    def of(x=x, y=y, test=test):
        return prints(data.from_arrays((x, y), test))

    plain = of()
    assert plain == of() and len(set(plain)) == 3 and all(len(text) == 16 for text in plain)
    labels, pixels = y[:8].astype("<i4").tobytes(), test[0].tobytes()
    assert plain[2] == hashlib.sha256(labels + pixels).hexdigest()[:16]
    other = x.copy()
    other[data.from_arrays((x, y), test).train._members.numpy()[-1], -1, -1, -1] ^= 1  # one bit
    assert changed(plain, of(x=other)) == ["train"]
    assert changed(plain, of(test=(test[0], test[1][::-1]))) == ["test"]
    assert changed(plain, of(x=x[::-1])) == ["train", "held_out"]


@pytest.fixture
def photos(tmp_path):
    """A folder of uncompressed images, whose files are of one size whatever they show."""
    random = np.random.default_rng(0)
    for label in ("cat", "dog"):
        for number in range(10):
            path = tmp_path / "photos" / label / f"{number}.ppm"
            path.parent.mkdir(parents=True, exist_ok=True)
            keras.utils.save_img(path, random.integers(0, 256, (40, 40, 3)), scale=False)
    return tmp_path / "photos"


def of_folder(path):
    return prints(data.load(f"folder:{path}", image_size=8))


def test_of_folders(photos, tmp_path):
    before = of_folder(photos)
    assert len(set(before)) == 3 and before == of_folder(photos)
    shutil.copytree(photos, tmp_path / "copy", copy_function=shutil.copyfile)  # elsewhere, with other times
    assert before == of_folder(tmp_path / "copy")

    path = photos / "cat" / "3.ppm"
    content, times = bytearray(path.read_bytes()), os.stat(path)
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # the same name, size and time
    assert len(changed(before, of_folder(photos))) == 1

    os.rename(photos / "dog" / "1.ppm", tmp_path / "moved")
    os.rename(photos / "cat" / "1.ppm", photos / "dog" / "1.ppm")
    os.rename(tmp_path / "moved", photos / "cat" / "1.ppm")  # other labels
    assert "train" in changed(before, of_folder(photos))


def test_of_many_files_by_their_ends(photos, monkeypatch):
    """In large data sets, the middle of a large file is not read."""
    monkeypatch.setattr(inspection, "MAX_WHOLE", 5)
    monkeypatch.setattr(file_ends, "END_BYTES", 64)
    before = of_folder(photos)
    # Parts that would be read whole on their own say so: their fingerprints were others in earlier versions.
    assert [text[16:] for text in before] == ["", " of the ends of files", " of the ends of files"]
    path = photos / "cat" / "3.ppm"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert before == of_folder(photos)
    content[-1] ^= 1
    path.write_bytes(content)
    assert len(changed(before, of_folder(photos))) == 1


def test_the_digest_of_a_file(photos):
    path = photos / "cat" / "3.ppm"
    content = path.read_bytes()
    assert fingerprint.of_contents(content) == hashlib.sha256(len(content).to_bytes(8, "little") + content).digest()
    long = content * (1 + fingerprint.WHOLE_BYTES // len(content))
    with open(path, "wb") as file:
        file.write(long)
    expected = hashlib.sha256(len(long).to_bytes(8, "little") + long[:4096] + long[-4096:]).digest()
    with open(path, "rb") as file:
        assert fingerprint.of_contents(long) == expected == fingerprint.of_ends(file_ends.read(file))


def test_files_are_not_read_again(photos):
    """A fingerprint is of the files as they were when the data set was loaded."""
    loaded = data.load(f"folder:{photos}", image_size=8)
    before = of_folder(photos)
    shutil.rmtree(photos)
    assert prints(loaded) == before
