"""Published tables become tables of this project, and price the published networks."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from latency import import_table
from pnas_tf.cost import latency_table
from pnas_tf.errors import InputError
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import spaces
from pnas_tf.space.blocks import OpKey
from pnas_tf.space.spaces import SPACES

ROOT = Path(__file__).parents[2]

# From the published tables, entry: mean milliseconds. The stem, blocks and head of ProxylessNAS-Mobile as far as
# ProxylessNAS's own table (mobile_trim.yaml) has them: its networks are 24 wide where this one is 32.
PROXYLESS_MOBILE = {
    "Conv-input:224x224x3-output:112x112x32": 4.0838,
    "expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0": 3.8821,
    "expanded_conv-input:28x28x40-output:28x28x40-expand:3-kernel:3-stride:1-idskip:1": 2.8568,
    "expanded_conv-input:28x28x40-output:28x28x40-expand:3-kernel:5-stride:1-idskip:1": 3.4837,
    "expanded_conv-input:28x28x40-output:14x14x80-expand:6-kernel:7-stride:2-idskip:0": 4.2522,
    "expanded_conv-input:14x14x80-output:14x14x80-expand:3-kernel:5-stride:1-idskip:1": 2.1265,
    "expanded_conv-input:14x14x80-output:14x14x96-expand:6-kernel:5-stride:1-idskip:0": 4.2889,
    "expanded_conv-input:14x14x96-output:14x14x96-expand:3-kernel:5-stride:1-idskip:1": 2.7916,
    "expanded_conv-input:14x14x96-output:7x7x192-expand:6-kernel:7-stride:2-idskip:0": 3.7877,
    "expanded_conv-input:7x7x192-output:7x7x192-expand:6-kernel:7-stride:1-idskip:1": 4.6927,
    "expanded_conv-input:7x7x192-output:7x7x192-expand:3-kernel:7-stride:1-idskip:1": 2.4566,
    "expanded_conv-input:7x7x192-output:7x7x320-expand:6-kernel:7-stride:1-idskip:0": 5.8281,
    "Conv_1-input:7x7x320-output:7x7x1280": 3.0886,
    "Logits-input:7x7x1280-output:1000": 0.3096,
}
# Entries of the same table for what is 24 wide.
NARROWER = {
    "expanded_conv-input:112x112x16-output:56x56x24-expand:3-kernel:5-stride:2-idskip:0": 7.5191,
    "expanded_conv-input:56x56x24-output:56x56x24-expand:3-kernel:3-stride:1-idskip:1": 6.2731,
    "expanded_conv-input:56x56x24-output:28x28x40-expand:3-kernel:7-stride:2-idskip:0": 5.0262,
}
# Samsung Note 10, 224 px (Once-for-all): the entries of the network published as note10_lat-30ms, which has 21 parts:
# one of them occurs twice.
OFA_30_MS = {
    "Conv-input:224x224x3-output:112x112x24": 0.9944,
    "expanded_conv-input:112x112x24-output:112x112x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0": 1.7728,
    "expanded_conv-input:112x112x24-output:56x56x32-expand:72-kernel:3-stride:2-idskip:0-se:0-hs:0": 2.467,
    "expanded_conv-input:56x56x32-output:56x56x32-expand:96-kernel:3-stride:1-idskip:1-se:0-hs:0": 1.9158,
    "expanded_conv-input:56x56x32-output:28x28x48-expand:128-kernel:5-stride:2-idskip:0-se:1-hs:0": 1.7672,
    "expanded_conv-input:28x28x48-output:28x28x48-expand:144-kernel:3-stride:1-idskip:1-se:1-hs:0": 1.0648,
    "expanded_conv-input:28x28x48-output:28x28x48-expand:192-kernel:3-stride:1-idskip:1-se:1-hs:0": 1.4067,
    "expanded_conv-input:28x28x48-output:14x14x96-expand:192-kernel:5-stride:2-idskip:0-se:0-hs:1": 1.133,
    "expanded_conv-input:14x14x96-output:14x14x96-expand:384-kernel:5-stride:1-idskip:1-se:0-hs:1": 1.4191,
    "expanded_conv-input:14x14x96-output:14x14x96-expand:288-kernel:3-stride:1-idskip:1-se:0-hs:1": 0.8937,
    "expanded_conv-input:14x14x96-output:14x14x136-expand:576-kernel:3-stride:1-idskip:0-se:1-hs:1": 2.0958,
    "expanded_conv-input:14x14x136-output:14x14x136-expand:544-kernel:3-stride:1-idskip:1-se:1-hs:1": 2.1791,
    "expanded_conv-input:14x14x136-output:7x7x192-expand:816-kernel:3-stride:2-idskip:0-se:1-hs:1": 2.2052,
    "expanded_conv-input:7x7x192-output:7x7x192-expand:1152-kernel:3-stride:1-idskip:1-se:1-hs:1": 2.0602,
    "expanded_conv-input:7x7x192-output:7x7x192-expand:768-kernel:3-stride:1-idskip:1-se:1-hs:1": 1.3127,
    "expanded_conv-input:7x7x192-output:7x7x192-expand:576-kernel:3-stride:1-idskip:1-se:1-hs:1": 0.957,
    "AvgPool2D-input:7x7x1152-output:1x1x1152": 0.0153,
    "Conv_1-input:7x7x192-output:7x7x1152": 0.6944,
    "Conv_2-input:1x1x1152-output:1x1x1536": 0.7625,
    "Logits-input:1x1x1536-output:1000": 0.6694,
}


def as_yaml(entries, spread="var"):
    return "".join(f"{name}:\n  count: 500\n  mean: {mean}\n  {spread}: 0.0004\n" for name, mean in entries.items())


def imported(tmp_path, text, source_format="proxylessnas_yaml", name="t.yaml", **more):
    (tmp_path / name).write_text(text)
    return import_table.run(source=str(tmp_path / name), source_format=source_format,
                            output=str(tmp_path / "out.jsonl"), **more)


def test_proxylessnas_rows(tmp_path):
    table = imported(tmp_path, as_yaml(PROXYLESS_MOBILE), device="a phone", license_name="MIT")
    assert (table.target, table.header["device"], table.header["license"]) == ("t", "a phone", "MIT")
    assert len(table.rows) == len(PROXYLESS_MOBILE)
    row = table.rows[OpKey("mb_k5_e3", (28, 28, 40), 40, 1, True)]
    assert row["median_ms"] == row["mean_ms"] == \
        PROXYLESS_MOBILE["expanded_conv-input:28x28x40-output:28x28x40-expand:3-kernel:5-stride:1-idskip:1"]
    assert row["runs"] == 500 and row["std_ms"] == pytest.approx(0.02)


def test_the_originals_table_lacks_three_rows_of_its_published_network(tmp_path):
    table = imported(tmp_path, as_yaml(PROXYLESS_MOBILE))
    with pytest.raises(InputError) as caught:
        table.check_covers(arch_lib.load("proxyless_mobile"))
    message = str(caught.value)
    for row in ("mb_k5_e3 on 112x112x16 -> 32, stride 2", "mb_k3_e3 on 56x56x32 -> 32, stride 1, shortcut",
                "mb_k7_e3 on 56x56x32 -> 40, stride 2"):
        assert row in message
    assert message.count(" -> ") == 3 and "\n" not in message


def test_the_originals_table_prices_the_network_of_its_own_width(tmp_path):
    """82.52 ms by the table's means; the published number of the wider network is 78 ms."""
    table = imported(tmp_path, as_yaml(PROXYLESS_MOBILE | NARROWER))
    arch = arch_lib.Arch(SPACES["proxyless_imagenet"], arch_lib.load("proxyless_mobile").ops)
    table.check_covers(arch)
    assert sum(table.ms(block.name, key) for block, key in arch.op_keys()) == pytest.approx(82.52, abs=0.005)


