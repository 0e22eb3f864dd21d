"""Writes the published CIFAR-10 network into pnas_tf/archs, from the authors' description of it.

    python scripts/make_proxyless_cifar.py --source=proxyless_cifar.config

The file is published by the authors (han-cai/files, folder proxylessnas): JSON with the ops of all edges of 54 residual
blocks.
"""

import os
from typing import Any

from absl import flags

from pnas_tf import files
from pnas_tf.cli import start
from pnas_tf.errors import InputError
from pnas_tf.space import tree_cells
from pnas_tf.space.arch import Arch

OUTPUT = os.path.join(os.path.dirname(__file__), "..", "pnas_tf", "archs", "proxyless_cifar.json")


def read(config: dict[str, Any]) -> Arch:
    """Reads a PyramidTreeNet.

    Args:
        config: The authors' description, as parsed JSON.

    Raises:
        InputError: If the description is of a network that the space does not contain.
    """
    cells = [block for block in config["blocks"] if block["name"] == "ResidualTreeBlock"]
    wide = [cell["out_bottle"]["out_channels"] for cell in cells]
    space = tree_cells.tree_space("proxyless_cifar", len(cells) // tree_cells.STAGES, wide[-1],
                                  num_classes=config["classifier"]["out_features"])
    if tree_cells.widths(len(cells) // tree_cells.STAGES, wide[-1]) != wide:
        raise InputError(f"Expected the widths of a PyramidNet to {wide[-1]}, got {wide}.")
    edge_ops = {}
    for number, cell in enumerate(cells, start=1):
        split = cell["cell"]["child_nodes"][0]
        for branch, first in zip(split["child_nodes"], (1, 7), strict=True):
            edges = [*branch["edges"], *(edge for child in branch["child_nodes"] for edge in child["edges"])]
            edge_ops |= {f"b{number:02d}/n{first + offset}": _op(edge) for offset, edge in enumerate(edges)}
    return Arch(space, edge_ops)


def _op(edge):
    kind, size = edge["name"], edge.get("kernel_size")
    if kind == "IdentityLayer":
        return "identity"
    if kind == "PoolingLayer":
        return f"{edge['pool_type']}_k{size}"
    return f"dil_k{size}" if edge["dilation"] == 2 else f"sep_k{size}"


def _main() -> None:
    if not flags.FLAGS.source:
        raise InputError("Name the authors' description of the network: --source=proxyless_cifar.config.")
    read(files.read_json(flags.FLAGS.source)).save(OUTPUT)
    print(OUTPUT)


def main() -> None:
    """Entry point."""
    flags.DEFINE_string("source", None, "The authors' proxyless_cifar.config.")
    start.start(_main)


if __name__ == "__main__":
    main()
