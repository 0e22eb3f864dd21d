"""Statistics of timed runs, and the process that times without TensorFlow."""

import subprocess
import sys

import numpy as np
import pytest

from export import timing


def test_statistic_by_hand():
    """Medians 3.0 and 2.5 give the value a quarter of the way up from the lower; five medians give the second."""
    assert timing.summarise([[3.0, 1.0, 8.0], [2.0, 2.5, 90.0]]) == {
        "median_ms": 2.625, "min_ms": 1.0, "mean_ms": pytest.approx(106.5 / 6),
        "std_ms": pytest.approx(np.std([3, 1, 8, 2, 2.5, 90])), "runs": 6}
    assert timing.summarise([[5.0], [1.0], [2.0], [4.0], [3.0]])["median_ms"] == 2.0


def test_timed_runs_load_neither_tensorflow_nor_absl():
    """The process of `timed_runs.apart` is for a runtime that fails beside TensorFlow."""
    code = ("import sys, export.timed_runs\n"
            "assert not {'tensorflow', 'keras', 'absl'} & set(sys.modules), sorted(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_governors_of_all_cores_are_recorded(tmp_path, monkeypatch):
    """The cores that are timed are often not the first ones."""
    for core, governor in enumerate(("schedutil", "schedutil", "performance")):
        (tmp_path / f"cpu{core}").mkdir()
        (tmp_path / f"cpu{core}" / "scaling_governor").write_text(f"{governor}\n")
    monkeypatch.setattr(timing, "_GOVERNORS", str(tmp_path / "cpu[0-9]*" / "scaling_governor"))
    assert timing.machine_facts()["governor"] == "performance, schedutil"
    monkeypatch.setattr(timing, "_GOVERNORS", str(tmp_path / "none*"))
    assert timing.machine_facts()["governor"] is None
