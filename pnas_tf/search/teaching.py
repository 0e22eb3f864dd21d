"""The teacher of a search, and weights for its supernet from the network that the space starts from."""

import dataclasses
import os
from typing import Any

import numpy as np

from pnas_tf import data as data_lib
from pnas_tf import files, terminal
from pnas_tf.cost import prices, within_limits
from pnas_tf.data import Data
from pnas_tf.errors import InputError
from pnas_tf.network import pretrained, slicing
from pnas_tf.network.criterion import Criterion
from pnas_tf.run_folder import RunFolder
from pnas_tf.search.config import SearchConfig
from pnas_tf.search.problem import load_data
from pnas_tf.space import arch as arch_lib
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Space
from pnas_tf.supernet import supernet
from pnas_tf.supernet.supernet import Supernet
from pnas_tf.train.fit import fit
from pnas_tf.train.initial_weights import IMAGENET, SCRATCH, read_model
from pnas_tf.train.recipe import NONE, Recipe
from pnas_tf.train.student import check_answers, read_teacher


def criterion_of(config: SearchConfig, space: Space, data: Data, folder: RunFolder, largest_size: int = 0) -> Criterion:
    """The loss of a search, with its teacher. Trains the teacher first, unless the folder has it.

    Args:
        config: Settings of the search.
        space: Space, fitted to the data.
        data: Images.
        folder: Folder of the search; the teacher is trained in a folder of its own inside.
        largest_size: Size of the images that the teacher is trained on; 0 for the size of the search's.

    Raises:
        InputError: If the teacher's file is missing, damaged, or does not fit the data.
    """
    weights, source = data_lib.class_weights(data.train, config.class_weights), config.teacher_of(space)
    criterion = Criterion(config.label_smoothing, weights, None, config.distill, config.temperature)
    if source == "none":
        return criterion
    if source == "largest":
        larger = data
        if config.strategy == "multi_worker":
            raise InputError("Several machines cannot train a teacher: train it on one with python -m pnas_tf.train, "
                             "and name its file by --teacher.")
        if largest_size and largest_size != space.input_size and not _is_trained(RunFolder(folder.teacher)):
            larger = data.at_size(largest_size) if data.rendering else load_data(
                config, dataclasses.replace(space, input_size=largest_size))
            space = dataclasses.replace(space, input_size=largest_size)
        source = _trained(largest(space), config, larger, RunFolder(folder.teacher))
    teacher = read_teacher(source, space)
    with data_lib.naming_broken_images(data):
        check_answers(teacher, source, data.held_out)
    kept = RunFolder(folder.teacher).model
    if not folder.teacher_model:  # a file of the user's, which the training of the found network needs, too
        os.makedirs(folder.teacher, exist_ok=True)
        # Several workers of one search may write it at a time.
        files.copy(source, kept)
    return dataclasses.replace(criterion, teacher=teacher)


def largest(space: Space) -> Arch:
    """The network of a space with the most MACs."""
    path = within_limits.most_of(prices.matrix(space, prices.macs()), [])
    return arch_lib.from_path(space, np.asarray(path))


def start_from_pretrained(net: Supernet, full_network: str = "") -> None:
    """Gives every op of a supernet its slice of the network that the space starts from.

    Args:
        net: Supernet of a space with `pretrained`.
        full_network: File of the teacher, which may be the full network after its training on the same images. Its
            ImageNet weights are used if there is no such file, or the teacher is another network.

    Raises:
        InputError: If an op is not part of the pretrained network.
    """
    name = str(net.space.pretrained)
    full = arch_lib.load(name)
    layers: slicing.Layers = pretrained.load(name, net.space.input_channels)
    trained = _layers_in(full_network, layers, net.space, full) if os.path.exists(full_network) else {}
    layers = trained or layers
    source = slicing.FullNetwork(full, layers)
    for mixed_op in net.mixed_ops:
        for candidate in filter(None, mixed_op.candidates):
            candidate.set_layer_weights(source.layers_of(mixed_op.block, candidate.key.op, candidate.layer_shapes()))
    terminal.say(f"Every op starts as a part of {name}"
                 + (", as trained on these images." if trained else ", with its ImageNet weights."))


def _layers_in(path: str, expected: slicing.Layers, space: Space, full: Arch) -> slicing.Layers:
    """Weights by layer name in the file of a full network; empty if it is another network. The head may differ."""
    model: Any = read_model(path)
    layers = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    names, head = {block.name for block in space.all_blocks}, full.space.head[-1].name
    prefixes = tuple(f"{block.layer_name(op)}_" for block, op in full.blocks() if block.name in names - {head})

    def shapes(of: slicing.Layers) -> dict[str, list[tuple[int, ...]]]:
        return {name: [value.shape for value in values] for name, values in of.items() if name.startswith(prefixes)}

    return layers if shapes(layers) == shapes(expected) else {}


def _is_trained(folder: RunFolder) -> bool:
    return os.path.exists(folder.training_facts) and os.path.exists(folder.model)


def _trained(arch: Arch, config: SearchConfig, data: Data, folder: RunFolder) -> str:
    """Trains the teacher if the folder does not hold it; returns the path of its file."""
    if _is_trained(folder):
        return folder.model
    is_pretrained = arch.space.pretrained is not None
    # It has no teacher: after a crash, its own finished file may lie where a run keeps its teacher.
    recipe = Recipe(init_weights=IMAGENET if is_pretrained else SCRATCH, epochs=config.teacher_epochs, teacher=NONE,
                    seed=config.seed, class_weights=config.class_weights, precision=config.precision,
                    broken_images=config.broken_images)
    os.makedirs(folder.path, exist_ok=True)
    arch.save(folder.arch)
    terminal.say("First the teacher: the largest network of the space.")
    supernet.set_graph_optimiser(True)
    facts = fit(arch, data, recipe, folder)
    supernet.set_graph_optimiser(False)
    terminal.say(f"The teacher's test accuracy is {facts['test_accuracy']:.2%}; trained in "
                 f"{terminal.seconds(round(facts['seconds']))}.")
    return folder.model
