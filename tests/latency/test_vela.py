"""Arm Ethos-U by its compiler Vela: the real one, if it is installed."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from export import convert
from latency import build_table, compare, measure, vela
from pnas_tf.cost import latency_table, prices
from pnas_tf.errors import InputError
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import spaces
from pnas_tf.space.blocks import OpKey

ROOT = Path(__file__).parents[2]
needs_vela = pytest.mark.skipif(not importlib.util.find_spec("ethosu"), reason="Arm's Vela is not installed: "
                                "pip install -r requirements-dev.txt")
# Cycles and bytes of SRAM that Vela 5.2.0 printed for the .tflite of ops of `quickstart`, run by hand: vela
# --accelerator-config=ethos-u55-128 --config=Arm/vela.ini --system-config=Ethos_U55_High_End_Embedded
# --memory-mode=Shared_Sram.
GOLDEN = {OpKey("conv_k3", (28, 28, 1), 16, 2, False): (3705, 4.25),
          OpKey("mb_k3_e3", (14, 14, 16), 24, 1, False): (18056, 20.96875),
          OpKey("classifier", (7, 7, 192), 10, 1, False): (15351, 9.9375)}
BOARD = """
[System_Config.Board]
core_clock=250e6
axi0_port=Sram
axi1_port=OffChipFlash
Sram_clock_scale=1.0
Sram_burst_length=32
Sram_read_latency=32
Sram_write_latency=32
OffChipFlash_clock_scale=0.125
OffChipFlash_burst_length=128
OffChipFlash_read_latency=64
OffChipFlash_write_latency=64
[Memory_Mode.Shared]
const_mem_area=Axi1
arena_mem_area=Axi0
cache_mem_area=Axi0
"""


@pytest.fixture(scope="module")
def u55():
    return vela.Vela(vela.VelaSettings())


def rows(device, keys):
    return dict(device.measure({key: measure.op_build(key) for key in keys}))


@needs_vela
def test_cycles_and_memory_are_what_vela_prints(u55):
    """At 500 MHz, as its configuration file says: 3705 cycles are 7.41 us."""
    measured = rows(u55, GOLDEN)
    assert {key: (row["cycles"], row["sram_bytes"] / 1024) for key, row in measured.items()} == GOLDEN
    assert [row["median_ms"] for row in measured.values()] == pytest.approx(
        [cycles / 500e6 * 1e3 for cycles, _ in GOLDEN.values()])
    again = rows(u55, list(GOLDEN)[:1])
    assert again.items() <= measured.items()
    assert all(row["flash_bytes"] > 0 and row["dram_bytes"] == 0 for row in measured.values())


@needs_vela
def test_what_vela_leaves_to_the_cpu_is_refused_by_name(u55):
    class Normalised(keras.layers.Layer):
        def call(self, x):
            return tf.nn.l2_normalize(x, -1)

    def normalised():
        image = keras.Input((8, 8, 8))
        return convert.randomise(keras.Model(image, Normalised()(keras.layers.Conv2D(8, 1)(image))))

    key = next(iter(GOLDEN))
    measured = u55.measure({"norm_c1": normalised, key: measure.op_build(key)})
    assert next(measured)[0] == key  # the others are estimated
    with pytest.raises(InputError, match=r"1 of 2 models .* to the CPU, .*: norm_c1 \(L2Norm\)\. Leave these ops out"):
        next(measured)


@needs_vela
@pytest.mark.slow
def test_a_board_of_ones_own_is_another_target(tmp_path):
    """Half the clock: the same cycles take twice the milliseconds. Its table leads back to the same measurer."""
    path = tmp_path / "board.ini"
    path.write_text(BOARD)
    space = spaces.from_json({
        "name": "tiny", "input_size": 8, "input_channels": 3, "num_classes": 3,
        "stem": [{"name": "stem", "ops": ["conv_k3"], "filters": 8, "strides": 2}], "blocks": [],
        "head": [{"name": "classifier", "ops": ["classifier"], "filters": 3}]})
    table = build_table.run(space=space, output=str(tmp_path / "board.jsonl"), measurer="vela", settings={
        "vela_config": str(path), "system_config": "Board", "memory_mode": "Shared"})
    assert table.target == "ethos-u55-128_250mhz_int8" and "Board, Shared, 250 MHz" in table.header["soc"]
    assert [row["median_ms"] for row in table.rows.values()] == pytest.approx(
        [row["cycles"] / 250e6 * 1e3 for row in table.rows.values()])
    assert all(row["overhead_ms"] == 0 for row in table.rows.values())
    device = measure.from_header(table.header, table.path)
    path.write_text(BOARD.replace("clock_scale=0.125", "clock_scale=0.0625"))
    with pytest.raises(InputError, match="measurements of another target: soc"):
        measure.check_same(table.header, device.facts(), table.path)


@needs_vela
def test_wrong_settings_are_told_in_velas_words():
    with pytest.raises(InputError, match=r"Vela failed with exit code 1: .*no_such"):
        vela.Vela(vela.VelaSettings(system_config="no_such"))


@pytest.mark.parametrize("path, words", [
    ("/no/such/vela", "Vela is not at /no/such/vela. Install it: pip install 'ethos-u-vela"),
    ("/bin/false", "Vela failed with exit code 1"), ("/bin/true", "/bin/true is not Arm's Vela 5: its version is ")])
def test_a_program_that_is_not_vela(path, words):
    with pytest.raises(InputError, match=words):
        vela.Vela(vela.VelaSettings(vela_binary=path))


def test_a_vela_that_writes_something_else(tmp_path):
    path = tmp_path / "vela"
    path.write_text("#!/bin/sh\necho 5.9.0\n")
    path.chmod(0o755)
    with pytest.raises(InputError, match=r"vela did not write the summary that Vela 5\.2 writes") as caught:
        vela.Vela(vela.VelaSettings(vela_binary=str(path)))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of `quickstart`."""
    return build_table.run(space=spaces.SPACES["quickstart"], measurer="vela",
                           output=str(tmp_path_factory.mktemp("vela") / "u55.jsonl"))


