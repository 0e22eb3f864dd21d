"""Readers of arrays, of data sets in files, and of files packed into a .tflite or beside it."""

import gzip
import io
import json
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from export import apps, bundle, bundle_readme, metadata, recommend
from pnas_tf import import_weights
from pnas_tf.data import folders, labelled, readers

RNG = np.random.default_rng(0)
ARRAYS = {"x_train": RNG.integers(0, 256, (12, 4, 4), np.uint8), "y_train": np.arange(12) % 3,
          "x_test": RNG.integers(0, 256, (6, 4, 4), np.uint8), "y_test": np.arange(6) % 3,
          "class_names": np.array(["a", "b", "c"])}
REQUIRED = [name for name in ARRAYS if name != "class_names"]
# Facts of an export whose `.tflite` is the four bytes TFL3.
FACTS = json.loads((Path(__file__).parents[1] / "samples" / "export_facts.json").read_text())


def npz(save=np.savez, **arrays):
    content = io.BytesIO()
    save(content, **arrays)
    return content.getvalue()


@pytest.fixture
def write(tmp_path):
    """Function that writes a file into the folder of the test, and returns its path."""
    def to(name, content):
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)
    return to


def checked(arrays):
    """Checks arrays as a data set does."""
    names = arrays.pop("class_names", np.array([])).ravel().tolist()
    return labelled.checked(labelled.Labelled(**arrays, class_names=names), "npz:file.npz", None)


def check_images(images):
    assert images.x_train.dtype == np.uint8 and images.x_train.ndim == 4 and not images.is_files
    assert images.y_train.dtype == np.int32 and images.y_train.min() == 0
    assert images.y_test.max() < len(images.class_names) == images.y_train.max() + 1


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_of_images(fuzz, write, save):
    def read(content):
        path = write("file.npz", content)
        return checked(readers.read_npz(path, REQUIRED, optional=["class_names"]))

    fuzz(fuzz.damaged(npz(save, **ARRAYS)), read, check_images, share=2)


def test_npz_of_other_arrays(fuzz, write):
    """Intact archives with arrays of every kind, which do not fit together."""
    shapes = st.lists(st.integers(0, 4), max_size=5).map(tuple)
    kinds = st.sampled_from(["u1", "i8", "f4", "f8", "c8", "?", "S3", "U3", "M8[s]", "V2", "i1,f4", "u8", ">i2"])
    others = st.builds(lambda shape, kind, value: np.zeros(shape, kind) if kind in ("V2", "i1,f4")
                       else np.full(shape, value).astype(kind), shapes, kinds, st.integers(0, 3))
    archives = st.dictionaries(st.sampled_from(sorted(ARRAYS)), others, max_size=2).map(
        lambda arrays: npz(**{**ARRAYS, **arrays}))

    def read(content):
        return checked(readers.read_npz(write("file.npz", content), REQUIRED, optional=["class_names"]))

    fuzz(archives, read, check_images, share=2)


HEADERS = [b"{'descr': '|u1', 'fortran_order': False, 'shape': (100000, 100000), }",
           b"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }", b"(" * 5000, b"-" * 9000 + b"1",
           b"{'descr': '<U2000000000', 'fortran_order': False, 'shape': (5,), }",
           b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 3), }",
           b"{'descr': [('a', '|u1', (1000000000,))], 'fortran_order': False, 'shape': (9,), }",
           b"{'descr': '|u1', 'fortran_order': False, 'shape': (1" + b"0" * 3000 + b",), }", b"__import__('os')"]


def test_npz_of_hostile_headers(fuzz, write):
    def archive(drawn):
        header, version, method, name, lie = drawn
        content, data = io.BytesIO(), header + b"\n"
        size = struct.pack("<H" if version == 1 else "<I", len(data) & 0xFFFF if version == 1 else len(data))
        with zipfile.ZipFile(content, "w", method) as file:
            file.writestr(name, b"\x93NUMPY" + bytes([version, 0]) + size + data + b"\x07" * 16)
        return content.getvalue().replace(struct.pack("<I", len(data) + 10 + 16), struct.pack("<I", lie)) if lie \
            else content.getvalue()

    headers = st.one_of(st.sampled_from(HEADERS), st.sampled_from(HEADERS).flatmap(fuzz.damaged))
    archives = st.tuples(headers, st.sampled_from([1, 2, 3, 9]),
                         st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA,
                                          zipfile.ZIP_BZIP2]),
                         st.sampled_from(["x.npy", "x", "../../x.npy", "/x.npy"]),
                         st.sampled_from([0, 0, 2**32 - 2, 2**31])).map(archive)
    fuzz(archives, lambda content: readers.read_npz(write("file.npz", content), ["x"]))
    assert os.listdir(os.path.dirname(write("file.npz", b""))) == ["file.npz"]


