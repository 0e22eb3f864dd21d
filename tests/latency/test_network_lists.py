"""Tables from whole networks: from a user's list, and for a new device from the tables of others.

The lists are made up after the pattern of published ones: phones that drift, whole milliseconds, networks in the order
of timing. The true rows are known.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from latency import (
    anchors,
    compare,
    compare_list,
    fitted_table,
    import_table,
    measure,
    network_list,
    timed_networks,
    transfer,
)
from latency.fitted_table import TimedArch
from pnas_tf import files, workspaces
from pnas_tf.cost import latency_table, network_times, prices
from pnas_tf.errors import InputError
from pnas_tf.space import spaces
from pnas_tf.space.spaces import from_json

OPS = ["mb_k3_e3", "mb_k5_e3", "mb_k3_e6"]
SPACE = from_json({
    "name": "four", "input_size": 16, "input_channels": 3, "num_classes": 3,
    "stem": [{"name": "stem", "ops": ["conv_k3"], "filters": 8, "strides": 2}],
    "blocks": [{"name": "b00", "ops": [*OPS, "zero"], "filters": 8, "shortcut": True},
               {"name": "b01", "ops": OPS, "filters": 16, "strides": 2},
               {"name": "b02", "ops": [*OPS, "zero"], "filters": 16, "shortcut": True},
               {"name": "b03", "ops": OPS, "filters": 24, "strides": 2}],
    "head": [{"name": "classifier", "ops": ["classifier"], "filters": 3}]})
KEYS = list(dict.fromkeys(key for _, key in SPACE.op_keys()))


def table_of(target, rows_ms):
    lines = [latency_table.header(target, device=target, measurer="import"),
             *(latency_table.row(key, median_ms=float(ms)) for key, ms in zip(KEYS, rows_ms, strict=True))]
    return latency_table.parse("".join(json.dumps(line) + "\n" for line in lines), target)


@pytest.fixture(scope="module")
def others():
    """Tables of two other devices."""
    rng = np.random.default_rng(0)
    return [table_of(name, rng.uniform(4.0, 20.0, len(KEYS))) for name in ("one", "two")]


@pytest.fixture(scope="module")
def truth(others):
    """The device: a mixture of both, 3 % of its own in each row."""
    one, two = (np.array([table.rows[key]["median_ms"] for key in KEYS]) for table in others)
    return table_of("new", (0.4 * one + 0.9 * two) * np.exp(0.03 * np.random.default_rng(1).standard_normal(len(KEYS))))


def timed(truth, count, seed, wander=0.15, rounded=True):
    """Networks in the order of timing, on a device that becomes slower and quicker by `wander`."""
    rng = np.random.default_rng(seed)
    archs = measure.random_archs(SPACE, count, seed)
    ms = np.array([prices.of_arch(arch, truth.ms) for arch in archs])
    ms *= np.exp(wander * np.sin(np.arange(count) / 20) + 0.005 * rng.standard_normal(count))
    return [TimedArch(arch, float(round(t) if rounded else t), float(i)) for i, (arch, t) in enumerate(
        zip(archs, ms, strict=True))]


def write_list(path, networks, as_numbers):
    ops = [[block.ops.index(one.arch.ops[name]) for name, block in SPACE.choices.items()] if as_numbers
           else one.arch.ops for one in networks]
    path.write_text("".join(json.dumps({"ops": its_ops, "ms": one.ms}) + "\n"
                            for its_ops, one in zip(ops, networks, strict=True)))
    return str(path)


def shares(table, truth):
    """Share of networks of the space whose predictions are within 5 %, relative to the middle one."""
    archs = measure.random_archs(SPACE, 50, seed=9)
    ratios = np.array([prices.of_arch(arch, table.ms) / prices.of_arch(arch, truth.ms) for arch in archs])
    return np.mean(np.abs(ratios / np.median(ratios) - 1) <= 0.05)


@pytest.mark.parametrize("with_others", [True, pytest.param(False, marks=pytest.mark.slow)])  # False loads TensorFlow
def test_a_list_becomes_a_table(tmp_path, others, truth, with_others):
    path = write_list(tmp_path / "mine.jsonl", timed(truth, 100, 0), as_numbers=with_others)
    table = import_table.run(source=path, source_format="networks", output=str(tmp_path / "t.jsonl"), space=SPACE,
                             tables=others if with_others else ())
    table.check_covers(SPACE)
    assert shares(table, truth) > 0.9 and table.target == "mine"
    made, entry = table.header["fitted"], table.accuracy(SPACE)
    assert made["networks"] == entry["networks"] == 100 and entry["by"] == "cross-validation"
    assert entry["within_5_percent"] > 0.9 and abs(entry["bias"]) < 0.02
    assert made["pace"][0] < 0.9 and made["pace"][1] > 1.1
    assert set(made["weights"]) == ({"one", "two"} if with_others else {
        "million MACs", "million values read and written", "ops"})
    # Stated errors of rows: the level of the pace is the only thing that the times do not tell.
    rows = [table.rows[key] for key in KEYS]
    level = np.median([row["median_ms"] / truth.rows[key]["median_ms"] for key, row in zip(KEYS, rows, strict=True)])
    off = [(row["median_ms"] / level - truth.rows[key]["median_ms"]) / row["error_ms"]
           for key, row in zip(KEYS, rows, strict=True)]
    assert all(row["fitted"] and row["error_ms"] > 0 for row in rows) and np.median(np.abs(off)) < 2
    assert "networks within 5 %" in fitted_table.words(table.header)

    # Held-out networks, timed while the device drifted elsewhere.
    held_out = network_list.read(write_list(tmp_path / "later.jsonl", timed(truth, 60, 5), as_numbers=False), SPACE)
    result = compare_list.run(table, held_out)
    assert result["figures"]["within_5_percent"] > 0.9 > result["as_measured"]["within_5_percent"]
    assert result["pace"][1] / result["pace"][0] > 1.1 and "divided by the pace" in compare_list.words(result)


def test_the_list_of_the_docs_is_read(tmp_path):
    lines = (Path(__file__).parents[2] / "docs/latency_tables.md").read_text().splitlines()
    shown = [line.strip() for line in lines if line.startswith('    {"ops": ')]
    (tmp_path / "mine.jsonl").write_text("\n".join(shown))
    timed = network_list.read(str(tmp_path / "mine.jsonl"), spaces.SPACES["quickstart"])
    assert [(each.time_s, each.ms) for each in timed] == [(12.0, 28.0), (12.5, 31.5)]


def test_a_new_device_from_networks_and_other_tables(tmp_path, others, truth):
    """The times of the networks are in the file beside the table, so nothing has to be timed again."""
    archs, _ = compare.random_networks(SPACE, 30, 0, seed=0)
    facts = measure.measurer_of("host").facts()
    rng = np.random.default_rng(2)
    lines = [{"format": network_times.FORMAT, **facts, "pace": {"anchor": {"reference_ms": 2.5}}}]
    for place, arch in enumerate(archs):
        pace = 1 + 0.1 * np.sin(place / 5)
        ms = pace * prices.of_arch(arch, truth.ms) * np.exp(0.005 * rng.standard_normal())
        lines.append({"network": network_times.digest(arch), "pass": 1, "ops": arch.ops, "median_ms": ms,
                      "time_s": 1e9 + 60.0 * place, "pace": pace})
    path = tmp_path / "new.jsonl"
    (tmp_path / "new.networks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = transfer.run(archs=archs, tables=others, output=str(path))
    assert shares(table, truth) > 0.9 and table.target == facts["target"] and table.header["measurer"] == "host"
    assert table.accuracy(SPACE)["within_5_percent"] > 0.9
    assert anchors.references_of(table.header) == {"anchor": 2.5}  # what is timed later has the same pace
    ratio = [table.rows[key]["median_ms"] / truth.rows[key]["median_ms"] for key in KEYS]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.02)  # the anchor's pace was given, and so the level is known
    with pytest.raises(InputError, match="exists already"):
        transfer.run(archs=archs, tables=others, output=str(path))
    with pytest.raises(InputError, match="at least 10 networks, got 5"):
        transfer.run(archs=archs[:5], tables=others, output=str(tmp_path / "few.jsonl"))
    assert not (tmp_path / "few.jsonl").exists()


def test_a_table_is_not_judged_by_the_networks_that_it_was_fitted_to():
    space = spaces.SPACES["quickstart"]
    fitted = set(map(network_times.digest, transfer.random_networks(space, 50, 0)))
    judged = {network_times.digest(arch) for archs in compare.random_networks(space, 50, 50, 0) for arch in archs}
    assert len(fitted) == 50 and not fitted & judged


def test_tables_of_the_same_target_both_count(others, truth):
    """All tables of machines like this one have the same target, unless their users named it."""
    one, two = (dataclasses.replace(table, header={**table.header, "target": "host"}) for table in others)
    networks = timed(truth, 60, 0)
    made, usual = fitted_table.fitted(networks, [one, two]), fitted_table.fitted(networks, others)
    assert list(made.facts["fitted"]["weights"].values()) == list(usual.facts["fitted"]["weights"].values())
    assert list(made.facts["fitted"]["weights"]) == ["host 1", "host 2"]


@pytest.mark.filterwarnings("error")
def test_networks_that_all_take_the_same(others, truth):
    """Phones whose clocks tell whole milliseconds give such lists. A table of nothing but 0 is refused."""
    networks = [dataclasses.replace(network, ms=5.0) for network in timed(truth, 12, 0)]
    result = compare_list.run(others[0], networks)
    assert result["as_measured"]["spearman"] is None and "as measured" in compare_list.words(result)
    json.dumps([compare_list.accuracy(result), fitted_table.fitted(networks, others).facts], allow_nan=False)
    zero = table_of("zero", np.zeros(len(KEYS)))
    with pytest.raises(InputError, match=r"zero \(zero\) predicts 0 ms for a whole network"):
        compare_list.run(zero, networks)
    with pytest.raises(InputError, match=r"zero \(zero\) has 0 ms for every op"):
        fitted_table.fitted(networks, [*others, zero])


def test_times_are_divided_by_the_pace_after_a_stop(tmp_path):
    """The program was killed after its last network, and before the times were divided."""
    archs, device = compare.random_networks(SPACE, 4, 0, seed=0)[0], measure.measurer_of("host")
    lines = [{"format": network_times.FORMAT, **device.facts()}]
    lines += [{"network": network_times.digest(arch), "pass": 1, "ops": arch.ops, "median_ms": 3.0, "time_s": place,
               "anchor": "a", "anchors": [[place - 0.5, 2.0], [place + 0.5, 2.0]]} for place, arch in enumerate(archs)]
    path = tmp_path / "new" / "t.networks.jsonl"
    with files.only_writer(str(path)):  # it makes the folder
        pass
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with workspaces.only_writer(str(path)), pytest.raises(InputError, match="another program is adding to this file"):
        timed_networks.measured_rows(str(path), device, [(arch, 1) for arch in archs])
    rows = timed_networks.measured_rows(str(path), device, [(arch, 1) for arch in archs])
    assert all(row["pace"] == pytest.approx(1.0) and row["paced_ms"] == pytest.approx(3.0) for row in rows.values())
    assert "reference_ms" in network_times.read(str(path))[0]["pace"]["a"]


@pytest.mark.parametrize(("line", "message"), [
    ('{"ops": [0, 0, 0], "ms": 1}', "four has 4 choices, and ops has 3"),
    ('{"ops": [0, 0, 0, 3], "ms": 1}', "b03 must be one of mb_k3_e3, mb_k5_e3, mb_k3_e6, or a number from 0 to 2"),
    ('{"ops": [0, 0, 0, true], "ms": 1}', "b03 must be one of"), ('{"ops": [0, 0, 0, "zero"], "ms": 1}', "b03 must be"),
    ('{"ops": {"b00": "zero"}, "ms": 1}', "ops must be a list, or an object with the choices"),
    ('{"ops": [0, 0, 0, 0], "ms": 0}', "ms must be milliseconds, at least 0.0001, got 0"),
    ('{"ops": [0, 0, 0, 0], "ms": 1e-300}', "ms must be milliseconds, at least"),
    ('{"ops": [0, 0, 0, 0], "ms": NaN}', "ms must be"),
    ('{"ops": [0, 0, 0, 0], "ms": 1, "time": 1}', "1 of 2 lines have a time"),
    ('{"ops": [0, 0, 0, 0]}', "expected an object with ops"), ("[1", "not valid JSON"), ("5", "expected an object")])
def test_bad_lists_are_one_line(tmp_path, line, message):
    path = tmp_path / "list.jsonl"
    path.write_text('{"ops": [0, 1, 2, 0], "ms": 3}\n' + line + "\n")
    with pytest.raises(InputError, match=message) as caught:
        network_list.read(str(path), SPACE)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("value", ['"x"', "NaN", "true"])
def test_times_of_nonsense_are_one_line(tmp_path, value):
    path = tmp_path / "list.jsonl"
    path.write_text(f'{{"ops": [0, 1, 2, 0], "ms": 3, "time": {value}}}\n')
    with pytest.raises(InputError, match="line 1: time must be a number"):
        network_list.read(str(path), SPACE)
