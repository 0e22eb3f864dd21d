"""Tables of phones, built with the real adb client and a device that speaks adb's protocol (tests/adb_device)."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export import convert
from latency import build_table, compare, measure
from latency.search import network_timer
from pnas_tf.cost import network_times
from pnas_tf.errors import InputError
from pnas_tf.run_folder import folder as run_folder
from pnas_tf.space.spaces import from_json

ADB_DEVICE = Path(__file__).parents[2] / "adb_device"
TINY = {"name": "tiny", "input_size": 8, "input_channels": 3, "num_classes": 3,
        "stem": [{"name": "stem", "ops": ["conv_k3"], "filters": 8, "strides": 2}],
        "blocks": [{"name": "b00", "ops": ["mb_k3_e3", "mb_k5_e3", "mb_k3_e6", "zero"], "filters": 8,
                    "shortcut": True}],
        "head": [{"name": "classifier", "ops": ["classifier"], "filters": 3}]}
SPACE = from_json(TINY)
RECORDED = str(ADB_DEVICE / "recorded_benchmark.sh")
# For tests whose outcome does not depend on the adb client.
ANY_CLIENT = pytest.mark.parametrize("adb_server", ["any"], indirect=True)
# Facts of a row that follow from the pace.
PACED = ("paced_ms", "pace", "pace_error")
QUICK = {"min_seconds": 0.0, "warmup_seconds": 0.0, "cooldown_seconds": 0.0, "wait_seconds": 0.0, "runs": 50}


def build(client, path, space=SPACE, only=(), **settings):
    return build_table.run(space=space, output=str(path), measurer="android", only=only, settings={
        "adb": client.path, "benchmark_binary": RECORDED, **QUICK, **settings})


def converted(key, dtype="float32"):
    model = measure.op_build(key)()
    images = np.random.default_rng(0).standard_normal((4, *model.input_shape[1:]), np.float32)
    return convert.convert(model, dtype, calibration=[images])


@pytest.fixture(scope="module")
def expected():
    """Rows that the recorded benchmark gives: a microsecond for each byte of the model, less those of the smallest."""
    overhead = len(converted(measure.OVERHEAD_KEY))
    keys = dict.fromkeys(key for _, key in SPACE.op_keys())
    return {key: (len(converted(key)) - (0 if key.op == "classifier" else overhead)) / 1000 for key in keys}


def check(table, expected):
    """Checks that no row is wrong and none is lost."""
    assert {key: row["median_ms"] for key, row in table.rows.items()} == pytest.approx(expected)


def test_table_of_a_phone(client, device, tmp_path, expected, capfd):
    phone = device()
    table = build(client, tmp_path / "t.jsonl", serial=[phone.serial])
    check(table, expected)
    head = table.header
    assert table.target == "pixel2_xnnpack1_float32" and head["device"] == "Google Pixel 2"
    assert head["soc"] == "msm8998" and head["android"] == "11 (API 30, RP1A.201005.004)" and head["abi"] == "arm64-v8a"
    assert head["cores"] == "4 x 1900 MHz, 4 x 2457 MHz" and head["cpu_mask"] == "f0"
    assert head["governor"] == "interactive" and head["runtime"] == "benchmark_model, TensorFlow Lite 2.15.0"
    assert head["binary_sha256"] == subprocess.run(["sha256sum", RECORDED], capture_output=True, text=True,
                                                   check=True).stdout.split()[0]
    assert (head["battery_percent"], head["battery_celsius"], head["thermal_status"]) == (83, 31.2, 0)
    assert {"threads", "delegate", "dtype", "warmup_runs", "warmup_seconds", "runs", "min_seconds", "rounds",
            "run_delay_seconds", "pause_seconds", "cooldown_seconds", "statistic", "date"} <= set(head)
    assert phone.serial.encode() not in (tmp_path / "t.jsonl").read_bytes()
    for row in table.rows.values():
        assert row["battery_celsius"] == [31.2, 31.2] and row["thermal_status"] == [0, 0] and row["anchor_ms"] > 0
        assert row["median_from"] == "median" and row["runs"] == 50
        assert row["min_ms"] < row["median_ms"] < row["mean_ms"]
    assert set(phone.read("taskset.log")) == {"f0"}
    # The tool ran once for the smallest model, 2 x (2 + 1) times for the anchor, and once for the overhead and each op.
    assert len(phone.read("runs.log")) == 1 + 6 + 1 + len(expected)
    assert all(set(line.split()[1:]) == {
        "--num_threads=1", "--num_runs=50", "--min_secs=0", "--max_secs=50", "--warmup_runs=1", "--warmup_min_secs=0",
        "--use_xnnpack=true", "--require_full_delegation=true"} for line in phone.read("runs.log"))
    assert f"{len(expected)}/{len(expected)} [" in capfd.readouterr().err  # the bar ends at its end


@ANY_CLIENT
def test_benchmark_is_pushed_once(client, device, tmp_path):
    phone = device()
    for name in ("t.jsonl", "u.jsonl"):
        build(client, tmp_path / name, only=["mb_k3_e3"])
    binaries = [line for line in phone.read("pushed.log") if "benchmark_model-" in line]
    assert len(binaries) == 1
    on_phone = phone.root / binaries[0].lstrip("/")
    on_phone.write_bytes(on_phone.read_bytes()[:-2] + b"#\n")  # as long, but different
    build(client, tmp_path / "v.jsonl", only=["mb_k3_e3"])
    assert on_phone.read_bytes() == Path(RECORDED).read_bytes()
    assert sum("benchmark_model-" in line for line in phone.read("pushed.log")) == 2


def test_the_real_interpreter(client, device, tmp_path):
    check_real(client, device(), tmp_path, "float32")


@ANY_CLIENT
def test_the_real_interpreter_in_int8(client, device, tmp_path):
    check_real(client, device(), tmp_path, "int8")


def check_real(client, phone, tmp_path, dtype):
    """Times of this host take the same way as a phone's."""
    binary = tmp_path / "benchmark_model"
    binary.write_text(f"#!{sys.executable}\n{(ADB_DEVICE / 'benchmark_model.py').read_text()}")
    binary.chmod(0o755)
    table = build(client, tmp_path / "t.jsonl", benchmark_binary=str(binary), dtype=dtype, max_drift=1000.0, runs=20,
                  only=["mb_k3_e6", "mb_k3_e3"], serial=[phone.serial])
    assert table.target == f"pixel2_xnnpack1_{dtype}" and table.header["runtime"].endswith("not printed")
    assert len(table.rows) == 2
    assert all(row["runs"] == 20 and 0 <= row["min_ms"] <= row["mean_ms"] for row in table.rows.values())


