"""Flags that search and training have alike. Imports no TensorFlow, so that --help is quick."""

from absl import flags

# Keras policies: what layers compute in.
PRECISIONS = ["float32", "mixed_bfloat16", "mixed_float16"]


def define_data() -> None:
    """What to do about images that are broken, and classes that are small."""
    flags.DEFINE_enum("broken_images", "skip", ["skip", "refuse"],
                      "Image files that cannot be decoded: left out and counted, or an error.")
    flags.DEFINE_enum("class_weights", "none", ["none", "balanced"],
                      "What an image counts for in the loss: 1, or the less the more its class has.")
