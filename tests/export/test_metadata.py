"""Metadata of a `.tflite` is read back by a reader that knows only the layout of flatbuffers, and by MediaPipe."""

import dataclasses
import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from PIL import Image

from export import bundle_runner, convert, facts, inputs, interpreter, metadata, tflite
from export.settings import ExportConfig
from pnas_tf.errors import InputError

NAMES = ["top half", "bottom half", "middle columns", "äußere Spalten 外列"]
INFO = metadata.Info("net", "what it is", "0.1", "A. Person", "MIT", (16, 20, 3), "pixels", (1.0, 2.0, 3.0),
                     (4.0, 5.0, 8.0), "logits", "logits, one a class", NAMES)


class Table:
    """A flatbuffer table, read by the rules of the format: it points back to a vtable of 16-bit field offsets."""

    def __init__(self, data, position):
        self.data, self.position = data, position
        self.vtable = position - struct.unpack_from("<i", data, position)[0]

    def _at(self, slot):
        size = struct.unpack_from("<H", self.data, self.vtable)[0]
        offset = struct.unpack_from("<H", self.data, self.vtable + 4 + 2 * slot)[0] if 4 + 2 * slot < size else 0
        return self.position + offset if offset else None

    def _follow(self, position):
        return position + struct.unpack_from("<I", self.data, position)[0]

    def number(self, slot, kind):
        return struct.unpack_from(kind, self.data, self._at(slot))[0]

    def text(self, slot):
        start = self._follow(self._at(slot))
        size = struct.unpack_from("<I", self.data, start)[0]
        return self.data[start + 4:start + 4 + size].decode()

    def table(self, slot):
        return Table(self.data, self._follow(self._at(slot)))

    def tables(self, slot):
        start = self._follow(self._at(slot))
        count = struct.unpack_from("<I", self.data, start)[0]
        return [Table(self.data, self._follow(start + 4 + 4 * i)) for i in range(count)]

    def floats(self, slot):
        start = self._follow(self._at(slot))
        return list(struct.unpack_from(f"<{struct.unpack_from('<I', self.data, start)[0]}f", self.data, start + 4))


def metadata_of(content):
    """The buffer that a model names TFLITE_METADATA."""
    model = schema.Model.GetRootAs(content, 0)
    entries = {model.Metadata(i).Name(): model.Metadata(i).Buffer() for i in range(model.MetadataLength())}
    return model.Buffers(entries[b"TFLITE_METADATA"]).DataAsNumpy().tobytes()


def test_fields_stand_where_the_schema_says():
    data = metadata.build(INFO)
    assert data[4:8] == b"M001"
    model = Table(data, struct.unpack_from("<I", data)[0])
    assert [model.text(slot) for slot in (0, 1, 2, 4, 5, 7)] == ["net", "what it is", "0.1", "A. Person", "MIT",
                                                                 "1.0.0"]
    graph, = model.tables(3)
    image, logits = graph.tables(2)[0], graph.tables(3)[0]
    assert (image.text(0), image.text(1)) == ("image", "pixels")
    content = image.table(3)
    assert content.number(0, "<B") == 2  # ImageProperties
    assert content.table(1).number(0, "<b") == 1  # RGB
    assert [content.table(1).table(1).number(slot, "<I") for slot in (0, 1)] == [20, 16]  # width, height
    unit, = image.tables(4)
    assert unit.number(0, "<B") == 1  # NormalizationOptions
    assert (unit.table(1).floats(0), unit.table(1).floats(1)) == ([1.0, 2.0, 3.0], [4.0, 5.0, 8.0])
    np.testing.assert_allclose(image.table(5).floats(0), [254 / 4, 253 / 5, 252 / 8])  # largest
    np.testing.assert_allclose(image.table(5).floats(1), [-1 / 4, -2 / 5, -3 / 8])  # smallest
    labels, = logits.tables(6)
    assert labels.text(0) == "labels.txt" and labels.number(2, "<b") == 2  # TENSOR_AXIS_LABELS


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_colour_space(channels):
    info = dataclasses.replace(INFO, image_shape=(8, 8, channels))
    data = metadata.build(info)
    properties = Table(data, struct.unpack_from("<I", data)[0]).tables(3)[0].tables(2)[0].table(3).table(1)
    if channels == 5:
        assert properties._at(0) is None  # unknown is the default
    else:
        assert properties.number(0, "<b") == {1: 2, 3: 1}[channels]


