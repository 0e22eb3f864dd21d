"""Models that were not made here: their range of pixels, their outputs, names and precision; files that say the truth.

The models are Keras' own layers as in Keras' tutorials. Expected numbers come from the model itself on pixels.
"""

import json

import keras
import numpy as np
import pytest

from export import interpreter, keras_model, model_ends, tflite
from export.settings import ExportConfig
from pnas_tf import data as data_lib
from pnas_tf.errors import InputError
from tests import forked

SIDE = 16


def body(x, head="linear", first="conv"):
    x = keras.layers.Conv2D(16, 3, strides=2, padding="same", activation="relu", name=first)(x)
    x = keras.layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(x)
    return keras.layers.Activation(head, dtype="float32")(keras.layers.Dense(4)(keras.layers.Flatten()(x)))


def layers_of(name):
    """Layers in front of a network, and the range of pixels that the whole takes."""
    normalization = keras.layers.Normalization(mean=[90.0] * 3, variance=[2500.0] * 3)
    flips = keras.Sequential([keras.layers.RandomFlip("horizontal")], name="augment")
    return {"rescaling": ([keras.layers.Rescaling(1 / 255)], "0..255"),
            "around 0": ([keras.layers.Rescaling(1 / 127.5, offset=-1)], "0..255"),
            "after augmentation": ([flips, keras.layers.Rescaling(1 / 255)], "0..255"),
            "normalization": ([normalization], "0..255"),
            "of 0..1": ([keras.layers.Rescaling(2, offset=-1)], "0..1"),
            "none": ([], None)}[name]


def trained(front, head="linear"):
    """A compiled model in stock layers, not trained yet."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((SIDE, SIDE, 3))
    for layer in front:
        x = layer(x)
    model = keras.Model(inputs, body(x, head), name="theirs")
    model.compile(keras.optimizers.Adam(0.003), jit_compile=False, metrics=["accuracy"],
                  loss=keras.losses.SparseCategoricalCrossentropy(from_logits=head == "linear"))
    return model


@pytest.fixture(scope="module")
def pixels(small_npz):
    """Training and test images as pixels, with labels."""
    with np.load(small_npz) as arrays:
        return [arrays[name].astype(np.float32) for name in ("x_train", "y_train", "x_test", "y_test")]


def fitted(model, pixels, divide=1.0):
    model.fit(pixels[0] / divide, pixels[1], epochs=12, batch_size=32, verbose=0)
    return model


@pytest.fixture(scope="module")
def theirs(pixels):
    """A model with its own Rescaling layer and a softmax, as in Keras' tutorials."""
    return fitted(trained([keras.layers.Rescaling(1 / 255)], "softmax"), pixels)


@pytest.mark.parametrize("name", ["rescaling", "around 0", "after augmentation", "normalization", "of 0..1", "none"])
def test_range_is_found_by_the_layer(name):
    front, expected = layers_of(name)
    assert model_ends.own_range(trained(front)) == expected
    assert model_ends.own_range(keras.Sequential([keras.Input((SIDE, SIDE, 3)), *front,
                                                  keras.layers.Flatten(), keras.layers.Dense(4)])) == expected


def test_model_that_rescales_pixels_itself(theirs, pixels, small_npz, tmp_path):
    """The command finds the range; Keras' top-1 on pixels is that of card and file; and the outputs are named."""
    theirs.save(tmp_path / "model.keras")
    done = forked.run(["export.tflite", f"--model={tmp_path}/model.keras", f"--dataset=npz:{small_npz}",
                       "--mode=float32,int8", "--int8_io=uint8"])
    assert done.returncode == 0, done.stderr
    assert "it gets pixels as 0..255 (--model_takes)" in done.stdout
    expected = theirs.predict(pixels[2], verbose=0)
    top1 = float(np.mean(expected.argmax(1) == pixels[3]))
    assert top1 > 0.8
    for mode in ("float32", "int8"):
        facts = json.loads((tmp_path / f"{mode}.json").read_text())
        assert facts["keras_top1"] == pytest.approx(top1) and facts["top1"] > top1 - 0.02
        assert (facts["output_kind"], facts["found"], facts["name"]) == ("probabilities", False, "theirs")
        card = (tmp_path / f"{mode}.md").read_text()
        assert "ProxylessNAS" not in card and "logit" not in card and "probabilities, which add up to 1" in card
        content = (tmp_path / f"{mode}.tflite").read_bytes()
        assert b"ProxylessNAS" not in content and b"ogits" not in content and b"add up to 1" in content
    runner = interpreter.make_interpreter(str(tmp_path / "float32.tflite"))
    np.testing.assert_allclose(interpreter.run(runner, pixels[2]), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("divide", "named"), [
    (1.0, "0..255"), (255.0, "0..1")])
