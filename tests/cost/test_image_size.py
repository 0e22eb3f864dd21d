"""The image size of a search around a pretrained network."""

import dataclasses
import json

import pytest

from pnas_tf.cost import image_size, latency_table, prices
from pnas_tf.search.config import SearchConfig
from pnas_tf.search.problem import Request
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import spaces
from pnas_tf.space.arch import Arch

SPACE = spaces.load("lite0")
SIZES = (96, 64, 32)


def price(key):
    """Milliseconds in proportion to the pixels."""
    return key.input[0] * key.input[1] * (10 if key.op.endswith("e6") else 1) * 1e-5


@pytest.fixture(scope="module")
def table_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "test.jsonl"
    keys = {key: None for size in SIZES for _, key in SPACE.for_data(size, 3, 7).op_keys()}
    path.write_text("".join(json.dumps(line) + "\n" for line in [
        latency_table.header("test"), *(latency_table.row(key, median_ms=price(key)) for key in keys)]))
    return path


def whole_ms(table, size):
    """Milliseconds of the shipped network, by the rows of its own ops."""
    whole = arch_lib.load("efficientnet_lite0")
    return prices.of_arch(Arch(whole.space.for_data(size, 3, 7), whole.ops), prices.milliseconds(table))


def test_the_largest_images_at_which_the_target_is_a_good_share(table_file):
    table = latency_table.read(str(table_file))
    assert image_size.sizes(SPACE, table) == list(SIZES)
    for size in SIZES:
        ms = whole_ms(table, size)
        assert image_size.whole_ms(dataclasses.replace(SPACE, input_size=size), table) == pytest.approx(ms)
        assert image_size.suited(SPACE, table, image_size.LEAST_SHARE * ms * 1.001) == size
        assert image_size.suited(SPACE, table, image_size.LEAST_SHARE * ms * 0.999) == max(size - 32, 32)
    assert image_size.suited(SPACE, table, 0) == 96


def test_a_size_with_a_missing_row_is_not_known(table_file, tmp_path):
    lines = table_file.read_text().splitlines(keepends=True)
    path = tmp_path / "some.jsonl"
    path.write_text("".join(line for line in lines if '"input": [4, 4, 80], "filters": 80' not in line))
    assert image_size.sizes(SPACE, latency_table.read(str(path))) == [96, 32]


@pytest.mark.slow
def test_a_table_of_absurd_sizes_is_soon_read(table_file, tmp_path):
    """A hundred thousand sizes, most of them larger than any image."""
    stem = next(iter(SPACE.for_data(96, 3, 7).op_keys()))[1]
    rows = [latency_table.row(dataclasses.replace(stem, input=(side, side, 3)), median_ms=1.0)
            for side in (*range(66, 94), *range(10_000, 110_000))]
    rows.append(latency_table.row(dataclasses.replace(stem, input=(95, 95, 3), filters=16), median_ms=1.0))
    path = tmp_path / "absurd.jsonl"
    path.write_text(table_file.read_text() + "".join(json.dumps(row) + "\n" for row in rows))
    table = latency_table.read(str(path))
    assert image_size.sizes(SPACE, table) == list(SIZES)


def test_a_search_takes_the_size_unless_told(table_file):
    table = latency_table.read(str(table_file))
    ms = image_size.LEAST_SHARE * whole_ms(table, 64)
    config = SearchConfig(space="lite0", table=str(table_file), target_ms=1.01 * ms)
    request = Request.of(config)
    assert (request.space.input_size, request.largest_size) == (64, 96)
    assert request.pretrained_ms(table) == pytest.approx(whole_ms(table, 96))  # of the teacher's images
    assert dataclasses.replace(request, largest_size=128).pretrained_ms(table) is None  # not priced, so not 0
    request = Request.of(dataclasses.replace(config, image_size=32))
    assert (request.space.input_size, request.largest_size) == (32, 32)
    request = Request.of(SearchConfig(space="quickstart", table="x86_xnnpack1_float32"))
    assert request.space.input_size == request.largest_size == spaces.load("quickstart").input_size
