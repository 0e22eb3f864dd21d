"""What does a training step of a derived network cost: here, in stock Keras, and in PyTorch?

    python -m benchmarks.speed.training_step --arch=proxyless_mobile --image_size=112 --batch_size=16
    python -m benchmarks.speed.training_step --torch_python=torch/bin/python

The same network, its forward and backward pass and the step of SGD with momentum, on a batch in memory. The ways take
turns, each in a process of its own, for some rounds; of each process the first epoch is left out. PyTorch is timed if
--torch_python names an interpreter that has it; it runs in both memory formats. On a CPU, XLA takes some 6 minutes a
round: --ways leaves it out.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from pnas_tf.cli import start
from pnas_tf.errors import InputError
from pnas_tf.space import arch as arch_lib

KERAS = {"ours": "this package's layers", "bfloat16": "this package's layers, mixed_bfloat16",
         "keras": "stock Keras", "keras_jit": "stock Keras, XLA"}
TORCH = {"torch": "PyTorch", "torch_last": "PyTorch, channels last"}
EPOCHS, STEPS = 4, 10
TORCH_SCRIPT = os.path.join(os.path.dirname(__file__), "torch_step.py")


def described(model: Any) -> list[dict[str, Any]]:
    """The layers of a Keras network as plain data, for other frameworks.

    Args:
        model: Functional model of convolutions, batch norm, ReLU, sums, average pooling and dense layers.

    Returns:
        For each layer in order: name, kind, names of its inputs (`input` is the images), and what its kind needs.

    Raises:
        InputError: If there is a layer of another kind.
    """
    from keras import layers

    nodes, name_of = [], {id(tensor): "input" for tensor in model.inputs}
    for layer in model.layers[1:]:
        (node,) = layer._inbound_nodes
        name_of[id(node.output_tensors[0])] = layer.name
        facts = {"name": layer.name, "inputs": [name_of[id(each)] for each in node.input_tensors]}
        channels = node.input_tensors[0].shape[-1]
        if isinstance(layer, layers.DepthwiseConv2D):
            facts |= {"kind": "conv", "filters": channels, "groups": channels}
        elif isinstance(layer, layers.Conv2D):
            facts |= {"kind": "conv", "filters": layer.filters, "groups": layer.groups}
        elif isinstance(layer, layers.BatchNormalization):
            facts |= {"kind": "batch_norm", "epsilon": layer.epsilon, "rate": 1 - layer.momentum}
        elif isinstance(layer, layers.ReLU):
            facts |= {"kind": "relu", "max_value": layer.max_value}
        elif isinstance(layer, layers.Dense):
            facts |= {"kind": "dense", "filters": layer.units}
        elif isinstance(layer, layers.GlobalAveragePooling2D):
            facts |= {"kind": "pool"}
        elif isinstance(layer, layers.Add):
            facts |= {"kind": "add"}
        else:
            raise InputError(f"{layer.name} is a {type(layer).__name__}, which is not compared with other frameworks.")
        if facts["kind"] == "conv":
            facts |= {"kernel": layer.kernel_size[0], "strides": layer.strides[0]}
        nodes.append({**facts, "channels": channels})
    return nodes


def build(arch: arch_lib.Arch, way: str) -> Any:
    """The network in the layers of a way."""
    import keras

    from pnas_tf.network import build as networks
    from pnas_tf.network import layers

    own = {"ours": layers, "bfloat16": layers.Typed(layers, "mixed_bfloat16")}
    return networks.assemble(arch, layers=own.get(way, keras.layers))


def keras_epochs(arch: arch_lib.Arch, way: str, batch_size: int) -> dict[str, Any]:
    """Trains a network by `model.fit`, and times its epochs.

    Args:
        arch: The network.
        way: One of `KERAS`.
        batch_size: Images per step.

    Returns:
        epochs (CPU and wall seconds of each), parameters (trainable) and version.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    model = build(arch, way)
    side, classes = arch.space.input_size, arch.space.num_classes
    images = np.random.default_rng(0).normal(size=(batch_size, side, side, arch.space.input_channels))
    batches = tf.data.Dataset.from_tensors((tf.constant(images, tf.float32), np.arange(batch_size) % classes)).repeat()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True, weight_decay=4e-5),
                  keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=way == "keras_jit")
    epochs = []
    for _ in range(EPOCHS):
        begin = time.process_time(), time.perf_counter()
        model.fit(batches, epochs=1, steps_per_epoch=STEPS, verbose=0)
        epochs.append([time.process_time() - begin[0], time.perf_counter() - begin[1]])
    return {"epochs": epochs, "parameters": sum(int(np.prod(each.shape)) for each in model.trainable_variables),
            "version": f"TensorFlow {tf.__version__}, Keras {keras.__version__}"}


