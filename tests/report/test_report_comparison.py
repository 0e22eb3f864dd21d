"""Runs side by side, predicted against measured, and networks of cells."""

import dataclasses
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from pnas_tf.errors import InputError
from pnas_tf.report import comparison, drawing, facts, page
from pnas_tf.space import arch as arch_lib
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Block
from pnas_tf.space.spaces import SPACES

TARGET = "host_xnnpack1_float32"


def write(path, data):
    path.write_text(json.dumps(data), encoding="utf-8")


def make_run(folder, op, accuracy, measured_ms, searched=True):
    """Writes a run with the same op in every choice, and returns its folder."""
    folder.mkdir(parents=True)
    space = SPACES["quickstart"]
    costs = {"target": TARGET, "table_ms": measured_ms * 1.02, "target_ms": 0.4} if searched else {}
    Arch(space, dict.fromkeys(space.choices, op), costs).save(str(folder / "arch.json"))
    write(folder / "train.json", {"test_accuracy": accuracy, "dataset": "fashion_mnist_small", "params": 80123})
    write(folder / "float32.json", {"measured_ms": measured_ms, "target": TARGET, "top1": accuracy, "size_bytes": 9000})
    if searched:
        (folder / "run.flags").write_text(f"--run_dir={folder}\n--seed=0\n--lr={accuracy}\n"
                                          "--dataset=fashion_mnist_small\n")
        (folder / "metrics.jsonl").write_text("".join(json.dumps({
            "kind": "search", "epoch": epoch, "phase": "search", "expected_ms": measured_ms * (2 - epoch / 4),
            "entropy": 1.9 - epoch / 4, "held_out_loss": 1.0, "seconds": 30.0}) + "\n" for epoch in range(4)))
    return str(folder)


@pytest.fixture
def three_runs(tmp_path):
    return [make_run(tmp_path / "fast", "mb_k3_e3", 0.85, 0.2), make_run(tmp_path / "good", "mb_k5_e6", 0.89, 0.4),
            make_run(tmp_path / "uniform", "mb_k3_e6", 0.86, 0.3, searched=False)]


def cells(html, table):
    """Rows of a table, as lists of texts."""
    body = re.search(rf'<table[^>]*id="{table}">(.*?)</table>', html, flags=re.S)[1]
    return [[" ".join(re.sub("<[^>]*>", "", cell).split())
             for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, flags=re.S)]
            for row in re.findall(r"<tr>(.*?)</tr>", body, flags=re.S)]


def test_numbers_and_flags_side_by_side(three_runs, tmp_path):
    path = page.compare(three_runs, str(tmp_path / "page.html"))
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert path == str(tmp_path / "page.html") and len(html) < 2_000_000
    head, *rows = cells(html, "rows")
    rows = {name: values for name, *values in rows}
    assert head == ["", "fast", "good", "uniform"]
    assert rows["Test accuracy"] == ["85.00 %", "89.00 %", "86.00 %"]
    assert rows["Measured"] == ["0.200 ms", "0.400 ms", "0.300 ms"]
    assert rows["Kept"] == ["kept, as measured", "kept, as measured", "&ndash;"]
    assert rows["Choices"][0] == f"6 choices: 6 of 3{drawing.TIMES}3"
    assert rows["Time searched"] == ["2 min 0 s", "2 min 0 s", "&ndash;"]
    assert rows["float32.tflite"][2] == "9 kB, 86.00 %, 0.300 ms"
    assert cells(html, "differing")[1:] == [["lr", "0.85", "0.89", "&ndash;"]]
    assert html.count('class="run"') == 3 and html.count("not searched: a baseline") == 1


def test_the_verdict_compares_with_the_most_accurate(three_runs):
    runs = comparison.runs([facts.collect(run) for run in three_runs])
    assert comparison.verdicts(runs) == [
        f"On fashion_mnist_small, good is the most accurate: 89.00 % in 0.400 ms on {TARGET}. Below it: uniform (a "
        "baseline) by 3.0 points, at 75 % of its milliseconds; fast by 4.0 points, at 50 % of its milliseconds."]
    assert comparison.verdicts(runs[:1]) == []


