"""Recorded outputs of benchmark_model are read (tests/samples/benchmark_output/README.md gives their sources)."""

import re
from pathlib import Path

import pytest

from latency.phones import benchmark_output

SAMPLES = Path(__file__).parents[2] / "samples" / "benchmark_output"

COUNT = "count=50 first=9 curr=2 min=1 max=9 avg=2.5 std=1"
TIMINGS = "Inference timings in us: Init: 52, First inference: 9, Warmup (avg): 9, Inference (avg): 2.5"


def sample(name):
    return (SAMPLES / name).read_text(encoding="utf-8")


def runs_and_times(benchmark):
    return (benchmark.runs, benchmark.mean_ms, benchmark.min_ms, benchmark.max_ms, benchmark.std_ms)


@pytest.mark.parametrize(("name", "figures"), [
    ("old_android_basic.txt", (1000, 1.03966, 1.012, 1.190, 0.022, None)),
    ("new_basic_linux_x86.txt", (70, 14.2909, 13.728, 16.145, 0.452, None)),
    ("old_op_profiling_builtin_kernels.txt", (50, 2950.34, 2727.568, 3189.954, 109.798, None)),  # 2.95034e+06 us
    ("litert_compiled_model_python_tool.txt", (50, 1.88, 1.05, 9.31, 1.89, 1.12))])
def test_recorded_times(name, figures):
    benchmark = benchmark_output.parse(sample(name))
    assert runs_and_times(benchmark) == pytest.approx(figures[:5])
    assert benchmark.median_ms == figures[5]


def test_gpu_with_percentiles():
    """Output of a board with an OpenCL GPU."""
    benchmark = benchmark_output.parse("""INFO: STARTING!
INFO: Tensorflow Version : 2.15.0
INFO: Use gpu: [1]
INFO: Created TensorFlow Lite delegate for GPU.
INFO: Created 1 GPU delegate kernels.
VERBOSE: Replacing 31 out of 31 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 partitions for subgraph 0.
INFO: Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.
INFO: count=5 first=125113 curr=112537 min=111758 max=125113 avg=115344 std=4959 p5=111758 median=112912 p95=125113

INFO: count=50 first=119614 curr=115889 min=111842 max=119614 avg=115246 std=1329 p5=112107 median=115350 p95=116620

INFO: Inference timings in us: Init: 1361236, First inference: 125113, Warmup (avg): 115344, Inference (avg): 115246
""")
    assert benchmark.median_ms == 115.350 and benchmark.mean_ms == 115.246 and benchmark.runs == 50
    assert benchmark.delegates == {"gpu": "full"} and benchmark.version == "2.15.0" and not benchmark.unknown_flags


@pytest.mark.parametrize(("lines", "delegates"), [
    (["INFO: Created TensorFlow Lite XNNPACK delegate for CPU."], {"xnnpack": "unknown"}),
    (["Created TensorFlow Lite XNNPACK delegate for CPU.", "VERBOSE: Replacing 58 out of 58 node(s) with delegate "
      "(TfLiteXNNPackDelegate) node, yielding 1 partitions for the whole graph."], {"xnnpack": "full"}),
    (["Explicitly applied GPU delegate, and the model graph will be partially executed by the delegate w/ 2 delegate "
      "kernels."], {"gpu": "part"}),
    (["Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate."],
     {"nnapi": "nothing"}),
    (["Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.",
      "Replacing 3 out of 9 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 3 partitions."],
     {"gpu": "part"})])  # the worse of two statements
def test_delegates(lines, delegates):
    assert benchmark_output.parse("\n".join([*lines, COUNT, TIMINGS])).delegates == delegates


@pytest.mark.parametrize("prefix", ["", "INFO: ", "I tflite  : ", "11-24 07:31:02.117  4242  4242 I tflite  : "])
def test_prefixes_and_unknown_flags(prefix):
    text = "\n".join(prefix + line for line in ("Unconsumed cmdline flags: --use_xnnpac=true", COUNT, TIMINGS))
    benchmark = benchmark_output.parse(text)
    assert (benchmark.runs, benchmark.min_ms, benchmark.unknown_flags) == (50, 0.001, "--use_xnnpac=true")


def test_a_single_run():
    benchmark = benchmark_output.parse("count=1 curr=3512391\n\ncount=1 curr=2500000\n\n"
                                       + TIMINGS.replace("2.5", "2.5e+06"))
    assert runs_and_times(benchmark) == (1, 2500, 2500, 2500, 0)


