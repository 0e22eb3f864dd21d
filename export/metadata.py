"""Metadata inside a `.tflite`, which tells Android's tools and MediaPipe about its input and output.

The format is TensorFlow Lite's. A buffer that the model names TFLITE_METADATA holds a flatbuffer ModelMetadata
(metadata_schema.fbs, file identifier M001). The label file is in an uncompressed zip archive that is appended to the
model, so `unzip` opens it too.
"""

import dataclasses
import io
import struct
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from export import graph as graph_lib
from export import litert
from pnas_tf import files as files_lib
from pnas_tf.errors import InputError, printable

BUFFER_NAME = "TFLITE_METADATA"
LABEL_FILE = "labels.txt"
MAX_LABELS_BYTES = 10_000_000
METADATA_IDENTIFIER = b"M001"
PARSER_VERSION = "1.0.0"

# Members of the schema's enums and unions.
_AXIS_LABELS = 2
_COLOR_SPACES = {3: 1, 1: 2}  # RGB and GRAYSCALE by number of channels; 0 is unknown
_IMAGE_PROPERTIES, _FEATURE_PROPERTIES = 2, 1
_NORMALIZATION_OPTIONS = 1


@dataclasses.dataclass(frozen=True)
class Info:
    """Content of the metadata.

    Attributes:
        name: Name of the model.
        description: Description for people, which also says how the model is quantised.
        version: Version of the model.
        author: Author of the model.
        license: Licence of the model.
        image_shape: Height, width and channels of the input.
        input_description: Description of the input.
        mean: Mean in `(pixel - mean) / std`, which an app applies to pixels 0..255; one value, or one per channel.
        std: Standard deviation in the same formula; as many values.
        output_name: Name of the output, such as `logits`.
        output_description: Description of the output.
        labels: Class names by position of the output.
    """

    name: str
    description: str
    version: str
    author: str
    license: str
    image_shape: tuple[int, int, int]
    input_description: str
    mean: Sequence[float]
    std: Sequence[float]
    output_name: str
    output_description: str
    labels: Sequence[str]


def add(content: bytes, info: Info) -> bytes:
    """Adds metadata and packed labels to a `.tflite`. The network does not change."""
    return pack(attach(content, build(info)), {LABEL_FILE: label_text(info.labels).encode()})


def label_text(labels: Sequence[str]) -> str:
    """Text of a label file: one name per line, with `?` in place of control characters."""
    return "".join(printable(label, MAX_LABELS_BYTES) + "\n" for label in labels)


def build(info: Info) -> bytes:
    """Builds the metadata flatbuffer."""
    import flatbuffers

    b = flatbuffers.Builder(1024)
    height, width, channels = info.image_shape
    size = _table(b, uint32={0: width, 1: height})
    properties = _table(b, int8={0: _COLOR_SPACES.get(channels, 0)}, offset={1: size})
    unit = _table(b, uint8={0: _NORMALIZATION_OPTIONS},
                  offset={1: _table(b, offset={0: _floats(b, info.mean), 1: _floats(b, info.std)})})
    low, high = ([(edge - mean) / std for mean, std in zip(info.mean, info.std, strict=True)] for edge in (0, 255))
    image = _table(b, offset={
        0: b.CreateString("image"), 1: b.CreateString(info.input_description),
        3: _table(b, uint8={0: _IMAGE_PROPERTIES}, offset={1: properties}), 4: _vector(b, [unit]),
        5: _table(b, offset={0: _floats(b, high), 1: _floats(b, low)})})
    labels = _table(b, int8={2: _AXIS_LABELS}, offset={
        0: b.CreateString(LABEL_FILE), 1: b.CreateString("Class names by position of the output.")})
    logits = _table(b, offset={
        0: b.CreateString(info.output_name), 1: b.CreateString(info.output_description),
        3: _table(b, uint8={0: _FEATURE_PROPERTIES}, offset={1: _table(b)}), 6: _vector(b, [labels])})
    graph = _table(b, offset={2: _vector(b, [image]), 3: _vector(b, [logits])})
    model = _table(b, offset={
        0: b.CreateString(info.name), 1: b.CreateString(info.description), 2: b.CreateString(info.version),
        3: _vector(b, [graph]), 4: b.CreateString(info.author), 5: b.CreateString(info.license),
        7: b.CreateString(PARSER_VERSION)})
    b.Finish(model, METADATA_IDENTIFIER)
    return bytes(b.Output())


def attach(content: bytes, metadata: bytes) -> bytes:
    """Puts a metadata buffer into a model; weights keep their alignment."""
    schema = litert.schema()

    model = graph_lib.unpack(content)
    model.metadata = [entry for entry in model.metadata or [] if entry.name != BUFFER_NAME.encode()]
    entry, buffer = schema.MetadataT(), schema.BufferT()
    entry.name, entry.buffer = BUFFER_NAME, len(model.buffers)
    buffer.data = np.frombuffer(metadata, np.uint8)
    model.metadata.append(entry)
    model.buffers.append(buffer)
    return graph_lib.pack(model)


def pack(content: bytes, files: Mapping[str, bytes]) -> bytes:
    """Appends files to a model as an uncompressed zip archive; the same files give the same bytes."""
    packed = io.BytesIO(content)
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    return packed.getvalue()


def read_labels(path: str) -> list[str]:
    """Reads the class names from a `.tflite` with packed labels.

    Raises:
        InputError: If the file has no labels.
    """
    try:
        with files_lib.opened(path) as file, zipfile.ZipFile(file) as archive:
            entry = archive.getinfo(LABEL_FILE)
            # `pack` does not compress; a compressed entry may expand to any size. zipfile allocates both stated sizes.
            if entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size <= MAX_LABELS_BYTES:
                return archive.read(entry).decode().removesuffix("\n").split("\n")
    except (OSError, KeyError, ValueError, RuntimeError, NotImplementedError, EOFError, OverflowError, struct.error,
            zipfile.BadZipFile):
        pass
    raise InputError(f"{path}: no {LABEL_FILE} in it. Export the network again: python -m export.tflite")


def _table(b, *, offset=None, uint32=None, uint8=None, int8=None):
    """Writes a table of fields by slot, their position in the schema; a union takes two slots, for type and value."""
    kinds = ((offset or {}, b.PrependUOffsetTRelativeSlot), (uint32 or {}, b.PrependUint32Slot),
             (uint8 or {}, b.PrependUint8Slot), (int8 or {}, b.PrependInt8Slot))
    b.StartObject(1 + max((slot for fields, _ in kinds for slot in fields), default=-1))
    for fields, prepend in kinds:
        for slot, value in fields.items():
            prepend(slot, value, 0)
    return b.EndObject()


def _vector(b, offsets):
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()


def _floats(b, values):
    return b.CreateNumpyVector(np.asarray(values, np.float32))
