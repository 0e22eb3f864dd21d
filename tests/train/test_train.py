"""Training of a derived network: the paper's recipe, initial weights, results, and bad input."""

import colorsys
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from pnas_tf import data, network
from pnas_tf.data import augment, loading
from pnas_tf.data.parts import Changes
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder, claim
from pnas_tf.space import arch
from pnas_tf.train import fit as fit_lib
from pnas_tf.train import initial_weights, known_images
from pnas_tf.train import recipe as recipe_lib
from tests import forked

ROOT = Path(__file__).parents[2]


# The recipe.

def test_train_flags_are_the_recipe_of_the_paper():
    """The command runs in a process of its own, since a process can define a flag only once."""
    code = ("import json, sys; from absl import flags; from pnas_tf.train import command; command.define_flags(); "
            "flags.FLAGS(sys.argv); print(json.dumps(flags.FLAGS.flag_values_dict()))")
    result = subprocess.run([sys.executable, "-c", code, "--flagfile=pnas_tf/flags/train.flags"], cwd=ROOT, check=True,
                            capture_output=True, text=True)
    parsed = json.loads(result.stdout)
    recipe = {"epochs": 300, "batch_size": 256, "lr": 0.05, "momentum": 0.9, "weight_decay": 4e-5,
              "label_smoothing": 0.1, "colour_jitter": "strong", "init_weights": "scratch"}
    assert {name: parsed[name] for name in recipe} == recipe
    assert parsed["dropout"] is None  # that of the network
    assert recipe_lib.DROPOUT == {"proxyless_gpu": 0.3, "proxyless_cpu": 0.2, "proxyless_mobile": 0.1,
                             "proxyless_mobile_14": 0.3}
    assert recipe_lib.DROPOUT.keys() <= set(arch.names())


def test_loss_smooths_labels():
    logits, labels = np.array([[2.0, -1.0, 0.5]], np.float32), np.array([0])
    probs = np.exp(logits[0]) / np.exp(logits[0]).sum()
    expected = -np.log(probs) @ (0.9 * np.array([1, 0, 0]) + 0.1 / 3)
    assert float(tf.reduce_mean(fit_lib.smoothed_loss(0.1)(labels, logits))) == pytest.approx(expected, rel=1e-5)


def test_strong_jitter_is_as_strong_as_the_authors():
    """Extremes over many draws of each property of colour, measured with colorsys and by hand."""
    image = np.zeros((4, 4, 3), np.float32)
    image[:2], image[2:] = (140, 100, 80), (90, 60, 40)
    hues, contrasts, saturations, levels = [], [], [], []
    grey = np.array([0.2989, 0.587, 0.114])

    def only(step, **what):
        changed = augment.colour_jitter(tf.constant(image), tf.constant([3, step]), augment.Jitter(**what))
        return changed.numpy().astype(np.float64)

    for step in range(300):
        levels.append(only(step, brightness=0.4)[0, 0, 0] / 140)
        changed = only(step, contrast=0.4)
        contrasts.append((changed[0, 0, 0] - changed[3, 0, 0]) / 50)
        changed = only(step, saturation=0.4)[0, 0]
        saturations.append((changed[0] - changed[2]) / 60)
        assert changed @ grey == pytest.approx(image[0, 0] @ grey, rel=1e-3)
        hue = colorsys.rgb_to_hsv(*(only(step, hue=0.1)[0, 0] / 255))[0] - colorsys.rgb_to_hsv(140, 100, 80)[0]
        hues.append((hue + 0.5) % 1 - 0.5)
    for values, low, high in ((levels, 0.6, 1.4), (contrasts, 0.6, 1.4), (saturations, 0.6, 1.4), (hues, -0.1, 0.1)):
        assert low - 1e-3 <= min(values) < low + 0.02 and high - 0.02 < max(values) <= high + 1e-3
    assert augment.JITTERS["strong"] == augment.Jitter(0.4, 0.4, 0.4, 0.1)


