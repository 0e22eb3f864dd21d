"""What does a weight step of the supernet cost here, and in PyTorch?

    python -m benchmarks.speed.supernet_step --torch_python=torch/bin/python

The same supernet, ops and paths: one path a step, forward and backward pass, and SGD with momentum on the weights of
that path, on a batch in memory. In PyTorch the blocks hold all their ops as modules, and only the sampled ones run, as
in the paper's own code. The ways take turns, each in a process of its own, for some rounds; the first epoch of each,
which prepares all paths, is left out. `training_step` compares plain networks in the same way.
"""

import json
import os
import tempfile
import time
from typing import Any

import numpy as np
from absl import flags

from benchmarks.speed import supernet_cost, training_step
from pnas_tf.cli import start
from pnas_tf.errors import InputError
from pnas_tf.space import blocks, ops, spaces

EPOCHS, PATHS = 4, 6
WAYS = {"ours": "this package's supernet", **training_step.TORCH}


def task(space: blocks.Space, batch_size: int, seed: int) -> dict[str, Any]:
    """The supernet and the paths of an epoch as plain data, for `torch_step`.

    Args:
        space: Chain of blocks.
        batch_size: Images per step.
        seed: Seed of the paths.
    """
    import keras

    from pnas_tf import network

    rng, names = np.random.default_rng(seed), list(space.choices)
    paths = [{name: int(rng.integers(len(space.choices[name].ops))) for name in names} for _ in range(PATHS)]
    described = [[None if key.op == ops.ZERO else training_step.described(network.build_op(key, layers=keras.layers))
                  for key in space.keys(block)] for block in space.all_blocks]
    return {"blocks": described, "paths": [[path.get(block.name, 0) for block in space.all_blocks] for path in paths],
            "choices": [list(path.values()) for path in paths], "batch_size": batch_size, "epochs": EPOCHS,
            "image_size": space.input_size, "channels": space.input_channels, "num_classes": space.num_classes,
            "threads": os.cpu_count()}


def our_epochs(space: blocks.Space, given: dict[str, Any]) -> dict[str, Any]:
    """Trains the supernet, and times its epochs.

    Args:
        space: Space of the supernet.
        given: The task.

    Returns:
        epochs (CPU and wall seconds of each), parameters (trainable) and version.
    """
    import tensorflow as tf

    from pnas_tf.supernet import supernet

    supernet.set_graph_optimiser(False)
    net = supernet.Supernet(space)
    images = tf.random.normal([given["batch_size"], given["image_size"], given["image_size"], given["channels"]])
    step = supernet_cost.weight_step(net, images, tf.range(given["batch_size"]) % given["num_classes"])
    epochs = []
    for _ in range(given["epochs"]):
        begin = time.process_time(), time.perf_counter()
        for path in given["choices"]:
            step(np.array(path, np.int32))
        epochs.append([time.process_time() - begin[0], time.perf_counter() - begin[1]])
    return {"epochs": epochs, "parameters": net.count_weights(), "version": f"TensorFlow {tf.__version__}"}


def _space() -> blocks.Space:
    f = flags.FLAGS
    space = spaces.load(f.space)
    return space.for_data(f.image_size, space.input_channels, space.num_classes)


def _main() -> None:
    f = flags.FLAGS
    if f.only:
        start.load_tensorflow()
        with open(f.only, encoding="utf-8") as file:
            print(json.dumps(our_epochs(_space(), json.load(file))))
        return
    if not _space().is_chain or _space().width_choices:
        raise InputError(f"--space={f.space}: expected a chain of blocks whose filters are fixed.")
    training_step.check_torch(f.torch_python)
    start.load_tensorflow()
    with tempfile.TemporaryDirectory() as folder:
        def run(way: str, number: int) -> dict[str, Any]:
            path = os.path.join(folder, f"{number}.json")
            if not os.path.exists(path):
                with open(path, "w", encoding="utf-8") as file:
                    json.dump(task(_space(), f.batch_size, number), file)
            return training_step.timed(way, f.torch_python, path, [
                "benchmarks.speed.supernet_step", f"--only={path}", f"--space={f.space}",
                f"--image_size={f.image_size}", f"--batch_size={f.batch_size}"])

        training_step.compare(WAYS, f.rounds, PATHS, run)


def main() -> None:
    """Entry point."""
    flags.DEFINE_string("space", "proxyless_imagenet", "Name of a space without cells, or path of a JSON file.")
    flags.DEFINE_integer("image_size", 112, "Height and width of the images.", 32)
    flags.DEFINE_integer("batch_size", 16, "Images per step.", 1)
    flags.DEFINE_integer("rounds", 3, "Number of rounds, in each of which every way runs once, on new paths.", 1)
    flags.DEFINE_string("torch_python", None, "Python interpreter with PyTorch.")
    flags.DEFINE_string("only", None, "Times this package's supernet on a task in a file, and prints a line of JSON.")
    start.start(_main)


if __name__ == "__main__":
    main()
