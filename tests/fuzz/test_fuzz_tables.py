"""Readers of latency tables, of published tables, and of the output of phones."""

import json
import math
import os
import re

import pytest
from hypothesis import strategies as st

from latency import measure, published
from latency.phones import adb, android, benchmark_output
from latency.phones import facts as phone
from pnas_tf.cost import latency_table
from pnas_tf.errors import InputError
from pnas_tf.search import command as search_command
from pnas_tf.search import problem
from pnas_tf.space import spaces
from pnas_tf.space.blocks import OpKey

KEY = OpKey("mb_k3_e3", (14, 14, 16), 24, 1, False)
TABLE = [latency_table.header("host_xnnpack1_float32", measurer="host", device="d", soc=None, runtime="litert 2.3.0",
                              delegate="xnnpack", threads=1, dtype="float32", rounds=6, runs=10,
                              accuracy={latency_table.accuracy_name(spaces.SPACES["quickstart"]): {
                                  "within_5_percent": 1.0, "within_10_percent": 1.0, "rmse_of_mean": 0.01}}),
         latency_table.row(KEY, median_ms=0.25, min_ms=0.2, mean_ms=0.3, std_ms=0.01, runs=60, overhead_ms=0.001),
         latency_table.row(KEY, median_ms=0.3, choice="b01", calibrated_ms=0.2)]
YAML = """Conv-input:224x224x3-output:112x112x32: {count: 10, mean: 1.5, std: 0.1}
expanded_conv-input:56x56x24-output:28x28x40-expand:6-kernel:5-stride:2-idskip:0: {count: 10, mean: 2.5, var: 0.25}
expanded_conv-input:56x56x24-output:28x28x40-expand:144-kernel:5-stride:2-idskip:0-se:1-hs:0: {mean: 2.5}
Logits-input:7x7x1280-output:1000: {mean: .5}
"""
TUNAS = """position,in_hw,in_channels,out_hw,out_channels,stride,choice,weight_ms
0,112,32,112,16,1,k3,1.5
1,112,16,56,24,2,k3e3,2.5
1,112,16,56,24,2,k3e6,3.5
2,56,24,56,24,1,zero,0.5
2,56,24,56,24,1,k5e6,2.5
"""
BIAS = '{"bias_ms": 20.5}'
SINGLE_PATH = {str(block): {str(choice): 1.5 for choice in range(4)} for block in range(22)}
SAMPLES = os.path.join(os.path.dirname(os.path.dirname(__file__)), "samples", "benchmark_output")
FACTS = """ro.product.manufacturer=Google
ro.product.model=Pixel 2
ro.board.platform=msm8998
cpu0=1900800 interactive
cpu4=2457600 interactive
"""
STATE = "  level: 83\n  scale: 100\n  temperature: 312\nThermal Status: 0\n"


def as_lines(document):
    return "".join(json.dumps(line) + "\n" for line in document) if isinstance(document, list) else json.dumps(document)


def is_time(value):
    return isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value < 1e7


def test_tables(fuzz):
    texts = st.one_of(fuzz.changed(TABLE).map(as_lines), fuzz.damaged_text(as_lines(TABLE)))

    def check(table):
        rows = [*table.rows.values(), *table.choice_rows.values()]
        assert latency_table.parse(as_lines([table.header, *rows]), "again").rows.keys() == table.rows.keys()
        assert all(is_time(row["median_ms"]) for row in rows)
        assert all(value is None or is_time(value) for row in rows for name, value in row.items() if name[-3:] == "_ms")
        assert re.fullmatch(r"[\w.+-]{1,100}", table.target, re.ASCII) and set(table.target) != {"."}
        assert all(is_time(table.ms(name, key)) for name, key in table.choice_rows)
        print(search_command._accuracy(table, spaces.SPACES["quickstart"]))

    fuzz(texts, lambda text: latency_table.parse(text, "table.jsonl"), check, share=4)


def test_headers_of_tables(fuzz):
    """A measurer is made from the settings of a header only if all of them are possible."""
    fuzz(fuzz.changed(TABLE[0]).filter(lambda header: isinstance(header.get("target"), str)),
         lambda header: measure.from_header(header, "table.jsonl") and None)


def test_goals(fuzz, tmp_path):
    path = tmp_path / "table.jsonl"
    path.write_text(as_lines(TABLE))
    numbers = st.text(":0123456789.e-+nif", max_size=12)
    texts = st.one_of(st.text(max_size=30), fuzz.damaged_text("x86_xnnpack1_float32:1.5"),
                      fuzz.damaged_text(f"{path}:1.5"), numbers.map(lambda text: f"{path}:{text}"))

    def check(goal):
        table, target_ms = goal
        assert table.target and 0 < target_ms < math.inf

    fuzz(texts, problem._target, check, share=2)


