"""Reads .tflite files with MediaPipe alone, and prints what it reads as JSON.

    python mediapipe_reader.py IMAGES.npy MODEL.tflite...
    python mediapipe_reader.py PHOTO.png CENTRAL_PART MODEL.tflite...

The program runs in an environment of its own, in which the project is not installed.
"""

import json
import sys
import types

import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision


def displayer(path):
    """MediaPipe's reader of a file's metadata.

    The wheel of MediaPipe 1.2 lacks a C++ module that is imported at the top but used only for writing.
    """
    names = ["mediapipe.tasks.cc", "mediapipe.tasks.cc.metadata", "mediapipe.tasks.cc.metadata.python"]
    for name in names:
        sys.modules.setdefault(name, types.ModuleType(name))
    if not hasattr(sys.modules[names[-1]], "_pywrap_metadata_version"):
        sys.modules[names[-1]]._pywrap_metadata_version = None
    from mediapipe.tasks.python.metadata import metadata

    return metadata.MetadataDisplayer.with_model_file(path)


def classified(path, images):
    """Names and scores of the most probable class of each image."""
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=path), max_results=1)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        results = [classifier.classify(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image))
                   for image in images]
    first = [result.classifications[0].categories[0] for result in results]
    return [entry.category_name for entry in first], [entry.score for entry in first]


def of_photo(path, photo, central_part):
    """Score of each class by name, for the central square of a photo."""
    from mediapipe.tasks.python.components.containers import rect
    from mediapipe.tasks.python.vision.core import image_processing_options

    image = mediapipe.Image.create_from_file(photo)
    side = central_part * min(image.width, image.height)
    across, down = side / image.width / 2, side / image.height / 2
    centre = image_processing_options.ImageProcessingOptions(region_of_interest=rect.RectF(
        left=0.5 - across, right=0.5 + across, top=0.5 - down, bottom=0.5 + down))
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=path))
    with vision.ImageClassifier.create_from_options(options) as classifier:
        result = classifier.classify(image, centre)
    return {entry.category_name: entry.score for entry in result.classifications[0].categories}


def main():
    """Prints names, scores, metadata and packed files of each model, or the scores of a photo."""
    if not sys.argv[1].endswith(".npy"):
        photo, central_part, *paths = sys.argv[1:]
        json.dump({path: of_photo(path, photo, float(central_part)) for path in paths}, sys.stdout)
        return
    images, result = np.load(sys.argv[1], allow_pickle=False), {}
    for path in sys.argv[2:]:
        shown = displayer(path)
        names, scores = classified(path, images)
        result[path] = {"names": names, "scores": scores, "metadata": json.loads(shown.get_metadata_json()),
                        "files": shown.get_packed_associated_file_list(),
                        "labels": shown.get_associated_file_buffer("labels.txt").decode()}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
