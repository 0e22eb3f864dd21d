"""The report shows everything in the run folder as it stands there, and does nothing else."""

import base64
import io
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pnas_tf import terminal
from pnas_tf.errors import InputError, printable
from pnas_tf.report import drawing, facts, heat_maps, plots, summary
from pnas_tf.report import page as page_lib
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import arch as arch_lib
from pnas_tf.space.arch import Arch
from pnas_tf.space.spaces import SPACES
from tests.spaces import TINY

TARGET = "host_xnnpack1_float32"
HOSTILE = '"><script>alert(1)</script><img src=https://evil.example/x onerror=alert(2)>'


class Page(HTMLParser):
    """A parsed page.

    Attributes:
        elements: Tags with their attributes, in order.
        texts: Texts between the tags, in order.
    """

    def __init__(self, html):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def with_attribute(self, name):
        return [(tag, attrs) for tag, attrs in self.elements if name in attrs]

    def ids(self):
        return [attrs["id"] for _, attrs in self.with_attribute("id")]


def epoch_lines(space, epochs, seed=0):
    """Lines of metrics.jsonl for a search whose probabilities settle."""
    rng, warmup = np.random.default_rng(seed), epochs // 4
    pulls = {name: rng.normal(size=len(block.ops)) * 4 for name, block in space.choices.items()}
    for epoch in range(epochs):
        progress = max(0, epoch - warmup + 1) / (epochs - warmup)
        probs = {name: dict(zip(block.ops, softmax(pulls[name] * progress), strict=True))
                 for name, block in space.choices.items()}
        entropy = np.mean([-sum(p * math.log(p) for p in row.values()) for row in probs.values()])
        yield {"kind": "search", "epoch": epoch, "phase": "warmup" if epoch < warmup else "search", "steps": 47,
               "train_loss": 2.3 - progress, "train_accuracy": 0.2 + 0.6 * progress, "held_out_loss": 2.4 - progress,
               "held_out_accuracy": 0.2 + 0.5 * progress, "expected_ms": 0.6 - 0.2 * progress,
               "table_ms": 0.5, "entropy": entropy, "step_ms": 41.5, "seconds": 3.0, "probs": probs}


def softmax(values):
    exponents = np.exp(values - values.max())
    return (exponents / exponents.sum()).tolist()


def write(path, data):
    path.write_text(json.dumps(data), encoding="utf-8")


def write_metrics(folder, lines):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def run_folder(folder, space_name="quickstart", epochs=8, **costs):
    """Writes a run folder with every part, as search, train and export leave it."""
    space = SPACES[space_name]
    lines = list(epoch_lines(space, epochs))
    write_metrics(folder, lines)
    best = {name: max(row, key=row.get) for name, row in lines[-1]["probs"].items()}
    best |= dict.fromkeys([name for name, block in space.choices.items() if "zero" in block.ops][:1], "zero")
    arch = Arch(space, best, {"target": TARGET, "expected_ms": 0.412, "table_ms": 0.398, "params": 80123,
                              "macs": 4123456, "target_ms": 0.4, **costs})
    arch.save(str(folder / "arch.json"))
    write(folder / "train.json", {
        "test_accuracy": 0.8725, "test_loss": 0.41, "params": 80123, "macs": 4123456, "epochs": 3, "seconds": 71,
        "test_images": 2000, "init": "scratch",
        "history": {"loss": [2.0, 1.0, 0.5], "accuracy": [0.3, 0.6, 0.9], "val_loss": [2.1, 1.2, 0.7],
                    "val_accuracy": [0.25, 0.55, 0.87]}})
    write(folder / "float32.json", {"mode": "float32", "size_bytes": 330112, "top1": 0.8725, "keras_top1": 0.8725,
                                    "agreement": 1.0, "max_difference": 2.1e-6, "measured_ms": 0.421,
                                    "target": TARGET})
    write(folder / "int8.json", {"mode": "int8", "size_bytes": 104000, "top1": 0.869, "agreement": 0.993})
    (folder / "run.flags").write_text("--dataset=fashion_mnist_small\n--space=quickstart\n--seed=7\n--noresume\n")
    return arch


