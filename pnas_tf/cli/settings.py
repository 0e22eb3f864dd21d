"""Flags that search and training have alike. Imports no TensorFlow, so that --help is quick."""

from absl import flags

# Keras policies: what layers compute in.
PRECISIONS = ["float32", "mixed_bfloat16", "mixed_float16"]


def define_data() -> None:
    """What to do about images that are broken, classes that are small, and what hides a part of training images."""
    flags.DEFINE_enum("broken_images", "skip", ["skip", "refuse"],
                      "Image files that cannot be decoded: left out and counted, or an error.")
    flags.DEFINE_enum("class_weights", "none", ["none", "balanced"],
                      "What an image counts for in the loss: 1, or the less the more its class has.")
    flags.DEFINE_integer("cutout", 0, "Side in pixels of a square of each training image that is set to the mean; 0: "
                         "none. The paper's for CIFAR-10 is 16.", 0, 8192)
