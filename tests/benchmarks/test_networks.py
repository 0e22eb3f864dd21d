"""The page of networks is what its program writes, and its times are those of the files beside the program."""

import json

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
