"""The shipped weights against the original network: its logits were computed in PyTorch, once."""

import json
from importlib import resources
from pathlib import Path

import keras
import numpy as np
import pytest

from pnas_tf import network
from pnas_tf.errors import InputError
from pnas_tf.network import pretrained
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import checks, spaces

LITE0 = "efficientnet_lite0"
# Every 50th logit and the five largest, by the package efficientnet-lite-pytorch 0.1.0 with its own weights
# ("original") and with kernels rounded to float16 ("shipped").
GOLDEN = json.loads((Path(__file__).parents[1] / "samples" / "efficientnet_lite0_logits.json").read_text())


def images():
    """Three images, normalised: float32 [3, 224, 224, 3]."""
    y, x, channel = np.indices((224, 224, 3))
    pixels = np.stack([(x * (channel + 1) + 2 * y) % 256, (x * x + y * y * (channel + 1)) // 64 % 256,
                       (x // 28 + y // 28) % 2 * 180 + 25 * channel])
    return ((pixels - 127) / 128).astype(np.float32)


@pytest.fixture(scope="module")
def lite0():
    return network.build_network(LITE0, weights="imagenet")


# Rounding moves logits, whose deviation is 1.2, by up to 0.04.
@pytest.mark.parametrize("weights, tolerance", [("shipped", 1e-3), ("original", 0.05)])
def test_logits_are_those_of_the_original_network(lite0, weights, tolerance):
    logits = lite0.predict(images(), verbose=0)
    np.testing.assert_allclose(logits[:, ::50], GOLDEN[weights]["logits"], atol=tolerance)
    np.testing.assert_array_equal(np.argsort(-logits)[:, :5], GOLDEN[weights]["top5"])


def test_features_and_other_classes_share_the_weights(lite0):
    features = network.build_network(LITE0, weights="imagenet", include_top=False)
    assert features.output_shape == (None, 7, 7, 1280)
    maps = features.predict(images(), verbose=0)
    kernel, bias = lite0.get_layer("classifier_classifier_dense").get_weights()
    np.testing.assert_allclose(maps.mean((1, 2)) @ kernel + bias, lite0.predict(images(), verbose=0), atol=1e-3)
    other = network.build_network(LITE0, weights="imagenet", input_shape=(64, 64, 3), num_classes=5)
    assert other.output_shape == (None, 5)
    ours, theirs = (model.get_layer("mix_conv_k1_bn").get_weights() for model in (other, lite0))
    for value, same in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(value, same)


def test_grey_images_give_the_logits_of_three_equal_channels(lite0):
    grey = network.build_network(LITE0, weights="imagenet", input_shape=(224, 224, 1))
    pixels = images()[..., :1]
    np.testing.assert_allclose(grey.predict(pixels, verbose=0), lite0.predict(np.repeat(pixels, 3, -1), verbose=0),
                               atol=1e-4)


def test_the_full_network_of_the_space_has_the_same_weights(lite0):
    fixed = {block.name: block.ops[0] for block in arch_lib.load(LITE0).space.blocks[1:]}
    model = network.build_network(arch_lib.Arch(spaces.SPACES["lite0"], fixed), weights="imagenet")
    for ours, theirs in zip(model.get_weights(), lite0.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_are_whole_and_have_their_licence():
    assert pretrained.names() == sorted(checks.PRETRAINED) == sorted(pretrained.SHA256)
    weights = pretrained.load(LITE0)
    assert sum(value.size for values in weights.values() for value in values) == 4_652_008 + 2 * 21_008
    assert all(value.dtype == np.float32 and np.isfinite(value).all() for values in weights.values()
               for value in values)
    notice = resources.files("pnas_tf").joinpath("weights", f"{LITE0}.LICENSE").read_text()
    assert "Apache License" in notice and "ML Illustrated" in notice and "END OF TERMS" in notice


def test_damaged_weights_are_refused(monkeypatch):
    monkeypatch.setitem(pretrained.SHA256, LITE0, "0" * 64)
    with pytest.raises(InputError, match="are damaged"):
        pretrained.load(LITE0)


@pytest.mark.parametrize("name, arguments, message", [
    ("mobilenet_v2", {"weights": "imagenet"}, "No weights of mobilenet_v2 ship.*efficientnet_lite0"),
    (LITE0, {"weights": "noisy_student"}, "weights must be imagenet or None"),
    (LITE0, {"weights": "imagenet", "input_shape": (64, 64, 4)}, "3 channels.*got 4"),
    (LITE0, {"input_shape": (64, 32, 3)}, "must be square")])
def test_what_cannot_be_built_is_refused(name, arguments, message):
    with pytest.raises(InputError, match=message):
        network.build_network(name, **arguments)


def test_another_network_is_refused():
    with pytest.raises(InputError, match="another network than efficientnet_lite0"):
        pretrained.into(network.build_network("mobilenet_v2"), LITE0)
    with pytest.raises(InputError, match="another network than efficientnet_lite0"):
        pretrained.into(keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(3, 1)]), LITE0)
