"""The normalisation that a space carries reaches the images of searches and trainings, and the exported files."""

import dataclasses
import io
import json

import numpy as np
import pytest

from export import bundle, tflite
from export.settings import ExportConfig
from pnas_tf import data as data_lib
from pnas_tf.errors import InputError
from pnas_tf.search.config import SearchConfig
from pnas_tf.search.problem import Problem, Request
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import spaces
from pnas_tf.space.arch import Arch

PAIR = (127, 128)
LITE = dataclasses.replace(spaces.SPACES["quickstart"], normalisation=PAIR, pretrained="efficientnet_lite0")


def test_json_leaves_out_what_is_empty_and_keeps_the_rest():
    assert not {"normalisation", "pretrained"} & set(spaces.SPACES["quickstart"].to_json())
    assert spaces.from_json(json.loads(json.dumps(LITE.to_json()))) == LITE
    other = LITE.for_data(48, 3, 5)
    assert (other.normalisation, other.pretrained) == (PAIR, "efficientnet_lite0")
    assert (LITE.scaled(1.5).normalisation, LITE.scaled(1.5).pretrained) == (PAIR, None)


@pytest.mark.parametrize("change", [
    {"normalisation": value} for value in (
        [127], [127, 128, 129], [127, 0], [127, -1], [127, float("nan")], [float("inf"), 1], [True, 1], ["127", "128"],
        [10**400, 1], 127, "12", {"mean": 1})
] + [{"pretrained": value} for value in ("nope", "../efficientnet_lite0", 3, ["efficientnet_lite0"], True)])
def test_wrong_json_is_refused_in_one_line(change):
    with pytest.raises(InputError, match=f"file: {next(iter(change))} must be"):
        spaces.from_json({**spaces.SPACES["quickstart"].to_json(), **change}, "file")


def test_data_and_search_are_normalised_as_the_space_says(small_npz):
    loaded = data_lib.load(f"npz:{small_npz}", normalisation=PAIR)
    assert (loaded.mean, loaded.std) == ((127,) * 3, (128,) * 3)
    images, _ = next(iter(loaded.test.batches(8)))
    with np.load(small_npz) as archive:
        np.testing.assert_allclose(images, (archive["x_test"][:8] - 127.0) / 128.0, atol=1e-6)
    request = Request.of(SearchConfig(space="quickstart", table="x86_xnnpack1_float32", dataset="fashion_mnist_small",
                                      target_ms=0.2), LITE)
    searched = Problem.of(request, request.load_data())
    assert (searched.data.mean, searched.data.std) == ((127,), (128,))
    assert searched.space.normalisation == PAIR
    with pytest.raises(InputError, match="normalised by mean 127 and deviation 128"):
        Problem.of(request, data_lib.load("fashion_mnist_small"))


def test_export_and_bundle_take_the_normalisation_of_the_arch(small_npz, small_arch, small_model, tmp_path):
    arch = Arch(dataclasses.replace(small_arch.space, normalisation=PAIR), small_arch.ops)
    arch.save(str(tmp_path / "arch.json"))
    arch = arch_lib.load(str(tmp_path / "arch.json"))
    loaded = data_lib.load(f"npz:{small_npz}", normalisation=arch.space.normalisation)
    with pytest.raises(InputError, match="normalised by mean 127"):
        tflite.run(model=small_model, data=data_lib.load(f"npz:{small_npz}"), config=ExportConfig(mode=("float32",)),
                   out_dir=str(tmp_path), arch=arch)
    with np.load(small_npz) as archive:
        expected = small_model.predict((archive["x_test"] - np.float32(127)) / np.float32(128), verbose=0)
        images = archive["x_test"]
    for form, normalisation in (("normalised", {"mean": [127] * 3, "std": [128] * 3}),
                                ("pixels", {"mean": [0], "std": [1]})):
        config = ExportConfig(mode=("float32",), timing_seconds=0, input=form, check_images=64, allow_drop=True)
        facts, = tflite.run(model=small_model, data=loaded, config=config, out_dir=str(tmp_path), arch=arch)
        assert facts["normalisation"] == normalisation
        files, _ = bundle.contents(str(tmp_path), loaded, ["float32"], 8, 0)
        manifest = json.loads(files["bundle.json"])
        # The runner's arithmetic gives the logits of the network on images normalised as the arch says.
        logits = np.array(manifest["expected"]["logits"]["float32"])
        rows = [int(np.argmin(np.abs(expected - row).sum(1))) for row in logits]
        np.testing.assert_allclose(logits, expected[rows], atol=2e-3)
        packed = np.load(io.BytesIO(files["examples.npz"]))["images"]
        np.testing.assert_array_equal(packed, images[rows])
