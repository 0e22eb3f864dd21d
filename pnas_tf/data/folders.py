"""Lists a folder of images: its parts, its classes and their files. Whatever is not read is counted and named."""

import collections
import dataclasses
import os
import re
from collections.abc import Iterator, Sequence

import numpy as np

from pnas_tf import terminal
from pnas_tf.data import pictures
from pnas_tf.errors import InputError, printable

TEST_PARTS = ("test", "val", "valid", "validation", "testing")
_PART = re.compile(r"(train|test|valid|val|eval|dev)(ing|ation|uation)?[-_]?(set|\d{4})?", re.IGNORECASE)
# Files that operating systems add to folders.
_SYSTEM_FILES = ("thumbs.db", "desktop.ini")
_NAMED = 5


@dataclasses.dataclass(frozen=True)
class Listing:
    """Image files with their labels.

    Attributes:
        paths: Paths, bytes [images], sorted by class and then by name.
        labels: Labels, int32 [images].
    """

    paths: np.ndarray
    labels: np.ndarray


def listed(path: str) -> tuple[Listing, Listing | None, list[str]]:
    """Lists image files with one folder for each class, in PATH/train and PATH/test (or /val, ...), or in PATH alone.

    Returns:
        Training images; test images, or None if the folder has no part for them; names of the classes.

    Raises:
        InputError: If the folder has no such form.
    """
    parts = _subfolders(path)
    # A folder `train` without folders in it is a class of that name.
    has_train = "train" in parts and bool(_subfolders(os.path.join(path, "train")))
    root = os.path.join(path, "train") if has_train else path
    test = next((part for part in TEST_PARTS if has_train and part in parts), None)
    class_names = _subfolders(root)
    if len(class_names) < 2:
        raise InputError(f"{root}: expected at least two folders of images, one for each class; got "
                         f"{', '.join(class_names) or 'none'}.")
    if all(_PART.fullmatch(name) and _subfolders(os.path.join(root, name)) for name in class_names):
        raise InputError(f"{root}: the folders {', '.join(class_names[:_NAMED])} look like parts of a data set, not "
                         f"like classes. Name them train and {' or '.join(TEST_PARTS[:2])}.")
    _check_parts(path, root, class_names)
    if has_train:
        _report_parts(path, [part for part in parts if part not in ("train", test)], test)
    return (_list_classes(root, class_names), _list_classes(os.path.join(path, test), class_names) if test else None,
            class_names)


def _check_parts(path: str, root: str, class_names: Sequence[str]) -> None:
    """Raises InputError if a folder beside the classes holds folders of those classes, as test images may."""
    for name in filter(_PART.fullmatch, class_names):
        others = [each for each in class_names if each != name]
        inside = _subfolders(os.path.join(root, name))
        if inside and set(inside) <= set(others):
            raise InputError(f"{os.path.join(root, name)}: holds folders of classes ({', '.join(inside[:_NAMED])}), so "
                             f"it looks like a part of the data set. Move the classes beside it, {others[0]} and all "
                             f"others, into {os.path.join(path, 'train')}.")


def _heic(left_out: Sequence[str]) -> str:
    """A hint if there are HEIC files among those that are not read."""
    return " To read HEIC: pip install pillow-heif." if any(
        name.lower().endswith((".heic", ".heif")) for name in left_out) else ""


def _list_classes(path: str, class_names: Sequence[str]) -> Listing:
    """Lists the images in the folders of all classes, and prints what else is in them.

    Raises:
        InputError: If there are other folders, or a class folder has no images.
    """
    unknown = sorted(set(_subfolders(path)) - set(class_names))
    if unknown:
        raise InputError(f"{path}: the folder {unknown[0]!r} is not one of the {len(class_names)} training classes "
                         f"({', '.join(class_names[:5])}{', ...' if len(class_names) > 5 else ''}). Rename or move it.")
    endings = pictures.endings()
    paths, labels, nested = [], [], 0
    stray = [name for name in _entries(path)[1] if name.lower().endswith(endings)]
    others = []
    for label, class_name in enumerate(class_names):
        folder = os.path.join(path, class_name)
        files = list(_files(folder))
        images = [name for name in files if name.lower().endswith(endings)]
        others += [name for name in files if not name.lower().endswith((*endings, *_SYSTEM_FILES))]
        nested += sum(os.sep in name for name in images)
        if not images:
            raise InputError(f"{folder}: no images. Expected files that end in {', '.join(endings)}; put some "
                             f"there, or remove the folder.{_heic(files)}")
        paths += [os.fsencode(os.path.join(folder, name)) for name in images]
        labels += [label] * len(images)
    _report(path, stray, others, nested)
    return Listing(np.array(paths), np.array(labels, np.int32))


def _report(path: str, stray: Sequence[str], others: Sequence[str], nested: int) -> None:
    """Tells what is unusual in the folder of the classes."""
    if nested:
        terminal.say(f"{nested:,} images of {printable(path)} are in folders inside the class folders: they have the "
                     "class of the outer folder.")
    if stray:
        terminal.say(f"Left out: {len(stray):,} image files of {printable(path)} in no class folder "
                     f"({_short(stray)}).")
    if others:
        kinds = collections.Counter(os.path.splitext(name)[1].lower() or "no ending" for name in others)
        terminal.say(f"Left out: {len(others):,} files of {printable(path)} that are not read ("
                     + printable(", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))) + ")."
                     + _heic(others))


def _report_parts(path: str, parts: Sequence[str], test: str | None) -> None:
    """Tells the folders beside `train` that are not read, with their numbers of images."""
    endings = pictures.endings()
    for part in parts:
        count = sum(name.lower().endswith(endings) for name in _files(os.path.join(path, part)))
        if count:
            terminal.say(f"Left out: {count:,} images of {printable(os.path.join(path, part))}. Training images are "
                         f"those of train, test images {f'those of {test}' if test else 'a part of these'}.")


def _short(names: Sequence[str]) -> str:
    return printable(", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else ""))


def _subfolders(path: str) -> list[str]:
    return [name for name in _entries(path)[0] if not name.startswith("__")]  # __MACOSX


def _files(folder: str) -> Iterator[str]:
    """Paths of all files inside a folder, relative to it, sorted. A folder is read once, however links lead to it."""
    seen = set()

    def walk(prefix: str) -> Iterator[str]:
        path = os.path.join(folder, prefix)
        folders, names = _entries(path)
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        yield from (os.path.join(prefix, name) for name in names)
        for name in folders:
            if not name.startswith("__"):
                yield from walk(os.path.join(prefix, name))

    return walk("")


def _entries(path: str) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, sorted, without hidden ones.

    Raises:
        InputError: If there is no such folder.
    """
    try:
        with os.scandir(path) as entries:
            # "._x.jpg" is macOS metadata, not an image. A pipe or a device might never end.
            visible = [(entry.name, entry.is_dir(), entry.is_file()) for entry in entries
                       if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a folder ({error.strerror}). Expected one folder of images for "
                         "each class in it.") from None
    return (sorted(name for name, is_folder, _ in visible if is_folder),
            sorted(name for name, _, is_file in visible if is_file))
