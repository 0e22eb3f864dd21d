"""Image files as a viewer shows them, by Pillow: what a file is, and its pixels.

The rules, for every format: the EXIF orientation is applied, transparent parts show the background, an animation is its
first frame, grey is repeated in three channels, and colour profiles are ignored. Images of 16 bits are divided by the
white of the data set, since many hold 8 or 12 bits.

TensorFlow decodes ordinary JPEG and PNG files faster, and to the same pixels: `header` says which files these are.
"""

import contextlib
import dataclasses
import functools
import io
import os
import threading
import warnings
from typing import IO

import numpy as np
import PIL.Image
import PIL.ImageColor
import PIL.ImageOps

from pnas_tf.data import file_ends, jpeg_scans, plain_jpeg
from pnas_tf.data.file_ends import Ends
from pnas_tf.errors import InputError

# The original's recipe for ImageNet: smallest share of an image's area that a random crop covers.
CROP_AREA = 0.08
# Ways to read a file: by Pillow; or by TensorFlow, then turned. The latter are the values of EXIF's orientation.
BY_PILLOW, UPRIGHT = 0, 1
_TURNED = range(2, 9)
_ORIENTATION = 0x0112

# More pixels than most cameras take. Decoders allocate what an image's header claims, whatever follows the header.
MAX_PIXELS = 1 << 27
# The same for images of 16 bits, whose pixels are computed in float32; and bytes of a file.
MAX_WIDE_PIXELS, MAX_BYTES = 1 << 25, 1 << 28
# Images with more pixels are decoded by Pillow, which takes up to 20 bytes for a pixel, one at a time.
LARGE_PIXELS = 1 << 25
_LARGE = threading.RLock()
# White of 16-bit images that hold so many bits: 8, 10, 12, 14, 16.
WHITES = (255, 1023, 4095, 16383, 65535)

# Decoders of files that cameras, phones and web sites write. Pillow has others, and some of them run programs.
_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM", "HEIF")
_ENDINGS = {"JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "PNG": (".png", ".apng"), "BMP": (".bmp", ".dib"),
            "GIF": (".gif",), "WEBP": (".webp",), "TIFF": (".tif", ".tiff"), "AVIF": (".avif",),
            "JPEG2000": (".jp2",), "PPM": (".ppm", ".pgm", ".pbm", ".pnm"), "HEIF": (".heic", ".heif")}

DAMAGED = "cut off or damaged"

# Pillow warns of damaged EXIF data, which viewers ignore, and from 89 million pixels on: MAX_PIXELS is the limit here.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Unreadable(ValueError):
    """An image file that cannot be shown, with the reason."""


@dataclasses.dataclass(frozen=True)
class Header:
    """What the first bytes of an image file say.

    Attributes:
        reading: Way to read the file: `BY_PILLOW`, or 1 to 8 for TensorFlow and a turn.
        is_wide: Whether pixels have 16 bits, of which fewer may be in use.
        is_whole: Whether the file ends as its format demands. If not, only decoding can tell whether it is cut off.
        pixels: Width times height.
    """

    reading: int
    is_wide: bool
    is_whole: bool
    pixels: int = 0


@dataclasses.dataclass(frozen=True)
class Rendering:
    """How pixels become red, green and blue.

    Attributes:
        background: Colour behind transparent parts.
        white: Value of white in 16-bit images.
    """

    background: tuple[int, int, int] = (255, 255, 255)
    white: int = WHITES[-1]