def test_model_that_gets_the_wrong_range_is_refused_with_the_right_one(pixels, small_npz, tmp_path, divide, named):
    """Nothing in the model tells its range: images of the data set's own mean and deviation are far from it."""
    layer = keras.layers.Activation("tanh")  # tells the ranges apart, unlike ReLU
    model = fitted(trained([layer] if divide > 1 else []), pixels, divide)
    expected = float(np.mean(model.predict(pixels[2] / divide, verbose=0).argmax(1) == pixels[3]))
    shifted = data_lib.load(f"npz:{small_npz}", normalisation=(1e4, 1.0))
    config = ExportConfig(mode=("float32",))
    with pytest.raises(InputError, match="Keras' own top-1 is") as caught:
        tflite.run(model=model, data=shifted, config=config, out_dir=str(tmp_path))
    assert f"{expected:.1%} if the model gets its images as {named}" in str(caught.value)
    assert f"--model_takes={named}" in str(caught.value)
    right = data_lib.load(f"npz:{small_npz}", normalisation=model_ends.RANGES[named])
    facts, = tflite.run(model=model, data=right, config=config, out_dir=str(tmp_path))
    assert facts["keras_top1"] == pytest.approx(expected) and facts["output_kind"] == "logits"


def test_model_at_chance_is_refused(small_data, pixels, tmp_path):
    model = trained([keras.layers.Rescaling(1 / 255)])
    model.layers[-2].set_weights([np.zeros((model.layers[-2].input.shape[1], 4)), np.array([1.0, 0, 0, 0])])
    with pytest.raises(InputError, match="no better than chance") as caught:
        tflite.run(model=model, data=small_data, config=ExportConfig(mode=("float32",), timing_seconds=0),
                   out_dir=str(tmp_path))
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
    facts, = tflite.run(model=model, data=small_data, config=ExportConfig(mode=("float32",), timing_seconds=0,
                                                                            allow_drop=True), out_dir=str(tmp_path))
    assert facts["keras_top1"] < 0.4


def test_chance_by_simulation():
    """Random predictions are at chance, whatever the shares of the classes; a few points above them are not."""
    rng = np.random.default_rng(0)
    for share in (0.5, 0.9):
        labels = (rng.random(2000) > share).astype(int)
        chance = [model_ends.at_chance((rng.random(2000) > share).astype(int), labels) for _ in range(200)]
        assert np.mean(chance) > 0.9
        assert model_ends.at_chance(np.zeros(2000, int), labels)
        mostly_right = np.where(rng.random(2000) < 0.4, labels, rng.random(2000) > share).astype(int)
        assert not model_ends.at_chance(mostly_right, labels)


@pytest.mark.parametrize(("head", "kind"), [("linear", "logits"), ("softmax", "probabilities"), ("sigmoid", "scores")])
def test_kind_of_outputs(pixels, head, kind):
    outputs = trained([keras.layers.Rescaling(1 / 255)], head).predict(pixels[2], verbose=0)
    assert model_ends.output_kind(outputs) == kind


def test_names_that_only_other_backends_take(theirs, pixels, tmp_path):
    """Keras on JAX or PyTorch trains models with names that TensorFlow refuses; here they are only written."""
    model = keras.models.clone_model(theirs)
    model.set_weights(theirs.get_weights())
    expected = theirs.predict(pixels[2][:8], verbose=0)
    for layer, name in ((model, "Mein schönes Netz"), (model.layers[2], "first conv"), (model.layers[3], "first_conv"),
                        (model.layers[4], "_größe")):
        layer.name = name
    model.save(tmp_path / "model.keras")
    loaded = keras_model.load(str(tmp_path / "model.keras"))
    assert loaded.name == "Mein_sch_nes_Netz"
    assert [layer.name for layer in loaded.layers[2:5]] == ["first_conv_", "first_conv", "m_gr__e"]
    np.testing.assert_allclose(loaded.predict(pixels[2][:8], verbose=0), expected, atol=1e-6)


@pytest.mark.slow
def test_mixed_precision(pixels, small_npz, tmp_path):
    """A model trained in mixed_float16 is exported in float32."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = fitted(trained([keras.layers.Rescaling(1 / 255)]), pixels)
    finally:
        keras.mixed_precision.set_global_policy(before)
    model.save(tmp_path / "model.keras")
    loaded = keras_model.load(str(tmp_path / "model.keras"))
    assert {layer.compute_dtype for layer in loaded.layers} == {"float32"}
    data = data_lib.load(f"npz:{small_npz}", normalisation=(0.0, 1.0))
    facts, = tflite.run(model=loaded, data=data, config=ExportConfig(mode=("float32",)), out_dir=str(tmp_path))
    top1 = float(np.mean(model.predict(pixels[2], verbose=0).argmax(1) == pixels[3]))
    assert facts["top1"] == pytest.approx(top1, abs=0.011) and "FLOAT16" not in facts["operators"]


def test_half_precision_weights_are_refused(tmp_path):
    x = inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Dense(4, dtype="float16")(keras.layers.Flatten()(x))
    keras.Model(inputs, x).save(tmp_path / "half.keras")
    with pytest.raises(InputError, match="holds weights of float16, expected float32"):
        keras_model.load(str(tmp_path / "half.keras"))
