"""The quickstart of the README, and a trial run of the search for a phone. Each takes minutes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pnas_tf.space import arch

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_make_quickstart(tmp_path):
    bin_dir = os.path.dirname(sys.executable)
    # This environment takes the place of the environment that make would install.
    result = subprocess.run(["make", "quickstart", "-o", ".venv/.installed", f"BIN={bin_dir}", f"RUN={tmp_path}/run"],
                            cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert result.returncode == 0, result.stdout + result.stderr
    facts = {name: json.loads((tmp_path / "run" / f"{name}.json").read_text())
             for name in ("train", "float32", "float16", "int8", "arch")}
    assert facts["train"]["test_accuracy"] >= 0.85
    assert facts["float32"]["max_difference"] <= 1e-4
    assert facts["int8"]["top1"] >= facts["train"]["test_accuracy"] - 0.015
    costs = facts["arch"]["costs"]
    assert costs["table_ms"] <= costs["target_ms"] * 1.0001
    assert abs(costs["table_ms"] / facts["float32"]["measured_ms"] - 1) <= 0.25
    assert (tmp_path / "run" / "report.html").stat().st_size < 2_000_000
    summary = result.stdout.rpartition("5/5 Report.\n")[2].splitlines()
    for heading in ("Test accuracy", "Parameters", "MACs", "Predicted", "Measured", "Target", "Files", "Report"):
        assert any(line.startswith(f"{heading}:") for line in summary), heading


@pytest.mark.slow
def test_full_imagenet_space_on_a_handful_of_images(tmp_path):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    for number in range(24):
        folder = tmp_path / "photos" / ("cats", "dogs")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (240 + number, 300, 3), dtype=np.uint8)
        (folder / f"{number}.jpg").write_bytes(tf.io.encode_jpeg(pixels).numpy())
    result = subprocess.run([sys.executable, "-m", "pnas_tf.search", "--flagfile=mobile.flags", "--max_steps=20",
                             f"--dataset=folder:{tmp_path}/photos", f"--run_dir={tmp_path}/run"],
                            cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert result.returncode == 0, result.stderr
    space = arch.load(str(tmp_path / "run" / "arch.json")).space
    assert (space.input_size, space.num_classes, len(space.choices)) == (224, 2, 21)
    assert "classifier of 1000 classes is used" in result.stdout and "Batches have " in result.stdout
