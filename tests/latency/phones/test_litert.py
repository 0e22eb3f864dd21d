"""LiteRT's benchmark_model, recorded, with the real adb: its flags, its delegates, and times that are none."""

import re
from pathlib import Path

import pytest

from latency import build_table
from latency.phones import benchmark_output, tools
from latency.phones.android import Android
from latency.phones.settings import PhoneSettings
from pnas_tf.errors import InputError
from tests.latency.phones.test_android import QUICK, SPACE, converted

ADB_DEVICE = Path(__file__).parents[2] / "adb_device"
RECORDED = str(ADB_DEVICE / "recorded_litert.sh")
ANY_CLIENT = pytest.mark.parametrize("adb_server", ["any"], indirect=True)
FULL = "Replacing 3 out of 3 node(s) with delegate ({}) node, yielding 1 partitions for subgraph 0 (main)."


def measurer(client, binary=RECORDED, **settings):
    return Android(PhoneSettings(adb=client.path, benchmark_binary=binary, cpu_mask="all", **{**QUICK, **settings}))


@ANY_CLIENT
@pytest.mark.slow
def test_a_table_of_an_npu(client, device, tmp_path):
    """By hand: a model takes a hundredth of a millisecond for each byte of its file."""
    phone = device()
    library = "/vendor/lib64/npu"
    table = build_table.run(space=SPACE, output=str(tmp_path / "t.jsonl"), measurer="android", only=["classifier"],
                            settings={"adb": client.path, "benchmark_binary": RECORDED, **QUICK, "delegate": "npu",
                                      "library_path": library})
    (key, row), = table.rows.items()
    assert row["median_ms"] == pytest.approx(len(converted(key)) / 100) and row["median_from"] == "mean"
    assert table.target == "pixel2_npu1_float32" and table.header["library_path"] == library
    assert table.header["runtime"] == "benchmark_model, LiteRT's, version not printed"
    assert set(phone.read("libraries.log")) == {library}
    assert {"--use_npu=true", "--use_cpu=false", "--require_full_delegation=true", f"--dispatch_library_path={library}",
            f"--compiler_plugin_library_path={library}"} <= set(phone.read("runs.log")[0].split())
    assert "xnnpack" not in phone.read("runs.log")[0]


@ANY_CLIENT
@pytest.mark.parametrize(("delegate", "dtype", "flags"), [
    ("xnnpack", "float32", {"--use_cpu=true"}),
    ("gpu", "float16", {"--use_gpu=true", "--use_cpu=false", "--require_full_delegation=true", "--allow_fp16=true"})])
def test_flags_of_delegates(client, device, delegate, dtype, flags):
    phone = device()
    assert measurer(client, delegate=delegate, dtype=dtype).facts()["target"] == f"pixel2_{delegate}1_{dtype}"
    given = set(phone.read("runs.log")[0].split())
    assert flags <= given and ("--require_full_delegation=true" in given) == (delegate != "xnnpack")


@ANY_CLIENT
@pytest.mark.parametrize(("delegate", "said", "words"), [
    ("npu", "Replacing 470 out of 476 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 2 partitions.",
     "the delegate npu must run the whole model, but its share is unknown, and xnnpack ran a part"),
    ("gpu", "INFO: [gpu_registry.cc:101] Loading GPU accelerator(libLiteRtGpuAccelerator.so).",
     "the delegate gpu must run the whole model, but its share is unknown")])
def test_a_run_on_the_cpu_is_no_run_of_an_npu_or_gpu(client, device, delegate, said, words):
    device().fault("benchmark", f"said='{said}'")
    with pytest.raises(InputError, match=re.escape(words)):
        measurer(client, delegate=delegate).facts()


@ANY_CLIENT
@pytest.mark.parametrize(("binary", "delegate", "words"), [
    (RECORDED, "none", "--delegate=none is not a delegate of LiteRT's benchmark_model, which has xnnpack, gpu, npu"),
    (RECORDED, "nnapi", "Take TensorFlow Lite's"),
    (str(ADB_DEVICE / "recorded_benchmark.sh"), "npu", "--delegate=npu is not a delegate of TensorFlow Lite's")])
def test_a_delegate_of_the_other_tool(client, device, binary, delegate, words):
    device()
    with pytest.raises(InputError, match=re.escape(words)):
        measurer(client, binary, delegate=delegate).facts()


def parsed(delegate, ms, *more):
    lines = [FULL.format(delegate), *more, f"Inference (avg):      {ms} ms (50 runs)", f"Inference (min):      {ms} ms",
             f"Inference (max):      {ms} ms"]
    return benchmark_output.parse("\n".join(lines))


@pytest.mark.parametrize(("delegate", "name", "macs", "ms", "believed"), [
    ("gpu", "LITERT_CL", 5e9, 0.274, False), ("gpu", "LITERT_CL", 5e9, 16.0, True),
    ("gpu", "TfLiteGpuDelegateV2", 3e8, 0.07, False), ("gpu", "LITERT_GL", 3e8, 1.5, True),
    ("npu", "DispatchDelegate", 3e8, 0.01, True), ("npu", "DispatchDelegate", 3e9, 0.05, False),
    ("xnnpack", "TfLiteXNNPackDelegate", 1e9, 0.01, True)])
def test_a_time_that_no_device_reaches_is_that_of_handing_over(delegate, name, macs, ms, believed):
    """By hand: 5e9 multiply-accumulates at 4e12 a second take 1.25 ms."""
    reason = tools.doubt(parsed(name, ms), delegate, macs, "")
    assert (reason == "") == believed and (believed or "it is the time of handing the work over" in reason)


def test_what_else_ran_a_part_is_named():
    part = parsed("DispatchDelegate", 3.0, "Replacing 2 out of 3 node(s) with delegate (DispatchDelegate) node.")
    assert "its share is part" in tools.doubt(part, "npu", 1e6, "")
    others = parsed("LITERT_CL", 3.0, "Replacing 3 out of 9 node(s) with delegate (TfLiteXNNPackDelegate) node.")
    assert "its share is full, and xnnpack ran a part" in tools.doubt(others, "gpu", 1e6, "")
    created = parsed("LITERT_CL", 3.0, "Created TensorFlow Lite XNNPACK delegate for CPU.")
    assert tools.doubt(created, "gpu", 1e6, "") == ""


@pytest.mark.parametrize("path", ["npu", "/sdcard/npu", "/data/local/tmp/../../x", "/data/local/tmp/a b",
                                  "/vendor/$(x)"])
def test_folders_of_libraries_are_checked(path):
    with pytest.raises(InputError, match="library_path must be a folder on the phone"):
        PhoneSettings(library_path=path)
    assert PhoneSettings(library_path="/vendor/lib64/npu").library_path == "/vendor/lib64/npu"