def test_model_is_the_same_with_metadata(small_model, small_data):
    plain = convert.convert(small_model, "float32")
    whole = metadata.add(plain, INFO)
    images = np.random.default_rng(0).standard_normal((5, 16, 16, 3)).astype(np.float32)
    before, after = (interpreter.run(interpreter.make_interpreter(content), images) for content in (plain, whole))
    np.testing.assert_array_equal(before, after)
    assert convert.describe(plain) == convert.describe(whole)
    assert metadata.add(plain, INFO) == whole  # the same bytes every time
    once, twice = metadata_of(whole), metadata_of(metadata.attach(whole, b"other"))
    assert once == metadata.build(INFO) and twice == b"other"


def test_weights_stay_aligned(small_model):
    """The schema demands multiples of 16 bytes, because kernels read weights in place."""
    content = metadata.add(convert.convert(small_model, "float32"), INFO)
    model, base = schema.Model.GetRootAs(content, 0), np.frombuffer(content, np.uint8).ctypes.data
    buffers = [model.Buffers(i).DataAsNumpy() for i in range(model.BuffersLength()) if model.Buffers(i).DataLength()]
    assert len(buffers) > 10
    assert {(buffer.ctypes.data - base) % 16 for buffer in buffers} == {0}


def test_labels_are_an_uncompressed_zip_at_the_end(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(metadata.pack(b"a model", {"labels.txt": metadata.label_text(["a", "b\nc", "é"]).encode()}))
    with zipfile.ZipFile(path) as archive:
        entry, = archive.infolist()
        assert (entry.filename, entry.compress_type) == ("labels.txt", zipfile.ZIP_STORED)
        assert archive.read(entry).decode() == "a\nb?c\né\n"  # a name cannot make two lines
    assert metadata.read_labels(str(path)) == ["a", "b?c", "é"]
    path.write_bytes(b"a model")
    with pytest.raises(InputError, match=r"no labels\.txt"):
        metadata.read_labels(str(path))


@pytest.mark.parametrize("mode", facts.MODES)
def test_exported_files_describe_themselves(small_run, mode):
    content = (small_run / f"{mode}.tflite").read_bytes()
    data = metadata_of(content)
    model = Table(data, struct.unpack_from("<I", data)[0])
    assert model.text(0) == f"small {mode}" and (model.text(4), model.text(5)) == ("A. Person", "Apache-2.0")
    assert "Quantisation:" in model.text(1)
    image = model.tables(3)[0].tables(2)[0]
    assert image.tables(4)[0].table(1).floats(0) == [0.0] and image.tables(4)[0].table(1).floats(1) == [1.0]
    assert ("uint8, scale 1, zero point 0" in image.text(1)) == mode.startswith("int8")
    assert metadata.read_labels(str(small_run / f"{mode}.tflite")) == NAMES


def test_normalised_input_says_how(small_model, small_data, tmp_path):
    config = ExportConfig(mode=("float32",), timing_seconds=0, input="normalised", check_images=50)
    tflite.run(model=small_model, data=small_data, config=config, out_dir=str(tmp_path))
    data = metadata_of((tmp_path / "float32.tflite").read_bytes())
    options = Table(data, struct.unpack_from("<I", data)[0]).tables(3)[0].tables(2)[0].tables(4)[0].table(1)
    np.testing.assert_allclose(options.floats(0), small_data.mean, rtol=1e-6)
    np.testing.assert_allclose(options.floats(1), small_data.std, rtol=1e-6)


@pytest.mark.slow
def test_mediapipe_reads_every_mode(small_run, grey_run, small_model, small_arch, small_data, tmp_path):
    """MediaPipe's ImageClassifier returns our names and classes, and its displayer prints our fields."""
    environment = tmp_path / "mediapipe"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    subprocess.run([environment / "bin" / "pip", "install", "-q", "mediapipe==1.2.2"], check=True)
    files = [str(small_run / f"{mode}.tflite") for mode in facts.MODES]
    for int8_io in ("float32", "int8"):
        config = ExportConfig(mode=("int8",), int8_io=int8_io, author="A. Person", license="Apache-2.0",
                              timing_seconds=0)
        tflite.run(model=small_model, data=small_data, config=config, out_dir=str(tmp_path / int8_io), arch=small_arch)
    files.append(str(tmp_path / "float32" / "int8.tflite"))
    drawn = inputs.draw(small_data.test, 300, 0, form="pixels", mean=small_data.mean, std=small_data.std)
    np.save(tmp_path / "images.npy", drawn.inputs.astype(np.uint8))
    program = Path(__file__).parents[1] / "programs" / "mediapipe_reader.py"
    command = [environment / "bin" / "python", "-I", program, tmp_path / "images.npy"]
    answers = json.loads(subprocess.run([*command, *files], check=True, capture_output=True, text=True).stdout)
    assert list(answers) == files
    for path, answer in answers.items():
        logits = interpreter.run(interpreter.make_interpreter(path), drawn.inputs)
        predicted = [NAMES[index] for index in logits.argmax(1)]
        assert np.mean([ours == theirs for ours, theirs in zip(predicted, answer["names"], strict=True)]) >= 0.99, path
        np.testing.assert_allclose(answer["scores"], logits.max(1), atol=0.1 if "int8" in path else 1e-3)
        assert np.mean([NAMES[label] == name for label, name in zip(drawn.labels, answer["names"], strict=True)]) > 0.9
        assert answer["files"] == ["labels.txt"] and answer["labels"].splitlines() == NAMES
        shown = answer["metadata"]
        assert (shown["author"], shown["license"]) == ("A. Person", "Apache-2.0")
        assert shown["name"] == f"small {Path(path).stem}" and "Quantisation:" in shown["description"]
        image, = shown["subgraph_metadata"][0]["input_tensor_metadata"]
        assert image["content"]["content_properties"]["color_space"] == "RGB"
        assert image["process_units"][0]["options"] == {"mean": [0.0], "std": [1.0]}
    # A photo without fine detail gives, by its central part, what run.py of a bundle gives.
    photo = Image.fromarray(drawn.inputs[0].astype(np.uint8)).resize((64, 48), Image.Resampling.BICUBIC)
    photo.save(tmp_path / "photo.png")
    pixels = bundle_runner.prepare(bundle_runner.read_image(str(tmp_path / "photo.png")), (16, 16, 3), 0.875)
    arguments = [*command[:3], tmp_path / "photo.png", "0.875", *files[:-1]]
    answers = json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
    for path, scores in answers.items():
        logits, = interpreter.run(interpreter.make_interpreter(path), pixels[None].astype(np.float32))
        assert max(scores, key=scores.get) == NAMES[logits.argmax()]
        np.testing.assert_allclose([scores[name] for name in NAMES], logits, atol=0.1 * np.abs(logits).max())
    # Networks of grey images that take colour images.
    np.save(tmp_path / "images.npy", np.repeat(drawn.inputs[..., :1], 3, -1).astype(np.uint8))
    files = [str(grey_run / f"{mode}.tflite") for mode in facts.MODES]
    answers = json.loads(subprocess.run([*command, *files], check=True, capture_output=True, text=True).stdout)
    for path, answer in answers.items():
        assert np.mean([NAMES[label] == name for label, name in zip(drawn.labels, answer["names"], strict=True)]) > 0.9
        assert answer["metadata"]["name"] == f"small {Path(path).stem}"
    # MediaPipe takes no int8 input, as the model card says.
    done = subprocess.run([*command, tmp_path / "int8" / "int8.tflite"], check=False, capture_output=True, text=True)
    assert done.returncode and "int8" in done.stderr.lower()


def test_pixel_layer_is_named(small_model, small_data):
    content = convert.convert(inputs.with_pixel_input(small_model, small_data.mean, small_data.std), "float32")
    assert any(inputs.LAYER_NAME in tensor.name for tensor in convert.describe(content).tensors)