def whole_run_folder(folder):
    """Writes a run folder of which a report shows everything that it can show."""
    arch = run_folder(folder)
    write_metrics(folder, [{**line, "multiplier_ms": 0.01} for line in epoch_lines(SPACES["quickstart"], 4)])
    write(folder / "finalists.json", {"format": "pnas_tf.finalists/1", "finalists": [finalist("sample", 0.399, 0.9)]})
    write(folder / "front.json", {"format": "pnas_tf.front/1", "target": TARGET, "target_ms": 0.4, "networks": [
        {"ms": ms, "folder": f"{ms}ms", "how": "sample", "costs": {"ms": ms, "params": 1e4}, "expected_loss": 1.0,
         "gain": 0.4 - ms, "gain_error": 0.01, "held_out_accuracy": 0.5, "delivered": ms == 0.4, "ops": arch.ops,
         "image_size": side} for ms, side in ((0.3, 20), (0.4, 28))]})
    write(folder / "mistakes.json", {
        "classes": [{"name": name, "accuracy": 0.5, "images": 10} for name in ("cat", "dog")],
        "confusion": [[0, 1, 5], [1, 0, 5]],
        "mistaken": [{"label": 0, "prediction": 1, "probability": 0.9, "path": "cat/1.png", "thumbnail": None}]})
    write(folder / "compare.json", {"target": TARGET, "networks": [{"predicted_ms": 1.0, "measured_ms": 1.1}] * 3,
                                    "figures": {"within_10_percent": 1.0, "rmse_of_mean": 0.1}})
    write(folder / "float32.profile.json", {
        "format": "pnas_tf.profile/1", "network_ms": 0.4, "method": "benchmark", "target": TARGET,
        "operators": [{"operator": "CONV_2D", "block": "b01", "op": "mb_k3_e3", "ms": 0.2}] * 2})
    for part in ("bundle", "teacher"):
        (folder / part).mkdir()
    write(folder / "bundle" / "bundle.json", {"recommended": "int8", "reason": "It is the smallest."})
    (folder / "teacher" / "model.keras").write_bytes(b"weights")
    write(folder / "teacher" / "train.json", {"test_accuracy": 0.9, "test_images": 2000})


def page_of(folder):
    path = page_lib.run(str(folder))
    assert path == str(folder / "report.html")
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert len(html) < 2_000_000
    check_safe(html)
    return Page(html)


def check_safe(html):
    """Checks that a page fetches and runs nothing: no scripts, no handlers, only data and fragments as addresses."""
    page = Page(html)
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for _, attrs in page.elements:
        for name, value in attrs.items():
            assert not name.startswith("on"), name
            if name in ("src", "href", "xlink:href", "srcset", "action"):
                assert value.startswith(("data:image/png;base64,", "#")), value
    assert "@import" not in html
    assert re.findall(r"url\((?!#)", html) == []
    ids = page.ids()
    assert len(ids) == len(set(ids)), "ids clash"


def test_every_part_is_shown(tmp_path):
    run_folder(tmp_path)
    page = page_of(tmp_path)
    assert [name for name in page.ids() if name in {tag.get("id") for kind, tag in page.elements if kind == "section"}
            ] == ["verdict", "next", "headline", "exports", "architecture", "search", "probabilities", "training",
                  "prediction", "profiles", "facts"]
    for shown in ("87.25 %", "0.398 ms", TARGET, "0.421 ms", "80,123", "4,123,456", "missed by 5.2 %, as measured",
                  "prediction 5 % below",  # headline
                  "float32.tflite", "330 kB", "100.00 %", "2.1e-06", "int8.tflite", "99.30 %", "not yet measured",
                  "fashion_mnist_small", "74,088 networks, 6 choices", "Seed 7", "on 2,000 images",
                  "8, 2 of them warm-up", "24 s",
                  f"python -m pnas_tf.search --flagfile={tmp_path}/run.flags", "--resume=false"):
        assert shown in page.text, shown
    labels = [attrs["aria-label"] for _, attrs in page.with_attribute("aria-label")]
    assert labels == ["latency", "entropy", "loss", "accuracy", "train-loss", "train-accuracy"]
    assert "warm-up" in page.text and "held out" in page.text and "validation" in page.text


@pytest.mark.parametrize("space_name", SPACES)
def test_strip_and_table_have_every_block(tmp_path, space_name):
    arch = run_folder(tmp_path, space_name, epochs=2)
    page = page_of(tmp_path)
    boxes = [attrs for _, attrs in page.with_attribute("data-block")]
    blocks = dict.fromkeys(drawing.block_of(block.name) for block in arch.space.all_blocks)
    assert [box["data-block"] for box in boxes] == list(blocks)
    drawn = [part.choice for box in drawing.boxes(arch) for part in box.parts]
    assert drawn == [name for name in arch.ops if "/" in name]
    if drawn:
        assert f"{len(arch.ops)} choices: " in page.text and all(f" {name} " in page.text for name in drawn)
        return
    classes = {box["data-block"]: box["class"].split() for box in boxes}
    heights = {box["data-block"]: box["style"] for box in boxes}
    for name, op in arch.ops.items():
        if op == "zero":
            assert classes[name] == ["box", "skipped"]
        else:
            *kernels, expansion = re.fullmatch(r"(?:mb_k|uib_s)(\d)(?:_m(\d))?_e(\d)", op).groups()
            kernel = max(int(kernel or 0) for kernel in kernels)
            assert classes[name] == ["box", "chosen", *([f"k{kernel}"] if kernel else [])]
            assert heights[name] == f"--expansion: {expansion}"
    assert all(classes[block.name] == ["box", "fixed"] for block in arch.space.all_blocks if len(block.ops) == 1)
    table = page.elements.index(("table", {"class": "rows", "id": "blocks"}))
    assert sum(tag == "tr" for tag, _ in page.elements[table:]) >= 1 + len(boxes)


