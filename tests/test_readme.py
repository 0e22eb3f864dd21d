"""The Python code of README.md and docs/python.md runs as written, on small images."""

import contextlib
import re
from pathlib import Path

import keras
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


def python_of(title, name="docs/python.md"):
    text = (ROOT / name).read_text(encoding="utf-8")
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, flags=re.S | re.M)[1]
    return re.findall(r"^```python\n(.*?)^```", section, flags=re.S | re.M)


@pytest.mark.slow
def test_use_a_found_network_in_keras(tmp_path):
    rng = np.random.default_rng(0)
    for label, colour in (("day", 200), ("night", 40)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(24):
            pixels = np.clip(rng.normal(colour, 30, (40, 50, 3)), 0, 255)
            keras.utils.save_img(tmp_path / "photos" / label / f"{number}.jpg", pixels, scale=False)
    lines, = python_of("Use a found network in Keras")
    code = lines.replace("=224", "=32").replace("epochs=20", "epochs=2").replace("(32, augment", "(8, augment")
    code = code.replace("epoch(32)", "epoch(8)")
    assert code.count("=32") == 1 and "epochs=2," in code and code.count("(8") == 2
    names = {}
    with contextlib.chdir(tmp_path):
        exec(compile(code, "the document", "exec"), names)
        images = np.concatenate([batch for batch, _ in names["photos"].test.batches(4)])
    model, base, tuned = names["model"], names["base"], names["tuned"]
    assert {layer.__class__.__module__.split(".")[0] for layer in base.layers} == {"keras"}
    np.testing.assert_allclose(base.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-4)
    assert model.output_shape == (None, 2) and tuned.output_shape == (None, 3)
    assert model.optimizer.iterations > 0 and tuned.predict(images, verbose=0).shape == (len(images), 3)


def test_published_networks():
    for code in python_of("Published networks"):
        names = {}
        exec(compile(code, "the document", "exec"), names)
        assert names["model"].output_shape == (None, 5)


@pytest.mark.slow
@pytest.mark.parametrize("place", [("In a notebook",), ("In Python", "README.md")])
def test_in_a_notebook(place, tmp_path):
    """The code as written, but with fewer epochs on few images."""
    rng = np.random.default_rng(0)
    arrays = {f"{kind}_{part}": values for part in ("train", "test") for kind, values in
              (("x", rng.integers(0, 255, (200, 28, 28, 1), np.uint8)), ("y", np.arange(200) % 10))}
    np.savez(tmp_path / "few.npz", **arrays)
    code, = python_of(*place)
    for old, new in (("fashion_mnist_small", f"npz:{tmp_path}/few.npz"), ("epochs=12", "epochs=1"),
                     ("epochs=8", "epochs=1")):
        assert code.count(old) == 1
        code = code.replace(old, new)
    names = {}
    exec(compile(code, "the document", "exec"), names)
    assert names["search"].arch().costs["table_ms"] <= 0.2 * 1.0001 and names["model"].output_shape == (None, 10)
