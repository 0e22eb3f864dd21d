"""Reads untrusted files of data sets into arrays, with NumPy alone and never a pickle.

Each reader returns what the file holds, or raises an InputError of one line. `labelled.py` then checks, for all data
sets alike, whether images and labels fit together.
"""

import gzip
import lzma
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from typing import IO

import numpy as np

from pnas_tf.errors import InputError
from pnas_tf.files import opened
from pnas_tf.machine import memory_bytes

# Folder where Debian's package dataset-fashion-mnist puts its files.
FASHION_MNIST_DIR = "/usr/share/datasets/fashion-mnist"
CIFAR_RECORD_BYTES = 1 + 32 * 32 * 3
# Limits of an array's size in memory: a file of a few kB can claim any size, or unpack to it.
MAX_IDX_BYTES, MAX_NPZ_BYTES = 1_000_000_000, 8_000_000_000
# Arrays that are larger than this and compress to less than a hundredth are no images, labels or weights.
MAX_PACKED_BYTES, MAX_RATIO = 100_000_000, 100
MAX_CIFAR_RECORDS = 60_000  # in one file; the original files have 10,000


def read_idx(path: str) -> np.ndarray:
    """Reads an IDX .gz file of bytes, the format of MNIST and Fashion-MNIST.

    Returns:
        uint8 array of one to four dimensions.

    Raises:
        InputError: If the file is missing, cut off, or not IDX.
    """
    try:
        with opened(path) as packed, gzip.open(packed) as file:
            zeros, kind, rank = struct.unpack(">HBB", file.read(4))
            if zeros != 0 or kind != 8 or not 1 <= rank <= 4:
                raise InputError(f"{path}: not an IDX file of bytes. Get the original file again.")
            shape = struct.unpack(f">{rank}I", file.read(4 * rank))
            expected_bytes = math.prod(shape)
            if expected_bytes > MAX_IDX_BYTES:
                raise InputError(f"{path}: claims an array of shape {shape}, more than {MAX_IDX_BYTES:,} bytes. Get "
                                 "the original file again.")
            data = _read_up_to(file, expected_bytes + 1)
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as .gz ({_one_line(error)}). Get the original file again.") from None
    if len(data) != expected_bytes:
        raise InputError(f"{path}: expected {expected_bytes} bytes for shape {shape}. Get the original file again.")
    return np.frombuffer(data, np.uint8).reshape(shape)


def read_npz(file: str | IO[bytes], required: Sequence[str], optional: Sequence[str] = (),
             name: str | None = None) -> dict[str, np.ndarray]:
    """Reads arrays of a .npz file. Object arrays, which are pickles, are refused.

    Args:
        file: Path or open file.
        required: Names of arrays that the file must have.
        optional: Names of arrays that are read if the file has them.
        name: Name of the file in error messages; None for its path.

    Returns:
        Arrays by name.

    Raises:
        InputError: If the file is missing, unreadable, a pickle, or lacks an array.
    """
    name = name or str(file)
    if isinstance(file, str):
        if not os.path.isfile(file):
            raise InputError(f"{name}: no such file. Expected a .npz with {', '.join(required)}, as np.savez writes "
                             "it.")
        with opened(file) as contents:
            return read_npz(contents, required, optional, name)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            missing = [key for key in required if key not in entries]
            if missing:
                raise InputError(f"{name}: needs the arrays {', '.join(required)}; {missing[0]} is missing, got "
                                 f"{', '.join(list(entries)[:10]) or 'none'}.")
            selected = {key: entries[key] for key in (*required, *optional) if key in entries}
            _check_sizes(list(selected.values()), name)
            return {key: _read_array(archive, entry, f"{name}: {key}") for key, entry in selected.items()}
    except InputError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
            TypeError, OverflowError, NotImplementedError, RuntimeError, SyntaxError, tokenize.TokenError,
            MemoryError) as error:
        raise InputError(f"{name}: cannot be read as .npz ({_one_line(error)}). "
                         "It may be cut off. Write it again with np.savez.") from None


