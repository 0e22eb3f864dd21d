"""Every command of README, CONTRIBUTING, docs and benchmarks is run, or is listed here with the reason why not.

Quick tests check that each command is accounted for and that its entry point reads its flags. A slow test runs the
commands in the order of the documents, as a reader would, in one folder with photos and data sets. It changes only
values: CHANGED and SQUEEZED.
"""

import importlib
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from absl import app, flags

from pnas_tf import __main__ as listing

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")),
             *sorted((ROOT / "benchmarks").glob("*.md"))]
# Fenced blocks, indented ones, and code in running text, which may continue on a second line.
CODE = re.compile(r"^```(?P<language>\w*)\n(?P<fenced>.*?)^```$|(?P<indented>(?:^ {4}[^\n]+\n)+)"
                  r"|`(?P<inline>[^`\n]+(?:\n[^`\n]+)?)`", flags=re.S | re.M)
# How a command begins.
TYPED = re.compile(r"(python|pip|make|tensorboard|bazel|unzip|apt-get|adb|for|pnas-[a-z]+) ")
OURS = re.compile(r"python -m (pnas_tf|export|latency|benchmarks)\b")
# Names of files and run folders, through which commands depend on earlier ones.
FILES = re.compile(r"\bruns/\w+|\b\w+\.(?:jsonl|keras|npz|json)\b")
# Values for words in capitals, where a flag takes one of a few.
STANDS_FOR = {"FORMAT": "tunas", "DTYPE": "int8"}

