"""The shipped flag files: found by name, the search reads each of them, and each opens with its command."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pnas_tf.cli import flag_files
from pnas_tf.errors import InputError
from pnas_tf.space import arch, spaces

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "pnas_tf" / "flags"
FILES = flag_files.names()
# Searches on images that the user has to name.
LEFT_TO_THE_USER = ("mobile.flags", "mobile_int8.flags", "cpu.flags", "gpu.flags", "mobile_2024.flags")
SEARCHES = [name for name in FILES if not name.endswith("train.flags")]


@pytest.fixture(scope="module")
def values():
    """Flags by file, read with the definitions of the entry point in a process of its own."""
    code = ("import json, sys; from absl import flags\n"
            "from pnas_tf.cli.flag_files import found; from pnas_tf.search import command\n"
            "command.define_flags(); values = {}\n"
            "for name in sys.argv[1:]:\n"
            "    flags.FLAGS.unparse_flags()\n"
            "    flags.FLAGS(['search', *found(['--flagfile=' + name])])\n"
            "    values[name] = flags.FLAGS.flag_values_dict()\n"
            "print(json.dumps(values))")
    result = subprocess.run([sys.executable, "-c", code, *SEARCHES], cwd=ROOT, check=True, capture_output=True,
                            text=True)
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", SEARCHES)
def test_a_flag_file_names_a_space_data_and_a_table(values, name):
    search = values[name]
    assert spaces.load(search["space"]).choices and search["table"]
    assert bool(search["dataset"]) == (name not in LEFT_TO_THE_USER)


@pytest.mark.parametrize("name", FILES)
def test_a_flag_file_opens_with_command_needs_duration_and_result(name):
    comment = re.match(r"(?:#.*\n)+", (FOLDER / name).read_text(encoding="utf-8"))[0]
    commands = re.sub(r" *\\\n# +", " ", comment)
    module = "pnas_tf.search" if name in SEARCHES else "pnas_tf.train"
    assert re.search(rf"^#   python -m {module} --flagfile={name} .*--run_dir=", commands, flags=re.M)
    assert re.search(r"^# Needs: ", comment, flags=re.M)
    # A figure comes with its machine and date.
    took = re.search(r"^# Took(?:, result)?: (.*)", comment, flags=re.M | re.S)[1]
    assert "not yet run" in took or re.search(r"cores of a virtual .*20\d\d-\d\d-\d\d", took, flags=re.S)
    assert all(len(line) <= 100 for line in comment.splitlines())


def test_the_papers_searches_are_as_in_the_paper(values):
    """As in the authors' code: 40 epochs of warm-up, 120 of search, batches of 256, an alpha step after five."""
    names = ("warmup_epochs", "search_epochs", "batch_size", "arch_every", "warmup_lr", "lr")
    for name in LEFT_TO_THE_USER:
        assert [values[name][flag] for flag in names] == [40, 120, 256, 5, 0.05, 0.025]


def test_the_papers_search_on_cifar10_is_as_in_the_paper(values):
    """Section 4.1: 648 decisions, 5,000 images held out, alphas by Adam at 0.006, no latency in the loss."""
    search = values["cifar10.flags"]
    assert len(spaces.load(search["space"]).choices) == 648 and search["held_out_size"] == 5000
    assert search["alpha_lr"] == 0.006 and search["latency_loss"] == "none" and search["paths"] == "two"
    assert search["cutout"] == 16 and search["warmup_epochs"] + search["search_epochs"] == 200


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHES)
def test_a_shipped_search_runs_to_its_end(values, name, small_npz, write_space, tmp_path):
    """A few steps on small images and at a made-up price of each op; the 648 choices of the paper's cells become 36."""
    space_name = {"cifar_tree": "cifar_tree_b1_f88"}.get(values[name]["space"], values[name]["space"])
    size = 32 if space_name.startswith("cifar") else 64
    space = spaces.load(space_name).for_data(size, 3, 4)
    write_space(space, tmp_path / "space.json", tmp_path / "table.jsonl")
    result = subprocess.run(
        [sys.executable, "-m", "pnas_tf.search", f"--flagfile={name}", f"--space={space_name}", f"--image_size={size}",
         f"--dataset=npz:{small_npz}", f"--table={tmp_path}/table.jsonl", "--max_steps=4", "--batch_size=4",
         "--held_out_size=100", f"--run_dir={tmp_path}/run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    delivered = arch.load(f"{tmp_path}/run/arch.json")
    assert set(delivered.ops) == set(space.choices) and delivered.costs["table_ms"] > 0


def test_shipped_flag_files_are_found_by_name(tmp_path, monkeypatch):
    """In any folder; a file of that name in the current folder wins, and other arguments stay."""
    monkeypatch.chdir(tmp_path)
    shipped = str(FOLDER / "quickstart.flags")
    assert flag_files.found(["--flagfile=quickstart.flags", "--lr=1"]) == [f"--flagfile={shipped}", "--lr=1"]
    assert flag_files.found(["--lr=1", "-flagfile", "quickstart.flags"]) == ["--lr=1", "-flagfile", shipped]
    for others in ([], ["--flagfile"], ["--flagfile="], ["--flagfile=no.flags"], ["--flagfile=x/quickstart.flags"],
                   ["--", "--flagfile=quickstart.flags"], ["quickstart.flags"]):
        assert flag_files.found(others) == others
    with pytest.raises(InputError, match=r"no\.flags: cannot be read.*shipped one: .*quickstart\.flags"):
        flag_files.check(["--flagfile=no.flags"])
    (tmp_path / "quickstart.flags").touch()
    assert flag_files.found(["--flagfile=quickstart.flags"]) == ["--flagfile=quickstart.flags"]


@pytest.mark.parametrize("arguments, expected", [
    (["--flagfile=mobile.flags"],
     "Name the images and a folder for the results: --dataset=folder:PATH --run_dir=DIR."),
    (["--flagfile=quickstart.flags"], "Name a folder for the results: --run_dir=DIR."),
    (["--flagfile=mobile_int8.flags", "--run_dir=no"], "latency.build_table")])
def test_what_a_flag_file_leaves_to_the_user_is_one_line(tmp_path, arguments, expected):
    """As is a table that is not built yet. In a folder that holds nothing, and stays so."""
    result = subprocess.run([sys.executable, "-m", "pnas_tf.search", *arguments], cwd=tmp_path, capture_output=True,
                            env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, check=False)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and expected in result.stderr
    assert not any(tmp_path.iterdir())