def test_once_for_all_prices_its_published_network(tmp_path):
    """Published: 30 ms."""
    table = imported(tmp_path, as_yaml(OFA_30_MS, "std"), "ofa_yaml")
    assert len(table.rows) == len(OFA_30_MS) == 20
    twice = OpKey("ofa_k3_e4_s1_h1", (14, 14, 136), 136, 1, True)
    total_ms = sum(table.ms("any", key) for key in [*table.rows, twice])
    assert total_ms == pytest.approx(29.97, abs=0.005)
    with pytest.raises(InputError, match=r"no row for conv_k3 on 224x224x3 -> 16"):  # stem of the nets of 8 to 22 ms
        table.ms("stem", OpKey("conv_k3", (224, 224, 3), 16, 2, False))
    first = table.rows[OpKey("mb_k3_e1", (112, 112, 24), 24, 1, True)]
    assert first["median_ms"] == OFA_30_MS[
        "expanded_conv-input:112x112x24-output:112x112x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0"]


def shipped():
    return latency_table.read("pixel1_tunas")


def test_tunas_prices_proxylessnas_mobile():
    """84.42 ms by the model itself; the published target of TuNAS's searches is 84 ms."""
    arch = arch_lib.load("proxyless_mobile")
    assert sum(shipped().ms(block.name, key) for block, key in arch.op_keys()) == pytest.approx(84.416, abs=5e-4)