def test_trade_off_is_drawn_to_scale(three_runs, tmp_path):
    """The marks of searched runs and of the baseline are placed by accuracy and milliseconds."""
    page.compare(three_runs, str(tmp_path / "page.html"))
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    svg = re.search(r'<svg [^>]*aria-label="trade-off-0".*?</svg>', html, flags=re.S)[0]
    marks = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*var\(--series-[12]\)', svg)
    fast, good, uniform = [(float(x), float(y)) for x, y in marks][:3]  # the marks of the legend come last
    assert good[0] - fast[0] == pytest.approx(2 * (uniform[0] - fast[0]), rel=1e-3)
    assert fast[1] - good[1] == pytest.approx(4 * (fast[1] - uniform[1]), rel=1e-3)
    assert ">fast<" in svg and ">good<" in svg and ">uniform<" in svg and "baseline" in svg


def test_runs_of_other_data_share_no_chart(three_runs, tmp_path):
    write(tmp_path / "good" / "train.json", {"test_accuracy": 0.5, "dataset": "cifar10"})
    (tmp_path / "good" / "run.flags").unlink()
    write(tmp_path / "uniform" / "float32.json", {"measured_ms": 9.0, "target": "pixel6", "top1": 0.5})
    page.compare(three_runs, str(tmp_path / "page.html"))
    assert "No two runs have both" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_runs_on_other_computers_share_no_chart(three_runs, tmp_path):
    """A network of one computer is predicted there and timed on the other, which both have the same target."""
    for name, device in (("fast", "laptop"), ("good", "server"), ("uniform", "laptop")):
        file = tmp_path / name / "float32.json"
        write(file, {**json.loads(file.read_text()), "device": device})
    arch = json.loads((tmp_path / "good" / "arch.json").read_text())
    write(tmp_path / "good" / "arch.json", {**arch, "costs": {**arch["costs"], "device": "laptop"}})
    (verdict,) = comparison.verdicts(comparison.runs([facts.collect(run) for run in three_runs]))
    assert f"good is the most accurate: 89.00 % in 0.408 ms on {TARGET} (laptop)" in verdict
    assert "Some milliseconds are predicted" in verdict and "fast by 4.0 points" in verdict


def test_names_tell_runs_apart(tmp_path):
    folders = [make_run(tmp_path / side / "run", "mb_k3_e3", 0.8, 0.2) for side in ("left", "right")]
    page.compare(folders, str(tmp_path / "page.html"))
    assert cells((tmp_path / "page.html").read_text(encoding="utf-8"), "rows")[0] == ["", "left/run", "right/run"]


def test_a_search_for_several_devices_is_reported_as_its_results(tmp_path):
    for name in ("phone_20ms", "host_1ms"):
        make_run(tmp_path / name, "mb_k3_e3", 0.8, 0.2)
    (tmp_path / "logs").mkdir()
    path = page.run(str(tmp_path))
    assert path == str(tmp_path / "report.html")
    assert cells((tmp_path / "report.html").read_text(encoding="utf-8"), "rows")[0] == ["", "host_1ms", "phone_20ms"]


@pytest.mark.parametrize("count", [0, 1, 31])
def test_too_few_or_too_many(tmp_path, count):
    folders = [make_run(tmp_path / f"run{number}", "mb_k3_e3", 0.8, 0.2) for number in range(count)]
    with pytest.raises(InputError, match="two run folders" if count < 2 else "At most 30"):
        page.compare(folders, str(tmp_path / "page.html"))
    assert not (tmp_path / "page.html").exists()


def compared(pairs, **more):
    return {"target": TARGET, "figures": {"within_10_percent": 0.9, "rmse_of_mean": 0.031},
            "networks": [{"ops": {}, "predicted_ms": p, "measured_ms": m, "again_ms": m} for p, m in pairs], **more}


