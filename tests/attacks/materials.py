"""What attackers put in the place of a file: functions that make it at a path."""

import io
import json
import os
import struct
import zipfile
import zlib

import numpy as np

from tests.data import odd_images


def content(value):
    """A file of these bytes, text or JSON values."""
    def make(path):
        data = value if isinstance(value, bytes) else (value if isinstance(value, str) else json.dumps(value)).encode()
        with open(path, "wb") as file:
            file.write(data)

    return make


def repeated(part, total_bytes, before=b"", after=b""):
    """A file that repeats some bytes."""
    return lambda path: content(before + part * (total_bytes // len(part)) + after)(path)


def sparse(total_bytes, before=b""):
    """A file of zeros that takes no space on the disk."""
    def make(path):
        with open(path, "wb") as file:
            file.write(before)
            file.truncate(total_bytes)

    return make


def link(target):
    """A link; a relative target starts at the folder of the link."""
    return lambda path: os.symlink(target, path)


fifo, folder = os.mkfifo, os.mkdir
zeros, endless = link("/dev/zero"), link("/dev/urandom")


def gif(screen, frames):
    """A GIF of a screen and of frames with sizes of their own, which have a single pixel of data."""
    return b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6) + _gif_frames(frames) + b";"


def gif_with_more_frames(frames):
    """A good GIF, and more frames."""
    return odd_images.encoded(odd_images.GREY, "GIF")[:-1] + _gif_frames(frames) + b";"


def _gif_frames(frames):
    return b"".join(b"," + struct.pack("<HHHHB", 0, 0, *size, 0) + b"\x02\x02\x4c\x01\x00" for size in frames)


def jpeg_of_scans(scans, side=512):
    """A progressive JPEG that repeats its last scan."""
    data = odd_images.encoded(np.zeros((side, side, 3), np.uint8), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:at] + data[at:-2] * scans + data[-2:]


def png_claiming(width, height):
    """A PNG whose header claims a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + odd_images.chunk(b"IHDR", header) + odd_images.chunk(
        b"IDAT", zlib.compress(bytes(1000))) + odd_images.chunk(b"IEND", b"")


def tiff_of_frames(frames):
    """A TIFF with many frames."""
    import PIL.Image

    out, image = io.BytesIO(), PIL.Image.new("L", (8, 8))
    image.save(out, "TIFF", save_all=True, append_images=[image] * (frames - 1))
    return out.getvalue()


def photos(bad, name):
    """Files of a folder data set of two classes, one of which has a bad file."""
    good = content(odd_images.encoded(odd_images.PHOTO, "PNG"))
    return {**{f"photos/{kind}/{number}.png": good for kind in "ab" for number in range(6)}, f"photos/a/{name}": bad}


def array(shape, dtype="|u1", body=b""):
    """The bytes of a .npy file that claims a shape."""
    header = repr({"descr": dtype, "fortran_order": False, "shape": tuple(shape)}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def archive(members, method=zipfile.ZIP_STORED):
    """A zip archive, whatever is in it."""
    def make(path):
        with zipfile.ZipFile(path, "w", method) as file:
            for name, data in members.items():
                file.writestr(name, data() if callable(data) else data)

    return make


def zeros_array(size):
    """A function that makes a .npy of zeros, so that gigabytes exist only while an attack is prepared."""
    return lambda: array((size,), "|u1", bytes(size))


def packed_archive(names, size, method=zipfile.ZIP_BZIP2):
    """An archive of arrays of zeros, each of which unpacks to `size` bytes."""
    return archive({f"{name}.npy": zeros_array(size) for name in names}, method)


def jpeg_archive(claims, count=50):
    """A cifar10_jpeg.npz of a few kB whose images claim a size."""
    one = odd_images.claiming(odd_images.encoded(np.zeros((8, 8, 3), np.uint8), "JPEG"), b"\xff\xc0", 5,
                              struct.pack(">HH", *claims))
    whole = {}
    for part in ("train", "test"):
        whole |= {f"{part}_jpeg": np.frombuffer(one * count, np.uint8), f"{part}_labels": np.arange(count) % 10,
                  f"{part}_offsets": np.arange(count + 1) * len(one)}
    data = io.BytesIO()
    np.savez_compressed(data, **whole)
    return content(data.getvalue())


def keras_file(config, weights=b""):
    """A .keras file."""
    return archive({"metadata.json": json.dumps({"keras_version": "3.15.0", "date_saved": ""}),
                    "config.json": config if isinstance(config, bytes) else json.dumps(config),
                    "model.weights.h5": weights}, zipfile.ZIP_DEFLATED)


def dense(units, inputs=8, layers=1):
    """Config of a Keras model of dense layers."""
    def layer(number):
        return {"module": "keras.layers", "class_name": "Dense", "config": {"name": f"d{number}", "units": units},
                "registered_name": None}

    first = {"module": "keras.layers", "class_name": "InputLayer", "registered_name": None,
             "config": {"batch_shape": [None, inputs], "dtype": "float32", "name": "input"}}
    return {"module": "keras", "class_name": "Sequential", "registered_name": None,
            "config": {"name": "s", "trainable": True, "layers": [first, *map(layer, range(layers))]}}


def space(*, filters=16, blocks=1, ops=("mb_k3_e3", "mb_k3_e6"), size=28, stem="conv_k3", classes=10, channels=1):
    """JSON of a search space."""
    return {"name": "bomb", "input_size": size, "input_channels": channels, "num_classes": classes,
            "stem": [{"name": "stem", "ops": [stem], "filters": filters, "strides": 2}],
            "blocks": [{"name": f"b{number}", "ops": list(ops), "filters": filters, "shortcut": True}
                       for number in range(blocks)],
            "head": [{"name": "classifier", "ops": ["classifier"], "filters": classes}]}


def arch(**more):
    """JSON of an arch of such a space."""
    whole = space(**more)
    return {"format": "pnas_tf.arch/1", "space": whole, "costs": {},
            "ops": {block["name"]: block["ops"][0] for block in whole["blocks"] if len(block["ops"]) > 1}}
