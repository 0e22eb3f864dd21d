"""Several image sizes in one search: one warm-up, a search at each size, and the best network of all."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pnas_tf.cost import latency_table, limits
from pnas_tf.errors import InputError
from pnas_tf.report import facts
from pnas_tf.run_folder import RunFolder, front_file
from pnas_tf.search import image_sizes
from pnas_tf.search.config import SearchConfig
from pnas_tf.search.problem import Request
from pnas_tf.space import arch as arch_lib
from pnas_tf.space.blocks import Block, Space

ROOT = Path(__file__).parents[2]
OPS = ("mb_k3_e3", "mb_k3_e6", "mb_k5_e3")
GREY = Space(
    "grey", input_size=28, input_channels=1, num_classes=10, stem=(Block("stem", ("conv_k3",), 8, strides=2),),
    blocks=(Block("b00", ("mb_k3_e1",), 8, strides=2), Block("b01", OPS, 12),
            Block("b02", (*OPS, "zero"), 12, shortcut=True)),
    head=(Block("classifier", ("classifier",), 10),))
MS = {28: 1.0, 20: 0.5}  # of each op


@pytest.fixture
def table(tmp_path):
    """A table that prices the space at two image sizes; every op at the smaller one takes half of the time."""
    rng = np.random.default_rng(0)
    rows = []
    for side, ms in MS.items():
        keys = dict.fromkeys(key for _, key in dataclasses.replace(GREY, input_size=side).op_keys())
        rows += [latency_table.row(key, median_ms=ms * float(rng.uniform(0.99, 1.01))) for key in keys]
    unique = {(row["op"], str(row["input"]), row["filters"], row["strides"]): row for row in rows}
    path = tmp_path / "table.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in (latency_table.header("made_up"), *unique.values())))
    return str(path)


@pytest.mark.parametrize("settings, expected", [
    ({"image_sizes": ("28",)}, "two or more sizes"),
    ({"image_sizes": ("28", "28")}, "two or more sizes"),
    ({"image_sizes": ("28", "-3")}, "two or more sizes"),
    ({"image_sizes": ("28", "99999")}, "two or more sizes"),
    ({"image_sizes": ("28", "20"), "target_ms": 0.0}, "give --table and --target_ms"),
    ({"image_sizes": ("28", "24")}, "no rows for images of 24 x 24 pixels. Build a table with --image_size=28 "
                                    "--smaller_images=24"),
    ({"image_sizes": ("28", "20"), "image_size": 28}, "does not go with --image_size:"),
    ({"image_sizes": ("28", "20"), "warmup_epochs": 0}, "does not go with --warmup_epochs=0"),
    ({"image_sizes": ("28", "20"), "strategy": "multi_worker"}, "does not go with --strategy=multi_worker"),
    ({"image_sizes": ("28", "20"), "target_ms": 3.0}, "Images of 28 x 28 pixels: ")])
def test_what_cannot_be_searched_at_several_sizes_is_one_line(table, settings, expected):
    with pytest.raises(InputError) as error:
        Request.of(SearchConfig(**{"target_ms": 5.2, **settings}), GREY, latency_table.read(table))
    assert expected in str(error.value) and "\n" not in str(error.value)


def test_the_largest_size_comes_first(table):
    request = Request.of(SearchConfig(image_sizes=("20", "28"), target_ms=5.2), GREY, latency_table.read(table))
    assert request.sides == (28, 20) and request.space.input_size == request.largest_size == 28
    assert request.at_size(20).space == dataclasses.replace(GREY, input_size=20)


def test_all_sizes_have_the_same_images_and_ops(table, monkeypatch):
    """Sizes whose ops differ would start from weights that the warm-up has not trained."""
    request = Request.of(SearchConfig(image_sizes=("20", "28"), target_ms=5.2, held_out_size=500), GREY,
                         latency_table.read(table))
    large, small = image_sizes.problems(request, request.load_data())
    assert [problem.data.image_shape for problem in (large, small)] == [(28, 28, 1), (20, 20, 1)]
    assert large.compared_at == small.compared_at == 28
    labels = [np.concatenate([each.numpy() for _, each in problem.data.held_out.batches(100)])
              for problem in (large, small)]
    np.testing.assert_array_equal(*labels)
    within = limits.within_peaks
    monkeypatch.setattr(limits, "within_peaks", lambda space, *rest: within(
        space if space.input_size == 28 else dataclasses.replace(space, blocks=tuple(
            dataclasses.replace(block, ops=block.ops[:2]) for block in space.blocks)), *rest))
    with pytest.raises(InputError, match="networks of 20 x 20 pixels have other ops than those of 28"):
        image_sizes.problems(request, request.load_data())


def test_a_damaged_front_of_a_size_is_one_line(tmp_path):
    front_file.save(str(tmp_path / "front.json"), "t", 5.2, [])
    with pytest.raises(InputError, match=r"names no delivered network\. Remove .* and run the same command again"):
        image_sizes._front(RunFolder(str(tmp_path)))


@pytest.mark.slow
def test_a_search_at_two_sizes(tmp_path, table):
    """The parts are searches with as many steps each, all files of the run are the winner's, and a rerun repeats it."""
    (tmp_path / "space.json").write_text(json.dumps(GREY.to_json()))
    command = ["pnas_tf.search", f"--space={tmp_path}/space.json", f"--table={table}", "--image_sizes=20,28",
               "--target_ms=5.2", "--batch_size=32", "--max_steps=12", "--front=2", f"--run_dir={tmp_path}/run"]

    def run(*arguments):
        result = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True,
                                timeout=3000)
        assert result.returncode == 0, result.stderr
        return result.stdout

    printed = run(*command)
    assert printed.index("Warm-up for all image sizes") < printed.index("Images of 28 x 28 pixels, size 1 of 2") \
        < printed.index("Images of 20 x 20 pixels, size 2 of 2") < printed.index("over all image sizes")
    assert printed.count("come from ") == 2 and "0 of 10" not in printed
    folder = RunFolder(f"{tmp_path}/run")
    parts = {side: RunFolder(f"{tmp_path}/run/image_sizes/{side}px") for side in MS}
    steps = {side: [(line["phase"], line["steps"]) for line in part.read_metrics()] for side, part in parts.items()}
    assert steps[28] == steps[20] and {phase for phase, _ in steps[28]} == {"search"}
    archs = {side: arch_lib.load(part.arch) for side, part in parts.items()}
    assert {side: arch.space.input_size for side, arch in archs.items()} == {28: 28, 20: 20}
    found = arch_lib.load(folder.arch)
    assert found in archs.values() and found.costs["table_ms"] <= 5.2
    assert len(folder.read_metrics()) > len(steps[28])
    logged = [line for part in parts.values() for line in part.read_metrics()]
    warmed = [line for line in folder.read_metrics() if line["phase"] == "warmup"]
    assert facts.collect(str(tmp_path / "run")).seconds_searched == pytest.approx(
        sum(line["seconds"] for line in [*warmed, *logged]))  # whichever size was delivered
    front = front_file.read(folder.front)
    delivered, = (each for each in front if each.delivered)
    assert delivered.image_size == found.space.input_size and delivered.ms == pytest.approx(found.costs["table_ms"])
    for each in front:
        there = arch_lib.load(folder.file("front", each.folder, "arch.json"))
        assert there.space.input_size == each.image_size and there.ops == each.ops
    before = Path(folder.arch).read_bytes()
    again = run(*command)
    assert "Warm-up for all" not in again and "size 1 of 2" not in again and Path(folder.arch).read_bytes() == before
    assert "Test accuracy" in run("pnas_tf.train", f"--run_dir={tmp_path}/run", "--epochs=1", "--max_steps=2")
    run("pnas_tf.report", f"--run_dir={tmp_path}/run")
