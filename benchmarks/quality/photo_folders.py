"""Makes folders of pictures to train on, one subfolder for each class, from packages of Debian.

    python -m benchmarks.quality.photo_folders --output=photos
    python -m benchmarks.quality.photo_folders --output=photos --name=cifar10_50 --cifar10_dir=DIR

| name       | pictures                                        | from                    | licence             |
| ---------- | ----------------------------------------------- | ----------------------- | ------------------- |
| stamps     | photos and some drawings of things              | tuxpaint-stamps-default | GPL-2               |
| clipart    | drawings by many hands                          | openclipart-png         | public domain       |
| emoji      | drawings of one style, by the groups of Unicode | fonts-noto-color-emoji  | Apache-2.0, OFL-1.1 |
| cifar10_50 | CIFAR-10 with 50 + 100 photos a class, 32x32    | --cifar10_dir           | not stated          |

Debian's packages are fetched by `apt-get download` and unpacked, not installed. The same versions of the packages give
the same files; SOURCE.json beside the classes tells them. Pictures are cut to what is not white and set on a white
square. Copies of a picture are left out, so that no test image is also a training image.
"""

import io
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from PIL import Image

from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.errors import InputError

SIDE = 160  # pixels of the largest pictures
MARGIN = 0.04  # white on each side, as a share of the picture
LEAST = 24  # a smaller picture, pixels, shows too little
ALIKE = 4.0  # copies differ by less, grey levels on average
MOST_PIXELS = 8_000_000  # a few pictures are larger by far, and take minutes
MOST = 200  # pictures of a class, drawn at random if there are more

# Class of a picture by the beginning of its path. Paths that match none are left out.
STAMPS = {"animals": ("animals/",), "food": ("food/",), "plants": ("plants/",),
          "vehicles": ("vehicles/", "military/vehicles/"), "buildings": ("town/houses/", "town/monuments/"),
          "signs": ("town/roadsigns/", "town/flags/"), "coins": ("symbols/money/",),
          "things": ("household/", "hobbies/", "clothes/", "sports/"), "seasonal": ("seasonal/",)}
CLIPART = {"animals": ("animals/",), "food": ("food/",), "plants": ("plants/",), "tools": ("tools/",),
           "people": ("people/",), "music": ("recreation/music/",), "buildings": ("buildings/",),
           "computers": ("computer/hardware/",),
           "flags": ("signs_and_symbols/flags/",), "sports": ("recreation/sports/",),
           "vehicles": ("transportation/vehicles/", "transportation/boating/")}
# Variants of another picture, and folders whose pictures do not show what their class says.
_LEFT_OUT = re.compile(r"_(mirror|flip|bw)[_.]|^people/(clothing|bodypart|smilies)/|^buildings/furniture/|/00_symbols/|"
                       r"semaphore|bullet_?hole")

# A picture with the name of its class, in the order of the source.
Pictures = Iterator[tuple[str, Image.Image]]


class Source(NamedTuple):
    """Where the pictures of a folder come from.

    Attributes:
        packages: Debian packages to unpack.
        licence: Licence of the pictures.
        read: Function that takes the root of the unpacked packages and yields the pictures.
    """

    packages: tuple[str, ...]
    licence: str
    read: Callable[[str], Pictures]