def test_jitter_of_files_is_the_one_asked_for(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(4):
            keras.utils.save_img(tmp_path / label / f"{number}.png", np.full((32, 32, 3), (200, 100, 50)), scale=False)
    part = data.load(f"folder:{tmp_path}", image_size=8).train

    def colours(jitter):
        batch, _ = next(iter(part.batches(4, augment=True, changes=Changes(jitter), seed=1).as_numpy_iterator()))
        return np.round(batch[:, 4, 4] * np.array(loading.IMAGENET_STD) + np.array(loading.IMAGENET_MEAN), 1)

    np.testing.assert_allclose(colours("none"), [[200, 100, 50]] * 4, atol=0.5)
    normal, strong = colours("normal"), colours("strong")
    assert np.ptp(normal, 0).max() > 5 and not np.allclose(normal, strong, atol=1)


def test_one_pass_says_its_length(tmp_path, small_data):
    """Without its length, Keras would warn at each validation that the data ran out."""
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(10):
            keras.utils.save_img(tmp_path / label / f"{number}.png", np.zeros((8, 8, 3)))
    for part in (small_data.test, data.load(f"folder:{tmp_path}", image_size=8).train):
        for skip in (0, 1):
            batches = part.batches(3, skip_steps=skip)
            assert int(batches.cardinality()) == len(list(batches)) == -(-part.size // 3) - skip > 0


# Where it starts.

def test_dropout_is_that_of_the_network(small_arch, tmp_path):
    model = initial_weights.build(small_arch, "scratch", RunFolder(str(tmp_path)), dropout=0.3).model
    assert model.get_layer("dropout").rate == 0.3


def test_cutout_sets_a_square_to_the_mean():
    images = tf.ones([200, 32, 24, 3])
    cut = augment.cutout(images, tf.constant([3, 4]), tf.range(200), 200, 8).numpy()
    assert set(np.unique(cut)) == {0.0, 1.0}
    zero = cut[..., 0] == 0
    rows, columns = zero.any(2).sum(1), zero.any(1).sum(1)
    np.testing.assert_array_equal(zero.sum((1, 2)), rows * columns)  # a rectangle: the square, or what lies inside
    assert rows.max() == columns.max() == 8 and rows.min() < 8 and len(np.unique(np.argmax(zero.any(2), 1))) > 15
    np.testing.assert_array_equal(cut[70:90], augment.cutout(images[70:90], tf.constant([3, 4]), tf.range(70, 90), 200,
                                                             8))


@pytest.mark.parametrize("files", [False, True])
def test_batches_with_cutout_are_those_without_but_for_the_squares(files, tmp_path):
    if files:
        for label in "ab":
            (tmp_path / label).mkdir()
            for number in range(10):
                keras.utils.save_img(tmp_path / label / f"{number}.png", np.full([40, 40, 3], 250), scale=False)
        part = data.load(f"folder:{tmp_path}", image_size=32).train
    else:
        part = data.load("fashion_mnist_small").train
    plain, cut = (next(iter(part.batches(8, augment=True, changes=Changes("none", side), seed=3, skip_steps=5)))
                  for side in (0, 10))
    np.testing.assert_array_equal(plain[1], cut[1])
    changed = np.any(plain[0] != cut[0], axis=-1)
    assert np.all(cut[0].numpy()[changed] == 0)
    assert 8 * 25 <= changed.sum() <= 8 * 100 if files else changed.any()
    assert len({tuple(np.flatnonzero(pixels)[:1]) for pixels in changed}) > 4  # another place in each image


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_and_leaves_a_float32_file(small_arch, tmp_path, precision):
    model = initial_weights.build(small_arch, "scratch", RunFolder(str(tmp_path)), precision=precision,
                                  drop_path=0.3).model
    kinds = {layer.compute_dtype for layer in model.layers if layer.weights and "classifier" not in layer.name}
    assert kinds == {precision.removeprefix("mixed_")}
    assert {weight.dtype for weight in model.weights} == {"float32"} and model.output.dtype == "float32"
    plain = network.portable(model)
    assert {layer.compute_dtype for layer in plain.layers} == {"float32"}
    images = np.random.default_rng(0).normal(size=(4, *model.input_shape[1:])).astype(np.float32)
    np.testing.assert_allclose(plain(images), model(images), atol=0.1)


def test_file_of_the_same_arch_gives_everything_but_a_head_of_other_classes(small_model, small_arch, tmp_path):
    small_model.save(tmp_path / "model.keras")
    same = initial_weights.build(small_arch, str(tmp_path / "model.keras"), RunFolder(str(tmp_path)), dropout=0.2).model
    for mine, theirs in zip(same.get_weights(), small_model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    other = arch.Arch(small_arch.space.for_data(24, 3, 7), small_arch.ops)
    model = initial_weights.build(other, str(tmp_path / "model.keras"), RunFolder(str(tmp_path))).model
    assert model.input_shape == (None, 24, 24, 3) and model.output_shape == (None, 7)
    for mine, theirs in zip(model.get_weights()[:-2], small_model.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_file_of_another_network_is_refused(small_model, small_arch, tmp_path):
    small_model.save(tmp_path / "model.keras")
    path, here = str(tmp_path / "model.keras"), RunFolder(str(tmp_path))
    for ops in ({"b00": "mb_k3_e3", "b02": "mb_k3_e1"}, {"b00": "mb_k5_e6", "b02": "zero"}):
        with pytest.raises(InputError, match="holds a network other than small"):
            initial_weights.build(arch.Arch(small_arch.space, ops), path, here)
    with pytest.raises(InputError, match="stem_conv_k3_conv holds"):
        initial_weights.build(arch.Arch(small_arch.space.for_data(16, 1, 4), small_arch.ops), path, here)
    (tmp_path / "model.keras").write_bytes(b"PK")
    with pytest.raises(InputError, match="not a Keras model") as error:
        initial_weights.build(small_arch, path, here)
    assert "\n" not in str(error.value)


# The command.

def run(*arguments):
    return forked.run(["pnas_tf.train", *arguments], cwd=ROOT)


@pytest.fixture(scope="module")
def trial(small_arch, small_npz, tmp_path_factory):
    """A trial run of train.flags on an arch in the format of the shipped archs."""
    folder = tmp_path_factory.mktemp("trial")
    small_arch.save(str(folder / "small.json"))
    command = ["--flagfile=train.flags", f"--arch={folder}/small.json", f"--dataset=npz:{small_npz}",
               f"--run_dir={folder}/run", "--batch_size=64", "--max_steps=15"]
    return folder, command, subprocess.run([sys.executable, "-m", "pnas_tf.train", *command], cwd=ROOT,
                                           capture_output=True, text=True, timeout=600, check=False)


def test_trial_run_of_the_recipe(trial, small_npz):
    folder, _, result = trial
    assert result.returncode == 0 and result.stderr == "", result.stderr
    facts = json.loads((folder / "run" / "train.json").read_text())
    assert facts["epochs"] == len(facts["history"]["loss"]) == 2  # of 7 steps: 480 of 600 images, 64 a step
    assert facts["dropout"] == 0 and facts["colour_jitter"] == "strong"
    assert facts["data"] == {"dataset": f"npz:{small_npz}", "data_dir": None, "seed": 0, "held_out_size": None,
                             "background": "white"}
    assert "--flagfile=train.flags" in facts["command"]


def test_arch_that_was_named_lies_beside_the_model(trial, small_arch):
    """An export needs the arch of model.keras."""
    folder, _, _ = trial
    from export import keras_model

    model = keras_model.load(str(folder / "run" / "model.keras"))
    assert keras_model.arch_beside(model, str(folder / "run")).ops == small_arch.ops


def test_run_and_export_find_the_data_set_of_the_training(trial, small_npz):
    from pnas_tf.run_folder import folder as run_folder

    folder, _, _ = trial
    assert run_folder.data_arguments(str(folder / "run"), trained=True)["spec"] == f"npz:{small_npz}"


def test_a_network_that_knows_test_images_is_refused(small_arch, tmp_path, capsys):
    """The seed splits the test images off, unless they lie in a folder of their own."""
    rng = np.random.default_rng(0)

    def write(*path):
        (tmp_path / "photos").joinpath(*path).parent.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(tmp_path.joinpath("photos", *path), rng.integers(0, 256, (16, 16, 3)))

    def train(name, *more):
        return run(f"--arch={tmp_path}/small.json", f"--dataset=folder:{tmp_path}/photos",
                   f"--run_dir={tmp_path}/{name}", "--image_size=8", "--batch_size=8", "--max_steps=2", *more)

    def check(seed, folder="photos", learned="first/model.keras", flag="init_weights"):
        """What is printed where a training goes on."""
        images = data.load(f"folder:{tmp_path}/{folder}", image_size=8, seed=seed)
        capsys.readouterr()
        known_images.check(recipe_lib.Recipe(seed=seed, **{flag: str(tmp_path / learned)}), images)
        return capsys.readouterr().out

    small_arch.save(str(tmp_path / "small.json"))
    for label in "abc":
        for number in range(12):
            write(label, f"{number}.png")
    assert train("first", "--seed=3").returncode == 0
    refused = train("refused", f"--init_weights={tmp_path}/first", "--seed=4")
    assert refused.returncode == 1 and "was trained on images that are test images now" in refused.stderr
    assert "Give --seed=3." in refused.stderr and not (tmp_path / "refused" / "model.keras").exists()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    for how in ({"flag": "teacher"}, {"folder": "link/../link"}, {"learned": "first"}):
        assert check(3, **how) == ""
        with pytest.raises(InputError, match=r"are test images now.* Give --seed=3\."):
            check(4, **how)
    with contextlib.chdir(tmp_path):  # words are no folders, whatever lies there
        shutil.copytree("first", "teacher")
        known_images.check(recipe_lib.Recipe(seed=4, init_weights="teacher"), data.load("folder:photos", image_size=8,
                                                                                        seed=4))
    shutil.copytree(tmp_path / "photos", tmp_path / "copy")
    assert check(3, "copy") == "" and "on another data set of these classes" in check(4, "copy")
    write("a", "new.png")
    assert "It may know some of what are test images now" in check(3)
    for label in "abc":
        (tmp_path / "photos" / "train").mkdir(exist_ok=True)
        (tmp_path / "photos" / label).rename(tmp_path / "photos" / "train" / label)
        write("test", label, "0.png")
    facts = json.loads((tmp_path / "first" / "train.json").read_text())
    facts["settings"]["contents of the images"] = data.load(f"folder:{tmp_path}/photos", image_size=8).fingerprint
    (tmp_path / "first" / "train.json").write_text(json.dumps(facts))
    assert check(4) == ""


def test_images_that_changed_since_the_search_are_refused(small_arch, small_npz, small_data, tmp_path):
    """A new split would test on images that the search has trained on."""
    small_arch.save(str(tmp_path / "arch.json"))
    (tmp_path / "run.flags").write_text(f"--dataset=npz:{small_npz}\n--seed=0\n")
    known = {"contents of the training images": small_data.train.fingerprint,
             "contents of the held-out images": "0123456789abcdef"}
    (tmp_path / "inputs.json").write_text(json.dumps(known))
    result = run(f"--run_dir={tmp_path}", "--max_steps=2")
    assert result.returncode == 1 and "The held-out images of npz:" in result.stderr, result.stderr
    assert "Put them back, or search again in another --run_dir." in result.stderr
    assert not (tmp_path / "model.keras").exists()
    known["contents of the held-out images"] = small_data.held_out.fingerprint
    (tmp_path / "inputs.json").write_text(json.dumps(known))
    result = run(f"--run_dir={tmp_path}", "--max_steps=2", "--batch_size=64")
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_interrupted_training_goes_on_to_the_same_result(trial, tmp_path):
    folder, command, _ = trial
    # More epochs than the trial has, so that it can be stopped in the middle; dropout, whose state has to go on, too.
    longer = [*command, f"--teacher={folder}/run/model.keras", "--max_steps=35", "--dropout=0.2", "--cutout=6",
              "--drop_path=0.2", "--ema=0.8", "--mixup=0.2", "--cutmix=1", "--randaugment=0.3"]
    whole = run(*longer, f"--run_dir={tmp_path}/whole")
    assert whole.returncode == 0, whole.stderr
    assert not (tmp_path / "whole" / "training").exists()

    def take_signals():  # a shell's background job, as CI may be, ignores SIGINT, and so would what it starts
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    part = [*longer, f"--run_dir={tmp_path}/part"]
    with subprocess.Popen([sys.executable, "-m", "pnas_tf.train", *part], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                          preexec_fn=take_signals) as process:
        for line in process.stdout:
            if line.startswith("epoch 1/5"):
                wait_for(tmp_path / "part" / "training" / "state.json")
                process.send_signal(signal.SIGINT)
                break
        process.stdout.read()
        assert process.wait(60) == 130
    other = run(*part, "--lr=0.2")
    assert other.returncode == 1 and "an interrupted training with other settings (lr)" in other.stderr
    state = json.loads((tmp_path / "part" / "training" / "state.json").read_text())
    rest = run(*part)
    assert rest.returncode == 0 and "Continuing after epoch" in rest.stdout, rest.stderr
    resumed, expected = (json.loads((tmp_path / name / "train.json").read_text()) for name in ("part", "whole"))
    assert len(resumed["history"]["loss"]) == 5 and resumed["seconds"] > state["seconds"]
    for name, values in expected["history"].items():
        np.testing.assert_allclose(resumed["history"][name], values, rtol=1e-3, err_msg=name)
    assert not (tmp_path / "part" / "training").exists()


@pytest.mark.parametrize(("content", "expected"), [
    ('{"epochs_done": 3', "cut off"), ("[]", "not the state of a training"),
    ('{"epochs_done": "3", "settings": {}, "history": {}, "seeds": [], "seconds": 1.0}', "not the state of a training"),
    ('{"epochs_done": 3, "settings": {"lr": 0.1}, "history": {}, "seeds": [], "seconds": 1.0}', "missing or damaged")])
def test_damaged_state_of_a_training_is_one_line(small_model, tmp_path, content, expected):
    from pnas_tf.train.state import TrainingState

    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "state.json").write_text(content)
    (tmp_path / "training" / "epoch_3.weights.h5").write_bytes(b"weights")
    model = keras.models.clone_model(small_model)
    model.compile("sgd")
    with pytest.raises(InputError, match=expected) as error:
        TrainingState(RunFolder(str(tmp_path)), {"lr": 0.1}).restore(model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("finished", [False, True])
def test_other_images_under_the_same_name_are_refused(small_model, tmp_path, finished):
    """A record of an earlier version says nothing about contents, and its training goes on."""
    from pnas_tf.train.state import CONTENTS, TrainingState

    def record(settings):
        facts = {"epochs_done": 3, "settings": settings, "history": {}, "seeds": [], "seconds": 1.0}
        (tmp_path / ("train.json" if finished else "training/state.json")).write_text(json.dumps(facts))

    def state_of(contents, **more):
        return TrainingState(RunFolder(str(tmp_path)), {"lr": 0.1, CONTENTS: contents}, **more)

    if finished:
        (tmp_path / "model.keras").write_bytes(b"model")
    else:
        (tmp_path / "training").mkdir()
    record({"lr": 0.1})
    assert state_of("01").settings[CONTENTS] == "01"
    record({"lr": 0.1, CONTENTS: "01"})
    state_of("01")
    with pytest.raises(InputError, match=r"other settings \(contents of the images\)"):
        state_of("02")
    state_of("02", overwrite=True)


def wait_for(path):
    for _ in range(6000):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written")


def bad_cases(folder, small_npz):
    recipe = [f"--arch={folder}/small.json", f"--dataset=npz:{small_npz}", "--flagfile=train.flags"]
    return {
        "other settings": ([f"--run_dir={folder}/run", *recipe, "--batch_size=64", "--lr=0.2", "--max_steps=15"],
                           "model.keras was trained with other settings (lr). Use another --run_dir, or --overwrite"),
        "another network's folder": ([f"--run_dir={folder}/run", "--arch=mobilenet_v2", f"--dataset=npz:{small_npz}"],
                                     "describes another network (small, 16 px, 4 classes). Use another --run_dir"),
        "unknown start": ([f"--run_dir={folder}/new", "--init_weights=webimages", "--arch=mobilenet_v2"],
                          "must be scratch, inherited, imagenet, teacher, a .keras file or the folder of a training, "
                          "got 'webimages'"),
        "unknown teacher": ([f"--run_dir={folder}/new", "--teacher=none.keras", "--arch=mobilenet_v2"],
                            "must be auto, none or a .keras file that exists, got 'none.keras'"),
        "no such start": ([f"--run_dir={folder}/new", "--init_weights=no.keras", "--arch=mobilenet_v2"],
                          "no.keras: no such file"),
        "no search": ([f"--run_dir={folder}/new", f"--arch={folder}/small.json", f"--dataset=npz:{small_npz}",
                       "--init_weights=inherited"], "needs the folder of a finished search"),
        "unknown jitter": ([f"--run_dir={folder}/new", "--colour_jitter=wild"], "colour_jitter"),
    }


@pytest.mark.parametrize("case", bad_cases("", ""))
def test_bad_input_is_one_line_and_changes_nothing(trial, small_npz, case):
    folder, _, _ = trial
    before = times_of_files(folder / "run")
    more, expected = bad_cases(folder, small_npz)[case]
    result = run(*more)
    assert result.returncode != 0 and expected in result.stderr and "Traceback" not in result.stderr
    assert before == times_of_files(folder / "run")
    assert not (folder / "new" / "model.keras").exists()


def times_of_files(folder):
    return {name: os.path.getmtime(folder / name) for name in os.listdir(folder) if name != ".lock"}


def test_a_folder_that_another_process_writes_is_refused(trial, small_npz):
    folder, _, _ = trial
    with claim.locked(str(folder / "run")):
        result = run(f"--run_dir={folder}/run", f"--dataset=npz:{small_npz}")
    assert result.returncode == 1 and f"is in use by another process (process {os.getpid()}" in result.stderr
    assert "Traceback" not in result.stderr
