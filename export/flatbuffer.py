"""A `.tflite` as objects and back to bytes, with its constants where kernels want them."""

from typing import Any

import numpy as np

MODEL_IDENTIFIER = b"TFL3"
BUFFER_ALIGNMENT = 16  # as the TFLite schema asks (force_align): kernels read weights where they lie


def unpack(content: bytes) -> Any:
    """The schema's `ModelT` of a `.tflite` that a converter of this process wrote or an interpreter has accepted."""
    from tensorflow.lite.python import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(content, 0)


def pack(model: Any) -> bytes:
    """The `.tflite` of a `ModelT`; what is appended to a file (labels) is not part of it."""
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    buffers = model.buffers
    builder = flatbuffers.Builder(4096 + sum(len(buffer.data) for buffer in buffers if buffer.data is not None))
    model.buffers = [_AlignedBuffer(schema, buffer.data) for buffer in buffers]
    try:
        builder.Finish(model.Pack(builder), MODEL_IDENTIFIER)
    finally:
        model.buffers = buffers
    return bytes(builder.Output())


class _AlignedBuffer:
    """In place of the schema's BufferT, which packs data without the alignment that the schema asks for."""

    def __init__(self, schema: Any, data: Any):
        self._schema, self._data = schema, None if data is None else np.asarray(data, np.uint8).tobytes()

    def Pack(self, builder: Any) -> int:
        if self._data is not None:
            size = len(self._data)
            builder.StartVector(1, size, BUFFER_ALIGNMENT)
            builder.head = builder.head - size
            builder.Bytes[builder.head:builder.head + size] = self._data
            data = builder.EndVector()
        self._schema.BufferStart(builder)
        if self._data is not None:
            self._schema.BufferAddData(builder, data)
        return self._schema.BufferEnd(builder)