def test_a_bottleneck_is_labelled_by_expansion_and_both_depthwise_convolutions():
    """It has the colour of the larger of the two, and none if it has neither."""
    small = {box.block.name: box for box in drawing.boxes(arch_lib.load("mobilenet_v4_conv_small"))}
    assert [(small[name].label, small[name].kernel) for name in ("b04", "b05", "b09")] == [
        ("UIB3 5+5", 5), ("UIB2 0+3", 3), ("UIB4 3+0", 3)]
    assert drawing.of_arch(arch_lib.load("mobilenet_v4_conv_small"))[-1].side == 1
    assert plots.kernel_of("uib_s0_m0_e4") is None


def test_stages_are_the_resolutions():
    stages = drawing.of_arch(arch_lib.load("proxyless_mobile"))
    assert [stage.side for stage in stages] == [112, 56, 28, 14, 7, 1]
    assert [len(stage.boxes) for stage in stages] == [2, 4, 4, 8, 6, 1]


def pixels_of(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_heat_maps_show_every_choice_op_and_epoch(tmp_path):
    run_folder(tmp_path, epochs=8)
    images = [attrs["src"] for tag, attrs in page_of(tmp_path).elements if tag == "img"]
    lines = list(epoch_lines(SPACES["quickstart"], 8))
    for image, name in zip(images, SPACES["quickstart"].choices, strict=True):
        probs = np.array([list(line["probs"][name].values()) for line in lines]).T
        np.testing.assert_allclose(pixels_of(image)[..., 3] / 255, probs, atol=0.5 / 255 + 1e-9)


def test_heat_map_pixels_are_the_probabilities():
    pixels = pixels_of(heat_maps.picture([("mb_k3_e3", [0.0, 0.25, 1.0]), ("zero", [1.0, None, 0.0])]))
    assert pixels[..., 3].tolist() == [[0, 64, 255], [255, 0, 0]]
    assert pixels[0, 2, :3].tolist() == [0x2B, 0x6C, 0xB0]


def test_line_is_drawn_to_scale_and_broken_where_unknown():
    def path_of(y):
        svg = plots.line_chart("c", [plots.Line("line", range(len(y)), y)])
        return max(re.findall(r'<path d="([^"]*)"[^>]*var\(--series-1\)', svg), key=len)

    points = [tuple(map(float, point)) for point in re.findall(r"[ML] (\S+) (\S+)", path_of([1.0, 2.0, 4.0]))]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x2 - x1 == pytest.approx(x1 - x0, rel=1e-3)
    assert y2 - y1 == pytest.approx(2 * (y1 - y0), rel=1e-3) and y1 < y0
    assert path_of([1.0, 2.0, None, 3.0, 4.0]).count("M") == 2
    assert plots.line_chart("c", [plots.Line("line", [0, 1], [None, None])]) == ""


def test_charts_take_the_page_colors():
    svg = plots.line_chart("c", [plots.Line("a", [0, 1], [1, 2]), plots.Line("b", [0, 1], [2, 1])],
                           level=("level", 1.5), shaded=("warm-up", -0.5, 0.5))
    assert set(re.findall(r"(?:fill|stroke): ?([^;\"]+)", svg)) <= {
        "none", "currentColor", "var(--line)", "var(--muted)", "var(--series-1)", "var(--series-2)", "var(--shade)"}
    assert "DOCTYPE" not in svg and "http" not in svg.replace("http://www.w3.org", "")


def test_free_latency_misses_no_target(tmp_path):
    run_folder(tmp_path)
    with (tmp_path / "run.flags").open("a") as flag_file:
        flag_file.write("--latency_loss=none\n")
    page = page_of(tmp_path).text
    assert "missed" not in page and "none set" in page


def test_verdict_goes_by_the_target_itself(tmp_path):
    run_folder(tmp_path, target="pixel6_xnnpack1_int8")
    page = page_of(tmp_path)
    assert "kept, as predicted" in page.text
    assert f"float32.tflite on {TARGET}".replace("_", "_ ") in page.text and "prediction 5 %" not in page.text
    write(tmp_path / "int8.json", {"measured_ms": 0.5, "target": "pixel6_xnnpack1_int8"})
    text = page_of(tmp_path).text
    assert "0.500 ms int8.tflite; prediction 20 % below" in text and "missed by 25.0 %, as measured" in text


def test_another_computer_is_another_target(tmp_path):
    """The table is of a laptop, and the files were timed on a server: both targets have the same default name."""
    run_folder(tmp_path)
    arch = json.loads((tmp_path / "arch.json").read_text())
    write(tmp_path / "arch.json", {**arch, "costs": {**arch["costs"], "device": "a laptop"}})
    write(tmp_path / "float32.json", {"measured_ms": 0.9, "target": TARGET, "device": "a server"})
    text = page_of(tmp_path).text
    assert "float32.tflite on a server, not a laptop" in text and "kept, as predicted" in text
    write(tmp_path / "float32.json", {"measured_ms": 0.9, "target": TARGET, "device": "a laptop"})
    assert "missed by 125.0 %, as measured" in page_of(tmp_path).text


def test_hostile_text_is_escaped(tmp_path):
    run_folder(tmp_path, target=HOSTILE)
    lines = list(epoch_lines(SPACES["quickstart"], 3))
    for line in lines:
        line["probs"][HOSTILE] = {HOSTILE: 0.5, "$x_{1}$": 0.5}
    write_metrics(tmp_path, lines)
    write(tmp_path / "float32.json", {"target": HOSTILE, "measured_ms": 1.0, "mode": HOSTILE})
    (tmp_path / "run.flags").write_text(f"--dataset=npz:{HOSTILE}\n--{HOSTILE}=1\n")
    page = page_of(tmp_path)  # checks that no element came of it
    assert f"quickstart on npz:{HOSTILE}" in page.text
    assert page.text.count("alert(1)") >= 6
    arch = json.loads((tmp_path / "arch.json").read_text())
    arch["space"]["name"] = HOSTILE
    write(tmp_path / "arch.json", arch)
    with pytest.raises(InputError, match="A space needs a name"):
        page_of(tmp_path)


@pytest.mark.parametrize("name", [HOSTILE, r"\1\g<9>[", "$x_1$", "\u202e\x00\x1b[2J", "-->", "]]>"])
def test_names_of_limits_cannot_become_markup(tmp_path, name):
    run_folder(tmp_path)
    write_metrics(tmp_path, [{**line, f"multiplier_{name}": 0.01} for line in epoch_lines(SPACES["quickstart"], 4)])
    page = page_of(tmp_path)
    assert f"Weight of the limit on {printable(name, 40)}" in page.text


def strings(value, path=()):
    """Path of every string in JSON: keys of a dict come as (..., key, None), values as (..., key)."""
    if isinstance(value, str):
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if isinstance(value, dict):
            yield *path, key, None
        yield from strings(inner, (*path, key))


def replaced(value, path, new):
    """A copy of JSON with the string at a path from `strings` replaced."""
    if not path:
        return new
    first, *rest = path
    if isinstance(value, dict):
        return {new if rest == [None] and key == first else key:
                replaced(inner, rest, new) if key == first and rest != [None] else inner
                for key, inner in value.items()}
    return [replaced(inner, rest, new) if index == first else inner for index, inner in enumerate(value)]


@pytest.mark.slow
@pytest.mark.parametrize("file", ["metrics.jsonl", "arch.json", "train.json", "float32.json", "finalists.json",
                                  "front.json", "mistakes.json", "compare.json", "float32.profile.json",
                                  "bundle/bundle.json", "teacher/train.json"])
def test_no_string_of_any_file_becomes_markup(tmp_path, file):
    """Every string of a file in turn is markup: the page holds it as text, or the file is refused in a line."""
    whole_run_folder(tmp_path)
    content = (tmp_path / file).read_text(encoding="utf-8")
    lines = [json.loads(line) for line in content.splitlines()] if file.endswith("l") else [json.loads(content)]
    elements = {tag for tag, _ in page_of(tmp_path).elements}
    for path in plots.thin(list(strings(lines[0])), 40):
        new = [replaced(line, path, HOSTILE) for line in lines]
        write_metrics(tmp_path, new) if file.endswith("l") else write(tmp_path / file, new[0])
        try:
            page = page_of(tmp_path)
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert {tag for tag, _ in page.elements} <= elements, path


def test_values_that_are_not_finite_numbers_are_left_out(tmp_path):
    run_folder(tmp_path)
    bad = [math.nan, math.inf, -math.inf, "1", True, None, [1], {}, 10 ** 400, 1e300]
    lines = [{**line, "expected_ms": value, "table_ms": value, "entropy": value,
              "train_loss": value, "step_ms": value, "seconds": value,
              "probs": {"b01": {"mb_k3_e3": value, "mb_k3_e6": 0.5}, "b02": value}}
             for line, value in zip(epoch_lines(SPACES["quickstart"], len(bad)), bad, strict=True)]
    write_metrics(tmp_path, [*lines, {**lines[0], "epoch": math.nan}, {"kind": "search"}, [1], 5,
                             {**lines[0], "probs": "x", "phase": ["?"]}])
    costs = {"table_ms": math.nan, "expected_ms": "fast", "params": True, "macs": math.inf, "target_ms": -1,
             "target": 5}
    run_costs = json.loads((tmp_path / "arch.json").read_text())
    write(tmp_path / "arch.json", {**run_costs, "costs": costs})
    write(tmp_path / "train.json", {"test_accuracy": "87", "epochs": math.nan, "history": {"loss": [1, "x", 2],
                                                                                          "accuracy": 3}})
    write(tmp_path / "float32.json", {"size_bytes": math.nan, "top1": None, "measured_ms": math.inf, "target": [1]})
    page = page_of(tmp_path)
    labels = [attrs["aria-label"] for _, attrs in page.with_attribute("aria-label")]
    assert labels == ["loss", "accuracy", "train-loss"]
    assert "not yet measured" in page.text and "none set" in page.text
    assert not re.search(r"\b(nan|inf)\b", page.text, flags=re.IGNORECASE)


def test_missing_parts_are_left_out(tmp_path):
    arch_lib.load("proxyless_mobile").save(str(tmp_path / "arch.json"))
    page = page_of(tmp_path)
    assert {"architecture", "exports", "facts"} <= set(page.ids())
    assert not {"search", "probabilities", "training"} & set(page.ids())
    assert "Not yet exported" in page.text and "repeats the search" not in page.text

    (tmp_path / "arch.json").unlink()
    lines = [json.dumps(line) for line in epoch_lines(SPACES["quickstart"], 1)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"kind": "search", "epoch": 1, "tra']))
    page = page_of(tmp_path)
    assert {"search", "probabilities"} <= set(page.ids()) and "architecture" not in page.ids()
    assert "no network yet" in page.text


def test_a_running_search_has_no_delivered_network(tmp_path):
    arch_lib.load("proxyless_mobile").save(str(tmp_path / "arch.json"))
    write_metrics(tmp_path, epoch_lines(SPACES["quickstart"], 1))
    text = page_of(tmp_path).text
    assert "The best network so far" in text and "The delivered network" not in text
    assert "The search is not complete: this is the best network so far." in text
    assert "; not complete, so this is the best network so far\n" in summary.summary(facts.collect(str(tmp_path)))
    write(tmp_path / "train.json", {"test_accuracy": 0.5, "test_images": 100})  # its training follows its end
    text = page_of(tmp_path).text
    assert "The delivered network" in text and "so far" not in text


def test_epoch_logged_twice_counts_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "search", "epoch": 1, "entropy": 3}\n\n{"kind": "search", "epoch": 0}\n'
                    '{"kind": "train", "epoch": 5}\n{"kind": "search", "epoch": 1, "entropy": 2}\n{"ki')
    assert RunFolder(str(tmp_path)).read_metrics() == [{"kind": "search", "epoch": 0},
                                                       {"kind": "search", "epoch": 1, "entropy": 2}]