def test_tunas_prices_its_own_test_vector():
    """The network of TuNAS's cost model test, which expects 84 +- 1 ms; the model itself gives 84.017 ms."""
    choices = ["k5e3", "zero", "zero", "zero", "k5e6", "k5e3", "k5e3", "k3e3", "k7e6", "k5e6", "k7e6", "k7e6", "k5e6",
               "k3e3", "k5e3", "k5e3", "k5e6", "k7e3", "k3e3", "k5e3", "k7e6"]
    ops = {f"b{i:02d}": "zero" if choice == "zero" else f"mb_{choice[:2]}_{choice[2:]}"
           for i, choice in enumerate(choices, start=1)}
    arch = arch_lib.Arch(SPACES["proxyless_mobile"], ops)
    assert sum(shipped().ms(block.name, key) for block, key in arch.op_keys()) == pytest.approx(84.017, abs=5e-4)


def test_tunas_rows_are_costs():
    table = shipped()
    assert all(row["median_ms"] > 0 for (name, _), row in table.choice_rows.items() if name != "b00")
    # Alike but not the same: each position has its own weights.
    key = OpKey("mb_k3_e3", (56, 56, 32), 32, 1, True)
    assert len({table.ms(name, key) for name in ("b02", "b03", "b04")}) == 3
    with pytest.raises(InputError, match="no row for mb_k3_e3"):
        table.ms("b05", key)
    # More of the same costs more.
    for (name, key), row in table.choice_rows.items():
        if key.op.endswith("_e3"):
            wider = OpKey(key.op.replace("_e3", "_e6"), key.input, key.filters, key.strides, key.shortcut)
            assert table.ms(name, wider) > row["median_ms"]


def test_mobile_flags_and_the_shipped_table_agree():
    flags = dict(line[2:].split("=", 1) for line in (ROOT / "pnas_tf/flags/mobile.flags").read_text().splitlines()
                 if line.startswith("--"))
    table = latency_table.read(flags["table"])
    table.check_covers(spaces.load(flags["space"]))
    table.check_covers(spaces.load(flags["space"]).for_data(224, 3, 100))  # fewer classes than ImageNet's
    assert float(flags["target_ms"]) == 84


def test_notice_is_kept():
    notice = (ROOT / "pnas_tf" / "tables" / "pixel1_tunas.LICENSE").read_text()
    assert "Copyright 2021 The Google Research Authors." in notice and "Apache License, Version 2.0" in notice
    assert "Apache-2.0" in shipped().header["license"]