@ANY_CLIENT
def test_stopped_and_resumed(client, device, tmp_path, expected):
    path = tmp_path / "t.jsonl"
    phone = device()
    build(client, path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + lines[3][:40])
    before = len(phone.read("runs.log"))
    check(build(client, path), expected)
    # What was measured stays; what follows from the anchors' runs is computed again from all of them.
    for before_cut, line in zip(lines[1:3], path.read_bytes().splitlines()[1:3], strict=True):
        assert {**json.loads(before_cut), **{name: json.loads(line)[name] for name in PACED}} == json.loads(line)
    assert len(phone.read("runs.log")) - before == 1 + 6 + 1 + len(expected) - 2
    with pytest.raises(InputError, match=r"threads 1 there, 2 here"):
        build(client, path, threads=2)
    phone.write("props", "\n".join(phone.read("props")).replace("Pixel 2", "Pixel 3") + "\n")
    with pytest.raises(InputError, match=r"'?Google Pixel 2'? there, '?Google Pixel 3'? here"):
        build(client, path)


@ANY_CLIENT
def test_whole_networks_against_the_table(client, device, tmp_path, expected, monkeypatch):
    """The header alone is enough: the binary is on the phone already and is known by its hash."""
    phone = device()
    table = build(client, tmp_path / "t.jsonl")
    monkeypatch.setenv("PATH", f"{Path(client.path).parent}:/usr/bin:/bin")
    archs, _ = compare.random_networks(SPACE, 2, 0, seed=0)
    result = compare.run(table=table, archs=archs)
    for arch, network in zip(archs, result["networks"], strict=True):
        size = len(convert.convert(measure.network_build(arch)(), "float32"))
        assert network["measured_ms"] == network["again_ms"] == size / 1000
        assert network["predicted_ms"] == pytest.approx(sum(expected[key] for _, key in arch.op_keys()
                                                            if key.op != "zero"))
    assert set(phone.read("taskset.log")) == {"f0"}


@ANY_CLIENT
def test_two_phones_share_the_work(client, device, tmp_path, expected):
    phones = device(), device()
    table = build(client, tmp_path / "t.jsonl")
    check(table, expected)
    assert len({row["phone"] for row in table.rows.values()}) == 2
    timed = [{line.split()[0] for line in phone.read("runs.log") if "/m0" in line} for phone in phones]
    assert all(timed)


@pytest.mark.slow
@ANY_CLIENT
def test_a_phone_that_becomes_slower(client, device, tmp_path, expected, monkeypatch):
    """Rows, networks and finalists of a search stay at the pace of the table's first rows; what was measured stays."""
    path, phone = tmp_path / "t.jsonl", device()
    build(client, path, only=["mb_k3_e3"])
    phone.fault("benchmark", "us=$((us * 104 / 100))")
    table = build(client, path)
    for key, row in table.rows.items():
        slower = 1.0 if key.op == "mb_k3_e3" else 1.04
        assert row["median_ms"] == pytest.approx(slower * expected[key], abs=0.002)
        assert row["pace"] == pytest.approx(slower, abs=0.006) and row["pace_error"] < 0.02
        assert table.ms("b00", key) == row["paced_ms"] == pytest.approx(expected[key], rel=0.008)
    (wandered,) = table.header["pace"].values()
    assert wandered["low"] == pytest.approx(1.0, abs=0.006) and wandered["high"] == pytest.approx(1.04, abs=0.006)

    monkeypatch.setenv("PATH", f"{Path(client.path).parent}:/usr/bin:/bin")
    archs, _ = compare.random_networks(SPACE, 4, 0, seed=0)
    true_ms = [len(convert.convert(measure.network_build(arch)(), "float32")) / 1000 for arch in archs]
    phone.fault("benchmark", "us=$((us * 103 / 100))")
    result = compare.run(table=table, archs=archs[:2], times=network_times.beside(table.path))
    lines = (tmp_path / "t.networks.jsonl").read_text().splitlines()
    for ms, network in zip(true_ms, result["networks"], strict=False):
        assert network["measured_ms"] == pytest.approx(ms, rel=0.008)
        raw = [json.loads(line)["median_ms"] for line in lines[1:] if json.loads(line)["ops"] == network["ops"]]
        assert raw == pytest.approx([1.03 * ms] * 2, abs=0.002)

    phone.fault("benchmark", "us=$((us * 98 / 100))")
    timer = network_timer(table, SPACE)
    timed = timer(archs[2:], run_folder.RunFolder(str(tmp_path)))
    assert [costs["ms"] for costs in timed] == pytest.approx(true_ms[2:], rel=0.012)
