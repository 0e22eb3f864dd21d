"""Makes a folder of odd image files: modes, depths, palettes, orientations, endings, damage and bombs.

    python -m tests.data.odd_images FOLDER
"""

import io
import os
import struct
import sys
import zlib

import numpy as np
import PIL.Image

SIZE = (41, 27)  # width and height
Y, X = np.mgrid[:SIZE[1], :SIZE[0]]
# A picture that is like none of its turns.
PHOTO = np.stack([Y * 9, X * 6, 128 + 100 * np.sin(X / 9) * np.cos(Y / 7)], -1).astype(np.uint8)
GREY = PHOTO[..., 0] // 2 + PHOTO[..., 1] // 2
# Transparent on the left, half transparent in the middle, opaque on the right.
ALPHA = np.repeat(np.clip((X - 10) * 12, 0, 255)[..., None], 1, -1).astype(np.uint8)


def encoded(pixels, form, mode=None, **options):
    """Bytes of an image file that Pillow writes."""
    image = PIL.Image.fromarray(pixels)
    content = io.BytesIO()
    (image.convert(mode) if mode else image).save(content, form, **options)
    return content.getvalue()


def exif(orientation, kind=3):
    """An EXIF block whose only entry is the orientation, of type `kind`."""
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHIHH", 1, 0x0112, kind, 1, orientation, 0) + bytes(4)


def png(pixels, colour_type, depth=16, chunks=(), after=()):
    """A PNG file of big-endian samples; `pixels` [height, width, channels]."""
    rows = b"".join(b"\0" + row.astype(">u2" if depth == 16 else np.uint8).tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*each) for each in ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), *after, (b"IEND", b"")))