def classed(paths: Iterable[str], classes: Mapping[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    """Pairs of class and path, sorted by path.

    Args:
        paths: Paths of pictures, relative to their source.
        classes: Beginnings of the paths of each class.
    """
    return [(name, path) for path in sorted(paths) if not _LEFT_OUT.search(path)
            for name, beginnings in classes.items() if path.startswith(beginnings)]


def _tree(folder: str, classes: Mapping[str, tuple[str, ...]]) -> Callable[[str], Pictures]:
    """Reads the PNG files of a folder of a package."""
    def read(root):
        top = os.path.join(root, folder)
        paths = (os.path.relpath(os.path.join(parent, name), top) for parent, _, names in os.walk(top)
                 for name in names if name.endswith(".png"))
        for name, path in classed(paths, classes):
            try:
                with Image.open(os.path.join(top, path)) as picture:
                    if picture.width * picture.height <= MOST_PIXELS:
                        yield name, picture.convert("RGBA")
            except (OSError, Image.DecompressionBombError):  # some files are broken
                continue
    return read


def _emoji(root: str) -> Pictures:
    """Emoji of a single code point, by the groups of Unicode. Flags and tones of skin consist of several."""
    from fontTools import ttLib

    font = ttLib.TTFont(os.path.join(root, "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"))
    glyphs, bitmaps = font.getBestCmap(), font["CBDT"].strikeData[0]
    group = ""
    for line in files.read_text(os.path.join(root, "usr/share/unicode/emoji/emoji-test.txt")).splitlines():
        if line.startswith("# group:"):
            group = re.sub(r"\W+", "_", line.partition(":")[2].strip().lower())
        match = re.match(r"([0-9A-F]+)(?: FE0F)?\s*; fully-qualified", line)
        glyph = glyphs.get(int(match[1], 16)) if match else None
        if glyph in bitmaps and group != "flags":
            yield group, Image.open(io.BytesIO(bitmaps[glyph].imageData))


SOURCES = {
    "stamps": Source(("tuxpaint-stamps-default",), "GPL-2", _tree("usr/share/tuxpaint/stamps", STAMPS)),
    "clipart": Source(("openclipart-png",), "public domain", _tree("usr/share/openclipart/png", CLIPART)),
    "emoji": Source(("fonts-noto-color-emoji", "unicode-data"), "Apache-2.0 (pictures), OFL-1.1 (font)", _emoji),
}
CIFAR10_50 = "cifar10_50"
NAMES = (*SOURCES, CIFAR10_50)


def on_white_square(picture: Image.Image) -> Image.Image | None:
    """Sets a picture on white, cuts it to what is not white, and pads it to a square, so that no crop loses a part.

    Args:
        picture: Picture of any mode, possibly transparent.

    Returns:
        RGB picture of at most `SIDE` pixels; None if it is blank or too small.
    """
    picture = picture.convert("RGBA")
    # Halved while it is large, since some are of thousands of pixels.
    picture.thumbnail((4 * SIDE, 4 * SIDE))
    flat = Image.new("RGBA", picture.size, "white")
    flat.alpha_composite(picture)
    flat = flat.convert("RGB")
    box = Image.fromarray((np.asarray(flat).min(axis=2) < 245).astype(np.uint8)).getbbox()
    if box is None or max(box[2] - box[0], box[3] - box[1]) < LEAST:
        return None
    flat = flat.crop(box)
    side = round(max(flat.size) * (1 + 2 * MARGIN))
    square = Image.new("RGB", (side, side), "white")
    square.paste(flat, ((side - flat.width) // 2, (side - flat.height) // 2))
    square.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    return square


class _Copies:
    """Tells pictures that were seen before, whatever their size: they hardly differ at 12x12 pixels."""

    def __init__(self):
        self._seen = np.empty([0, 12 * 12 * 3], np.float32)

    def is_new(self, picture: Image.Image) -> bool:
        small = np.asarray(picture.resize((12, 12), Image.Resampling.BOX), np.float32).reshape(1, -1)
        if (np.abs(self._seen - small).mean(axis=1) < ALIKE).any():
            return False
        self._seen = np.concatenate([self._seen, small])
        return True


def write(pictures: Iterable[tuple[str, Image.Image]], folder: str, most: int = MOST) -> dict[str, int]:
    """Writes pictures as PNG files into one subfolder for each class.

    Args:
        pictures: Pictures with the names of their classes.
        folder: Folder of the result.
        most: Largest number of pictures of a class.

    Returns:
        Number of pictures of each class.
    """
    kept: dict[str, list[Image.Image]] = {}
    copies = _Copies()
    for name, picture in pictures:
        square = on_white_square(picture)
        if square and copies.is_new(square):
            kept.setdefault(name, []).append(square)
    for name, squares in sorted(kept.items()):
        chosen = sorted(np.random.default_rng(0).permutation(len(squares))[:most])
        os.makedirs(os.path.join(folder, name))
        for number, index in enumerate(chosen):
            squares[index].save(os.path.join(folder, name, f"{number:03d}.png"))
    return {name: min(most, len(squares)) for name, squares in sorted(kept.items())}


def unpack(package: str, cache: str, root: str) -> str:
    """Unpacks a Debian package, and fetches it first unless the cache has it.

    Args:
        package: Name of the package.
        cache: Folder that keeps the packages.
        root: Folder into which it is unpacked.

    Returns:
        Name of the package's file, which has the version.

    Raises:
        InputError: If the package cannot be had.
    """
    def archives():
        return [name for name in sorted(os.listdir(cache)) if name.startswith(f"{package}_") and name.endswith(".deb")]

    os.makedirs(cache, exist_ok=True)
    try:
        if not archives():
            subprocess.run(["apt-get", "download", package], cwd=cache, check=True, capture_output=True)
        archive = archives()[-1]
        subprocess.run(["dpkg-deb", "-x", os.path.join(cache, archive), root], check=True, capture_output=True)
    except (OSError, IndexError, subprocess.CalledProcessError) as error:
        raise InputError(f"{package}: apt-get download or dpkg-deb -x failed ({str(error)[:200]}). They need Debian or "
                         f"Ubuntu and a list of packages (apt-get update). Or put the .deb into {cache}.") from None
    return archive


def cifar10_50(folder: str, cifar10_dir: str) -> dict[str, int]:
    """Writes the first 50 training and 100 test photos of each class of CIFAR-10 into `train` and `test`.

    Args:
        folder: Folder of the result.
        cifar10_dir: Folder of CIFAR-10 as `pnas_tf.data` reads it.

    Returns:
        Number of pictures of each part.
    """
    from pnas_tf.data import sources

    data = sources.DATASETS["cifar10"](sources.Request("", None, 0, cifar10_dir))
    for part, images, labels, count in (("train", data.x_train, data.y_train, 50), ("test", data.x_test, data.y_test,
                                                                                   100)):
        for label, name in enumerate(data.class_names):
            os.makedirs(os.path.join(folder, part, name))
            for number, index in enumerate(np.flatnonzero(np.ravel(labels) == label)[:count]):
                Image.fromarray(images[index]).save(os.path.join(folder, part, name, f"{number:03d}.png"))
    return {"train": 50 * len(data.class_names), "test": 100 * len(data.class_names)}


def make(name: str, output: str, cache: str, cifar10_dir: str | None = None) -> str:
    """Makes one folder, whole or not at all; a folder that exists stays as it is.

    Args:
        name: Name of the folder, of `NAMES`.
        output: Folder of all folders.
        cache: Folder that keeps Debian's packages.
        cifar10_dir: Folder of CIFAR-10, for `cifar10_50`.

    Returns:
        Path of the folder.

    Raises:
        InputError: If the name is unknown, or the source cannot be had.
    """
    if name not in NAMES:
        raise InputError(f"Unknown folder {name[:60]!r}. Known: {', '.join(NAMES)}.")
    path = os.path.join(output, name)
    if os.path.isdir(path):
        return path
    if name == CIFAR10_50 and not cifar10_dir:
        raise InputError(f"{CIFAR10_50} needs the folder of CIFAR-10: --cifar10_dir=DIR.")
    unfinished = f"{path}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    os.makedirs(unfinished)
    facts: dict[str, Any] = {"name": name}
    if name == CIFAR10_50:
        facts |= {"licence": "not stated", "pictures": cifar10_50(unfinished, str(cifar10_dir))}
    else:
        source = SOURCES[name]
        with tempfile.TemporaryDirectory() as root:
            facts |= {"packages": [unpack(package, cache, root) for package in source.packages],
                      "licence": source.licence, "pictures": write(source.read(root), unfinished)}
    files.write_text(os.path.join(unfinished, "SOURCE.json"), json.dumps(facts, indent=1) + "\n")
    os.rename(unfinished, path)
    return path


def _main() -> None:
    f = flags.FLAGS
    for name in f.name or NAMES:
        if f.name or name != CIFAR10_50 or f.cifar10_dir:
            path = make(name, f.output, f.cache or os.path.join(f.output, "packages"), f.cifar10_dir)
            facts = files.read_json(os.path.join(path, "SOURCE.json"))
            print(f"{path}: {sum(facts['pictures'].values()):,} pictures, "
                  + ", ".join(f"{label} {count}" for label, count in facts["pictures"].items()))


def main() -> None:
    """Entry point."""
    flags.DEFINE_string("output", None, "Folder that receives the folders.", required=True)
    flags.DEFINE_list("name", [], f"Folders to make, of {', '.join(NAMES)}; default: all that can be made.")
    flags.DEFINE_string("cache", None, "Folder that keeps Debian's packages; default: packages in --output.")
    flags.DEFINE_string("cifar10_dir", None, "Folder of CIFAR-10, for cifar10_50.")
    start.start(_main)


if __name__ == "__main__":
    main()