def test_a_long_search_of_many_choices_stays_small(tmp_path):
    rng = np.random.default_rng(0)
    ops = [f"op_{number}" for number in range(7)]
    lines = [{"kind": "search", "epoch": epoch, "phase": "search", "entropy": float(rng.random()),
              "train_loss": float(rng.random()), "held_out_loss": float(rng.random()),
              "probs": {f"b{choice:02d}": dict(zip(ops, rng.dirichlet(np.ones(7)).round(5).tolist(), strict=True))
                        for choice in range(40 if epoch % 10 == 0 else 0)}} for epoch in range(1500)]
    write_metrics(tmp_path, lines)
    page = page_of(tmp_path)
    assert sum(tag == "img" for tag, _ in page.elements) == 40 and "left out" not in page.text
    assert "epoch 1 1491 last" in page.text  # the epochs that logged probabilities


def test_choices_of_tree_cells_are_a_line_each_by_block(tmp_path):
    """With 648 choices or more, the page shows those that fit, and says how many do not."""
    rng = np.random.default_rng(0)
    ops = [f"sep_k{k}" for k in (3, 5)] + [f"op_{number}" for number in range(6)]

    def write_search(blocks, places, epochs):
        write_metrics(tmp_path, [{
            "kind": "search", "epoch": epoch, "phase": "search", "entropy": 1.0,
            "probs": {f"b{block:02d}/n{place}": dict(zip(ops, rng.dirichlet(np.ones(8)).round(5).tolist(), strict=True))
                      for block in range(blocks) for place in range(places)}} for epoch in range(epochs)])

    write_search(18, 36, 120)
    page = page_of(tmp_path)
    assert sum(tag == "img" for tag, _ in page.elements) == 648 and "left out" not in page.text
    headings = [text for text in page.texts if re.fullmatch(r"b\d\d", text)]
    assert headings == [f"b{block:02d}" for block in range(18)]
    write_search(60, 36, 12)
    assert "660 more choices are left out" in page_of(tmp_path).text


