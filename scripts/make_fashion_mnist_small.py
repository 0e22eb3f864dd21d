"""Writes the embedded data set: a balanced subset of Fashion-MNIST (MIT licence).

    apt-get install dataset-fashion-mnist
    python scripts/make_fashion_mnist_small.py

Takes 600 training and 200 test images of each class, chosen by a fixed seed and kept in their original order. With the
same zlib, the result is the same to the byte. The licence is pnas_tf/datasets/fashion_mnist_small.LICENSE.
"""

import io
import os
import sys

import numpy as np

from pnas_tf import files
from pnas_tf.data import readers
from pnas_tf.data.readers import FASHION_MNIST_DIR

TARGET = os.path.join(os.path.dirname(__file__), "..", "pnas_tf", "datasets", "fashion_mnist_small.npz")
SEED = 2017


def choose(labels: np.ndarray, images_per_class: int) -> np.ndarray:
    """Chooses random images of each class.

    Args:
        labels: Labels of all images, uint8 [images].
        images_per_class: Number of images to choose of each class.

    Returns:
        Positions of the chosen images, int64, in rising order.
    """
    # RandomState, because its stream is frozen: any NumPy chooses the same images.
    random = np.random.RandomState(SEED)
    return np.sort(np.concatenate([random.permutation(np.flatnonzero(labels == label))[:images_per_class]
                                   for label in np.unique(labels)]))


def main() -> None:
    """Entry point. The first argument, if any, is the folder of the original files."""
    source = sys.argv[1] if len(sys.argv) > 1 else FASHION_MNIST_DIR
    arrays = {}
    for part, file_part, images_per_class in (("train", "train", 600), ("test", "t10k", 200)):
        images = readers.read_idx(os.path.join(source, f"{file_part}-images-idx3-ubyte.gz"))
        labels = readers.read_idx(os.path.join(source, f"{file_part}-labels-idx1-ubyte.gz"))
        chosen = choose(labels, images_per_class)
        arrays[f"x_{part}"], arrays[f"y_{part}"] = images[chosen], labels[chosen]
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    files.write_bytes(TARGET, file.getvalue())
    print(f"{os.path.normpath(TARGET)}: {len(file.getvalue())} bytes, "
          + ", ".join(f"{name} {array.shape}" for name, array in arrays.items()))


if __name__ == "__main__":
    main()