TUNAS = "position,type,in_hw,in_channels,out_hw,out_channels,stride,choice,weight_ms\n"


def test_tunas_sums_are_those_of_the_model(tmp_path):
    """Positions with and without zero: the total is the bias plus a weight for each position."""
    weights = {(0, "k3"): -1.0, (0, "k5"): 2.5, (1, "k3e3"): -2.0, (1, "k3e6"): 0.5, (2, "k3e3"): -4.0,
               (2, "zero"): -6.0}
    shapes = {0: "x,112,32,112,16,1", 1: "x,112,16,56,32,2", 2: "x,56,32,56,32,1"}
    (tmp_path / "t.json").write_text('{"bias_ms": 50}')
    table = imported(tmp_path, TUNAS + "".join(f"{p},{shapes[p]},{choice},{weight}\n"
                                               for (p, choice), weight in weights.items()), "tunas", "t.csv")
    cost = {(name, key.op): row["median_ms"] for (name, key), row in table.choice_rows.items()}
    fixed = sum(row["median_ms"] for row in table.rows.values())
    for first, op0 in (("k3", "mb_k3_e1"), ("k5", "mb_k5_e1")):
        for second, op1 in (("k3e3", "mb_k3_e3"), ("k3e6", "mb_k3_e6")):
            for third, ms in (("k3e3", cost["b02", "mb_k3_e3"]), ("zero", 0.0)):
                model = 50 + weights[0, first] + weights[1, second] + weights[2, third]
                assert fixed + cost["b00", op0] + cost["b01", op1] + ms == pytest.approx(model)


def test_single_path(tmp_path):
    """Rows name their block, because blocks of one shape were timed separately."""
    source = {str(block): {str(choice): block + choice / 10 for choice in range(4)} for block in range(22)}
    table = imported(tmp_path, json.dumps(source), "singlepath_json", "t.json")
    keys = {(block.name, key) for block, key in SPACES["proxyless_imagenet"].op_keys()}
    assert set(table.choice_rows) <= keys and len(table.choice_rows) == 81 and not table.rows
    assert table.ms("b00", OpKey("mb_k3_e1", (112, 112, 32), 16, 1, False)) == pytest.approx(0.15)
    assert table.ms("b05", OpKey("mb_k5_e6", (56, 56, 24), 40, 2, False)) == pytest.approx(5.3)
    assert table.ms("b20", OpKey("mb_k3_e6", (7, 7, 192), 192, 1, True)) == pytest.approx(20.1)


ENTRY = "Conv-input:224x224x3-output:112x112x32"
BOMB = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40))


@pytest.mark.parametrize(("text", "message"), [
    (BOMB, "aliases are not allowed"), ("[" * 100_000, "Not a YAML"), ("", "expected a mapping"),
    ("[1, 2]", "expected a mapping"), ("a: b: c", "Not a YAML"), (f"{ENTRY}: 3", "expected count"),
    (f"{ENTRY}: {{mean: .nan}}", "number from 0"),
    (f"{ENTRY}: {{mean: -1}}", "number from 0"), (f"{ENTRY}: {{mean: .inf}}", "number from 0"),
    (f"{ENTRY}: {{mean: true}}", "number from 0"), (f"{ENTRY}: {{count: 3}}", "mean of Conv"),
    (f"{ENTRY}: {{mean: 1, count: {'9' * 400}}}", "count of"), ("new_op-input:1x1x1: {mean: 1}", "is not an op"),
    (f"{ENTRY.replace('224', '0')}: {{mean: 1}}", "line 2"),
    ("expanded_conv-input:9x9x8-output:9x9x8-expand:99-kernel:3-stride:1-idskip:0: {mean: 1}", "mb_k3_e99"),
    ("expanded_conv-input:9x9x8-output:9x9x8-expand:9-kernel:3-stride:1-idskip:0-se:1-hs:0: {mean: 1}",
     "not a multiple"),
    ("!!python/object/apply:os.system ['false']", "Not a YAML")], ids=range(17))