def test_weights(fuzz, write):
    state = npz(**{"classifier.linear.bias": np.zeros(3, np.float32), "first_conv.bn.bias": np.ones(4, np.float64)})

    def check(state):
        assert all(value.dtype.kind in "fiu" for value in state.values())

    fuzz(fuzz.damaged(state), lambda content: import_weights.read_state(write("file.npz", content)), check)


def test_idx(fuzz, write):
    array = RNG.integers(0, 256, (5, 3, 4), np.uint8)
    whole = b"\0\0\x08\x03" + struct.pack(">3I", *array.shape) + array.tobytes()
    packed = st.one_of(fuzz.damaged(whole).map(lambda content: gzip.compress(content, 1)),
                       fuzz.damaged(gzip.compress(whole)))
    claims = st.lists(st.sampled_from([0, 1, 60000, 2**31, 2**32 - 1]), min_size=1, max_size=4).map(
        lambda shape: gzip.compress(b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + whole))

    def check(array):
        assert array.dtype == np.uint8 and array.nbytes < 10_000

    fuzz(st.one_of(packed, claims), lambda content: readers.read_idx(write("x.gz", content)), check, share=2)


def test_cifar_binary(fuzz, write):
    record = bytes([7]) + bytes(3072)
    for number in range(1, 6):
        write(f"data_batch_{number}.bin", record * 2)

    def check(arrays):
        assert arrays[0].shape[1:] == (32, 32, 3) and len(arrays[2]) == len(arrays[3]) > 0

    fuzz(st.one_of(fuzz.damaged(record * 3), st.integers(0, 4).map(lambda count: record * count)),
         lambda content: readers.read_cifar10_binary(os.path.dirname(write("test_batch.bin", content))), check)


def test_offsets_of_jpeg_archives(fuzz):
    offsets = st.lists(st.integers(-3, 30), max_size=6).map(lambda values: np.array(values, np.int64))

    def check(files):
        assert b"".join(files) == bytes(range(20)) and all(files)

    fuzz(st.one_of(offsets, st.just(np.array([0, 5, 20]))),
         lambda drawn: readers.cut(np.arange(20, dtype=np.uint8), drawn, "x"), check)


def test_folders_of_any_names(tmp_path):
    """Pipes and folders are no images. Names of classes are shown without control characters."""
    for name in ("cat", "dog\n\x1b[2J", "$(touch pwned)"):
        os.makedirs(tmp_path / name / "x.png")
        os.mkfifo(tmp_path / name / "pipe.jpg")
        (tmp_path / name / "a.jpg").write_bytes(b"")
    images, _, names = folders.listed(str(tmp_path))
    assert [os.path.basename(path) for path in images.paths] == [b"a.jpg"] * 3 and images.labels.tolist() == [0, 1, 2]
    assert metadata.label_text(names).splitlines() == ["$(touch pwned)", "cat", "dog??[2J"]


def test_labels_of_models(fuzz, write):
    whole = metadata.pack(b"TFL3" * 20, {metadata.LABEL_FILE: b"cat\ndog\n"})
    compressed = io.BytesIO()
    with zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(metadata.LABEL_FILE, b"\n" * 20_000_000)

    def check(labels):
        assert sum(map(len, labels)) < 10_000

    fuzz(st.one_of(fuzz.damaged(whole), st.just(compressed.getvalue()), st.just(whole)),
         lambda content: metadata.read_labels(write("x.tflite", content)), check, share=2)


def test_facts_of_exports(fuzz, write):
    folder = os.path.dirname(write("int8.tflite", b"TFL3"))

    def read(document):
        write("int8.json", json.dumps(document).encode())
        return bundle.read_export(folder, "int8")[1]

    def check(document):
        assert np.all(np.array(document["normalisation"]["std"]) > 0) and len(document["image_shape"]) == 3
        mode, reason = recommend.recommended({"int8": document})
        assert mode in bundle_readme.render([document], reason, apps.render(document))

    fuzz(fuzz.changed(FACTS), read, check, share=2)