def chunk(name, body):
    """A chunk of a PNG file."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def flipped(content, at, bits=0xff):
    """A file with one changed byte; `at` is its place as a share of the file."""
    damaged = bytearray(content)
    damaged[int(len(content) * at)] ^= bits
    return bytes(damaged)


def claiming(content, marker, offset, sides):
    """A file whose header claims other sides."""
    at = content.index(marker) + offset
    return content[:at] + sides + content[at + len(sides):]


def files():
    """Contents by name of file."""
    return {**_jpegs(), **_pngs(), **_others(), **_damaged()}


def _jpegs():
    rgb, fine = encoded(PHOTO, "JPEG", quality=95), {"quality": 95, "subsampling": 0}
    made = {f"turned{value}.jpg": encoded(PHOTO, "JPEG", exif=exif(value), **fine) for value in range(10)}
    made |= {f"subsampled{value}.jpg": encoded(PHOTO, "JPEG", quality=95, exif=exif(value)) for value in (3, 6, 8)}
    made |= {"plain.jpg": rgb, "ending.jpe": rgb, "ending.jfif": rgb, "ENDING.JPG": rgb, "jpeg_named.png": rgb,
             "progressive.jpg": encoded(PHOTO, "JPEG", progressive=True, **fine),
             "progressive_turned.jpg": encoded(PHOTO, "JPEG", progressive=True, exif=exif(6), **fine),
             "grey.jpg": encoded(GREY, "JPEG"), "grey_turned.jpg": encoded(GREY, "JPEG", exif=exif(8)),
             "cmyk.jpg": encoded(PHOTO, "JPEG", "CMYK", quality=95),
             "cmyk_turned.jpg": encoded(PHOTO, "JPEG", "CMYK", quality=95, exif=exif(5)),
             "orientation_as_long.jpg": encoded(PHOTO, "JPEG", exif=exif(6, kind=4), **fine),
             "exif_damaged.jpg": encoded(PHOTO, "JPEG", exif=b"Exif\0\0XX\0*\0\0", **fine),
             "exif_cut.jpg": encoded(PHOTO, "JPEG", exif=exif(6)[:18], **fine),
             "xmp_turned.jpg": encoded(PHOTO, "JPEG", xmp=b'<x tiff:Orientation="6"/>', **fine),
             "appended.jpg": rgb + b"appended by the camera", "zeros.jpg": rgb + bytes(100),
             "one_pixel.jpg": encoded(PHOTO[:1, :1], "JPEG"), "narrow.jpg": encoded(PHOTO[:, :1], "JPEG", exif=exif(6))}
    return made


def _pngs():
    rgba, la = np.concatenate([PHOTO, ALPHA], -1), np.stack([GREY, ALPHA[..., 0]], -1)
    wide = PHOTO.astype(np.uint16) * 257
    made = {f"{name}.png": encoded(PHOTO, "PNG", mode) for name, mode in
            (("rgb", "RGB"), ("palette", "P"), ("grey", "L"), ("bits1", "1"))}
    made |= {f"palette{bits}.png": _palette(2 ** bits, bits=bits) for bits in (1, 2, 4)}
    made |= {f"turned{value}.png": encoded(PHOTO, "PNG", exif=exif(value)) for value in (2, 6, 7)}
    made |= {"late_exif.png": png(PHOTO, 2, 8, after=((b"eXIf", exif(6)[6:]),)),
             "rgba.png": encoded(rgba, "PNG"), "la.png": png(la, 4, 8), "pictogram.png": encoded(_pictogram(), "PNG"),
             "rgba_turned.png": encoded(rgba, "PNG", exif=exif(5)),
             "colour_key.png": png(PHOTO, 2, 8, [(b"tRNS", struct.pack(">HHH", *map(int, PHOTO[3, 4])))]),
             "grey_key.png": png(GREY[..., None], 0, 8, [(b"tRNS", struct.pack(">H", int(GREY[3, 4])))]),
             "palette_alpha.png": _palette(16, transparency=bytes(range(0, 256, 16))),
             "interlaced.png": _interlaced(), "apng.png": encoded(PHOTO, "PNG", save_all=True, append_images=[
                 PIL.Image.new("RGB", SIZE, "red")]),
             "wide_rgb.png": png(wide, 2), "wide_grey.png": png(wide[..., :1], 0),
             "wide_rgba.png": png(np.concatenate([wide, ALPHA.astype(np.uint16) * 257], -1), 6),
             "wide_la.png": png(np.concatenate([wide[..., :1], ALPHA.astype(np.uint16) * 257], -1), 4),
             "wide_turned.png": png(wide, 2, chunks=[(b"eXIf", exif(6)[6:])]),
             "wide_key.png": png(wide[..., :1], 0, chunks=[(b"tRNS", struct.pack(">H", int(wide[3, 4, 0])))]),
             "png_named.jpg": encoded(PHOTO, "PNG"), "upper.PNG": encoded(PHOTO, "PNG")}
    return made


def _others():
    rgba = np.concatenate([PHOTO, ALPHA], -1)
    wide = PHOTO[..., 0].astype(np.uint16) * 257
    made = {f"{name}.bmp": encoded(PHOTO, "BMP", mode) for name, mode in
            (("rgb", "RGB"), ("palette", "P"), ("grey", "L"), ("bits1", "1"), ("rgba", "RGBA"))}
    made |= {"dib.dib": encoded(PHOTO, "DIB"), "plain.gif": encoded(PHOTO, "GIF", "P"),
             "transparent.gif": encoded(rgba, "GIF"), "animated.gif": encoded(PHOTO, "GIF", "P", save_all=True,
             append_images=[PIL.Image.new("P", SIZE)]),
             "plain.webp": encoded(PHOTO, "WEBP", quality=95), "lossless.webp": encoded(rgba, "WEBP", lossless=True),
             "turned.webp": encoded(PHOTO, "WEBP", exif=exif(8)[6:]), "webp_named.jpg": encoded(PHOTO, "WEBP"),
             "plain.tif": encoded(PHOTO, "TIFF"), "lzw.tiff": encoded(PHOTO, "TIFF", compression="tiff_lzw"),
             "jpeg.tiff": encoded(PHOTO, "TIFF", compression="jpeg"), "bits1.tiff": encoded(PHOTO, "TIFF", "1"),
             "rgba.tiff": encoded(rgba, "TIFF"), "wide.tiff": encoded(wide, "TIFF"),
             "turned.tiff": encoded(PHOTO, "TIFF", tiffinfo={0x0112: 6}), "cmyk.tiff": encoded(PHOTO, "TIFF", "CMYK"),
             "float.tiff": encoded(PHOTO[..., 0].astype(np.float32), "TIFF"),
             "int32.tiff": encoded(PHOTO[..., 0].astype(np.int32), "TIFF"),
             "plain.jp2": encoded(PHOTO, "JPEG2000"), "plain.avif": encoded(PHOTO, "AVIF", quality=95),
             "plain.ppm": encoded(PHOTO, "PPM"), "grey.pgm": encoded(GREY, "PPM"),
             "wide.pgm": b"P5\n%d %d\n65535\n" % SIZE + wide.astype(">u2").tobytes()}
    return made


def _damaged():
    """Files that cannot be shown, or are damaged in a way that a viewer may not notice."""
    large = np.tile(PHOTO, (8, 8, 1)) ^ np.random.default_rng(0).integers(0, 30, (216, 328, 3), np.uint8)
    jpeg, lossless = encoded(large, "JPEG", quality=90), encoded(large, "PNG")
    made = {f"flipped{place}.png": flipped(lossless, place / 10) for place in range(1, 10)}
    made |= {f"flipped{place}.jpg": flipped(jpeg, place / 10) for place in range(0, 10)}
    made |= {f"table{place}.jpg": flipped(jpeg, place / len(jpeg)) for place in (25, 100, 180, 200, 400, 590)}
    made |= {f"marker{place}.jpg": claiming(jpeg, jpeg[place * 1000:place * 1000 + 9], 0, b"\xff\xc4")
             for place in (5, 9)}
    made |= {f"cut{place}.{ending}": content[:len(content) * place // 10] for place in (1, 5, 9)
             for ending, content in (("jpg", jpeg), ("png", lossless), ("gif", encoded(large, "GIF", "P")),
                                     ("webp", encoded(large, "WEBP")), ("bmp", encoded(large, "BMP")),
                                     ("tiff", encoded(large, "TIFF")))}
    made |= {"cut_with_end.jpg": jpeg[:len(jpeg) // 2] + b"\xff\xd9", "empty.jpg": b"", "page.png": b"<html>",
             "no_data.jpg": b"\xff\xd8\xff\xe0 nothing \xff\xd9", "program.eps.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n",
             "short_data.png": claiming(png(PHOTO, 2, 8), b"IHDR", 8, b""),
             "few_rows.png": _png_of_few_rows(), "text_bomb.png": png(PHOTO, 2, 8, [
                 (b"zTXt", b"key\0\0" + zlib.compress(bytes(70_000_000), 9))]),
             "megapixels144.jpg": claiming(encoded(PHOTO, "JPEG"), b"\xff\xc0", 5, struct.pack(">HH", 12_000, 12_000)),
             "gigapixels.jpg": claiming(encoded(PHOTO, "JPEG"), b"\xff\xc0", 5, struct.pack(">HH", 65_000, 65_000)),
             "gigapixels.png": png(np.zeros((1, 1, 3)), 2, 8)[:16] + struct.pack(">II", 60_000, 60_000) + png(
                 np.zeros((1, 1, 3)), 2, 8)[24:],
             "gigapixels.gif": claiming(encoded(PHOTO, "GIF", "P"), b"GIF8", 6, struct.pack("<HH", 65_535, 65_535)),
             "gigapixels.bmp": claiming(encoded(PHOTO, "BMP"), b"BM", 18, struct.pack("<ii", 60_000, -60_000)),
             "wide_rgb.tiff": _wide_rgb_tiff()}
    return made


def _palette(colours, **options):
    content = io.BytesIO()
    PIL.Image.fromarray(PHOTO).quantize(colours).save(content, "PNG", **options)
    return content.getvalue()


def _pictogram():
    """A black cross on transparent black."""
    pixels = np.zeros((*PHOTO.shape[:2], 4), np.uint8)
    pixels[10:16, :, 3] = pixels[:, 18:24, 3] = 255
    return pixels


def _interlaced():
    """A PNG file of Adam7's seven passes."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = b"".join(b"\0" + row.tobytes() for top, left, down, right in passes for row in PHOTO[top::down, left::right])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", *SIZE, 8, 2, 0, 0, 1)) + chunk(
        b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _png_of_few_rows():
    """A PNG file with right checksums, whose data end early."""
    whole = png(PHOTO[:9], 2, 8)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *SIZE, 8, 2, 0, 0, 0))
    return whole[:8] + header + whole[8 + len(header):]


def _wide_rgb_tiff():
    """A TIFF file of 16 bits a channel, of which Pillow returns 8."""
    data = (PHOTO.astype("<u2") * 16).tobytes()
    entries = ((256, 3, 1, SIZE[0]), (257, 3, 1, SIZE[1]), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2),
               (273, 4, 1, 14), (277, 3, 1, 3), (278, 3, 1, SIZE[1]), (279, 4, 1, len(data)))
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 14 + len(data)) + struct.pack("<HHH", 16, 16, 16) + data + directory


def write(folder):
    """Writes the files into a folder, and returns their contents by name."""
    contents = files()
    os.makedirs(folder, exist_ok=True)
    for name, content in contents.items():
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content)
    return contents


if __name__ == "__main__":
    print(f"{len(write(sys.argv[1])):,} files in {sys.argv[1]}.")