def colour(text: str) -> tuple[int, int, int]:
    """Reads a colour such as `white` or `#ff8000`.

    Raises:
        InputError: If the text is no colour.
    """
    try:
        red, green, blue = PIL.ImageColor.getrgb(text)[:3]
    except (ValueError, TypeError):
        raise InputError(f"background must be a colour such as white, black or #ff8000, got {text[:40]!r}.") from None
    return red, green, blue


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats that are read on this machine. HEIF needs the package pillow-heif."""
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
    except ImportError:
        pass
    PIL.Image.init()
    return tuple(name for name in _FORMATS if name in PIL.Image.OPEN)


def endings() -> tuple[str, ...]:
    """Endings of the files that are read on this machine."""
    return tuple(ending for name in formats() for ending in _ENDINGS.get(name, ()))


def header(file: IO[bytes], ends: Ends | None = None) -> Header:
    """Reads the header of an image file.

    Args:
        file: An open file, or bytes as one.
        ends: Both ends of the file; None to read them.

    Raises:
        Unreadable: If the file is no image, or one that cannot be shown.
    """
    ends = ends or file_ends.read(file)
    _check_size(ends.size)
    if 0 < (pixels := plain_jpeg.pixels(ends)) <= LARGE_PIXELS and file_ends.is_whole(ends, "JPEG"):
        return Header(UPRIGHT, False, True, pixels)
    return by_pillow(file if ends.tail else io.BytesIO(ends.head), ends)


def by_pillow(file: IO[bytes], ends: Ends) -> Header:
    """As `header`, for files of any kind."""
    try:
        with _open(file) as image:
            wide = _is_wide(image)
            reading = BY_PILLOW if wide or _pixels(image) > LARGE_PIXELS else _reading(image)
            if image.format == "PNG":
                late, whole = file_ends.of_png(file)
                return Header(BY_PILLOW if late else reading, wide, whole, _pixels(image))
            return Header(reading, wide, file_ends.is_whole(ends, str(image.format)), _pixels(image))
    except Unreadable:
        raise
    except Exception as error:  # what Pillow raises for damaged files is not documented, and depends on the format
        raise Unreadable(_reason(error)) from None


def reading_of(contents: bytes) -> int:
    """How to read an image file, from its bytes.

    Raises:
        Unreadable: If the file is no image, or one that cannot be shown.
    """
    return header(io.BytesIO(contents)).reading


def decode(contents: bytes, rendering: Rendering) -> np.ndarray:
    """Decodes an image file.

    Args:
        contents: Bytes of the file.
        rendering: Background and white.

    Returns:
        uint8 [height, width, 3].

    Raises:
        Unreadable: If the file cannot be shown.
    """
    try:
        with _open(io.BytesIO(contents)) as image, one_at_a_time(_pixels(image)):
            if not _is_wide(image):
                return np.asarray(_on_background(_upright(image), rendering.background))
            pixels, alpha = _wide_pixels(image, contents)
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable(_reason(error)) from None
    shares = np.minimum(pixels / np.float32(rendering.white), 1.0) * 255
    if alpha is not None:
        # Images that hold fewer bits than 16 hold their alpha in as many.
        opaque = np.float32(rendering.white if alpha.max() <= rendering.white else WHITES[-1])
        shares = shares + (np.array(rendering.background, np.float32) - shares) * (1 - alpha[..., None] / opaque)
    return np.broadcast_to(np.round(shares), (*shares.shape[:2], 3)).astype(np.uint8)


def brightest(contents: bytes) -> int:
    """Largest value of a 16-bit image, apart from alpha.

    Raises:
        Unreadable: If the file cannot be shown.
    """
    try:
        with _open(io.BytesIO(contents)) as image:
            return int(_wide_pixels(image, contents)[0].max())
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable(_reason(error)) from None


def _open(file: IO[bytes]) -> PIL.Image.Image:
    _check_size(file.seek(0, os.SEEK_END))
    file.seek(0)
    image = PIL.Image.open(file, formats=formats())
    if _pixels(image) > MAX_PIXELS:
        raise Unreadable(f"more than {MAX_PIXELS:,} pixels")
    if image.format in ("JPEG", "MPO"):
        at = file.tell()
        if jpeg_scans.count(file) > jpeg_scans.MAX_SCANS:
            raise Unreadable(f"more than {jpeg_scans.MAX_SCANS} scans")
        file.seek(at)
    return image


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise Unreadable(f"more than {MAX_BYTES:,} bytes")


def _pixels(image: PIL.Image.Image) -> int:
    return image.width * image.height


def one_at_a_time(pixels: int) -> contextlib.AbstractContextManager[object]:
    """Lets one large image at a time be decoded, so that several threads do not fill the memory.

    Args:
        pixels: Number of pixels of the image.
    """
    return _LARGE if pixels > LARGE_PIXELS // 4 else contextlib.nullcontext()


def _reading(image: PIL.Image.Image) -> int:
    """How to read an image whose pixels have 8 bits or fewer."""
    tensorflow_can = (image.mode in ("L", "RGB") if image.format in ("JPEG", "MPO")
                      else image.format == "PNG" and "transparency" not in image.info)
    return _orientation(image) if tensorflow_can else BY_PILLOW


def _orientation(image: PIL.Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 if there is none or it is damaged."""
    try:
        # That of PngImageFile would decode the image.
        value = PIL.Image.Image.getexif(image).get(_ORIENTATION)
    except Exception:  # see `header`
        return UPRIGHT
    return value if isinstance(value, int) and value in _TURNED else UPRIGHT


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    image.load()
    try:
        return PIL.ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data; viewers show the image
        return image


