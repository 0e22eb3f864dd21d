"""The Python of README.md runs as it stands there, on small images."""

import contextlib
import re
from pathlib import Path

import keras
import numpy as np

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def python_of(title):
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, flags=re.S | re.M)[1]
    return re.findall(r"^```python\n(.*?)^```", section, flags=re.S | re.M)


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
    assert code.count("=32") == 2 and "epochs=2," in code and code.count("(8") == 2
    names = {}
    with contextlib.chdir(tmp_path):
        exec(compile(code, "README.md", "exec"), names)
        images = np.concatenate([batch for batch, _ in names["photos"].test.batches(4)])
    model, base, tuned = names["model"], names["base"], names["tuned"]
    assert {layer.__class__.__module__.split(".")[0] for layer in base.layers} == {"keras"}
    np.testing.assert_allclose(base.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-4)
    assert model.output_shape == (None, 2) and tuned.output_shape == (None, 3)
    assert model.optimizer.iterations > 0 and tuned.predict(images, verbose=0).shape == (len(images), 3)


def test_published_networks():
    for code in python_of("Published networks"):
        names = {}
        exec(compile(code, "README.md", "exec"), names)
        assert names["model"].output_shape == (None, 5)