@pytest.mark.parametrize(("name", "content", "says"), [
    (None, None, "nothing to report"),
    ("metrics.jsonl", "", "nothing to report"),
    ("metrics.jsonl", '{"kind": "sea\n{"kind": "search", "epoch": 0}\n', "line 1: not valid JSON"),
    ("metrics.jsonl", "\x00\xff" * 5 + "\n\n", "line 1: not valid JSON"),
    ("arch.json", '{"format": "pnas_tf.arch/1", "sp', "may be cut off"),
    ("arch.json", "[]", "not an arch file"),
    ("train.json", "[1]", "expected a JSON object"),
    ("int8.json", '{"mode": "int8"', "may be cut off"),
])
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, name, content, says):
    if name in ("train.json", "int8.json"):
        run_folder(tmp_path)
    if name:
        (tmp_path / name).write_text(content, encoding="latin-1")
    with pytest.raises(InputError) as error:
        page_lib.run(str(tmp_path))
    assert says in str(error.value) and "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert not (tmp_path / "report.html").exists()


def test_missing_folder_is_not_made(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        page_lib.run(str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_entry_point(tmp_path):
    def start(*arguments):
        return subprocess.run([sys.executable, "-m", "pnas_tf.report", *arguments], capture_output=True, text=True)

    result = start(f"--run_dir={tmp_path}")
    assert result.returncode == 1 and result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    run_folder(tmp_path)
    result = start(f"--run_dir={tmp_path}")
    assert result.returncode == 0 and result.stdout.endswith(f"Report:        {tmp_path}/report.html\n"), result.stderr


def test_summary_says_what_is_known_and_leaves_out_the_rest(tmp_path):
    run_folder(tmp_path)
    lines = dict(line.split(":", 1) for line in summary.summary(facts.collect(str(tmp_path))).splitlines())
    costs = json.loads((tmp_path / "arch.json").read_text())["costs"]
    assert lines["Parameters"].strip() == f"{costs['params']:,}"
    assert lines["Predicted"].strip() == f"{terminal.ms(costs['table_ms'])} on {TARGET}"
    (tmp_path / "train.json").unlink()
    assert "Test accuracy" not in summary.summary(facts.collect(str(tmp_path)))


def test_needs_no_tensorflow(tmp_path):
    run_folder(tmp_path)
    code = (f"import sys; from pnas_tf.report import page; page.run({str(tmp_path)!r}); "
            "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(("value", "shown"), [(0.0005, "0.001 ms"), (0.4123, "0.412 ms"), (1.8, "1.80 ms"),
                                              (78.44, "78.4 ms"), (1234.4, "1234 ms")])
def test_milliseconds(value, shown):
    assert terminal.ms(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), (920, "920"), (80123, "80.1 k"), (4080512, "4.08 M"),
                                              (320427584, "320 M"), (1.2e9, "1.2 G")])