# Commands by their beginning, with the reason why no test runs them.
NOT_RUN = {
    "pip install adbutils": "in requirements-dev.txt",
    "pip install ethos-u-vela": "in requirements-dev.txt",
    "pip install pillow-heif": "reads HEIC files, of which the tests have none",
    "adb ": "phone; the tests of phones drive the real adb (tests/latency/phones/test_android.py)",
    "python -m latency.build_table --space=proxyless_imagenet --measurer=android": "phone",
    "python -m latency.build_table --measurer=android": "phone",
    "python -m latency.compare --table=phone.jsonl": "phone",
    "python -m pnas_tf.auto photos --ms=5 --table=phone96_int8.jsonl": "phone",
    "python -m latency.profile --model=runs/mine/int8.tflite --measurer=android": "phone",
    "python -m benchmarks.speed.supernet_step": "PyTorch",
    "python -m benchmarks.speed.training_step": "PyTorch, and XLA's minutes of compiling",
    "bazel build -c opt --config=android_arm64": "LiteRT's source and Android's NDK",
    'python -c "import numpy, torch;': "PyTorch; tests/test_import_weights.py runs it where that is installed",
    'python -c "import keras; keras.applications.MobileNetV2()': "downloads; tests/test_keras_mobilenet.py reads files "
                                                                 "of random weights",
    "apt-get install": "changes the machine",
    "pip install numpy ai-edge-litert": "downloads; tests/export/test_bundle.py does it",
    "pip install tensorboard": "downloads",
    "tensorboard ": "serves until it is stopped; tests/search/test_tensorboard.py reads what it shows",
    "pip install pre-commit": "downloads, and changes the repository",
    'pip install "tensorflow[and-cuda]': "GPU",
    'pip install ".[cuda]"': "GPU",
    'pip install ".[tfds,tensorboard]"': "downloads; tests/test_ranges.py resolves the extras",
    "make install": "make quickstart begins with it",
    "pip install ai-edge-litert": "in requirements.txt",
    "make test": "this test is one of them",
    "make lint": "downloads what it checks with",
    "python -m pytest": "tests themselves",
    "python -m pnas_tf.search ... --strategy": "GPU; tests/search/test_replicas.py runs it on CPUs",
}
# Commands by their beginning, with the test that runs them.
RUN_BY = {
    "make quickstart": "test_quickstart.py",
    "make docs": "test_api.py",
    "pip install .": "test_packaging.py",
    "python -m latency.build_table --space=quickstart --measurer=vela": "latency/test_vela.py",
    "python -m latency.search --flagfile=quickstart.flags --table=runs/u55.jsonl": "latency/test_vela.py",
    "python -m latency.compare --table=runs/u55.jsonl": "latency/test_vela.py",
    "python scripts/make_build.py": "test_bazel.py",
    "python -m latency.build_table --import=my_ops.py": "supernet/test_extending.py",
    "python -m latency.compare --import=my_ops.py": "supernet/test_extending.py",
    "python -m pnas_tf.search --import=my_ops.py": "supernet/test_extending.py",
    "python -m pnas_tf.train --import=my_ops.py": "supernet/test_extending.py",
    "python -m export.tflite --import=my_ops.py": "supernet/test_extending.py",
    "python -m pnas_tf.report --import=my_ops.py": "supernet/test_extending.py",
    "python my_measurer.py": "latency/test_your_measurer.py",
    "python -m latency.build_table --space=quickstart --measurer=ssh": "latency/test_ssh.py",
    "python -m latency.compare --table=board.jsonl": "latency/test_ssh.py",
    "python -m benchmarks.speed.soak": "benchmarks/test_soak.py",
    "python -m benchmarks.speed.waiting": "benchmarks/test_waiting.py",
    "python -m benchmarks.speed.sampled": "benchmarks/test_waiting.py",
    "python -m benchmarks.speed.scaling": "benchmarks/test_scaling.py",
    "python -m benchmarks.speed.side_by_side": "benchmarks/test_scaling.py",
    "python -m benchmarks.targets.specialise": "benchmarks/test_specialise.py",
    "python -m benchmarks.targets.on_target": "benchmarks/test_on_target.py",
    "python -m benchmarks.quality.search_quality": "benchmarks/test_search_quality.py",
    "python -m benchmarks.quality.tree_search": "benchmarks/test_tree_search.py",
    "python -m benchmarks.targets.time_statistics": "benchmarks/test_time_statistics.py",
    "python -m benchmarks.targets.networks": "benchmarks/test_networks.py",
    "python -m benchmarks.targets.transfer": "benchmarks/test_transfer.py",
    "python -m benchmarks.quality.nas_bench_macro": "benchmarks/test_nas_bench_macro.py",
    "python -m benchmarks.quality.photo_folders": "benchmarks/test_photo_folders.py",
    "python -m benchmarks.quality.photos": "benchmarks/test_photos.py",
    "python -m latency.import_table --format=networks": "latency/test_network_lists.py",
    "python -m latency.compare --table=mine_table.jsonl": "latency/test_network_lists.py",
}
# Small data, files and numbers in place of those of a document.
CHANGED = {
    "--data_dir=DIR": "--data_dir=cifar",
    "folder:imagenet": "folder:photos",
    "--arch=...": "--arch=runs/mine/arch.json",
    "--arch=NAME": "--arch=mobilenet_v2 --dataset=folder:photos --image_size=32 --run_dir=runs/named",
    "--run_dir=...": "--run_dir=runs/cifar",
    "SPACE": "quickstart",
    "DTYPE": "int8",
    "--format=FORMAT --source=FILE": "--format=proxylessnas_yaml --source=published.yaml",
    "quickstart cifar_mb proxyless_imagenet proxyless_mobile": "quickstart",
    "quickstart cifar_mb;": "quickstart;",
    "--target_name=": "--rounds=1 --runs=2 --target_name=",
    "--networks=100": "--networks=4",
    "--networks=50": "--networks=10",
    "--networks=30": "--networks=4",
    "--networks=20": "--networks=4",
    "--networks=6": "--networks=2",
    "--calibrate=100": "--calibrate=6",
    "--together=130": "--together=10",
    "host.jsonl:0.0579,host.jsonl:0.1122,host_int8.jsonl:0.0363,host_int8.jsonl:0.0621":
        "small.jsonl:1.8,small_int8.jsonl:1.5",
    "--held_out_size=5000": "--held_out_size=40",
    "--table=phone.jsonl --target_ms=60": "--table=x86_xnnpack1_float32 --target_ms=8",
    "runs/quickstart": "runs/mine",
    "runs/mobile": "runs/photos224",
    "bundle/": "runs/mine/bundle/",
    "unzip int8.tflite": "unzip -o runs/mine/int8.tflite",
}
# Further flags, which override earlier ones, by the beginning of a command; the longest match counts.
SQUEEZED = {
    "python -m pnas_tf.auto": "--ms=0 --image_size=32 --max_steps=8 --run_dir=runs/auto",
    "python -m latency.build_table": "--rounds=1 --runs=2",
    "python -m latency.build_table --space=proxyless_imagenet --dtype=int8": "--rounds=1 --runs=2 --only=mb_k3_e3",
    "python -m latency.build_table --space=proxyless_imagenet --measurer=xla --batch_size=8":
        "--rounds=1 --runs=2 --only=mb_k3_e3",
    "python -m latency.compare": "--rounds=1 --runs=2",
    "python -m latency.transfer": "--rounds=1 --runs=2",
    "python -m pnas_tf.search": "--max_steps=8",
    "python -m latency.search": "--flagfile=quickstart.flags --table=runs/host.jsonl --target_ms=0.2 --max_steps=8 "
                                "--run_dir=runs/timed",
    "python -m pnas_tf.search --flagfile=mobile.flags": "--max_steps=2 --batch_size=4",
    "python -m pnas_tf.train": "--max_steps=8 --overwrite",
    "python -m pnas_tf.train --flagfile=train.flags": "--max_steps=2 --batch_size=4 --overwrite",
    "python -m export.tflite": "--allow_drop --check_images=64 --qat_epochs=1 --timing_seconds=0",
    "python -m benchmarks.speed.depthwise_gradient": "--runs=1",
    "python -m benchmarks.speed.epoch_share": "--space=cifar_mb --image_size=32 --batch_size=4 --steps=2 --rounds=1",
    "python -m benchmarks.speed.supernet_cost":
        "--space=cifar_mb --image_size=32 --batch_size=4 --kinds=weight --paths=1 --repeats=2",
    "python -m benchmarks.quality.estimator_quality":
        "--space=quickstart --dataset=fashion_mnist_small --warmup_epochs=1 --images=40 --eval_batch_size=40 --paths=1",
    "python -m benchmarks.speed.export_modes": "--arch=runs/mine/arch.json --num_classes=10",
    "python -m benchmarks.speed.loading": "--images=1000 --rows=1000",
    "python -m benchmarks.speed.safety_cost": "--epochs=2",
}


