"""Predictions are compared with whole networks, and rows are calibrated on other networks."""

import dataclasses
import json
import re
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest

from latency import build_table, calibrate, compare, measure
from pnas_tf.cost import latency_table, network_times, prices
from pnas_tf.errors import InputError
from pnas_tf.report import plots
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import OpKey
from pnas_tf.space.spaces import SPACES, from_json

ROOT = Path(__file__).parents[2]
OPS = ["mb_k3_e3", "mb_k5_e3", "zero"]
TINY = {"name": "tiny", "input_size": 8, "input_channels": 3, "num_classes": 3,
        "stem": [{"name": "stem", "ops": ["conv_k3"], "filters": 8, "strides": 2}],
        "blocks": [{"name": f"b{i:02d}", "ops": OPS, "filters": 8, "shortcut": True} for i in range(3)],
        "head": [{"name": "classifier", "ops": ["classifier"], "filters": 3}]}
SPACE = from_json(TINY)
QUICK = {"rounds": 2, "runs": 3}
KEY = OpKey("mb_k3_e3", (4, 4, 8), 8, 1, True)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Bytes of a whole table."""
    path = tmp_path_factory.mktemp("tables") / "tiny.jsonl"
    build_table.run(space=SPACE, output=str(path), settings=QUICK)
    return path.read_bytes()


@pytest.fixture
def table(built, tmp_path):
    (tmp_path / "t.jsonl").write_bytes(built)
    return latency_table.read(str(tmp_path / "t.jsonl"))


def arch(*ops):
    return Arch(SPACE, dict(zip(("b00", "b01", "b02"), ops, strict=True)))


def test_predictions_are_sums_of_rows(built, table):
    archs = [arch("mb_k3_e3", op, "zero") for op in ("mb_k3_e3", "zero")]
    result = compare.run(table=table, archs=archs)
    ms = {row["op"]: row["median_ms"] for row in map(json.loads, built.splitlines()[1:])}
    assert [network["predicted_ms"] for network in result["networks"]] == pytest.approx(
        [ms["conv_k3"] + count * ms["mb_k3_e3"] + ms["classifier"] for count in (2, 1)])
    assert all(network["measured_ms"] > 0 and network["again_ms"] > 0 for network in result["networks"])
    assert result["figures"] == result["uncalibrated"] and not result["calibrated_ms"]
    assert result["figures"]["spearman"] is None and result["figures"]["rmse_ms"] >= 0


def test_networks_over_the_whole_range():
    """With a shipped table of quickstart: evenly spread in logarithm, while networks of equally likely ops crowd."""
    table, space = latency_table.read("x86_xnnpack1_float32"), SPACES["quickstart"]

    def places(archs):  # 0 for the fastest network, 1 for the slowest
        ms = np.log([sum(table.row(block.name, key)["median_ms"] for block, key in arch.op_keys()) for arch in archs])
        rows = {block.name: [] for block, _ in space.op_keys()}
        for block, key in space.op_keys():
            rows[block.name].append(table.row(block.name, key)["median_ms"])
        low = sum(0 if "zero" in block.ops else min(rows[block.name]) for block in space.all_blocks)
        return (ms - np.log(low)) / (np.log(sum(max(row) for row in rows.values())) - np.log(low))

    spread, crowd = places(compare.over_range(table, space, 60, 3)), places(measure.random_archs(space, 60, 3))
    assert len(spread) > 50 and spread.min() < 0.1 and spread.max() > 0.9
    assert np.std(spread) == pytest.approx(12**-0.5, abs=0.06)  # that of even spread
    assert np.std(crowd) < 0.2


def test_networks_over_the_whole_range_differ():
    archs = compare.over_range(latency_table.read("x86_xnnpack1_float32"), SPACES["cifar_mb"], 80, 0)
    assert len({network_times.digest(arch) for arch in archs}) > 0.9 * len(archs) > 65


def test_figures_by_other_means():
    rng = np.random.default_rng(0)
    measured = rng.uniform(1, 2, 50)
    predicted = measured * rng.uniform(0.85, 1.15, 50)
    figures = compare.figures(predicted, measured)
    ranks = [np.argsort(np.argsort(values)) for values in (predicted, measured)]
    assert figures["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    pairs = [np.sign((predicted[i] - predicted[j]) * (measured[i] - measured[j])) for i in range(50) for j in range(i)]
    assert figures["kendall"] == pytest.approx(np.mean(pairs))
    assert figures["rmse_ms"] == pytest.approx(np.linalg.norm(predicted - measured) / 50**0.5)
    within = [0.9 <= p / m <= 1.1 for p, m in zip(predicted, measured, strict=True)]
    assert figures["within_10_percent"] == sum(within) / 50
    assert figures["within_5_percent"] < figures["within_10_percent"] < 1


ARCHS = [("mb_k3_e3", "zero", "zero"), ("mb_k5_e3", "zero", "zero"), ("zero", "zero", "zero")]


def test_a_comparison_that_was_stopped_goes_on(table, tmp_path):
    """It stopped while it wrote: whole lines stay, and the network of the half line is timed again."""
    path, archs = tmp_path / "n.jsonl", [arch(*ops) for ops in ARCHS]
    visits = {"rounds": 1, "runs": 1}
    first = compare.run(table=table, archs=archs, times=str(path), settings=visits)
    whole = path.read_bytes()
    assert [json.loads(line)["pass"] for line in whole.splitlines()[1:]] == [1, 1, 1, 2, 2, 2]
    path.write_bytes(whole[:-20])
    again = compare.run(table=table, archs=archs, times=str(path), settings=visits)
    assert path.read_bytes().startswith(whole[:whole[:-1].rindex(b"\n") + 1])
    assert [network["measured_ms"] for network in again["networks"]] == [
        network["measured_ms"] for network in first["networks"]]
    assert not (tmp_path / "n.earlier.jsonl").exists()


@pytest.mark.parametrize("why", ["it has ended", "other visits", "it is old"])
def test_times_of_an_earlier_comparison_are_set_aside(table, tmp_path, why):
    """The machine may be another one today. Nothing that was measured is lost, and other spaces keep theirs."""
    path, archs = tmp_path / "n.jsonl", [arch(*ops) for ops in ARCHS]
    visits = {"rounds": 1, "runs": 1}
    compare.run(table=table, archs=archs, times=str(path), settings=visits)
    header, *rows = map(json.loads, path.read_text().splitlines())
    foreign = {**rows[0], "network": "0" * 16, "ops": {"b01": "mb_k7_e6"}}
    if why != "it has ended":
        rows.pop()
    if why == "it is old":
        rows = [{**row, "time_s": row["time_s"] - 7 * 3600} for row in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in (header, foreign, *rows)))
    settings = {"rounds": 2, "runs": 1} if why == "other visits" else visits
    compare.run(table=table, archs=archs, times=str(path), settings=settings)
    new_header, *lines = map(json.loads, path.read_text().splitlines())
    assert lines[0] == foreign and len(lines) == 7 and new_header["rounds"] == settings["rounds"]
    assert all(line["time_s"] > rows[-1]["time_s"] for line in lines[1:])
    assert list(map(json.loads, (tmp_path / "n.earlier.jsonl").read_text().splitlines()))[1:] == rows


@pytest.mark.parametrize("content", [b"my thesis", b"", b'{"format": "pnas_tf.latency/1"}\n', b"[1]\n{}\n",
                                     b"[" * 9999])
def test_other_files_are_left_alone(table, tmp_path, content):
    path = tmp_path / "precious"
    path.write_bytes(content)
    with pytest.raises(InputError, match="--times") as caught:
        compare.run(table=table, archs=[arch("zero", "zero", "zero")], times=str(path))
    assert path.read_bytes() == content and "\n" not in str(caught.value)


def test_times_of_another_target_are_refused(table, tmp_path):
    path = tmp_path / "n.jsonl"
    path.write_text(json.dumps({**table.header, "format": network_times.FORMAT, "threads": 2}) + "\n")
    with pytest.raises(InputError, match="threads 2 there, 1 here"):
        compare.run(table=table, archs=[arch("zero", "zero", "zero")], times=str(path))


@pytest.mark.parametrize("change", [{"measurer": "import"}, {"measurer": None}, {"device": "Pixel 6"},
                                    {"runtime": "litert 0.1"}])
def test_target_that_is_not_at_hand(built, tmp_path, change):
    head, *rows = built.decode().splitlines(keepends=True)
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({**json.loads(head), **change}) + "\n" + "".join(rows))
    with pytest.raises(InputError, match=r"cannot be timed here|another target") as caught:
        compare.run(table=latency_table.read(str(path)), archs=measure.random_archs(SPACE, 1))
    assert "\n" not in str(caught.value)


def test_judged_networks_are_never_fitted_to():
    judged, others = compare.random_networks(SPACE, 4, 6, seed=0)
    names = [network_times.digest(each) for each in judged + others]
    assert len(others) == 6 and len(set(names)) == len(names)
    # Nor does another seed judge by them.
    fitted = {network_times.digest(each) for seed in range(4)
              for each in compare.random_networks(SPACES["quickstart"], 20, 20, seed)[1]}
    judged = {network_times.digest(each) for seed in range(4)
              for each in compare.random_networks(SPACES["quickstart"], 20, 20, seed)[0]}
    assert len(fitted & judged) <= 3  # of 80 and 80 of 74,088 by chance
    with pytest.raises(InputError, match="too few"):
        compare.random_networks(SPACE, 20, 20, seed=0)


def test_digest_is_of_what_is_computed():
    """In a chain, skipping either of two identical neighbours gives the same time."""
    assert network_times.digest(arch("mb_k3_e3", "zero", "zero")) == network_times.digest(
        arch("zero", "zero", "mb_k3_e3"))
    assert network_times.digest(arch("mb_k3_e3", "mb_k5_e3", "zero")) != network_times.digest(
        arch("mb_k3_e3", "mb_k3_e3", "zero"))


def networks_with_known_errors(noise, seed=0):
    """Counts and rows of a real space, whose rows are off by three factors (for all, for each op, for each row)."""
    rng = np.random.default_rng(seed)
    space = SPACES["cifar_mb"]
    keys = list(dict.fromkeys(key for _, key in space.op_keys()))
    counts = np.array([[sum(key == other for _, other in each.op_keys()) for key in keys]
                       for each in measure.random_archs(space, 200, seed)], float)
    ops = [key.op for key in keys]
    per_op = dict(zip(sorted(set(ops)), rng.normal(1, 0.05, len(set(ops))), strict=True))
    row_ms = rng.uniform(0.01, 1, len(keys))
    true_ms = 1.1 * row_ms * [per_op[op] for op in ops] * rng.normal(1, 0.04, len(keys))
    return counts, row_ms, ops, true_ms, counts @ true_ms * rng.normal(1, noise, 200)


def test_calibration_finds_known_errors():
    counts, row_ms, ops, true_ms, network_ms = networks_with_known_errors(noise=0.005)
    fitted = calibrate.fit(counts[:100], row_ms, ops, network_ms[:100])
    error = np.abs(counts[100:] @ fitted / network_ms[100:] - 1)
    plain = np.abs(counts[100:] @ (row_ms * 1.1) / network_ms[100:] - 1)
    assert error.mean() < 0.6 * plain.mean() and (fitted >= 0).all()
    np.testing.assert_allclose(fitted, true_ms, rtol=0.2)


def test_calibration_is_the_ridge_solution(monkeypatch):
    """Compared with the textbook normal equations of the penalised problem, in factors."""
    counts, row_ms, ops, _, network_ms = networks_with_known_errors(noise=0.01)
    monkeypatch.setattr(calibrate, "OP_SIGMAS", (0.03,))
    monkeypatch.setattr(calibrate, "ROW_SIGMAS", (0.05,))
    monkeypatch.setattr(calibrate, "SHIFT_SIGMAS", (0.2,))
    names = sorted(set(ops))
    # Unknowns: relative error of the table, of each op, of each row; the shift of all rows as a share of the median
    # row; the offset as a share of the mean network.
    design = np.hstack([np.ones((len(ops), 1)), np.array([[op == name for name in names] for op in ops]),
                        np.eye(len(ops))]) * row_ms[:, None]
    fixed = row_ms * (counts > 0).all(0)
    assert np.count_nonzero(fixed) == 4  # stem, b00, mix, classifier
    design = np.hstack([design, np.full((len(ops), 1), np.median(row_ms)),
                        (fixed / fixed.sum() * network_ms.mean())[:, None]])
    weighted = counts @ design / (calibrate.NETWORK_SIGMA * network_ms[:, None])
    residuals = (network_ms - counts @ row_ms) / (calibrate.NETWORK_SIGMA * network_ms)
    penalty = np.diag(1 / np.array([calibrate.TABLE_SIGMA] + [0.03] * len(names) + [0.05] * len(ops)
                                   + [0.2, calibrate.OFFSET_SIGMA]) ** 2)
    errors = np.linalg.solve(weighted.T @ weighted + penalty, weighted.T @ residuals)
    np.testing.assert_allclose(calibrate.fit(counts, row_ms, ops, network_ms), row_ms + design @ errors, rtol=1e-6)


def test_what_every_network_takes_more_is_found():
    counts, row_ms, ops, _, _ = networks_with_known_errors(noise=0)
    network_ms = 0.9 * counts @ row_ms + 0.05
    fitted = calibrate.fit(counts[:100], row_ms, ops, network_ms[:100])
    np.testing.assert_allclose(counts[100:] @ fitted, network_ms[100:], rtol=2e-3)


def test_what_every_row_takes_less_in_a_network_is_found():
    """The same milliseconds for all rows, so another share of each: factors and offset alone leave 1.2 % here."""
    counts, row_ms, ops, _, _ = networks_with_known_errors(noise=0)
    row_ms = row_ms + 0.1
    network_ms = counts @ (row_ms - 0.08)
    fitted = calibrate.fit(counts[:100], row_ms, ops, network_ms[:100])
    np.testing.assert_allclose(counts[100:] @ fitted, network_ms[100:], rtol=1e-3)


def test_rows_that_no_network_has_follow_their_op(monkeypatch):
    monkeypatch.setattr(calibrate, "OP_SIGMAS", (0.1,))
    monkeypatch.setattr(calibrate, "ROW_SIGMAS", (0.0,))
    monkeypatch.setattr(calibrate, "SHIFT_SIGMAS", (0.0,))
    counts = np.array([[2.0, 0, 0], [1, 0, 3], [4, 0, 1], [1, 0, 1], [0, 0, 2]])
    fitted = calibrate.fit(counts, np.ones(3), ["a", "a", "b"], counts @ [1.2, 9, 1.0])
    np.testing.assert_allclose(fitted, [1.2, 1.2, 1.0], rtol=0.01)


def test_held_out_error_is_that_of_fits_without_the_networks():
    """Against the conditional mean of each fold given the others, worked out fold by fold."""
    rng = np.random.default_rng(6)
    factor = rng.normal(size=(23, 30))
    covariance, residuals, ms = factor @ factor.T, rng.normal(size=23), rng.uniform(1, 5, 23)
    errors = np.zeros(23)
    for fold in range(calibrate.FOLDS):
        out = np.arange(23) % calibrate.FOLDS == fold
        fit, *_ = np.linalg.lstsq(covariance[~out][:, ~out], residuals[~out], rcond=None)
        errors[out] = (residuals[out] - covariance[out][:, ~out] @ fit) / ms[out]
    assert calibrate.held_out_error(covariance, residuals, ms) == pytest.approx(np.sqrt(np.mean(errors**2)))


def test_annotated_table_predicts_by_calibrated_rows(built, table):
    latency_table.annotate(table.path, rows={KEY: {"calibrated_ms": 2.5}}, header={"accuracy": {
        latency_table.accuracy_name(SPACE): {"networks": 9, "rmse_of_mean": 0.01}}})
    after = latency_table.read(table.path)
    assert after.ms("b00", KEY) == 2.5 and after.rows[KEY]["median_ms"] == table.rows[KEY]["median_ms"]
    price = prices.milliseconds(after)
    skipped, kept = (prices.of_arch(arch("mb_k3_e3", op, "zero"), price) for op in ("zero", "mb_k3_e3"))
    assert kept - skipped == pytest.approx(2.5)
    assert after.accuracy(SPACE) == {"networks": 9, "rmse_of_mean": 0.01}
    assert after.accuracy(SPACE.for_data(16, 3, 3)) is None and table.accuracy(SPACE) is None
    # What was measured is there to the byte, and more accuracy joins.
    with open(table.path, encoding="utf-8") as file:
        lines, old = file.read().splitlines(), built.decode().splitlines()
    assert [line for line in lines[1:] if "calibrated_ms" not in line] == [
        line for line in old[1:] if '"mb_k3_e3"' not in line]
    for line, was in zip(lines[1:], old[1:], strict=True):
        assert {**json.loads(was), **({"calibrated_ms": 2.5} if '"mb_k3_e3"' in was else {})} == json.loads(line)
    latency_table.annotate(table.path, rows={}, header={"accuracy": {"another": {"networks": 3}}})
    again = latency_table.read(table.path)
    assert set(again.header["accuracy"]) == {latency_table.accuracy_name(SPACE), "another"}
    assert again.ms("b00", KEY) == 2.5


def test_one_program_at_a_time_writes_a_table(built, table):
    with latency_table.open_to_add(table.path):
        with pytest.raises(InputError, match="another program"):
            latency_table.annotate(table.path, rows={KEY: {"calibrated_ms": 2.5}}, header={})
        with pytest.raises(InputError, match="another program"):
            build_table.run(space=SPACE.for_data(8, 3, 4), output=table.path, settings=QUICK)
    with open(table.path, "rb") as file:
        assert file.read() == built


@pytest.mark.parametrize("value", ["-1", "NaN", '"1"', "null", "true"])
def test_calibrated_rows_are_checked(built, tmp_path, value):
    text = built.decode().replace('"median_ms"', f'"calibrated_ms": {value}, "median_ms"', 1)
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(InputError, match="calibrated_ms is not a time"):
        latency_table.read(str(tmp_path / "t.jsonl"))


@pytest.mark.parametrize("accuracy", [None, 3, [], {"tiny": 3}, {"tiny 8x8x3 8": "good"}])
def test_accuracy_of_nonsense_is_none(built, tmp_path, accuracy):
    head, *rows = built.decode().splitlines(keepends=True)
    (tmp_path / "t.jsonl").write_text(json.dumps({**json.loads(head), "accuracy": accuracy}) + "\n" + "".join(rows))
    assert latency_table.read(str(tmp_path / "t.jsonl")).accuracy(SPACE) is None


def test_scatter_is_an_svg_with_a_point_for_each_network():
    svg = plots.scatter([1.0, 2.0, 4.0], [1.1, 1.9, 4.2], title="<target> & $x")
    root = xml.etree.ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    markers = [group for group in root.iter("{http://www.w3.org/2000/svg}g")
               if len(group.findall("{http://www.w3.org/2000/svg}use")) == 3]
    assert markers, "three points of one marker"


@pytest.mark.slow
def test_entry_point_calibrates(built, tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(TINY))
    (tmp_path / "t.jsonl").write_bytes(built)
    done = subprocess.run(
        [sys.executable, "-m", "latency.compare", f"--space={tmp_path}/s.json", f"--table={tmp_path}/t.jsonl",
         "--networks=4", "--calibrate=6", "--rounds=1", "--runs=2", f"--json={tmp_path}/result.json"],
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "within 5 %" in done.stdout and "measured a second time" in done.stdout and "t.svg" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(("This table is ", "As the machine was", "The machine was busy",
                                                    "On average"))
    assert "10/10 [" in done.stderr and "4/4 [" in done.stderr  # visits of each pass
    assert len(json.loads((tmp_path / "result.json").read_text())["networks"]) == 4
    table = latency_table.read(str(tmp_path / "t.jsonl"))
    accuracy = table.accuracy(SPACE)
    assert (accuracy["networks"], accuracy["calibrated_on"]) == (4, 6) and accuracy["rmse_of_mean"] >= 0
    assert all("calibrated_ms" in row for row in table.rows.values())
    assert (tmp_path / "t.svg").read_text().startswith("<?xml")
    assert len((tmp_path / "t.networks.jsonl").read_text().splitlines()) == 1 + 4 + 6 + 4


@pytest.mark.parametrize("name", ["quickstart", "cifar10_mb"])
def test_shipped_table_has_its_accuracy_for_the_searches_that_use_it(name):
    text = (ROOT / "pnas_tf" / "flags" / f"{name}.flags").read_text()
    table, space = (latency_table.read(re.search(r"^--table=(.*)$", text, flags=re.M)[1]),
                    SPACES[re.search(r"^--space=(.*)$", text, flags=re.M)[1]])
    table.check_covers(space)
    accuracy = table.accuracy(space)
    assert accuracy["networks"] >= 100 and accuracy["within_10_percent"] >= 0.99
    assert accuracy["within_5_percent"] >= 0.9 and accuracy["spearman"] >= 0.99 and accuracy["rmse_of_mean"] <= 0.03
    assert all("calibrated_ms" in table.row(block.name, key) for block, key in space.op_keys())


def test_shipped_tables_are_not_calibrated():
    done = subprocess.run([sys.executable, "-m", "latency.compare", "--table=x86_xnnpack1_float32", "--calibrate=3"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("Error: --calibrate") and done.stderr.count("\n") == 1


def test_a_row_that_another_classifier_lends_is_not_calibrated(table):
    """The correction would be judged, and not be kept."""
    fewer = dataclasses.replace(SPACE, num_classes=SPACE.num_classes - 1, head=(*SPACE.head[:-1], dataclasses.replace(
        SPACE.head[-1], filters=SPACE.num_classes - 1)))
    archs = measure.random_archs(fewer, 4, 0)
    with pytest.raises(InputError, match=r"no row of its own for classifier.* to calibrate\. Measure it: "):
        compare._calibrated(table, fewer, archs, [1.0] * 4)