def test_big_numbers(value, shown):
    assert terminal.big(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(3.14, "3.14 s"), (200, "3 min 20 s"), (93900, "26 h 5 min")])
def test_seconds(value, shown):
    assert terminal.seconds(value) == shown


def finalist(how, ms, loss, eligible=True):
    return {"how": how, "log_prob": -3.0, "costs": {"ms": ms}, "eligible": eligible, "loss": loss, "accuracy": 0.5,
            "ops": {}}


def test_exports_of_an_earlier_model_are_left_out_and_named(tmp_path):
    """The digests are those of sha256sum."""
    run_folder(tmp_path)
    (tmp_path / "model.keras").write_bytes(b"new")
    written = json.loads((tmp_path / "float32.json").read_text())
    for digest, current in (("11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437", True),
                            ("cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4", False)):
        write(tmp_path / "float32.json", {**written, "model": {"file": "model.keras", "sha256": digest}})
        collected, page = facts.collect(str(tmp_path)), page_of(tmp_path)
        assert bool(collected.measured) == current == ("made from an earlier model" not in page.text)
        assert current or ("--mode=float32" in page.text and "Left out:" in summary.summary(collected))
    for model in ({"file": "../model.keras", "sha256": "0"}, {"file": 3}, [], None):
        write(tmp_path / "float32.json", {**written, "model": model})
        assert facts.collect(str(tmp_path)).measured


def test_finalists_multipliers_and_warnings_are_shown(tmp_path):
    run_folder(tmp_path)
    lines = [{**line, "multiplier_ms": 0.01, "multiplier_params": 0.02, "expected_ms": 0.9}
             for line in epoch_lines(SPACES["quickstart"], 8)]
    write_metrics(tmp_path, lines)
    write(tmp_path / "finalists.json", {"format": "pnas_tf.finalists/1", "finalists": [
        finalist("sample", 0.399, 0.9), finalist("most probable within the limits", 0.3957, 0.95),
        *(finalist("sample", 0.3999, 1.0 + 0.01 * n) for n in range(8)), finalist("arg-max", 0.2123, 0.8777, False)]})
    page = page_of(tmp_path)
    assert "derivation" in page.ids()
    for shown in ("Of 11 candidate networks", "most probable within the limits", "0.396 ms", "0.212 ms", "0.8777",
                  "the expected latency was +125% off the target", "Weight of the limit on ms",
                  "Weight of the limit on params"):
        assert shown in page.text, shown
    assert page.text.count("sample ") <= 8  # only the best five places, and those that are not samples


