"""Data sets: `load(spec)` gives training, held-out and test images as `tf.data` pipelines."""

from pnas_tf.data.loading import CLASS_WEIGHTS, Data, class_weights, imbalance, load, naming_broken_images

__all__ = ["CLASS_WEIGHTS", "Data", "class_weights", "imbalance", "load", "naming_broken_images"]
