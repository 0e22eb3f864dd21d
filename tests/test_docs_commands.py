"""Every command of README and docs: its flags are read by the entry point, and it is run, or marked as needing more.

A slow test runs the commands in the order of the documents, each squeezed to seconds by further flags. Those that need
a phone, a GPU, PyTorch, ImageNet or the network say so: in a comment behind the command, or in the paragraph before it.
"""

import contextlib
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from absl import app, flags

ROOT = Path(__file__).parent.parent
# What was measured, and how: hours. docs/extending.md and docs/scale.md have tests of their own or need GPUs.
MEASUREMENTS = {"results.md", "method.md", "reliability.md", "scale.md", "extending.md"}
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NEEDS = re.compile(r"\b(phone|GPU|PyTorch|ImageNet|network)\b")
# Words in capitals, where a flag takes one of a few.
STANDS_FOR = {"FORMAT": "tunas", "DTYPE": "int8"}
SQUEEZED = {
    "latency.build_table": ["--rounds=1", "--runs=2"], "latency.compare": ["--networks=2", "--rounds=1", "--runs=2"],
    "pnas_tf.search": ["--max_steps=8"], "pnas_tf.train": ["--max_steps=8"],
    "export.tflite": ["--allow_drop", "--check_images=64"],
}


def commands(path):
    """(command line, what it says to need) of a document's blocks and inline code that start a module of ours."""
    text = path.read_text(encoding="utf-8")
    blocks = [(match[2], text[:match.start()].rstrip().rpartition("\n\n")[2])
              for match in re.finditer(r"^```(?:bash|sh|console)?\n()(.*?)^```", text, flags=re.S | re.M)]
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    indented = re.compile(r"(?:^ {4}.*\n)+", re.M)
    blocks += [(re.sub(r"^ {4}", "", match[0], flags=re.M), text[:match.start()].rstrip().rpartition("\n\n")[2])
               for match in indented.finditer(text)]
    blocks += [(match[1], "") for match in re.finditer(r"`(python -m [^`]+)`", indented.sub("", text))]
    for block, before in blocks:
        said_before = " ".join(re.findall(r"\*\(?(\w+)\)?\*", before))
        for line in block.replace("\\\n", " ").splitlines():
            marked = NEEDS.search(line.partition("#")[2]) or NEEDS.search(said_before)
            if re.match(r"python -m (pnas_tf|export|latency|benchmarks)\b", line):
                yield shlex.join(shlex.split(line, comments=True)), marked[1] if marked else ""


ALL = [pytest.param(path, command, needs, id=f"{path.name}: {command[:90]}")
       for path in DOCUMENTS for command, needs in dict.fromkeys(commands(path))]


def test_there_are_commands_to_check():
    assert len(ALL) > 40 and {path.name for path, *_ in (param.values for param in ALL)} >= {"README.md", "export.md"}


@pytest.mark.parametrize(("path", "command", "needs"), ALL)
def test_flags_are_those_of_the_entry_point(path, command, needs, monkeypatch):
    module, *arguments = shlex.split(command)[2:]
    arguments = ["=".join(STANDS_FOR.get(part, part) for part in value.split("="))
                 for value in arguments if value != "..."]
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    if not (ROOT / (module.replace(".", "/") + ".py")).exists():
        return  # it has no flags, and tests/test_terminal.py runs it
    app.define_help_flags()
    known = set(flags.FLAGS)
    monkeypatch.setattr(sys, "argv", [module, *arguments, "--only_check_args"])
    try:
        with pytest.raises(SystemExit) as ended:
            importlib.import_module(module).main()
        assert not ended.value.code, f"{path.name}: {command}"
    finally:
        for name in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()


def test_commands_for_phones_and_gpus_are_marked():
    for path, command, needs in (param.values for param in ALL):
        if path.name not in MEASUREMENTS and ("--measurer=android" in command or "android" in command):
            assert needs == "phone", f"{path.name}: mark as needing a phone: {command}"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with photos, where the documents' commands leave what later ones read."""
    import keras
    import numpy as np

    folder, rng = tmp_path_factory.mktemp("docs"), np.random.default_rng(0)
    for number, label in enumerate(("cat", "dog", "hare", "owl", "snail")):
        (folder / "photos" / label).mkdir(parents=True)
        for image in range(12):
            pixels = np.clip(rng.normal(50 * number + 20, 30, (70 + image, 80, 3)), 0, 255)
            keras.utils.save_img(folder / "photos" / label / f"{image}.jpg", pixels, scale=False)
    for path in ROOT.glob("*.flags"):
        (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.name == "README.md"], ids=lambda path: path.name)
def test_commands_run(path, workplace):
    done = []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    for command, needs in dict.fromkeys(commands(path)):
        module = shlex.split(command)[2]
        if needs or "photos.keras" in command or module == "pnas_tf.import_weights":
            continue  # photos.keras: tests/test_readme.py; weights: tests/test_import_weights.py
        with contextlib.chdir(workplace):
            result = subprocess.run([sys.executable, *shlex.split(command)[1:], *SQUEEZED.get(module, [])],
                                    env=environment, capture_output=True, text=True, timeout=900, check=False)
        assert result.returncode == 0, f"{command}\n{result.stdout[-1500:]}\n{result.stderr[-1500:]}"
        done.append(module)
    assert {"latency.build_table", "pnas_tf.search", "pnas_tf.train", "export.tflite", "pnas_tf.report"} <= set(done)