def test_timed_finalists_say_what_they_took(tmp_path):
    run_folder(tmp_path)
    finalists = [finalist("sample", 0.411, 1.0) | {"measured_ms": 0.3954}, finalist("sample", 0.398, 0.9, False),
                 *(finalist("sample", 0.3, 1.1, False) for _ in range(5)),
                 finalist("sample", 0.397, 0.9, False) | {"measured_ms": 0.4321}]
    write(tmp_path / "finalists.json", {"format": "pnas_tf.finalists/1", "finalists": finalists})
    page = page_of(tmp_path)
    for shown in ("2 were timed on the device itself", "0.395 ms", "0.432 ms"):
        assert shown in page.text, shown


def test_hostile_finalists_are_shown_as_text(tmp_path):
    run_folder(tmp_path)
    write(tmp_path / "finalists.json", {"finalists": [
        {"how": HOSTILE, "costs": HOSTILE, "loss": "x", "accuracy": None, "eligible": HOSTILE}, 3, None]})
    page = page_of(tmp_path)
    assert HOSTILE in page.text or "alert(1)" in page.text


@pytest.mark.parametrize("content", [3, [], {"finalists": 3}, {"finalists": {"a": 1}}])
def test_damaged_finalists_are_left_out_or_named(tmp_path, content):
    run_folder(tmp_path)
    write(tmp_path / "finalists.json", content)
    if isinstance(content, dict):
        page_of(tmp_path)
    else:
        with pytest.raises(InputError, match=r"finalists\.json"):
            page_lib.run(str(tmp_path))


@pytest.mark.parametrize(("facts_of_time", "card"), [
    ({"steady": False, "spread_ms": [0.39, 0.52]}, "open whether kept, 0.421 ms as measured; busy machine: 0.390 to "
                                                   "0.520 ms"),
    ({"steady": False, "spread_ms": [0.41, 0.52]}, "missed by 5.2 %, as measured; busy machine: 0.410 to 0.520 ms"),
    ({"steady": True, "spread_ms": [0.415, 0.43]}, "missed by 5.2 %, as measured"),
    ({"anchor": {"ms": 0.36, "then_ms": 0.3}}, "open whether kept, 0.421 ms as measured; the machine was 1.2 times as "
                                               "slow as when the table was compared"),
    ({"measured_ms": 0.39, "anchor": {"ms": 0.3, "then_ms": 0.36}},
     "open whether kept, 0.390 ms as measured; the machine was 1.2 times as quick as when the table was compared"),
    ({"measured_ms": 0.39, "steady": False, "spread_ms": [0.38, 0.41]},
     "open whether kept, 0.390 ms as measured; busy machine: 0.380 to 0.410 ms")])
def test_times_of_a_busy_machine_are_doubted(tmp_path, facts_of_time, card):
    """The target is 0.4 ms, and 0.421 ms were measured."""
    run_folder(tmp_path)
    write(tmp_path / "float32.json", {"measured_ms": 0.421, "target": TARGET, **facts_of_time})
    collected, doubt = facts.collect(str(tmp_path)), card.partition("; ")[2]
    assert summary.target_kept(collected).note == card
    assert summary.target_kept(collected).state == ("open" if card.startswith("open") else "bad")
    assert f"Target:        0.400 ms, {card}" in summary.summary(collected)
    assert (f"on {TARGET}; {doubt}" in summary.summary(collected)) == bool(doubt)
    assert page_of(tmp_path).text.count(doubt) >= (3 if doubt else 0)  # two cards, and the table of exported files


def test_limits_of_the_search_are_told(tmp_path):
    """On cards and in the lines of the summary, each with what the network needs, as far as that is recorded."""
    run_folder(tmp_path)
    with (tmp_path / "run.flags").open("a") as flag_file:
        flag_file.write("--limit=params<=90000\n--limit=size_bytes<=4e5\n--limit=macs<=4e6\n"
                        "--limit=peak_activation_bytes<=5e5\n--limit=nonsense\n")
    write(tmp_path / "finalists.json", {"finalists": [{"costs": {"ms": 0.3, "size_bytes": 330112.0}}]})
    told = {card.label: (card.value, card.note, card.state)
            for card in summary.cards(facts.collect(str(tmp_path))) if card.label.startswith("Limit")}
    assert told == {"Limit on params": ("90,000", "kept, 80,123", "good"),
                    "Limit on size_bytes": ("400,000", "kept, 330,112", "good"),
                    "Limit on macs": ("4,000,000", "exceeded, 4,123,456", "bad"),
                    "Limit on peak_activation_bytes": ("500,000", "kept", "good")}
    lines = [line for line in summary.summary(facts.collect(str(tmp_path))).splitlines() if line.startswith("Limit:")]
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        "params 80,123 of at most 90,000", "size_bytes 330,112 of at most 400,000",
        "macs 4,123,456 of at most 4,000,000, exceeded", "peak_activation_bytes at most 500,000"]
    assert "Limit on size_bytes" in " ".join(page_of(tmp_path).text.replace("_ bytes", "_bytes").split())


