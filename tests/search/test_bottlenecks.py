"""Searches in the spaces of universal inverted bottlenecks, from a flag file and pictures to a network that ships."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pnas_tf.space import arch, spaces

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def run(*arguments):
    result = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=3000)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_search_at_224_pixels(tmp_path, write_space):
    random = np.random.default_rng(0)
    for number in range(40):
        folder = tmp_path / "photos" / ("cats", "dogs")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 255, (240 + number, 300, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
    write_space(spaces.SPACES["mobile_2024"].for_data(224, 3, 2), tmp_path / "space.json", tmp_path / "table.jsonl")
    run("pnas_tf.search", "--flagfile=mobile_2024.flags", f"--dataset=folder:{tmp_path}/photos", "--batch_size=4",
        f"--table={tmp_path}/table.jsonl", "--max_steps=6", "--front=2", f"--run_dir={tmp_path}/run")
    found = arch.load(f"{tmp_path}/run/arch.json")
    assert (found.space.name, found.space.input_size, found.space.num_classes) == ("mobile_2024", 224, 2)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["held_out_loss"] for line in lines if line.get("phase") == "search"]
    assert losses and np.all(np.isfinite(losses))


def test_search_and_export_of_small_images(tmp_path, write_space):
    write_space(spaces.SPACES["cifar_uib"].for_data(32, 1, 10), tmp_path / "space.json", tmp_path / "table.jsonl")
    run("pnas_tf.search", "--space=cifar_uib", "--dataset=fashion_mnist_small", f"--table={tmp_path}/table.jsonl",
        "--batch_size=32", "--warmup_epochs=1", "--search_epochs=1", "--arch_every=1", "--max_steps=20", "--front=2",
        f"--run_dir={tmp_path}/run")
    run("pnas_tf.train", f"--run_dir={tmp_path}/run", "--epochs=1", "--batch_size=64", "--lr=0.1", "--max_steps=30")
    run("export.tflite", f"--run_dir={tmp_path}/run", "--mode=float32,float16,int8,int8_qat", "--qat_epochs=1",
        "--check_images=64", "--allow_drop", "--timing_seconds=0")
    for mode in ("float32", "float16", "int8", "int8_qat"):
        facts = json.loads((tmp_path / "run" / f"{mode}.json").read_text())
        assert facts["size_bytes"] > 0 and 0 <= facts["top1"] <= 1
