"""Reads .tflite files with MediaPipe alone: python mediapipe_reader.py IMAGES.npy MODEL.tflite... > JSON.

Runs in an environment of its own, where nothing of the project is installed.
"""

import json
import sys
import types

import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision


def displayer(path):
    """MediaPipe's own. The wheel of 1.2 lacks a C++ module that only its writer calls, but that is imported on top."""
    names = ["mediapipe.tasks.cc", "mediapipe.tasks.cc.metadata", "mediapipe.tasks.cc.metadata.python"]
    for name in names:
        sys.modules.setdefault(name, types.ModuleType(name))
    if not hasattr(sys.modules[names[-1]], "_pywrap_metadata_version"):
        sys.modules[names[-1]]._pywrap_metadata_version = None
    from mediapipe.tasks.python.metadata import metadata

    return metadata.MetadataDisplayer.with_model_file(path)


def classified(path, images):
    """Names and scores of the first class of each image."""
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=path), max_results=1)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        found = [classifier.classify(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image))
                 for image in images]
    first = [result.classifications[0].categories[0] for result in found]
    return [entry.category_name for entry in first], [entry.score for entry in first]


def main():
    """Prints what MediaPipe says of each file."""
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