def code_of(path):
    """(kind, lines, text around it) of each piece of shell code in a document."""
    text = path.read_text(encoding="utf-8")
    for piece in CODE.finditer(text):
        around = text[:piece.start()].rstrip().rpartition("\n\n")[2] + text[piece.end():].partition("\n\n")[0]
        if piece["inline"]:
            yield "inline", [re.sub(r"\s*\n\s*", " ", piece["inline"])], around
        elif not piece["language"]:
            block = piece["fenced"] or textwrap.dedent(piece["indented"])
            block = re.sub(r"(?<=\S) {2,}", " ", re.sub(r"\s*\\\n\s*", " ", block))
            yield piece.lastgroup, re.findall(r"^for .*?^done$|^[^\n]+$", block, flags=re.S | re.M), around


def all_commands():
    """{command: (document, text beside it)}, in the order of the documents."""
    commands = {}
    for path in DOCUMENTS:
        for _, lines, around in code_of(path):
            for command, _, comment in (line.partition(" #") for line in lines):
                if TYPED.match(command):
                    commands.setdefault(command, (path, f"{around} {comment}"))
    # Running text may name a command without the flags that it has elsewhere.
    return {command: about for command, about in commands.items()
            if "--" in command or not any(other.startswith(f"{command} ") for other in commands)}


def first(table, command):
    """The entry of a table for a command, by the longest beginning that matches; None without a match."""
    matches = [start for start in table if f"{command} ".startswith(start)]
    return table[max(matches, key=len)] if matches else None


ALL = all_commands()
RUN = [command for command in ALL if not first(NOT_RUN, command) and not first(RUN_BY, command)]


def each(commands):
    """Parametrizes a test by commands."""
    return pytest.mark.parametrize("command", [pytest.param(command, id=f"{ALL[command][0].name}: {command[:90]}")
                                               for command in commands])


def test_every_command_is_run_or_says_why_not():
    assert {command.split()[2] for command in RUN if OURS.match(command)} >= set(listing.COMMANDS.values())
    for command in RUN:
        assert OURS.match(command) or command.startswith(("for ", "unzip ", "python bundle/run.py")), \
            f"{ALL[command][0].name}: give the reason in NOT_RUN why no test runs this: {command}"
    for name in RUN_BY.values():
        assert (ROOT / "tests" / name).exists()


def test_what_needs_a_phone_or_a_gpu_is_marked_so():
    for command, (path, beside) in ALL.items():
        needed = re.match(r"phone|GPU", first(NOT_RUN, command) or "")
        assert not needed or needed[0] in beside, f"{path.name}: mark as needing a {needed[0]}: {command}"


def test_fenced_blocks_hold_commands_alone():
    for path in DOCUMENTS:
        for kind, lines, _ in code_of(path):
            for line in lines if kind == "fenced" else ():
                assert TYPED.match(line), f"{path.name}: this is not a command: {line}"


@pytest.mark.parametrize("table", [NOT_RUN, RUN_BY, SQUEEZED, CHANGED],
                         ids=["not run", "run by", "squeezed", "changed"])
def test_no_entry_is_left_over(table):
    for entry in table:
        assert any(entry in command if table is CHANGED else f"{command} ".startswith(entry) for command in ALL), entry


