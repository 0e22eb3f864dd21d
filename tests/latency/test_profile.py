"""Profiles: the pieces make up the whole model again, phones are reached by the real adb client, charts are drawn."""

import importlib.util
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from export import facts, interpreter
from export import graph as graph_lib
from latency import profile, split_model
from pnas_tf.errors import InputError
from pnas_tf.report import op_profile
from pnas_tf.report import page as page_lib
from tests import forked

HERE = Path(__file__).parents[1]
RECORDED = HERE / "adb_device" / "recorded_benchmark.sh"
# Blocks of the fixture's network, in order.
BLOCKS = [("stem", "conv_k3"), ("b00", "mb_k5_e6"), ("b01", "mb_k5_e3"), ("b02", "mb_k3_e1"), ("mix", "conv_k1"),
          ("classifier", "classifier")]


def ran(content, values):
    """Outputs of a model as they stand in its tensors, without any scale applied."""
    runner = interpreter.make_interpreter(content)
    for details, value in zip(runner.get_input_details(), values, strict=True):
        runner.set_tensor(details["index"], value)
    runner.invoke()
    return [runner.get_tensor(details["index"]) for details in runner.get_output_details()]


@pytest.mark.parametrize("mode", facts.MODES)
def test_pieces_one_after_another_are_the_whole(small_run, mode):
    content = (small_run / f"{mode}.tflite").read_bytes()
    contents, cut = graph_lib.describe(content), split_model.cut(content)
    dtype = contents.tensors[contents.inputs[0]].dtype.lower()
    image = np.random.default_rng(0).integers(0, 256, contents.input_shape).astype(dtype)
    values = {contents.inputs[0]: image}
    for piece in cut:
        outputs = ran(piece.content, [values[position] for position in piece.inputs])
        values |= dict(zip(piece.outputs, outputs, strict=True))
        assert outputs[0].shape == piece.output_shape
    whole, = ran(content, [image])
    assert np.ptp(whole) > 0
    np.testing.assert_array_equal(values[contents.outputs[0]], whole)
    unpacking = contents.ops.count("DEQUANTIZE") if mode == "float16" else 0
    assert len(cut) == len(contents.operators) - unpacking and (unpacking > 0) == (mode == "float16")