def _on_background(image: PIL.Image.Image, background: tuple[int, int, int]) -> PIL.Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    canvas = PIL.Image.new("RGB", image.size, background)
    canvas.paste(image, mask=image)  # the alpha of the image is the mask
    return canvas


def _is_wide(image: PIL.Image.Image) -> bool:
    """Whether pixels have 16 bits.

    Raises:
        Unreadable: If they have 16 bits and Pillow returns 8 of them, if the range of the pixels is unknown, or if
            there are too many.
    """
    if not _has_16_bits(image):
        return False
    if _pixels(image) > MAX_WIDE_PIXELS:
        raise Unreadable(f"more than {MAX_WIDE_PIXELS:,} pixels of 16 bits")
    return True


def _has_16_bits(image: PIL.Image.Image) -> bool:
    """As `_is_wide`, for images of any size."""
    if image.format == "PNG":
        return str(getattr(image, "tile", [[""]])[0][-1]).endswith(";16B")  # such as RGB;16B
    if image.format == "PPM" and image.mode == "I":  # Pillow stretches them to 16 bits
        return True
    if image.mode in ("I", "F"):
        raise Unreadable("pixels of 32 bits, whose range is unknown; save it as PNG")
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(258, (1,))
        if max(bits) > 8 and not image.mode.startswith("I;16"):
            raise Unreadable("TIFF of more than 8 bits in several channels; save it as PNG")
    return image.mode.startswith("I;16")


def _wide_pixels(image: PIL.Image.Image, contents: bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels of a 16-bit image, turned upright, [height, width, 1 or 3], and their alpha [height, width] or None."""
    if image.format == "PNG":
        import tensorflow as tf

        # Pillow drops the low bytes of colours.
        with tf.device("CPU"):
            pixels = tf.io.decode_png(contents, dtype=tf.uint16).numpy()
        pixels = turned(pixels, _orientation(image))
    else:
        pixels = np.asarray(_upright(image))[..., None]
    colours = pixels.shape[-1] - (pixels.shape[-1] + 1) % 2
    if colours < pixels.shape[-1]:
        return pixels[..., :colours], pixels[..., colours]
    transparent = image.info.get("transparency")  # one colour
    return pixels, (None if transparent is None else
                    np.where((pixels == transparent).all(-1), 0, WHITES[-1]).astype(np.uint16))


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Applies EXIF's orientation, 1 to 8, to an array [height, width, channels]."""
    flips_rows, flips_columns, swaps = turn(orientation)
    pixels = pixels[::-1 if flips_rows else 1, ::-1 if flips_columns else 1]
    return pixels.swapaxes(0, 1) if swaps else pixels


def turn(orientation: int) -> tuple[bool, bool, bool]:
    """EXIF's orientation as flips of rows and of columns, and then a swap of rows with columns."""
    return orientation in (3, 4, 6, 7), orientation in (2, 3, 7, 8), orientation >= 5


def _reason(error: Exception) -> str:
    if isinstance(error, PIL.UnidentifiedImageError):
        return "not an image"
    if isinstance(error, PIL.Image.DecompressionBombError):
        return f"more than {MAX_PIXELS:,} pixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return DAMAGED