def test_predicted_against_measured(tmp_path):
    folder = make_run(tmp_path / "run", "mb_k3_e3", 0.8, 0.3)
    page.run(folder)
    html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Not yet compared" in html and f"--json={folder}/compare.json" in html
    write(tmp_path / "run" / "compare.json", compared([(0.21, 0.2), (0.42, 0.4), (0.6, 0.6)]))
    page.run(folder)
    html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Not yet compared" not in html
    assert f"3 networks on {TARGET}, 90% of them within 10 %, RMSE 3.1% of the mean." in html
    svg = re.search(r'<svg [^>]*aria-label="compared".*?</svg>', html, flags=re.S)[0]
    assert "delivered network" in svg and "3 networks" in svg and "within 10 %" in svg
    points = [(float(x), float(y)) for x, y in re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*series-1', svg)][:3]
    (x0, y0), (x1, y1), (x2, y2) = points  # measured 0.2, 0.4, 0.6; predicted 0.21, 0.42, 0.6
    assert x1 - x0 == pytest.approx(x2 - x1, rel=1e-3) and (y0 - y1) / (y0 - y2) == pytest.approx(0.21 / 0.39, rel=1e-3)
    assert (y0 - y2) / (x2 - x0) == pytest.approx(0.39 / 0.4, rel=1e-2)  # both axes have the same scale


@pytest.mark.parametrize("content", [[], {"networks": 3}, {"networks": [{"predicted_ms": "x", "measured_ms": 1}]},
                                     compared([(-1, 2), (float("nan"), 1)])])
def test_damaged_comparison_is_named(tmp_path, content):
    folder = make_run(tmp_path / "run", "mb_k3_e3", 0.8, 0.3)
    write(tmp_path / "run" / "compare.json", content)
    with pytest.raises(InputError, match=r"compare\.json"):
        page.run(folder)


@dataclasses.dataclass
class CellSpace:
    """A space with a block of several places, with the attributes that a drawing needs."""

    all_blocks: tuple

    def input_shapes(self):
        return {block.name: (32, 32, 16) for block in self.all_blocks}


@dataclasses.dataclass
class CellArch:
    """An arch of a `CellSpace`, with the attributes that a drawing needs."""

    space: CellSpace
    ops: dict

    def op_of(self, block):
        return self.ops.get(block.name, block.ops[0])


def test_cells_are_drawn_by_their_choices():
    ops = {"b00": "mb_k3_e3", **{f"b01/n{place}": op for place, op in enumerate(["conv_k3", "mb_k5_e3", "zero"] * 3)}}
    blocks = (Block("stem", ("conv_k3",), 16), *(Block(name, ("zero", op), 16) for name, op in ops.items()),
              Block("b01/out", ("conv_k1",), 16))
    arch = CellArch(CellSpace(blocks), ops)
    boxes = drawing.boxes(arch)
    assert [box.kind for box in boxes] == ["fixed", "chosen", "cell"] and boxes[2].block.name == "b01"
    assert [(part.choice, part.kernel, part.skipped) for part in boxes[2].parts[:3]] == [
        ("b01/n0", 3, False), ("b01/n1", 5, False), ("b01/n2", None, True)]
    assert drawing.counts(boxes) == "10 choices: 4 of 3x3, 3 of 5x5, 3 skipped".replace("x", drawing.TIMES)
    assert Image.open(io.BytesIO(drawing.png(arch))).height == 300


def test_picture_of_a_network_shows_kernels_and_skips():
    arch = arch_lib.load("proxyless_mobile")
    content = drawing.png(arch)
    assert content == drawing.png(arch), "the same network gives the same bytes"
    colors = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).reshape(-1, 3)
    for color in ((0x2B, 0x6C, 0xB0), (0xC0, 0x56, 0x21), (0x0F, 0x76, 0x6E)):  # kernels 3, 5, 7
        assert (colors == color).all(1).sum() > 500
