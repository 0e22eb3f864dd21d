"""Filters first, then ops: the two stages of a search, by the command and by their parts."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pnas_tf.cost import latency_table, prices
from pnas_tf.cost.goal import Goal
from pnas_tf.errors import InputError
from pnas_tf.search import stages
from pnas_tf.search.config import WIDTHS_THEN_OPS, SearchConfig
from pnas_tf.search.problem import Request
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import spaces, widths
from pnas_tf.space.blocks import Block, Space
from tests.spaces import TINY, WIDE

ROOT = Path(__file__).parents[2]
OPS = ("mb_k3_e3", "mb_k3_e6", "mb_k5_e3")
# Two stages of searched filters on the grey images that the package brings along.
GREY = Space(
    "grey", input_size=28, input_channels=1, num_classes=10, stem=(Block("stem", ("conv_k3",), 8, strides=2),),
    blocks=(Block("b00", ("mb_k3_e1",), 8, strides=2), Block("b01", OPS, 12, widths=(8, 12)),
            Block("b02", (*OPS, "zero"), 12, shortcut=True, widths=(8, 12)),
            Block("b03", OPS, 24, strides=2, widths=(16, 24))),
    head=(Block("classifier", ("classifier",), 10),))


def table_of(space, path):
    """A table with made-up milliseconds for every row of a space."""
    rng = np.random.default_rng(0)
    keys = dict.fromkeys(key for _, key in space.op_keys())
    rows = [latency_table.row(key, median_ms=float(rng.uniform(0.5, 1)) * key.filters / 100) for key in keys]
    Path(path).write_text("".join(f"{json.dumps(line)}\n" for line in (latency_table.header("made_up"), *rows)))
    return latency_table.read(str(path))


def test_the_standard_op_takes_about_as_long_as_the_others():
    """Of b01's ops (1, 4 and 7 ms at any filters) and b02's (the same and zero), the middle one is nearest to 4."""
    ms = dict(zip(OPS, (1.0, 7.0, 4.0), strict=True))
    cost = prices.matrix(GREY, lambda name, key: ms.get(key.op, 0.0))
    assert stages.standard_op(GREY, Goal("t", cost, 9.0)) == "mb_k5_e3"
    one = stages.with_one_op(GREY, "mb_k5_e3")
    assert [block.ops for block in one.blocks] == [("mb_k3_e1",), ("mb_k5_e3",), ("mb_k5_e3", "zero"), ("mb_k5_e3",)]
    assert list(one.choices) == ["b01/filters", "b02", "b03/filters"]
    with pytest.raises(InputError, match="an op that every block offers, and wide has none"):
        stages.standard_op(WIDE, Goal("t", prices.matrix(WIDE, lambda name, key: 1.0), 9.0))


@pytest.mark.parametrize("space, settings, expected", [
    (TINY, {}, "tiny has one number of filters for each block"),
    (GREY, {"init_weights": "runs/other"}, "leave out --init_weights"),
    (GREY, {"strategy": "multi_worker"}, "leave out --strategy=multi_worker")])
def test_what_has_no_two_stages_is_one_line(tmp_path, space, settings, expected):
    table = table_of(space, tmp_path / "table.jsonl")
    with pytest.raises(InputError, match=expected) as error:
        Request.of(SearchConfig(stages=WIDTHS_THEN_OPS, **settings), space, table)
    assert "\n" not in str(error.value)


def test_two_stages_have_one_target(tmp_path):
    table_of(GREY, tmp_path / "table.jsonl")
    config = SearchConfig(stages=WIDTHS_THEN_OPS, targets=tuple(f"{tmp_path}/table.jsonl:{ms}" for ms in (0.5, 0.6)))
    with pytest.raises(InputError, match="needs one target"):
        Request.of(config, GREY)


def test_a_name_makes_filters_choices():
    searched, fixed = spaces.load("mobile_2024_widths"), spaces.SPACES["mobile_2024"]
    small = arch_lib.load("mobilenet_v4_conv_small")
    path = small.path_in(searched)
    assert arch_lib.from_path(searched, path).fingerprint() == small.fingerprint()
    assert searched.choices["b04/filters"].filters == (72, 96, 120) and len(searched.choices) == len(fixed.choices) + 2
    assert widths.fixed(searched, (96, 128)) == dataclasses.replace(fixed, name="mobile_2024_widths")
    with pytest.raises(InputError, match="lite0_widths: filters can be searched in chains"):
        spaces.load("lite0_widths")


@pytest.mark.slow
def test_a_search_in_two_stages(tmp_path):
    """The delivered network has the filters of the first stage; the same command ends with the same network."""
    (tmp_path / "space.json").write_text(json.dumps(GREY.to_json()))
    table_of(GREY, tmp_path / "table.jsonl")
    command = ["pnas_tf.search", f"--space={tmp_path}/space.json", f"--table={tmp_path}/table.jsonl",
               "--stages=widths,ops", "--batch_size=32", "--max_steps=12", "--front=2", f"--run_dir={tmp_path}/run"]

    def run(*arguments):
        result = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True,
                                timeout=3000)
        assert result.returncode == 0, result.stderr
        return result.stdout

    printed = run(*command)
    assert "Stage 1 of 2: filters and depth" in printed and "Stage 2 of 2: ops, within b01/filters" in printed
    first, found = (arch_lib.load(f"{tmp_path}/run/{name}arch.json") for name in ("first_stage/", ""))
    assert [block.filters for block in found.space.blocks] == [block.filters for block in first.space.blocks]
    assert found.costs["table_ms"] <= found.costs["target_ms"] and set(first.ops.values()) <= {*OPS, "zero"}
    assert "Stage 1 of 2" not in run(*command) and arch_lib.load(f"{tmp_path}/run/arch.json") == found
    run("pnas_tf.report", f"--run_dir={tmp_path}/run")
    page = re.sub("<[^>]*>", "|", (tmp_path / "run" / "report.html").read_text())
    assert "|First stage: filters|" in page and "|b01||8, 12|" in page