@needs_vela
@pytest.mark.slow
def test_sums_of_rows_are_near_whole_networks(table, u55):
    """Measured on 30 networks: -0.2 to +0.6 %. SRAM is near that of the most expensive op, but not equal to it."""
    archs = measure.random_archs(spaces.SPACES["quickstart"], 8, seed=5)
    result = compare.run(table=table, archs=archs)
    assert result["figures"]["rmse_of_mean"] < 0.01 and result["noise"]["rmse_ms"] == 0
    measured = dict(u55.measure({number: measure.network_build(arch) for number, arch in enumerate(archs)}))
    price = prices.sram_bytes(table)
    ratios = [measured[number]["sram_bytes"] / max(price(block.name, key) for block, key in arch.op_keys())
              for number, arch in enumerate(archs)]
    assert min(ratios) > 0.97 and 1.0 < max(ratios) < 1.10


@needs_vela
@pytest.mark.slow
def test_search_within_sram(table, tmp_path, u55):
    """From the table to a network that Vela compiles within the limit, and a front that keeps it, too."""
    bound = 45_000
    flags = ["--flagfile=quickstart.flags", f"--table={table.path}", "--target_ms=0.5", "--max_steps=8",
             "--front=3", f"--limit=sram_bytes<={bound}", f"--run_dir={tmp_path / 'run'}"]

    def command(module):
        return subprocess.run([sys.executable, "-m", module, *flags], cwd=ROOT, capture_output=True, text=True,
                              timeout=3000, check=False)

    refused = command("pnas_tf.search")
    assert refused.returncode == 1 and "python -m latency.search" in refused.stderr
    done = command("latency.search")
    assert done.returncode == 0, done.stderr
    front = [path.parent for path in (tmp_path / "run").glob("**/arch.json")]
    archs = {path: arch_lib.load(str(path / "arch.json")) for path in front}
    compiled = dict(u55.measure({path: measure.network_build(arch) for path, arch in archs.items()}))
    assert len(archs) > 1 and max(row["sram_bytes"] for row in compiled.values()) <= bound
    delivered = json.loads((tmp_path / "run" / "finalists.json").read_text())["finalists"][0]
    assert delivered["costs"]["sram_bytes"] == compiled[tmp_path / "run"]["sram_bytes"]
    assert delivered["measured_ms"] == pytest.approx(compiled[tmp_path / "run"]["median_ms"], rel=1e-6)
    assert 0.98 * 0.5 <= delivered["measured_ms"] <= 0.5
    assert f"sram_bytes {delivered['costs']['sram_bytes']:,.0f} of at most {bound:,}" in done.stdout
    np.testing.assert_allclose(archs[tmp_path / "run"].costs["table_ms"], delivered["measured_ms"], rtol=0.01)
    assert latency_table.read(table.path).rows  # as it was
