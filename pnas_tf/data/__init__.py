"""Data sets: `load(spec)` gives training, held-out and test images as `tf.data` pipelines.

    data = load("folder:photos", image_size=96)
    for images, labels in data.train.batches(256, augment=True, seed=0):
        ...

A spec is the name of a data set, followed by an argument if it takes one:

    fashion_mnist_small    6,000 + 2,000 images, part of the package
    fashion_mnist          60,000 + 10,000 images, the four IDX files
    cifar10                50,000 + 10,000 images, the binary version or a .npz
    npz:PATH               arrays of your own: x_train, y_train, x_test, y_test
    folder:PATH            image files of your own, one folder for each class
    tfds:NAME              a data set that TensorFlow Datasets has prepared on this machine

`from_arrays((x, y))` makes one of images that a program holds in memory, as arrays or as a `tf.data.Dataset`.

Arrays stay in memory and are augmented by random crop and flip. Images in a folder stay files and are augmented as is
usual for ImageNet: random resized crop, flip, colour jitter. Nothing is downloaded, and no pickle is loaded.

To add a data set, write one function in `sources.py` that returns `Labelled` images, and enter it in `DATASETS` there.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pnas_tf.data.loading import (
        CLASS_WEIGHTS,
        Data,
        class_weights,
        from_arrays,
        imbalance,
        load,
        naming_broken_images,
    )

__all__ = ["CLASS_WEIGHTS", "Data", "class_weights", "from_arrays", "imbalance", "load", "naming_broken_images"]


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `readers.py` can be imported without TensorFlow.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("pnas_tf.data.loading"), name)