def test_bad_yaml_is_one_line_and_leaves_nothing(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        imported(tmp_path, text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert os.listdir(tmp_path) == ["t.yaml"]


@pytest.mark.parametrize(("text", "bias", "message"), [
    ("a,b\n1,2\n", "{}", "expected the columns"), (TUNAS, '{"bias_ms": NaN}', "bias_ms must be"),
    (TUNAS, "[]", "bias_ms must be"), (TUNAS, "[" * 100_000, "Not valid JSON"),
    (TUNAS + "0,x,112,32,112,16,1,k9e,1\n", '{"bias_ms": 1}', "choice 'k9e'"),
    (TUNAS + "0,x,112,32,112,16,1,k3\n", '{"bias_ms": 1}', "weight_ms must be"),
    (TUNAS + "0,x,112,32,112,16,1,k3,inf\n", '{"bias_ms": 1}', "weight_ms must be"),
    (TUNAS + "0,x,112,32,112,16,1,k5,1\n", '{"bias_ms": 1}', "neither zero"),
    (TUNAS + "0,x,112,32,112,16,1,k3,-9\n", '{"bias_ms": 1}', "fixed part"),
    (TUNAS + "0,x,112,32,112,16,1,k3,9\n0,x,112,32,112,16,1,k5,8\n", '{"bias_ms": 1}', "mb_k5_e1 of b00")])
def test_bad_tunas_is_one_line(tmp_path, text, bias, message):
    (tmp_path / "t.json").write_text(bias)
    with pytest.raises(InputError, match=message) as caught:
        imported(tmp_path, text, "tunas", "t.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{}", "[]", '{"0": 1}', json.dumps({str(b): {"0": 1} for b in range(22)}), "{"])
def test_bad_single_path_is_refused(tmp_path, text):
    with pytest.raises(InputError):
        imported(tmp_path, text, "singlepath_json", "t.json")


def test_files_that_are_too_large_or_there_already(tmp_path):
    with pytest.raises(InputError, match="larger than"):
        imported(tmp_path, " " * 3_000_000)
    (tmp_path / "out.jsonl").write_text("mine")
    with pytest.raises(InputError, match="never overwritten"):
        imported(tmp_path, as_yaml(PROXYLESS_MOBILE))
    assert (tmp_path / "out.jsonl").read_text() == "mine"


def test_entry_point(tmp_path):
    def entry(*arguments):
        return subprocess.run([sys.executable, "-m", "latency.import_table", *arguments], capture_output=True,
                              text=True, cwd=ROOT, check=False)

    (tmp_path / "t.yaml").write_text(as_yaml(PROXYLESS_MOBILE))
    done = entry("--format=proxylessnas_yaml", f"--source={tmp_path}/t.yaml", f"--output={tmp_path}/o.jsonl",
                 "--target_name=phone")
    assert done.returncode == 0 and f"{tmp_path}/o.jsonl" in done.stdout and "Covers: " in done.stdout, done.stderr
    table = latency_table.read(f"{tmp_path}/o.jsonl")
    assert table.target == "phone" and math.isfinite(sum(row["median_ms"] for row in table.rows.values()))
    for bad in ((), ("--format=tunas", f"--source={tmp_path}/nowhere.csv", f"--output={tmp_path}/x.jsonl")):
        done = entry(*bad)
        assert done.returncode == 1 and done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1


def test_import_says_which_spaces_it_covers(tmp_path):
    whole = import_table._covered(latency_table.read("pixel1_tunas"))
    assert whole.splitlines()[0] == "Covers: proxyless_mobile; 100 of the 130 ops of proxyless_imagenet"
    assert whole.splitlines()[1].startswith("Next:   python -m pnas_tf.search --space=proxyless_mobile --table=pixel1")
    part = import_table._covered(imported(tmp_path, as_yaml(PROXYLESS_MOBILE)))
    assert part.startswith("Covers: no known space as a whole\n") and "name it by --space" in part
