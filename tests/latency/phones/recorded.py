"""Tables of phones that run the recorded benchmark: the right value of every row is known."""

from pathlib import Path

import pytest

from latency import build_table, measure
from latency.phones.android import Android
from latency.phones.settings import PhoneSettings
from pnas_tf.cost import latency_table
from pnas_tf.space.spaces import from_json

BENCHMARK = str(Path(__file__).parents[2] / "adb_device" / "recorded_benchmark.sh")
TINY = {"name": "tiny", "input_size": 8, "input_channels": 3, "num_classes": 3,
        "stem": [{"name": "stem", "ops": ["conv_k3"], "filters": 8, "strides": 2}],
        "blocks": [{"name": f"b0{number}", "ops": [f"mb_k{kernel}_e{expansion}" for kernel in (3, 5, 7)
                                                   for expansion in (3, 6)], "filters": 8 + 8 * number}
                   for number in range(2)],
        "head": [{"name": "classifier", "ops": ["classifier"], "filters": 3}]}
SPACE = from_json(TINY)


def settings(client, **more):
    """Settings of a measurer that does not wait."""
    return {"adb": client.path, "benchmark_binary": BENCHMARK, "min_seconds": 0.0, "warmup_seconds": 0.0,
            "cooldown_seconds": 0.0, "wait_seconds": 0.0, **more}


def build(client, path, **more):
    """Builds the table of `SPACE`."""
    return build_table.run(space=SPACE, output=str(path), measurer="android", settings=settings(client, **more))


def times():
    """Milliseconds by key: the recorded benchmark takes a microsecond for each byte of a model."""
    sizes = Android(PhoneSettings(benchmark_binary=BENCHMARK))
    overhead = len(sizes._converted(measure.op_build(measure.OVERHEAD_KEY)))
    return {key: (len(sizes._converted(measure.op_build(key))) - (0 if key.op == "classifier" else overhead)) / 1000
            for key in dict.fromkeys(key for _, key in SPACE.op_keys())}


def right(path, expected):
    """Rows of the table, after a check that none of them is wrong."""
    rows = latency_table.read(str(path)).rows
    assert {key: row["median_ms"] for key, row in rows.items()} == pytest.approx({key: expected[key] for key in rows})
    return rows
