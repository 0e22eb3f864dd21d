"""Networks of whole pretrained blocks, and which searches are made of them."""

import numpy as np
import pytest

from pnas_tf import data as data_lib
from pnas_tf.errors import InputError
from pnas_tf.search.config import SearchConfig
from pnas_tf.search.problem import Problem, Request
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import spaces, whole_blocks

LITE0 = spaces.SPACES["lite0"]
# Blocks of the pretrained network that have a shortcut.
MAY_GO = ("b02", "b04", "b06", "b07", "b09", "b10", "b12", "b13", "b14")


def test_each_block_is_that_of_the_pretrained_network_or_left_out():
    whole, shipped = whole_blocks.only(LITE0), arch_lib.load("efficientnet_lite0")
    assert tuple(whole.choices) == MAY_GO and whole.size == 2 ** 9
    all_of_it = arch_lib.from_path(whole, np.zeros(9, np.int32))
    assert [op for _, op in all_of_it.blocks()] == [op for _, op in shipped.blocks()]
    assert all(choice.ops[1:] == ("zero",) for choice in whole.choices.values())
    assert whole_blocks.only(whole) == whole and whole.normalisation == LITE0.normalisation


def test_which_networks_are_cut():
    whole = whole_blocks.only(LITE0)
    assert not whole_blocks.is_cut(arch_lib.Arch(whole, dict.fromkeys(MAY_GO, "zero")))
    assert not whole_blocks.is_cut(arch_lib.from_path(whole.for_data(64, 1, 7), np.zeros(9, np.int32)))
    shipped = arch_lib.load("efficientnet_lite0")
    all_of_it = {block.name: op for block, op in shipped.blocks() if block.name in LITE0.choices}
    assert not whole_blocks.is_cut(arch_lib.Arch(LITE0, all_of_it))
    for block, op in (("b01", "mb_k3_e4"), ("b09", "mb_k3_e6"), ("b14", "mb_k5_e3")):
        assert whole_blocks.is_cut(arch_lib.Arch(LITE0, {**all_of_it, block: op}))


@pytest.fixture
def table_file(tmp_path, write_space):
    folder, space = tmp_path, LITE0.for_data(32, 3, 3)
    write_space(space, folder / "space.json", folder / "table.jsonl")
    return str(folder / "table.jsonl")


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    return data_lib.from_arrays((random.integers(0, 255, (60, 32, 32, 3), np.uint8), np.arange(60) % 3),
                                image_size=32, normalisation=LITE0.normalisation)


def problem(images, table_file, **settings):
    config = SearchConfig(space="lite0", table=table_file, image_size=32, **settings)
    return Problem.of(Request.of(config), images)


def test_few_images_leave_blocks_whole(images, table_file):
    few, parts = problem(images, table_file), problem(images, table_file, pretrained_parts="ops")
    assert few.space == whole_blocks.only(parts.space) and few.frozen and parts.frozen
    assert any("stays whole or is left out" in note for note in few.notes())
    assert not list(parts.notes())
    assert not SearchConfig().takes_whole_blocks(LITE0, 10_000) and not SearchConfig().freezes(LITE0, 10_000)
    assert not SearchConfig().takes_whole_blocks(spaces.SPACES["quickstart"], 60)
    assert SearchConfig(pretrained_parts="blocks").takes_whole_blocks(LITE0, 10**6)
    assert not problem(images, table_file, batch_norm="batch").frozen


def test_a_target_that_only_smaller_blocks_reach(images, table_file):
    whole = problem(images, table_file, pretrained_parts="blocks")
    least = whole.goals[0].ms.fixed
    below = problem(images, table_file, target_ms=0.98 * least)
    assert below.space == problem(images, table_file, pretrained_parts="ops", target_ms=0.98 * least).space
    with pytest.raises(InputError, match="No network of lite0 takes"):
        problem(images, table_file, pretrained_parts="blocks", target_ms=0.98 * least)
