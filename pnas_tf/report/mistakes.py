"""The mistakes of a trained network in a report, read from mistakes.json."""

import base64
import binascii
import dataclasses
from typing import Any

from pnas_tf import files, shell
from pnas_tf.errors import InputError, printable
from pnas_tf.files import number
from pnas_tf.report import plots

# Most classes of a confusion matrix and of the table, images, confusions in a list, and characters of a thumbnail.
MAX_MATRIX, MAX_CLASSES, MAX_IMAGES, MAX_LISTED, MAX_THUMBNAIL = 40, 200, 12, 10, 40_000
# Up to this many classes, cells of the matrix show their numbers.
MAX_NUMBERED = 15
PNG = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class ClassScore:
    """A class: its name, the share of its test images that are classified correctly, and their number."""

    name: str
    accuracy: float | None
    images: int


@dataclasses.dataclass(frozen=True)
class Mistaken:
    """A test image that is classified wrongly.

    Attributes:
        label: Label.
        prediction: Label that the network gives.
        probability: Probability of the prediction, 0 to 1.
        path: Path of the image, or None.
        thumbnail: PNG in base64, or "".
    """

    label: int
    prediction: int
    probability: float
    path: str | None
    thumbnail: str


@dataclasses.dataclass(frozen=True)
class Mistakes:
    """Contents of mistakes.json.

    Attributes:
        classes: Classes by label.
        confusion: Label, predicted label and number of images of each pair that occurs.
        mistaken: Images that are classified wrongly, worst first.
    """

    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, int, int], ...]
    mistaken: tuple[Mistaken, ...]

    def name(self, label: int) -> str:
        """Name of a class."""
        return self.classes[label].name

    @property
    def worst(self) -> list[ClassScore]:
        """Classes from the lowest accuracy to the highest, as many as a page shows."""
        return sorted(self.classes, key=lambda each: 2.0 if each.accuracy is None else each.accuracy)[:MAX_CLASSES]

    @property
    def commonest(self) -> list[tuple[int, int, int]]:
        """The confusions of most images, as many as a page lists."""
        wrong = [entry for entry in self.confusion if entry[0] != entry[1]]
        return sorted(wrong, key=lambda entry: -entry[2])[:MAX_LISTED]


def read(path: str) -> Mistakes:
    """Reads mistakes.json. Entries that do not fit are left out.

    Raises:
        InputError: If the file is damaged or holds no classes.
    """
    data = files.read_json(path)
    classes = _dicts(data, "classes")
    if not classes:
        raise InputError(f"{path}: does not hold mistakes as pnas_tf.train writes them. Remove it, or train again: "
                         f"python -m pnas_tf.train --run_dir={shell.word(path.removesuffix('mistakes.json') or '.')}")
    count = len(classes)
    confusion = data.get("confusion")
    entries = [tuple(entry) for entry in (confusion if isinstance(confusion, list) else ())
               if isinstance(entry, list) and len(entry) == 3 and _label(entry[0], count) and _label(entry[1], count)
               and _label(entry[2], 10 ** 12)]
    mistaken = [image for image in _dicts(data, "mistaken")
                if _label(image.get("label"), count) and _label(image.get("prediction"), count)
                and _share(image.get("probability")) is not None][:MAX_IMAGES]
    return Mistakes(
        tuple(ClassScore(printable(str(each.get("name")), 60), _share(each.get("accuracy")),
                         each["images"] if _label(each.get("images"), 10 ** 12) else 0) for each in classes),
        tuple(entries), tuple(Mistaken(
            image["label"], image["prediction"], image["probability"],
            printable(image["path"], 200) if isinstance(image.get("path"), str) else None,
            _thumbnail(image.get("thumbnail"))) for image in mistaken))


def _dicts(data: Any, name: str) -> list[dict[str, Any]]:
    values = data.get(name) if isinstance(data, dict) else None
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _label(value: Any, below: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < below


def _share(value: Any) -> float | None:
    value = number(value)
    return value if value is not None and 0 <= value <= 1 else None


def _thumbnail(value: Any) -> str:
    """The text if it is a small PNG in base64, else ""."""
    if not isinstance(value, str) or len(value) > MAX_THUMBNAIL:
        return ""
    try:
        return value if base64.b64decode(value, validate=True).startswith(PNG) else ""
    except (binascii.Error, ValueError):
        return ""


def confusion_chart(mistakes: Mistakes) -> plots.Chart | None:
    """The confusion matrix: a row for each class, its images by predicted class. None if there are too many classes."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    names = [each.name[:20] for each in mistakes.classes]
    count = len(names)
    if not mistakes.confusion or count > MAX_MATRIX:
        return None
    totals = [0] * count
    for label, _, images in mistakes.confusion:
        totals[label] += images
    with matplotlib.rc_context(plots.STYLE):
        size = max(5.2, 0.22 * count + 1.8)
        figure = Figure(figsize=(size, size), layout="constrained")
        axes = figure.add_subplot()
        for label, predicted, images in mistakes.confusion:
            share = images / max(1, totals[label])
            right = label == predicted
            axes.add_patch(Rectangle((predicted - 0.5, label - 0.5), 1, 1, linewidth=0,
                                     color=plots.SERIES[0] if right else plots.SERIES[1],
                                     alpha=0.08 + 0.62 * share if right else min(0.9, 0.12 + 1.5 * share)))
            if count <= MAX_NUMBERED:
                axes.text(predicted, label, str(images), ha="center", va="center", fontsize=10)
        axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5), aspect="equal", xlabel="predicted class",
                 ylabel="class")
        size_of_names = 10 if count <= MAX_NUMBERED else 8
        axes.set_xticks(range(count), names, rotation=90, fontsize=size_of_names)
        axes.set_yticks(range(count), names, fontsize=size_of_names)
        axes.tick_params(length=0)
        return plots.Chart("Confusion matrix", plots.inline(figure, "confusion"),
                           "A row is a class, and its cells are the classes that the network names. The stronger the "
                           "colour, the larger the share of the row; blue is right, orange is wrong.")
