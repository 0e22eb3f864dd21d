"""The flag files of the repository: the search reads each of them, and each opens with its command."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pnas_tf.space import spaces

ROOT = Path(__file__).parents[2]
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.flags"), *ROOT.glob("flags/*.flags")))
SEARCHES = [name for name in FILES if not name.endswith("train.flags")]


@pytest.fixture(scope="module")
def values():
    """Flags by file, read with the definitions of the entry point in a process of its own."""
    code = ("import json, sys; from absl import flags; from pnas_tf.search import command\n"
            "command.define_flags(); values = {}\n"
            "for name in sys.argv[1:]:\n"
            "    flags.FLAGS.unparse_flags()\n"
            "    flags.FLAGS(['search', '--flagfile=' + name]); values[name] = flags.FLAGS.flag_values_dict()\n"
            "print(json.dumps(values))")
    result = subprocess.run([sys.executable, "-c", code, *SEARCHES], cwd=ROOT, check=True, capture_output=True,
                            text=True)
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", SEARCHES)
def test_a_flag_file_names_a_space_data_and_a_table(values, name):
    search = values[name]
    assert spaces.load(search["space"]).choices and search["table"] and search["dataset"]


@pytest.mark.parametrize("name", FILES)
def test_a_flag_file_opens_with_command_needs_duration_and_result(name):
    comment = re.match(r"(?:#.*\n)+", (ROOT / name).read_text(encoding="utf-8"))[0]
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
    for name in ("mobile.flags", "flags/mobile_int8.flags", "flags/cpu.flags", "flags/gpu.flags"):
        assert [values[name][flag] for flag in names] == [40, 120, 256, 5, 0.05, 0.025]


def test_the_papers_search_on_cifar10_is_as_in_the_paper(values):
    """Section 4.1: 648 decisions, 5,000 images held out, alphas by Adam at 0.006, no latency in the loss."""
    search = values["flags/cifar10.flags"]
    assert len(spaces.load(search["space"]).choices) == 648 and search["held_out_size"] == 5000
    assert search["alpha_lr"] == 0.006 and search["latency_loss"] == "none" and search["paths"] == "two"
    assert search["cutout"] == 16 and search["warmup_epochs"] + search["search_epochs"] == 200


def test_a_table_that_is_not_built_yet_is_one_line_that_says_how():
    command = [sys.executable, "-m", "pnas_tf.search", "--flagfile=flags/mobile_int8.flags",
               "--run_dir=/no/such/folder"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and "latency.build_table" in result.stderr
