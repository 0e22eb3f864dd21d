"""The benchmark on small folders: its log, the cuts of Lite0 by hand, and its statistics by hand and by SciPy."""

import json
import math
import os

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from benchmarks.quality import photo_cuts, photo_results, photo_rivals, photos
from pnas_tf.errors import InputError


def row(folder, seed, rival, accuracy, ms=1.0):
    return {"folder": folder, "seed": seed, "rival": rival, "test_accuracy": accuracy, "cpu_seconds": 10.0,
            "params": 1000, "macs": 2000, "ms": ms, "lite0_ms": 2.0}


ROWS = [row("a", 0, "lite0", 0.9), row("a", 1, "lite0", 0.8), row("a", 2, "lite0", 0.7), row("a", 0, "width_50", 0.85),
        row("a", 1, "width_50", 0.78), row("a", 2, "width_50", 0.7), row("b", 0, "lite0", 0.5),
        row("b", 1, "lite0", 0.6), row("b", 0, "width_50", 0.52), row("b", 1, "width_50", 0.6)]


@pytest.fixture
def folder_of_pictures(tmp_path):
    """Two classes of 20 pictures."""
    rng = np.random.default_rng(0)
    for name, colour in (("dark", 40), ("light", 200)):
        (tmp_path / "photos/small" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(colour - 30, colour + 30, [24, 24, 3], np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"photos/small/{name}/{number}.png")
    return str(tmp_path / "photos")


def test_difference_to_lite0_is_that_of_pairs():
    rows = [each for each in ROWS if each["folder"] == "a"]
    difference, error = photo_results.gain(rows, "width_50")
    test = stats.ttest_rel([0.85, 0.78, 0.7], [0.9, 0.8, 0.7])
    assert difference / error == pytest.approx(test.statistic)
    # By hand: the mean of -7/3 % and 1 %; the errors are 1.453 % and 1 %.
    assert photo_results.gain(ROWS, "width_50") == (pytest.approx((-7 / 3 + 1) / 200), pytest.approx(
        math.hypot(np.std([5, 2, 0], ddof=1) / math.sqrt(3), 1) / 200))
    assert all(map(math.isnan, photo_results.gain(ROWS, "cnn")))


def test_results_are_a_table_for_each_folder_and_a_plot(tmp_path):
    text = photo_results.write(str(tmp_path), ROWS)
    assert "| Lite0, narrower, 50 % of the ms | 3 | 77.67 | -2.33 | 1.45 | 1.000 | 50 | 1,000 | 2,000 | 10 |" in text
    assert text.count("| Lite0, fine-tuned |") == 3  # two folders and their mean
    drawn = (tmp_path / "trade_off.svg").read_text()
    assert "<svg" in drawn and "<!-- a -->" in drawn and "<!-- b -->" in drawn
    assert photo_results.write(str(tmp_path), []) == "There are no results yet."


def test_what_was_found_is_compared_on_the_same_splits():
    rows = [*ROWS, row("a", 0, "search_50", 0.88), row("a", 2, "search_50", 0.72), row("b", 1, "search_50", 0.61),
            row("a", 0, "depth_50", 0.85), row("a", 1, "depth_50", 0.1), row("a", 2, "depth_50", 0.7),
            row("b", 1, "depth_50", 0.6), row("a", 0, "depth_50_int8", 0.2)]
    found = "found, from pretrained weights, 50 % of the ms, less Lite0"
    of_width, of_depth = photo_results.differences(rows).splitlines()[2:]
    # By hand: +2.5 (3 and 2) and +1 points: mean 1.75, error 0.75, and the quantile 12.706 of one degree of freedom.
    assert of_depth == f"| {found}, shallower | 2 | 3 | +1.75 | 0.75 | -7.78 to +11.28 |"
    assert of_width.startswith(f"| {found}, narrower | 2 | 3 | +1.75 | 0.75 |")  # 3 and 2, and 1
    assert len(photo_results.differences(ROWS).splitlines()) == 2


def test_log_tells_what_is_missing_even_after_a_line_was_cut_off(tmp_path):
    benchmark = photos.Benchmark(str(tmp_path), "photos")
    assert benchmark.missing(["a"], [0, 1], ["width_25", "lite0"]) == [
        ("a", 0, "lite0"), ("a", 0, "width_25"), ("a", 1, "lite0"), ("a", 1, "width_25")]
    (tmp_path / "results.jsonl").write_text(json.dumps(row("a", 0, "lite0", 0.5)) + '\n{"folder": "a", "se')
    assert benchmark.missing(["a"], [0, 1], ["width_25", "lite0"])[0] == ("a", 0, "width_25")


@pytest.mark.slow
def test_cnn_is_trained_exported_and_logged_once(tmp_path, folder_of_pictures):
    benchmark = photos.Benchmark(str(tmp_path / "out"), folder_of_pictures,
                                 more={"benchmarks.quality.plain_cnn": ["--epochs=1", "--image_size=32"],
                                       "pnas_tf.train": ["--epochs=1"]})
    with pytest.raises(InputError, match="add lite0 to --rivals"):
        benchmark.run("small", 0, "cnn")
    whole = benchmark.run("small", 0, "lite0")
    assert whole["ms"] == pytest.approx(whole["lite0_ms"], rel=0.3)
    result = benchmark.run("small", 0, "cnn")
    assert result["ms"] > 0 and result["cpu_seconds"] > 0 and 0 <= result["test_accuracy"] <= 1
    assert result["ms"] < result["lite0_ms"]
    assert photos.read(benchmark.log) == [whole, result]
    assert benchmark.missing(["small"], [0], ["cnn"]) == []
    model = os.path.getmtime(tmp_path / "out/networks/small_cnn_0/model.keras")
    benchmark.run("small", 0, "cnn")
    assert os.path.getmtime(tmp_path / "out/networks/small_cnn_0/model.keras") == model


def test_command_that_fails_is_not_logged(tmp_path):
    benchmark = photos.Benchmark(str(tmp_path), str(tmp_path))
    with pytest.raises(InputError, match=r"benchmarks\.nothing failed"):
        benchmark.step("none", "benchmarks.nothing", [])
    assert photos.read(benchmark.log) == [] and photos.read(str(tmp_path / "steps.jsonl")) == []
    with pytest.raises(InputError, match="lite0 to --rivals"):
        benchmark.run("none", 0, "width_25")


def test_cuts_are_parts_of_lite0_that_become_smaller():
    full = photos.lite0(5)
    ops = {block.name: full.op_of(block) for block in full.space.blocks}
    for rule in photo_cuts.RULES:
        ladders = photo_cuts.ladders(full, rule)
        archs = [arch for each in ladders for arch in each]
        assert archs[0].fingerprint() == full.fingerprint()
        assert len({arch.fingerprint() for arch in archs}) == len(archs)
        for arch in archs:
            for block in arch.space.blocks:
                assert arch.op_of(block)[:6] == ops[block.name][:6]  # the kernel is Lite0's
        sizes = [{arch.space.input_size for arch in each} for each in ladders]
        assert sizes == ([{size} for size in range(96, 23, -8)] if rule == "resolution" else
                         [{96}, {64}, {32}])
    narrow, shallow = (photo_cuts.ladders(full, rule)[0][-1] for rule in ("width", "depth"))
    assert {op[-3:] for op in (narrow.op_of(block) for block in narrow.space.blocks[1:])} == {"_e2"}
    # One block for each stage of table 1 of the EfficientNet paper.
    assert [block.filters for block in shallow.space.blocks] == [16, 24, 40, 80, 112, 192, 320]


def test_slowest_cut_that_keeps_the_limit_is_chosen():
    ladders = photo_cuts.ladders(photos.lite0(5), "depth")[:2]
    ms = {arch.fingerprint(): 30.0 - 10 * row - place for row, archs in enumerate(ladders)
          for place, arch in enumerate(archs)}  # 30 to 21 for large images, 20 to 11 for small ones
    for limit_ms, row, place in ((24.5, 0, 6), (21, 0, 9), (20.5, 1, 0), (11, 1, 9), (1, 1, 9)):
        assert photo_cuts.slowest_within(ladders, ms, limit_ms) is ladders[row][place]


def test_names_of_rivals_have_parts():
    assert photo_rivals.parse("lite0") == ("lite0", 0, "float32")
    assert photo_rivals.parse("depth_25") == ("depth", 25, "float32")
    assert photo_rivals.parse("search_25_int8") == ("search", 25, "int8")
    labels = [photo_results.label(rival) for rival in photo_rivals.ALL]
    assert len(set(labels)) == len(labels)
    assert "found, from pretrained weights, 25 % of the ms by its int8 file" in labels


def test_share_in_int8_is_of_lite0_in_int8(tmp_path):
    benchmark = photos.Benchmark(str(tmp_path), str(tmp_path))
    whole = benchmark.network("a", 0, "lite0")
    assert benchmark.share(photo_rivals.parse("search_25"), whole) == 0.25
    (tmp_path / "lite0_int8_ms.json").write_text('{"ms": 0.4, "float32_ms": 1.0}')
    # A quarter of 1 ms is 0.625 of 0.4 ms.
    assert benchmark.share(photo_rivals.parse("search_25_int8"), whole) == pytest.approx(0.625)