@each(command for command in ALL if OURS.match(command))
def test_flags_are_those_of_the_entry_point(command, monkeypatch):
    module, *arguments = shlex.split(command)[2:]
    arguments = ["=".join(STANDS_FOR.get(part, part) for part in value.split("="))
                 for value in arguments if value != "..."]
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    if (ROOT / module.replace(".", "/") / "command.py").exists():
        module += ".command"  # a package whose __main__.py calls it
    if not (ROOT / (module.replace(".", "/") + ".py")).exists():
        assert module == "pnas_tf", module  # lists the commands and has no flags
        return
    app.define_help_flags()
    known = set(flags.FLAGS)
    monkeypatch.setattr(sys, "argv", [module, *arguments, "--only_check_args"])
    try:
        with pytest.raises(SystemExit) as ended:
            importlib.import_module(module).main()
        assert not ended.value.code
    finally:
        for name in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()


@pytest.fixture(scope="module")
def ran():
    """The commands that have been run."""
    return set()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, write_space, random_state):
    """A folder with photos, data sets and files, in which each command finds the output of earlier ones."""
    import keras
    import numpy as np

    from pnas_tf import import_weights, net_config, network
    from pnas_tf.space.spaces import SPACES

    folder, rng = tmp_path_factory.mktemp("docs"), np.random.default_rng(0)
    for number, label in enumerate(("cat", "dog", "hare", "owl", "snail")):
        (folder / "photos" / label).mkdir(parents=True)
        for image in range(12):
            # Smooth, as photos are: on noise, no feature of a pretrained network says anything.
            pixels = np.clip(rng.normal(50 * number + 20, 60, (5, 5, 3)), 0, 255).repeat(16, 0).repeat(16, 1)
            pixels = pixels[:70 + image % 10]
            keras.utils.save_img(folder / "photos" / label / f"{image}.jpg", pixels, scale=False)
    (folder / "cifar").mkdir()
    np.savez(folder / "cifar" / "cifar10.npz", **{
        f"{kind}_{part}": values for part in ("train", "test") for kind, values in
        (("x", rng.integers(0, 255, (200, 32, 32, 3), np.uint8)), ("y", np.arange(200) % 10))})
    small = SPACES["quickstart"].for_data(32, 3, 10)
    for name in ("small", "small_int8"):
        write_space(small, folder / "space.json", folder / f"{name}.jsonl", target=name)
    (folder / "published.yaml").write_text(
        "Logits-input:7x7x1280-output:1000:\n  count: 500\n  mean: 0.3\n  var: 0.01\n")
    model = network.build_network("mobilenet_v2", num_classes=5, input_shape=(32, 32, 3))
    network.portable(model).save(folder / "photos.keras")
    np.savez(folder / "net.npz", **random_state(net_config.write(import_weights.load_arch("proxyless_mobile", 5))))
    keras.applications.MobileNetV2(weights=None, classes=5).save_weights(folder / "mobilenet_v2.weights.h5")
    return folder


def changed(command):
    """The command with small data, files and numbers."""
    for old, new in CHANGED.items():
        command = command.replace(old, new)
    return command


def files_of(command):
    """Names of the files and run folders of a command as it is run."""
    return set(FILES.findall(f"{changed(command)} {first(SQUEEZED, command) or ''}"))


def needed(command):
    """Earlier commands that make what this one reads: those that name one of its files or run folders, and theirs."""
    names = files_of(command)
    before = []
    for earlier in reversed(RUN[:RUN.index(command)]):
        if names & (theirs := files_of(earlier)):
            names |= theirs
            before.insert(0, earlier)
    return before


def test_needed_commands_are_found():
    """If only some tests of this file are selected, they run the commands that they need."""
    before = needed("python bundle/run.py")
    steps = ["latency.build_table", "pnas_tf.search", "pnas_tf.train", "export.tflite", "export.bundle"]
    places = [next(number for number, command in enumerate(before) if step in command) for step in steps]
    assert places == sorted(places) and not any("photos" in command for command in before)


@pytest.mark.slow
@each(RUN)
def test_commands_run(command, workplace, ran):
    for each_command in [*needed(command), command]:
        if each_command not in ran:
            ran.add(each_command)
            run_command(each_command, workplace)


def run_command(command, workplace):
    """Runs a command as a reader would."""
    command = changed(command)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3",
                   "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])}
    done = subprocess.run(["bash", "-ec", f"{command} {first(SQUEEZED, command) or ''}"], cwd=workplace, timeout=900,
                          env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    assert "Traceback" not in done.stderr
