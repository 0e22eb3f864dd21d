"""Networks that no memory holds are refused from their shapes; those that ship fit a small machine."""

import dataclasses

import numpy as np
import pytest

from pnas_tf import machine, network
from pnas_tf.errors import InputError
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import memory, shape_layers, spaces
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Block, OpKey, Space

GB = 10**9


@pytest.fixture
def of_8_gb(monkeypatch):
    monkeypatch.setattr(memory, "memory_bytes", lambda: 8 * GB)


def chain(ops, filters, *, size=32, stem="conv_k3", blocks=1):
    return Space("big", size, 3, 10, (Block("stem", (stem,), filters, 2),),
                 tuple(Block(f"b{number}", ops, filters, 1, True) for number in range(blocks)),
                 (Block("classifier", ("classifier",), 10),))


def first(space):
    return Arch(space, {name: block.ops[0] for name, block in space.choices.items()})


BOMBS = {"filters30000": chain(("mb_k3_e3", "mb_k3_e6"), 30_000, blocks=2),
         "filters1000000": chain(("mb_k3_e3",), 1_000_000), "dense": chain(("fused_k11_e12", "zero"), 3_000),
         "blocks2900": chain(("mb_k11_e12",), 64, blocks=2900),
         "pixels8192": chain(("mb_k11_e12",), 32, size=8192, stem="conv_k11")}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_with_its_size(of_8_gb, name):
    for check, what in ((memory.check_network, first(BOMBS[name])), (memory.check_space, BOMBS[name]),
                        (network.assemble, first(BOMBS[name]))):
        with pytest.raises(InputError, match=r"has [\d,]+ layers, more than|needs [\d,.]+ GB of memory or more \(.* "
                                             "there are 8.0 GB here"):
            check(what)


def test_an_op_alone_is_refused(of_8_gb):
    with pytest.raises(InputError, match=r"The op conv_k11 on 8192x8192x1024 -> 1024"):
        network.build_op(OpKey("conv_k11", (8192, 8192, 1024), 1024, 1, False))


def test_what_ships_fits_a_small_machine(of_8_gb):
    for name in spaces.SPACES:
        memory.check_space(spaces.load(name), 32)
    for name in arch_lib.names():
        memory.check_network(arch_lib.load(name), 32)


def test_batches_are_counted(of_8_gb):
    mobile = arch_lib.load("proxyless_mobile")
    memory.check_network(mobile, 64)
    with pytest.raises(InputError, match="--batch_size"):
        memory.check_network(mobile, 4096)


@pytest.mark.parametrize("key", [OpKey("mb_k5_e6", (14, 14, 16), 24, 2, False),
                                 OpKey("mbse_k3_e4", (7, 7, 8), 8, 1, True),
                                 OpKey("classifier", (7, 7, 320), 10, 1, False)], ids=str)
def test_counts_are_those_of_keras(key):
    model, counts = network.build_op(key), shape_layers.count(key)
    layers = [layer for layer in model.layers if type(layer).__name__ not in ("InputLayer", "Add")]
    assert counts.layers == len(layers)
    assert counts.params + counts.statistics == model.count_params()

    def size(tensors):
        return max(int(np.prod(tensor.shape[1:])) for tensor in (tensors if isinstance(tensors, list) else [tensors]))

    assert counts.peak == max(size(layer.input) + size(layer.output) for layer in layers)
    assert counts.kept == sum(size(layer.output) for layer in layers if "Conv" in type(layer).__name__)


def test_memory_of_this_process_counts(monkeypatch):
    physical = machine.memory_bytes()
    assert physical > GB
    monkeypatch.setattr(machine.resource, "getrlimit",
                        lambda kind: (GB, GB) if kind == machine.resource.RLIMIT_DATA else (-1, -1))
    assert machine.memory_bytes() == GB


def test_a_large_image_costs_the_space_its_place(of_8_gb):
    memory.check_space(dataclasses.replace(spaces.load("proxyless_imagenet"), input_size=512))