def timed(way: str, torch_python: str | None, file: str, own: Sequence[str]) -> dict[str, Any]:
    """Times a way in a process of its own, which prints a line of JSON.

    Args:
        way: Name of the way.
        torch_python: Interpreter for the ways of `TORCH`.
        file: What `torch_step` reads.
        own: Module and flags of all other ways.

    Raises:
        InputError: If the process fails.
    """
    command = [str(torch_python), TORCH_SCRIPT, file, *(["--channels_last"] if way == "torch_last" else [])] \
        if way in TORCH else [sys.executable, "-m", *own]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise InputError(f"{way} failed: {ended.stderr.strip()[-500:]}" + (
            " Expected --torch_python to name an interpreter with PyTorch." if way in TORCH else ""))
    return json.loads(ended.stdout.strip().splitlines()[-1])


def check_torch(torch_python: str | None) -> None:
    """Refuses what is no program, before other ways take their time.

    Raises:
        InputError: If there is no such interpreter.
    """
    if not torch_python or not shutil.which(torch_python):
        raise InputError(f"--torch_python={torch_python}: no such program. Expected a Python interpreter that has "
                         "PyTorch.")


def compare(ways: dict[str, str], rounds: int, steps: int, run: Callable[[str, int], dict[str, Any]]) -> None:
    """Times all ways in turn, and prints medians and ratios of the first way to each, round by round.

    Args:
        ways: Names of the ways.
        rounds: Number of rounds.
        steps: Steps of an epoch.
        run: Function from a way and the number of a round to epochs (CPU and wall seconds of each), parameters and
            version; the first epoch does not count.

    Raises:
        InputError: If the ways have different numbers of parameters.
    """
    seconds: dict[str, list[list[float]]] = {way: [] for way in ways}
    for number in range(rounds):
        parameters = set()
        for way, name in ways.items():
            result = run(way, number)
            parameters.add(result["parameters"])
            seconds[way].append([statistics.median(each[place] for each in result["epochs"][1:]) / steps
                                 for place in (0, 1)])
            print(f"round {number + 1} of {rounds}, {name} ({result['version']}): {seconds[way][-1][0]:.3f} s of CPU, "
                  f"{seconds[way][-1][1]:.3f} s", flush=True)
        if len(parameters) > 1:
            raise InputError(f"The ways trained different networks, of {sorted(parameters)} parameters.")
    print("\n| | CPU s | wall s | CPU, first / this | wall, first / this |\n| --- | --- | --- | --- | --- |")
    for way, name in ways.items():
        own = [statistics.median(each[place] for each in seconds[way]) for place in (0, 1)]
        ratios = [statistics.median(mine[place] / its[place] for mine, its in zip(
            seconds[next(iter(ways))], seconds[way], strict=True)) for place in (0, 1)]
        print(f"| {name} | {own[0]:.3f} | {own[1]:.3f} | {ratios[0]:.2f}x | {ratios[1]:.2f}x |")


def _main() -> None:
    f = flags.FLAGS
    arch = arch_lib.load(f.arch)
    arch = arch.for_data(f.image_size, arch.space.input_channels, arch.space.num_classes)
    if f.only:
        start.load_tensorflow()
        print(json.dumps(keras_epochs(arch, f.only, f.batch_size)))
        return
    if f.torch_python:
        check_torch(f.torch_python)
    start.load_tensorflow()
    known = {**KERAS, **(TORCH if f.torch_python else {})}
    if unknown := set(f.ways) - set(known):
        raise InputError(f"--ways must be of {', '.join(known)}; got {', '.join(sorted(unknown))}. PyTorch needs "
                         "--torch_python.")
    ways = {way: name for way, name in known.items() if not f.ways or way in f.ways}
    with tempfile.TemporaryDirectory() as folder:
        network = os.path.join(folder, "network.json")
        with open(network, "w", encoding="utf-8") as file:
            json.dump({"nodes": described(build(arch, "keras")), "batch_size": f.batch_size, "epochs": EPOCHS,
                       "steps": STEPS, "image_size": f.image_size, "channels": arch.space.input_channels,
                       "num_classes": arch.space.num_classes, "threads": os.cpu_count()}, file)

        def run(way: str, number: int) -> dict[str, Any]:
            return timed(way, f.torch_python, network, [
                "benchmarks.speed.training_step", f"--only={way}", f"--arch={f.arch}", f"--image_size={f.image_size}",
                f"--batch_size={f.batch_size}"])

        compare(ways, f.rounds, STEPS, run)


def main() -> None:
    """Entry point."""
    flags.DEFINE_string("arch", "proxyless_mobile", "Name of a shipped network, or path of an arch.json.")
    flags.DEFINE_integer("image_size", 112, "Height and width of the images.", 32)
    flags.DEFINE_integer("batch_size", 16, "Images per step.", 1)
    flags.DEFINE_integer("rounds", 3, "Number of rounds, in each of which every way runs once.", 1)
    flags.DEFINE_string("torch_python", None, "Python interpreter with PyTorch; none to leave PyTorch out.")
    flags.DEFINE_list("ways", [], f"Ways to time: {', '.join((*KERAS, *TORCH))}; default: all. The others are compared "
                      "with the first.")
    flags.DEFINE_enum("only", None, list(KERAS), "Times one way in this process, and prints a line of JSON.")
    start.start(_main)


if __name__ == "__main__":
    main()