def test_command_that_compares_names_the_space_of_the_search(tmp_path):
    run_folder(tmp_path)
    with (tmp_path / "run.flags").open("a") as flag_file:
        flag_file.write("--width_mult=0.5\n--table=my table.jsonl\n")
    command = ("python -m latency.compare '--table=my table.jsonl' --space=quickstart --width_mult=0.5 --image_size=28 "
               f"--image_channels=1 --num_classes=10 --networks=20 --json={tmp_path}/compare.json")
    assert command in page_of(tmp_path).text


def test_sentences_have_a_space_between_them(tmp_path):
    run_folder(tmp_path)
    write(tmp_path / "finalists.json", {"finalists": [{"how": "sample", "costs": {"ms": 0.3}, "measured_ms": 0.4}]})
    text = " ".join(page_of(tmp_path).texts)
    assert "1 were timed" in text
    assert not re.findall(r"[a-z]\.[A-Z0-9][^.]{0,40} (?:were|was) ", text)


def test_epochs_of_charts_count_from_one():
    lines = [{"epoch": epoch, "phase": "warmup" if epoch < 2 else "search", "entropy": 1.0 - epoch / 4}
             for epoch in range(4)]
    (chart,) = plots.search_charts(lines, None)
    path = next(each for each in re.findall(r'<path d="([^"]*)"[^>]*var\(--series-1\)', chart.svg) if "L" in each)
    points = [float(x) for x, _ in re.findall(r"[ML] (\S+) (\S+)", path)]
    same = plots.line_chart("entropy", [plots.Line("entropy", [1, 2, 3, 4], [1.0, 0.75, 0.5, 0.25])], from_zero=True,
                            shaded=("warm-up", 0.5, 2.5))
    path = next(each for each in re.findall(r'<path d="([^"]*)"[^>]*var\(--series-1\)', same) if "L" in each)
    assert points == [float(x) for x, _ in re.findall(r"[ML] (\S+) (\S+)", path)] and len(points) == 4


def test_the_front_of_several_image_sizes_names_them(tmp_path):
    """Networks of 20 and 28 pixels; a search at one size has no column of pixels."""
    whole_run_folder(tmp_path)
    path, page = tmp_path / "front.json", tmp_path / "report.html"
    page_of(tmp_path)
    assert re.findall(r'data-label="pixels">(\d+)<', page.read_text()) == ["20", "28"]
    front = json.loads(path.read_text())
    for network in front["networks"]:
        del network["image_size"]
    path.write_text(json.dumps(front))
    page_of(tmp_path)
    assert "pixels</th>" not in page.read_text() and 'id="front"' in page.read_text()


def test_a_teacher_is_no_part_of_a_report(tmp_path):
    """A search for several targets has a folder for each; its teacher is a network of another kind."""
    for name in ("a_1ms", "b_2ms", "teacher", "first_stage"):
        (tmp_path / name).mkdir()
        arch_lib.from_path(TINY, [0, 1]).save(str(tmp_path / name / "arch.json"))
    assert facts.parts(str(tmp_path)) == [str(tmp_path / "a_1ms"), str(tmp_path / "b_2ms")]


def test_a_profile_is_that_of_the_file_beside_it(tmp_path):
    """An export of today leaves the profile of yesterday's file in the folder."""
    whole_run_folder(tmp_path)
    for profiled, exported, shown in (("a" * 64, "a" * 64, True), ("a" * 64, "b" * 64, False)):
        for name, digest in (("float32.profile.json", profiled), ("float32.json", exported)):
            write(tmp_path / name, {**json.loads((tmp_path / name).read_text()), "sha256": digest})
        assert ("float32" in facts.collect(str(tmp_path)).profiles) == shown


@pytest.mark.parametrize("teacher, says", [("runs/a/teacher/model.keras", True), ("none", False), (None, False)])
def test_losses_of_a_taught_training_are_told_apart(tmp_path, teacher, says):
    """The curve of training steps holds the teacher's part; the other does not."""
    whole_run_folder(tmp_path)
    train = json.loads((tmp_path / "train.json").read_text())
    write(tmp_path / "train.json", {**train, "history": {"loss": [2.0, 1.0], "val_loss": [1.0, 0.5]},
                                    **({"teacher": teacher} if teacher else {})})
    page_of(tmp_path)
    assert ("teacher&#39;s part, too" in (tmp_path / "report.html").read_text(encoding="utf-8")) == says
