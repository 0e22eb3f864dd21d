"""The README of a bundle, which a person who writes an app reads first. It is a model card for hubs, too."""

from collections.abc import Collection, Sequence
from typing import Any

from export import apps, front_matter, model_card, model_ends

KOTLIN = """## Android

`Classifier.kt` loads `{file}`, prepares a photo and reads the classes, as `run.py` does:

```kotlin
val source = ImageDecoder.createSource(contentResolver, uri)
val photo = ImageDecoder.decodeBitmap(source) {{ decoder, _, _ -> decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE }}
val classes = Classifier(context).use {{ it.classify(photo) }}
for ((name, probability) in classes.take(3)) println("$name $probability")
```
"""
SWIFT = """## iOS

`Classifier.swift` does the same in an app for iOS:

```swift
let classifier = try Classifier()
for (name, probability) in try classifier.classify(photo).prefix(3) {{ print(name, probability) }}
```
"""
MEDIAPIPE = """## MediaPipe

MediaPipe's ImageClassifier loads `{file}`, too. It squeezes the whole photo into the input unless you give it the
part described above as its region of interest: {region}.
Its scores are {scores}. It resizes without antialiasing: shrink photos that are much
larger than the input first.
"""
NO_SWIFT = """## iOS

The runtime's interface for Swift has no int8 input: export with `--int8_io=uint8`.
"""
RUN = """```
pip install numpy ai-edge-litert pillow    # or tflite-runtime with numpy 1
python run.py
python run.py --image=photo.jpg
sh time_on_phone.sh path/to/benchmark_model
```
"""


def render(exports: Sequence[dict[str, Any]], reason: str, names: Collection[str]) -> str:
    """Renders the README.

    Args:
        exports: Facts of each file, the recommended one first.
        reason: Reason of the recommendation.
        names: Names of the other files of the bundle.
    """
    first = exports[0]
    file = f"{first['mode']}.tflite"
    height, width, channels = first["image_shape"]
    lines = [*front_matter.render(exports), "", "# Image classifier for your app", "",
             f"**Take `{file}`.** {reason}", "",
             f"{len(first['labels'])} classes, images {height} x {width} x {channels} (height x width x channels).", "",
             RUN, "## Files", "", *_files(exports, names), "", "## Input and output", "",
             model_card.preparation(first), "", *model_card.ends(first), ""]
    if apps.KOTLIN in names:
        lines += [KOTLIN.format(file=file), SWIFT.format() if apps.SWIFT in names else NO_SWIFT]
    if model_card.mediapipe_problem(first) is None:
        scores = model_ends.OUTPUTS[first["output_kind"]]
        lines.append(MEDIAPIPE.format(file=file, region=_region(first), scores=scores))
    lines += [f"## Accuracy of each class, {file}", "", *model_card.class_table(first), ""]
    return "\n".join(lines)


def _files(exports, names):
    lines = ["| network | top-1 | size | latency | |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| `{facts['mode']}.tflite` | {facts['top1']:.1%} | {facts['size_bytes'] / 1000:,.0f} kB | "
              f"{facts['measured_ms']:.3g} ms, {facts['target']}{model_card.doubt(facts)} | "
              f"{'recommended' if facts is exports[0] else ''} |"
              for facts in exports]
    lines += ["", "| file | content |", "| --- | --- |",
              "| `<network>.md`, `<network>.json` | model card of a network, the same for programs |",
              "| `labels.txt` | class names by position of the output; each .tflite also contains them |",
              "| `run.py`, `examples.npz` | runs the examples and compares their outputs with the expected ones |"]
    if any(name.startswith("examples/") for name in names):
        lines.append("| `examples/*.png` | the same images, for tests in the app |")
    if apps.KOTLIN in names:
        lines.append("| `Classifier.*` | code for apps |")
    return [*lines, "| `bundle.json` | preparation, tolerances, and the expected logits of the examples |",
            "| `time_on_phone.sh` | times the models on a phone through adb |"]


def _region(facts):
    """The central part of a photo as MediaPipe's region of interest, in shares of its width and height."""
    height, width, _ = facts["input"]["shape"][1:]
    part = facts["central_part"]
    low, high = (1 - part) / 2, (1 + part) / 2
    if height != width:
        return "its left, top, right and bottom edges as shares of width and height"
    return (f"for a square photo left and top {low:.4g}, right and bottom {high:.4g}; for another photo, a centred "
            f"square whose side is {part:.4g} of the shorter side")
