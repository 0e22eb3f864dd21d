"""The benchmark of several devices: two real devices on a tiny space, and all four in another slow test."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest

from benchmarks.quality import study_networks
from benchmarks.targets import specialise, specialise_results
from latency import build_table
from pnas_tf import files
from pnas_tf.cost import latency_table
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import arch
from tests.spaces import two_choices

ROOT = Path(__file__).parents[2]
OPS = ("mb_k3_e3", "mb_k5_e3", "zero")
TINY = two_choices(OPS)
DATA = "--dataset=fashion_mnist_small"
QUICK = {"rounds": 2, "runs": 3}
TWO = {"xnnpack_float32": {}, "builtin_float32": {"delegate": "none"}}
ROUND_MS = {"mb_k3_e3": 1.0, "mb_k5_e3": 2.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The space, and tables of two devices where the benchmark puts them."""
    folder = tmp_path_factory.mktemp("devices")
    (folder / "space.json").write_text(json.dumps(TINY.to_json()))
    for device, settings in TWO.items():
        build_table.run(space=TINY, output=specialise.table_path(str(folder), device), settings={**QUICK, **settings})
    return folder


@pytest.mark.slow
def test_one_search_for_two_devices_then_trained_and_timed(folder):
    tables = {device: latency_table.read(specialise.table_path(str(folder), device)) for device in TWO}
    reference = study_networks.uniform(TINY, "mb_k3_e3")
    targets_ms = specialise.targets(tables, reference)
    for device, table in tables.items():  # The uniform network keeps each target, which is hardly above its time.
        ms = sum(table.ms(block.name, key) for block, key in reference.op_keys())
        assert ms <= targets_ms[device] <= 1.001 * ms
    run_dir = str(folder / "search")
    specialise.search(str(folder), targets_ms, [f"--space={folder}/space.json", DATA, "--batch_size=32",
                                                "--warmup_epochs=1", "--search_epochs=1", "--max_steps=8"], run_dir)
    arch_files = {device: specialise.network_folder(run_dir, tables[device], targets_ms[device]).arch
                  for device in TWO}
    archs = {device: arch.load(file) for device, file in arch_files.items()}
    for device, delivered in archs.items():
        assert sum(tables[device].ms(block.name, key) for block, key in delivered.op_keys()) <= targets_ms[device]
    trained, device = str(folder / "trained"), next(iter(TWO))
    for _ in range(2):  # The second time there is nothing to do.
        specialise.train(arch_files[device], trained, [DATA, "--epochs=1", "--max_steps=2", "--batch_size=32"])
    facts = files.read_json(RunFolder(trained).training_facts)
    assert facts["epochs"] == 1 and 0 <= facts["test_accuracy"] <= 1
    archs[specialise.UNIFORM] = reference
    ms = specialise.time_all(archs, tables, str(folder))
    assert set(ms) == set(archs) and all(value > 0 for times in ms.values() for value in times.values())
    assert specialise.time_all(archs, tables, str(folder)) == ms  # The times are kept, not measured again.


def network(a, b):
    return arch.Arch(TINY, {"b01": a, "b02": b})


def test_matrix_by_hand():
    rows = {key: {"median_ms": ROUND_MS.get(key.op, 0.25)} for _, key in TINY.op_keys()}
    table = latency_table.LatencyTable("round numbers", {"target": "t"}, rows, {})
    archs = {"fast": network("mb_k3_e3", "zero"), "slow": network("mb_k5_e3", "mb_k5_e3")}
    ms = {"fast": {"fast": 1.0, "slow": 2.0}, "slow": {"fast": 1.2, "slow": 2.04}}
    result = specialise_results.matrix(archs, {"fast": table, "slow": table}, {"fast": 1.0, "slow": 2.0}, ms,
                               {"fast": [0.6, 0.8], "slow": [0.71, 0.73]})
    assert result["networks"]["fast"]["accuracy"] == pytest.approx(0.7)
    assert result["networks"]["slow"]["share"] == {"fast": 1.2, "slow": 1.02}
    # The stem, b00 and the classifier take 0.25 ms each.
    assert result["networks"]["slow"]["predicted_ms"] == {"fast": 4.75, "slow": 4.75}
    assert result["wins"] == {"fast": {"keep_the_target": ["fast"], "most_accurate": "fast"},
                              "slow": {"keep_the_target": ["fast", "slow"], "most_accurate": "slow"}}
    shown = specialise_results.show(result)
    assert re.search(r"^slow +72\.00% +1\.2 ms \(1\.20\) +2\.04 ms \(1\.02\)\*$", shown, re.MULTILINE)
    assert "fast: most accurate of those that keep the target within 3 %: fast." in shown


def test_networks_are_drawn_below_each_other():
    svg = specialise_results.plot({"fast": network("mb_k3_e3", "zero"), "slow": network("mb_k5_e3", "mb_k5_e3")})
    xml.etree.ElementTree.fromstring(svg)
    assert len(svg) < 100_000


def test_op_that_some_choice_lacks_is_refused():
    with pytest.raises(InputError, match="Choice b01 offers"):
        study_networks.uniform(TINY, "mb_k7_e6")


@pytest.mark.slow
def test_all_devices_and_the_cost_of_several(folder, tmp_path):
    command = [sys.executable, "-m", "benchmarks.targets.specialise", f"--space={folder}/space.json", DATA,
               "--uniform=mb_k3_e3", "--search_flags=quickstart.flags", "--search_steps=8", "--epochs=1",
               "--train_steps=2", "--batch_size=32", "--networks=0", "--cost_steps=8", "--cost_pairs=1",
               f"--steps={','.join(specialise.STEPS)}", f"--out_dir={tmp_path}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    result = json.loads((tmp_path / "specialise.json").read_text())
    assert set(result["networks"]) == {*specialise.DEVICES, specialise.UNIFORM}
    assert all(set(network["ms"]) == set(specialise.DEVICES) for network in result["networks"].values())
    assert json.loads((tmp_path / "cost.json").read_text())["cpu_seconds"] > 0
    assert (tmp_path / "specialise.svg").stat().st_size < 100_000