@pytest.mark.parametrize("text", [
    "", "STARTING!", COUNT, TIMINGS, sample("new_op_profiling_xnnpack_excerpt.txt"),
    f"{COUNT}\n{TIMINGS[:-20]}", f"{COUNT}\n{TIMINGS.replace('2.5', '9.5')}",
    f"{COUNT}\n{TIMINGS.replace('2.5', '-2.5')}",
    f"{COUNT.replace('max=9', 'max=1e400')}\n{TIMINGS}", f"{COUNT.replace('min=1', 'min=3')}\n{TIMINGS}",
    f"{COUNT.replace('min=1 ', '')}\n{TIMINGS}", f"{COUNT.replace('50', '0')}\n{TIMINGS}",
    f"{COUNT.replace('max=9', 'max=9.9.9')}\n{TIMINGS}", f"{COUNT} median=700\n{TIMINGS}"])
def test_no_timing_raises(text):
    with pytest.raises(benchmark_output.NoTimingError) as caught:
        benchmark_output.parse(text)
    assert "\n" not in str(caught.value)


def test_times_that_the_tool_rounds_to_nothing_are_named():
    text = sample("litert_compiled_model_python_tool.txt")
    for printed in ("1.88", "1.05", "1.12", "1.06"):
        text = text.replace(f" {printed} ms", " 0.00 ms")
    with pytest.raises(benchmark_output.NoTimingError, match="it rounds, and cannot time so small a model"):
        benchmark_output.parse(text)


def test_what_the_tool_said_is_shown_and_is_harmless():
    text = "INFO: STARTING!\nERROR: Failed to load the model \x1b[2J\x1b]0;title\x07 m.tflite\nINFO: bye\n"
    with pytest.raises(benchmark_output.NoTimingError, match=r"Failed to load the model.*m\.tflite") as caught:
        benchmark_output.parse(text)
    assert str(caught.value).isprintable()
    with pytest.raises(benchmark_output.NoTimingError) as caught:
        benchmark_output.parse("x" * 3_000_000 + "\n" + " " * 3_000_000)
    assert len(str(caught.value)) < 500


def test_profiles_of_three_forms():
    old = benchmark_output.op_profile(sample("old_op_profiling_builtin_kernels.txt"))
    assert len(old) == 31 and old[0].node_type == "CONV_2D" and old[0].mean_ms == 60.957
    assert sum(op.mean_ms for op in old) == pytest.approx(2950.34, rel=1e-3)  # the total, timed apart
    new = benchmark_output.op_profile(sample("new_op_profiling_xnnpack_excerpt.txt"))
    assert [(op.node_type, op.mean_ms, op.times_called) for op in new[1:3]] == [
        ("Convolution (NHWC, QC8) IGEMM", 0.407, 1), ("Convolution (NHWC, QC8) DWConv", 0.051, 13)]
    assert new[5].name == "Delegate/Add (ND, QS8):9"
    csv = benchmark_output.op_profile(sample("old_profiling_output.csv"))
    assert [op.node_type for op in csv[:3]] == ["CONV_2D", "ELU", "AVERAGE_POOL_2D"] and len(csv) == 12
    assert csv[0].mean_ms == 0.0930388 and csv[0].name == "[sequential_11/conv2d_33/Conv2D]:0"


def test_csv_without_start_and_with_commas_in_names():
    """Newer builds write such a table and quote nothing in it."""
    row = "Convolution (NHWC, QC8) GEMM, 0.464, 0.473, 3.087%, 13.334%, 0, 2, Delegate/[a, b, c]:3"
    text = f"==== Run Order ====\nnode type, first, avg_ms, %, cdf%, mem KB, times called, name\n{row}\n\nmore"
    assert benchmark_output.op_profile(text) == [
        benchmark_output.OpTime("Convolution (NHWC, QC8) GEMM", "Delegate/[a, b, c]:3", 0.473, 2)]


def test_no_profile_raises():
    for text in ("", sample("new_basic_linux_x86.txt"), "Run Order\n[a] [b] [c]\nx 1 y"):
        with pytest.raises(benchmark_output.NoTimingError):
            benchmark_output.op_profile(text)


def test_hostile_text_is_read_quickly():
    """Patterns that backtrack would hang on these texts."""
    for unit in ("count=1 ", "Inference timings in us: ", "1 " * 9, " ", "\t,",
                 "Run Order\n[a] [avg ms] [b]\n" + "1 " * 900):
        text = unit * (2_000_000 // len(unit))
        for read in (benchmark_output.parse, benchmark_output.op_profile):
            with pytest.raises(benchmark_output.NoTimingError):
                read(text)


def test_origins_are_told():
    names = set(re.findall(r"^\| (\w+\.\w+) \|", sample("README.md"), flags=re.M))
    assert names == {path.name for path in SAMPLES.iterdir()} - {"README.md"}
