"""The page of networks is what its program writes, and its times are those of the files beside the program."""

import json
import re

import pytest

from benchmarks.targets import networks
from pnas_tf.cost import network_times
from pnas_tf.space import arch


def test_the_page_is_as_the_program_writes_it():
    with open(networks.PAGE, encoding="utf-8") as file:
        assert file.read() == networks.page(), "python -m benchmarks.targets.networks writes it"


def test_measured_times_enter_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "HERE", str(tmp_path))
    lines = [{"format": network_times.FORMAT, "cores": 2, "device": "CPU", "runtime": "litert 9", "date": "2026-01-02"},
             {"network": network_times.digest(arch.load("mobilenet_v2")), "pass": 1, "median_ms": 12.341}]
    (tmp_path / "networks_int8.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = networks.page()
    assert "one thread: int8 on 2 cores of CPU, litert 9, 2026-01-02." in " ".join(page.split())
    assert "| `mobilenet_v2` | - | - | not yet | 12.34 |" in page


@pytest.mark.slow
def test_networks_are_measured_once(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "HERE", str(tmp_path))
    monkeypatch.setattr(networks, "PAGE", str(tmp_path / "networks.md"))
    monkeypatch.setattr(arch, "names", lambda: ["mobilenet_v4_conv_small"])
    networks.run(["float32", "int8"])
    files = [(tmp_path / f"networks_{mode}.jsonl").read_text() for mode in networks.MODES]
    assert all(len(lines.splitlines()) == 2 for lines in files)
    page = (tmp_path / "networks.md").read_text()
    assert re.search(r"\| `mobilenet_v4_conv_small` \| - \| - \| \d+\.\d\d \| \d+\.\d\d \|", page)
    networks.run(["float32", "int8"])
    assert files == [(tmp_path / f"networks_{mode}.jsonl").read_text() for mode in networks.MODES]
