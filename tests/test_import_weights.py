"""Weights of the original's state dicts: against a forward pass in NumPy, and in PyTorch where it is installed."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from pnas_tf import import_weights, net_config
from pnas_tf.errors import InputError
from pnas_tf.space import arch
from tests import forked

ROOT = Path(__file__).parent.parent


# The original's network in NumPy, [channels, height, width], from its net.config and its state dict alone.

def conv_norm(x, state, name, strides=1):
    """Convolution padded by k // 2 on every side, and batch norm; depthwise if the weights are [channels, 1, k, k]."""
    weight = state[f"{name}.conv.weight"].astype(np.float64)
    kernel = weight.shape[2]
    rows, columns = (-(-side // strides) for side in x.shape[1:])
    padded = np.pad(x, [(0, 0), *[(kernel // 2, kernel // 2)] * 2])
    y = np.zeros((weight.shape[0], rows, columns))
    for top in range(kernel):
        for left in range(kernel):
            seen = padded[:, top::strides, left::strides][:, :rows, :columns]
            y += (weight[:, 0, top, left, None, None] * seen if weight.shape[1] == 1 else
                  np.tensordot(weight[:, :, top, left], seen, 1))
    gamma, beta, mean, variance = (state[f"{name}.bn.{part}"].astype(np.float64)[:, None, None]
                                   for part in ("weight", "bias", "running_mean", "running_var"))
    return (y - mean) / np.sqrt(variance + 1e-3) * gamma + beta


def relu6(x):
    return np.clip(x, 0, 6)


def forward(config, state, image):
    """Logits [classes] of one image [height, width, channels]."""
    x = relu6(conv_norm(image.transpose(2, 0, 1), state, "first_conv", config["first_conv"]["stride"]))
    for number, block in enumerate(config["blocks"]):
        layer, name = block["mobile_inverted_conv"], f"blocks.{number}.mobile_inverted_conv"
        if layer["name"] == "ZeroLayer":
            continue
        y = relu6(conv_norm(x, state, f"{name}.inverted_bottleneck")) if layer["expand_ratio"] > 1 else x
        y = relu6(conv_norm(y, state, f"{name}.depth_conv", layer["stride"]))
        y = conv_norm(y, state, f"{name}.point_linear")
        x = x + y if block["shortcut"] else y
    x = relu6(conv_norm(x, state, "feature_mix_layer"))
    return state["classifier.linear.weight"] @ x.mean((1, 2)) + state["classifier.linear.bias"]


def assert_agrees(model, config, state):
    side = model.input_shape[1]
    images = np.random.default_rng(1).normal(size=(2, side, side, 3)).astype(np.float32)
    expected = np.stack([forward(config, state, image) for image in images])
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-4 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize(("name", "side"), [("proxyless_mobile", 224), ("proxyless_cpu", 64), ("proxyless_gpu", 64),
                                            ("proxyless_mobile_14", 64), ("mobilenet_v2", 64)])
def test_published_networks_compute_what_the_original_does(name, side, random_state):
    shipped = arch.load(name)
    network = arch.Arch(shipped.space.for_data(side, 3, 1000), shipped.ops)
    config = net_config.write(network)
    state = random_state(config)
    assert_agrees(import_weights.run(network, state), config, state)


@pytest.mark.parametrize("side", [16, 15])
def test_small_network_of_even_and_odd_maps(small_arch, side, random_state):
    network = arch.Arch(small_arch.space.for_data(side, 3, 4), {"b00": "mb_k5_e6", "b02": "zero"})
    config = net_config.write(network)
    state = random_state(config)
    assert_agrees(import_weights.run(network, state), config, state)


def test_same_padding_would_be_another_network(small_arch, random_state):
    """The test can fail: with SAME padding at stride 2, the same weights give other logits."""
    from pnas_tf import network

    config = net_config.write(small_arch)
    state = random_state(config)
    same = network.assemble(small_arch, layers=keras.layers)
    same.set_weights(import_weights.run(small_arch, state).get_weights())
    with pytest.raises(AssertionError):
        assert_agrees(same, config, state)


def test_names_of_data_parallel_and_of_once_for_all(small_arch, random_state):
    state = random_state(net_config.write(small_arch))
    expected = import_weights.run(small_arch, state).get_weights()
    parallel = {f"module.{name}": value for name, value in state.items()}
    later = {name.replace("mobile_inverted_conv", "conv"): value for name, value in state.items()}
    assert parallel.keys() != state.keys() != later.keys()
    for other in (parallel, later):
        for mine, theirs in zip(import_weights.run(small_arch, other).get_weights(), expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)


# The commands.

def run(module, *arguments):
    return forked.run([module, *arguments], cwd=ROOT)


@pytest.fixture(scope="module")
def imported(small_arch, random_state, tmp_path_factory):
    """A run folder with imported weights, and the state dict they came from."""
    folder = tmp_path_factory.mktemp("imported")
    config = net_config.write(small_arch)
    state = random_state(config)
    np.savez(folder / "net.npz", **state)
    (folder / "net.config").write_text(json.dumps(config))
    result = subprocess.run(
        [sys.executable, "-m", "pnas_tf.import_weights", f"--source={folder}/net.npz", f"--arch={folder}/net.config",
         f"--run_dir={folder}"], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    return folder, config, state


def test_imported_file_loads_without_this_package_and_computes_the_same(imported, tmp_path):
    folder, config, state = imported
    code = ("import sys, keras, numpy; model = keras.models.load_model(sys.argv[1]); "
            "numpy.savez('weights.npz', *model.get_weights()); "
            "assert not any(name.startswith('pnas_tf') for name in sys.modules)")
    subprocess.run([sys.executable, "-c", code, str(folder / "model.keras")], cwd=tmp_path, check=True,
                   capture_output=True)
    model = keras.models.load_model(folder / "model.keras")
    with np.load(tmp_path / "weights.npz") as saved:
        for name, weight in zip(saved.files, model.get_weights(), strict=True):
            np.testing.assert_array_equal(saved[name], weight)
    assert_agrees(model, config, state)


def test_imported_network_exports(imported, small_npz, tmp_path):
    folder, config, state = imported
    result = run("export.tflite", f"--model={folder}/model.keras", f"--dataset=npz:{small_npz}", "--mode=float32",
                 "--input=normalised", "--check_images=50", "--timing_seconds=0")
    assert result.returncode == 0, result.stderr
    from export import interpreter

    images = np.random.default_rng(2).normal(size=(3, 16, 16, 3)).astype(np.float32)
    runner = interpreter.make_interpreter((folder / "float32.tflite").read_bytes())
    expected = [forward(config, state, image) for image in images]
    np.testing.assert_allclose(interpreter.run(runner, images), expected, atol=1e-3)


@pytest.mark.slow
def test_imported_network_trains_on_with_the_same_padding(imported, small_npz, tmp_path):
    folder, *_ = imported
    result = run("pnas_tf.train", f"--arch={folder}/arch.json", f"--init_weights={folder}/model.keras", "--epochs=8",
                 f"--dataset=npz:{small_npz}", "--batch_size=32", "--lr=0.05", f"--run_dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    before, after = (keras.models.load_model(place / "model.keras") for place in (folder, tmp_path))
    assert [layer.name for layer in before.layers] == [layer.name for layer in after.layers]
    facts = json.loads((tmp_path / "train.json").read_text())
    assert facts["init"] == f"{folder}/model.keras" and facts["history"]["loss"][-1] < facts["history"]["loss"][0]
    assert facts["test_accuracy"] > 0.4  # of four classes


def test_a_network_is_replaced_only_if_asked(imported):
    folder, *_ = imported
    arguments = ["pnas_tf.import_weights", f"--source={folder}/net.npz", f"--arch={folder}/net.config",
                 f"--run_dir={folder}"]
    before = (folder / "model.keras").stat()
    result = run(*arguments)
    assert result.returncode == 1 and result.stderr == (
        f"Error: {folder}/model.keras exists. Use another --run_dir, or --overwrite to replace it.\n")
    assert (folder / "model.keras").stat() == before
    result = run(*arguments, "--overwrite")
    assert result.returncode == 0, result.stderr
    assert (folder / "model.keras").stat().st_ino != before.st_ino


def pickled(folder):
    np.savez(folder / "bad.npz", **{"classifier.linear.bias": np.array([{}], object)})


def torch_file(folder):
    import zipfile

    with zipfile.ZipFile(folder / "bad.npz", "w") as archive:
        archive.writestr("net/data.pkl", b"")


def half(folder):
    whole = (folder / "net.npz").read_bytes()
    (folder / "bad.npz").write_bytes(whole[:len(whole) // 2])


def with_state(change):
    def write(folder):
        with np.load(folder / "net.npz") as archive:
            state = dict(archive)
        change(state)
        np.savez(folder / "bad.npz", **state)
    return write


BAD = {
    "missing": (lambda folder: None, "not a numpy archive"),
    "text": (lambda folder: (folder / "bad.npz").write_text("weights"), "not a numpy archive"),
    "cut off": (half, "not a numpy archive"),
    "pickle": (pickled, "pickle"),
    "the .pth itself": (torch_file, "holds net/data.pkl"),
    "no classifier": (with_state(lambda state: state.pop("classifier.linear.bias")), "Expected a ProxylessNAS state"),
    "a missing name": (with_state(lambda state: state.pop("first_conv.bn.bias")), "first_conv.bn.bias is missing"),
    "another shape": (with_state(lambda state: state.update({"first_conv.bn.bias": np.zeros(3)})), "does not fit"),
    "another rank": (with_state(lambda state: state.update({"first_conv.conv.weight": np.zeros(3)})), "does not fit"),
    "no number": (with_state(lambda state: state.update({"first_conv.bn.bias": np.full(8, np.nan)})), "does not fit"),
    "text in place of numbers": (with_state(lambda state: state.update({"first_conv.bn.bias": np.array(["a"])})),
                                 "must hold numbers"),
    "one too many": (with_state(lambda state: state.update({"blocks.9.alpha": np.zeros(3)})), "blocks.9.alpha belongs"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_weights_are_one_line(imported, small_arch, tmp_path, case):
    write, expected = BAD[case]
    os.link(imported[0] / "net.npz", tmp_path / "net.npz")
    write(tmp_path)
    with pytest.raises(InputError, match=expected) as error:
        state = import_weights.read_state(str(tmp_path / "bad.npz"))
        import_weights.run(import_weights.load_arch(str(imported[0] / "net.config"), import_weights.classes_of(state)),
                           state)
    assert "\n" not in str(error.value)


def test_another_network_is_refused_and_nothing_is_written(imported, tmp_path):
    result = run("pnas_tf.import_weights", f"--source={imported[0]}/net.npz", "--arch=mobilenet_v2",
                 f"--run_dir={tmp_path}/run")
    assert result.returncode == 1 and result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert "Name the right network by --arch" in result.stderr or "name it by --arch" in result.stderr
    assert not (tmp_path / "run").exists()


def test_folder_of_another_network_is_kept(imported, tmp_path):
    arch.load("mobilenet_v2").save(str(tmp_path / "arch.json"))
    result = run("pnas_tf.import_weights", f"--source={imported[0]}/net.npz", f"--arch={imported[0]}/net.config",
                 f"--run_dir={tmp_path}")
    assert result.returncode == 1 and "Use another --run_dir" in result.stderr
    assert os.listdir(tmp_path) == ["arch.json"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no PyTorch: pip install torch")
def test_published_way_from_a_pytorch_file(tmp_path):
    """The conversion that --help tells, on what torch.save writes, against what PyTorch computes at 224 px."""
    (tmp_path / "net.config").write_text(json.dumps(net_config.write(arch.load("proxyless_mobile"))))
    subprocess.run([sys.executable, ROOT / "tests/programs/torch_network.py", "net.config"], cwd=tmp_path, check=True)
    told = re.search(r'    python -c "(.*?)"\n', import_weights.__doc__, flags=re.S)[1]
    subprocess.run([sys.executable, "-c", told], cwd=tmp_path, check=True)
    result = run("pnas_tf.import_weights", f"--source={tmp_path}/net.npz", f"--run_dir={tmp_path}/run")
    assert result.returncode == 0, result.stderr
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    expected = np.load(tmp_path / "logits.npy")
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(model.predict(np.load(tmp_path / "images.npy"), verbose=0), expected, atol=1e-4)