def _check_sizes(entries: Sequence[zipfile.ZipInfo], name: str) -> None:
    """Raises InputError if arrays of an archive do not fit in memory, or the archive was made to fill it."""
    total, packed = (sum(getattr(entry, size) for entry in entries) for size in ("file_size", "compress_size"))
    limit = min(MAX_NPZ_BYTES, memory_bytes() // 2)
    if total > limit:
        raise InputError(f"{name}: holds {total / 1e9:,.2f} GB, more than {limit / 1e9:.2g} GB, which does not fit in "
                         "memory. Write the images to files, one folder for each class, and use folder:PATH.")
    if total > max(MAX_PACKED_BYTES, MAX_RATIO * packed):
        raise InputError(f"{name}: {packed:,} bytes unpack to {total:,}, which no images do. Write it again with "
                         "np.savez.")
    for entry in entries:
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{name}: {entry.filename[:80]} is compressed as np.savez never does. Write it again "
                             "with np.savez.")


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str) -> np.ndarray:
    """Reads one array of numbers or text.

    NumPy allocates as much memory as the array's header claims, so the claim is compared with the size of the entry.
    """
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with archive.open(entry) as member:
        version = np.lib.format.read_magic(member)
        if version not in headers:
            raise ValueError(f"an array in format {version}")
        shape, _, dtype = headers[version](member)
    if dtype.hasobject:
        raise InputError(f"{where} holds Python objects (a pickle), which may run code and are never loaded. "
                         "Save plain arrays: uint8 images and integer labels.")
    if dtype.kind not in "biufU":  # bytes would be taken for paths of images
        raise InputError(f"{where} must hold numbers or text, got {dtype}.")
    if math.prod(shape) * dtype.itemsize > entry.file_size:
        raise ValueError(f"no array of shape {shape} in {entry.file_size} bytes")
    with archive.open(entry) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _read_up_to(file: IO[bytes] | gzip.GzipFile, most_bytes: int) -> bytes:
    """Reads like `file.read(most_bytes)`, which would allocate all of that memory before it reads anything."""
    content = bytearray()
    while len(content) < most_bytes and (chunk := file.read(min(1 << 20, most_bytes - len(content)))):
        content += chunk
    return bytes(content)


def read_cifar10_binary(folder: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Reads the binary version of CIFAR-10: six files of records, each a label and the planes R, G, B.

    Returns:
        x_train uint8 [50000, 32, 32, 3], y_train uint8 [50000], x_test, y_test.

    Raises:
        InputError: If a file is missing or does not consist of such records.
    """
    def read(file_name: str) -> np.ndarray:
        path = os.path.join(folder, file_name)
        try:
            with opened(path) as file:
                size = os.fstat(file.fileno()).st_size
                data = np.fromfile(file, np.uint8, MAX_CIFAR_RECORDS * CIFAR_RECORD_BYTES)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}). Unpack cifar-10-binary.tar.gz "
                             "again.") from None
        if data.size != size or not data.size or data.size % CIFAR_RECORD_BYTES:
            raise InputError(f"{path}: expected records of {CIFAR_RECORD_BYTES} bytes, got {size} bytes. "
                             "Unpack cifar-10-binary.tar.gz again.")
        return data.reshape(-1, CIFAR_RECORD_BYTES)

    def split(records: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        planes = records[:, 1:].reshape(-1, 3, 32, 32)
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0]

    train = np.concatenate([read(f"data_batch_{number}.bin") for number in range(1, 6)])
    return (*split(train), *split(read("test_batch.bin")))


def cut(data: np.ndarray, offsets: np.ndarray, name: str) -> list[bytes]:
    """Splits concatenated bytes into files.

    Args:
        data: Bytes of the files, one after the other, uint8 [bytes].
        offsets: Start of each file and end of the last, integers [files + 1].
        name: Name of the data in error messages.

    Raises:
        InputError: If the offsets do not fit the data.
    """
    fits = (data.dtype == np.uint8 and data.ndim == 1 and offsets.dtype.kind in "iu" and offsets.ndim == 1
            and len(offsets) > 1 and offsets[0] == 0 and offsets[-1] == len(data)
            and bool(np.all(offsets[1:] > offsets[:-1])))
    if not fits:
        raise InputError(f"{name}: the offsets do not cut the JPEG bytes into images. Write the archive again.")
    whole = data.tobytes()
    return [whole[begin:end] for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