def test_pieces_are_named_by_their_layers(small_run):
    cut = split_model.cut((small_run / "float32.tflite").read_bytes())
    places = list(dict.fromkeys(op_profile.place(piece.name) for piece in cut))
    assert places == [("pixels_normalise", ""), *BLOCKS]
    assert [piece.operator for piece in cut if op_profile.place(piece.name)[0] == "b00"] == [
        "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "ADD"]


@pytest.mark.parametrize(("name", "place"), [
    ("net_1/b07_mb_k5_e6_project_1/convolution2", ("b07", "mb_k5_e6")),
    ("[net/b07_mb_k5_e6_expand_relu_1/Relu6;net/b07_mb_k3_e6_expand/convolution]:4", ("b07", "mb_k5_e6")),
    ("small/quant_stage_2_b1_mb_k3_e3_depthwise_relu/Relu6;x", ("stage_2_b1", "mb_k3_e3")),
    ("net/conv_k3_conv_k5_relu/Relu6", ("conv_k3", "conv_k5")), ("pixels_normalise/BiasAdd", ("pixels_normalise", "")),
    ("MobilenetV2/expanded_conv_7/add", ("expanded_conv", "")), ("Delegate/Convolution (NHWC, F32) GEMM:3", ("", "")),
    ("Identity", ("", "")), ("", ""), ("x" * 10**6 + "_" * 10**6, ("", "")), ("a/" + "_" * 10**6 + "/b", None)])
def test_places(name, place):
    block_and_op = op_profile.place(name)
    assert len(block_and_op) == 2
    assert not place or block_and_op == tuple(place) or place == "" == "".join(block_and_op)


def test_entry_point_on_this_machine(small_run, tmp_path):
    """Every operator has its time, and the files appear in the report."""
    for name in ("arch.json", "int8.tflite", "int8.json"):
        shutil.copy(small_run / name, tmp_path)
    done = subprocess.run([sys.executable, "-m", "latency.profile", f"--model={tmp_path}/int8.tflite", "--rounds=2",
                           "--runs=3"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    measured = op_profile.read(str(tmp_path / "int8.profile.json"))
    assert measured["target"] == "host_xnnpack1_int8" and measured["model"] == "int8.tflite"
    assert measured["network_ms"] > 0 and measured["call_ms"] > 0
    graph = graph_lib.describe((tmp_path / "int8.tflite").read_bytes())
    assert [entry["operator"] for entry in measured["operators"]] == list(graph.ops)
    for entry in measured["operators"]:
        assert entry["ms"] == pytest.approx(max(0, entry["alone_ms"] - measured["call_ms"]))
    for block, op in BLOCKS:
        assert any(line.split()[:2] == [block, op] for line in done.stdout.splitlines()), block
    assert f"Next:    python -m pnas_tf.report --run_dir={tmp_path}\n" in done.stdout
    bars = ElementTree.parse(tmp_path / "int8.profile.svg").findall(".//*[@style]")
    assert sum(bar.get("style") == "fill: #c05621" for bar in bars) == 2  # b00 and b01, the kernels of 5
    page = Path(page_lib.run(str(tmp_path))).read_text()
    assert "Where the milliseconds go" in page and "b00 mb_k5_e6" in page and "int8.tflite</h3>" in page


def test_tflite_runtime_and_builtin_kernels(small_run):
    """In a process of its own, in the dynamic format, which old runtimes have to be able to read."""
    if importlib.util.find_spec("tflite_runtime") is None:
        pytest.skip("tflite-runtime is not installed")
    measured = profile.run(model=str(small_run / "dynamic.tflite"), settings={
        "runtime": "tflite_runtime", "delegate": "none", "rounds": 1, "runs": 1})
    assert measured["target"] == "host_tflite_runtime_builtin1_dynamic"
    assert measured["runtime"].startswith("tflite_runtime")
    assert measured["network_ms"] > 0 and sum(entry["ms"] for entry in measured["operators"]) > 0


PROFILED = """case "$*" in *--enable_op_profiling=true*)
cat <<'END'
INFO: Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.
INFO: count=50 first=9 curr=2 min=1 max=9 avg=2.5 std=1
INFO: Inference timings in us: Init: 52, First inference: 9, Warmup (avg): 9, Inference (avg): 2.5
Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
[node type] [first] [avg ms] [%] [cdf%] [mem KB] [times called] [Name]
ModifyGraphWithDelegate 0.1 77.5 100.0% 100.0% 0.0 1 ModifyGraphWithDelegate/0
Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
[node type] [first] [avg ms] [%] [cdf%] [mem KB] [times called] [Name]
CONV_2D 0.300 0.250 50.0% 50.0% 0.0 1 [small/stem_conv_k3_relu_1/Relu6;small/stem_conv_k3_conv_1/convolution]:0
DEPTHWISE_CONV_2D 0.100 0.150 30.0% 80.0% 0.0 1 [small/b02_mb_k3_e1_depthwise_relu_1/Relu6]:1
CONV_2D 0.100 0.100 20.0% 100.0% 0.0 1 [small/b02_mb_k3_e1_project_1/convolution]:2

END
exit 0;; esac
"""


@pytest.mark.parametrize("adb_server", ["any"], indirect=True)
def test_a_phone(small_run, client, device):
    """Operators come from the profiler's second report, the whole from a run without it (a microsecond a byte)."""
    phone = device()
    phone.fault("benchmark", PROFILED)
    settings = {"adb": client.path, "benchmark_binary": str(RECORDED), "serial": [phone.serial], "min_seconds": 0.0,
                "warmup_seconds": 0.0, "cooldown_seconds": 0.0, "wait_seconds": 0.0}
    model = small_run / "float32.tflite"
    measured = profile.run(model=str(model), measurer="android", settings=settings)
    assert measured["network_ms"] == pytest.approx(model.stat().st_size / 1000)
    assert [(entry["operator"], entry["block"], entry["op"], entry["ms"]) for entry in measured["operators"]] == [
        ("CONV_2D", "stem", "conv_k3", 0.25), ("DEPTHWISE_CONV_2D", "b02", "mb_k3_e1", 0.15),
        ("CONV_2D", "b02", "mb_k3_e1", 0.1)]
    assert measured["device"] == "Google Pixel 2" and measured["target"] == "pixel2_xnnpack1_float32"
    phone.fault("benchmark", 'case "$*" in *profiling*) said="WARN: Unconsumed cmdline flags: --enable";; esac')
    with pytest.raises(InputError, match="does not know --enable"):
        profile.run(model=str(model), measurer="android", settings=settings)
    phone.fault("benchmark", "")
    with pytest.raises(InputError, match="no profile of operators"):
        profile.run(model=str(model), measurer="android", settings=settings)


@pytest.mark.parametrize("mode", facts.MODES)
def test_format_by_the_tensors(small_run, mode):
    dtype = profile._dtype((small_run / f"{mode}.tflite").read_bytes())
    assert dtype == mode.removesuffix("_qat")


def example(**changes):
    operators = [("CONV_2D", "stem", "conv_k3", 0.5), ("CONV_2D", "b0", "mb_k5_e3", 0.25),
                 ("DEPTHWISE_CONV_2D", "b0", "mb_k5_e3", 1.0), ("QUANTIZE", "", "", 0.25)]
    return {"format": op_profile.FORMAT, "network_ms": 2.1, "target": "t", "method": "m", "operators": [
        dict(zip(("operator", "block", "op", "ms"), row, strict=True)) for row in operators], **changes}


def test_groups_by_hand():
    part = op_profile.Part
    assert op_profile.by_block(example()) == [part("stem", "conv_k3", 0.5, 1), part("b0", "mb_k5_e3", 1.25, 2),
                                              part("QUANTIZE", "", 0.25, 1)]
    assert op_profile.by_operator(example()) == [part("DEPTHWISE_CONV_2D", "", 1.0, 1), part("CONV_2D", "", 0.75, 2),
                                                 part("QUANTIZE", "", 0.25, 1)]
    text = op_profile.table(example())
    assert "62.5%" in text and "4 operators take 2 ms in total, the whole network 2.1 ms, on t; m." in text


def test_long_profiles_are_cut_and_nothing_is_lost():
    row = example()["operators"][0]
    long = example(operators=[{**row, "block": f"b{number}", "ms": float(number % 7)} for number in range(500)])
    parts = op_profile.by_block(long)
    assert len(parts) == op_profile.MAX_ROWS and parts[-1].name == "others"
    assert sum(part.ms for part in parts) == pytest.approx(sum(number % 7 for number in range(500)))
    assert sum(part.operators for part in parts) == 500


def test_hostile_names_are_harmless():
    bad = example()
    bad["operators"][0]["block"] = "\x1b[2J<script>$x^2$" + "y" * 10_000
    bad["target"] = bad["method"] = "\x1b]0;t\x07<script>"
    for svg in (op_profile.chart(bad), op_profile.chart(bad, "p")):
        assert "<script" not in svg and "\x1b" not in svg
        ElementTree.fromstring(svg[svg.index("<svg"):].replace("xlink:href", "href"))
    assert all(letter.isprintable() or letter == "\n" for letter in op_profile.table(bad))


@pytest.mark.parametrize("content", [
    "[]", "{}", json.dumps(example(format="x")), json.dumps(example(operators=[])), json.dumps(example(network_ms=-1)),
    json.dumps(example(operators=[{"operator": "A", "block": "", "op": "", "ms": float("nan")}])),
    json.dumps(example(operators=[{"operator": "A", "block": "", "op": 3, "ms": 1}])), "not json", ""])
def test_what_is_no_profile_is_one_line(tmp_path, content):
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(InputError) as caught:
        op_profile.read(str(tmp_path / "p.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arguments", [
    (), ("--model=/nonexistent",), (f"--model={__file__}",), ("--model=m", "--adb=/bin/adb"),
    ("--model=m", "--measurer=android", "--rounds=3"), ("--model={run}/int8.tflite", "--delegate=gpu"),
    ("--model={run}/int8.tflite", "--measurer=android")])
def test_bad_flags_are_one_line(small_run, arguments):
    given = [argument.format(run=small_run) for argument in arguments]
    done = forked.run(["latency.profile", *given])
    assert done.returncode == 1 and done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