@pytest.mark.parametrize(("source_format", "text"), [
    ("proxylessnas_yaml", YAML), ("ofa_yaml", YAML), ("tunas", TUNAS), ("singlepath_json", json.dumps(SINGLE_PATH))])
def test_published_tables(fuzz, source_format, text):
    texts = fuzz.damaged_text(text)
    if source_format == "singlepath_json":
        texts = st.one_of(texts, fuzz.changed(SINGLE_PATH).map(json.dumps))
    elif source_format == "tunas":
        cells = st.one_of(st.sampled_from(["0", "-1", "1e9", "nan", "inf", "", "k3", "k3e6", "zero", '"', "x" * 200_000,
                                           "9" * 5000, "\x00", "1.5"]), st.text(max_size=5))
        texts = st.one_of(texts, st.tuples(st.integers(0, len(TUNAS)), cells).map(
            lambda change: TUNAS[:change[0]] + change[1] + TUNAS[change[0]:]))
    siblings = st.one_of(st.just(BIAS), fuzz.damaged_text(BIAS))

    def read(case):
        imported = published.FORMATS[source_format](case[0], lambda suffix: case[1])
        return latency_table.parse(as_lines([latency_table.header("t", **imported.facts), *imported.rows]), "imported")

    def check(table):
        assert all(is_time(row["median_ms"]) and is_time(row.get("std_ms", 0))
                   for row in (*table.rows.values(), *table.choice_rows.values()))

    fuzz(st.tuples(texts, siblings), read, check, share=1)


@pytest.mark.parametrize("name", sorted(name for name in os.listdir(SAMPLES) if name != "README.md"))
def test_benchmark_output(fuzz, name):
    with open(os.path.join(SAMPLES, name), "rb") as file:
        outputs = fuzz.damaged(file.read()).map(lambda content: content.decode("utf-8", "replace"))

    def check(times):
        assert all(is_time(value) for value in (times.mean_ms, times.min_ms, times.max_ms, times.std_ms))
        assert times.runs >= 1 and (times.median_ms is None or is_time(times.median_ms))

    def check_profile(rows):
        assert all(is_time(row.mean_ms) and row.times_called >= 0 for row in rows)

    fuzz(outputs, benchmark_output.parse, check, share=0.6)
    fuzz(outputs, benchmark_output.op_profile, check_profile, share=0.6)


def test_profile_numbers(fuzz):
    """A profile with arbitrary text in place of its numbers."""
    numbers = st.one_of(st.sampled_from(["1.2.3", "1e999", "-5", "1.5", "3", "1e5", "nan", "9" * 31]),
                        st.text("0123456789.eE+-", min_size=1, max_size=8))
    head = "Run Order\n [node type], [first], [avg ms], [%], [cdf%], [mem KB], [times called], [Name]\n"
    texts = st.lists(numbers, min_size=6, max_size=6).map(lambda row: f"{head} CONV_2D, {', '.join(row)}, [x]:0\n")

    def check(rows):
        assert all(is_time(row.mean_ms) and row.times_called >= 0 for row in rows)

    fuzz(texts, benchmark_output.op_profile, check, share=2)


def test_output_of_phones(fuzz):
    def check_facts(facts):
        android._kind(facts), android._governor(facts, "all"), facts.clusters()
        mask = phone.cpu_mask({core: khz for core, (khz, _) in facts.cores.items()}, 2)
        assert re.fullmatch(r"all|[0-9a-f]{1,16}", mask)
        assert all(text.isprintable() and len(text) < 500
                   for text in (facts.device, facts.soc, facts.android, facts.abi))

    def check_state(state):
        assert all(value is None or abs(value) < 1e9 for value in
                   (state.battery_percent, state.battery_celsius, state.thermal_status))

    texts = fuzz.damaged_text(FACTS)
    fuzz(texts, phone.read_facts, check_facts)
    fuzz(fuzz.damaged_text(STATE), phone.read_state, check_state)


def test_serials(fuzz):
    def check(serial):
        # Blanks are in names that mDNS has given twice.
        assert not re.search(r"[^\S ]|[;&|$`'\"\\<>*?!#~=/]", serial) and serial[0] not in "- "

    fuzz(st.one_of(st.text(max_size=20), fuzz.damaged_text("192.168.0.7:5555")),
         lambda serial: adb.Adb("adb", serial, None).serial, check)


def test_tables_that_cannot_be_read(tmp_path):
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    for path in ("", "\x00", "x" * 5000, str(tmp_path), "/dev/zero", str(tmp_path / "bytes.jsonl"), "../x", "\ud800"):
        with pytest.raises(InputError) as caught:
            latency_table.read(path)
        assert str(caught.value).isprintable()
