"""Embedded data sets, and readers of the files that data sets come in."""

# Where Debian's dataset-fashion-mnist puts its files.
FASHION_MNIST_DIR = "/usr/share/datasets/fashion-mnist"
