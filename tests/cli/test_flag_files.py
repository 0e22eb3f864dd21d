"""The flag files of the repository: each is one that the search reads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pnas_tf.space import spaces

ROOT = Path(__file__).parents[2]
SEARCHES = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.flags"), *ROOT.glob("flags/*.flags"))
                  if not path.name.endswith("train.flags"))


@pytest.fixture(scope="module")
def values():
    """Flags by file, read by the entry point's own definitions in a process of its own."""
    code = ("import json, sys; from absl import flags; from pnas_tf.search import command; command.define_flags(); found = {}\n"
            "for name in sys.argv[1:]:\n"
            "    flags.FLAGS.unparse_flags()\n"
            "    flags.FLAGS(['search', '--flagfile=' + name]); found[name] = flags.FLAGS.flag_values_dict()\n"
            "print(json.dumps(found))")
    result = subprocess.run([sys.executable, "-c", code, *SEARCHES], cwd=ROOT, check=True, capture_output=True,
                            text=True)
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", SEARCHES)
def test_a_flag_file_names_a_space_data_and_a_table(values, name):
    found = values[name]
    assert spaces.load(found["space"]).choices and found["table"] and found["dataset"]


def test_the_papers_searches_are_as_in_the_paper(values):
    """As in the authors' code: 40 epochs of warm-up, 120 of search, batches of 256, an alpha step after five."""
    names = ("warmup_epochs", "search_epochs", "batch_size", "arch_every", "warmup_lr", "lr")
    for name in ("mobile.flags", "flags/mobile_int8.flags", "flags/cpu.flags", "flags/gpu.flags"):
        assert [values[name][flag] for flag in names] == [40, 120, 256, 5, 0.05, 0.025]


def test_the_papers_search_on_cifar10_is_as_in_the_paper(values):
    """Section 4.1: 648 decisions, 5,000 images held out, alphas by Adam at 0.006, no latency in the loss."""
    found = values["flags/cifar10.flags"]
    assert len(spaces.load(found["space"]).choices) == 648 and found["held_out_size"] == 5000
    assert found["alpha_lr"] == 0.006 and found["latency_loss"] == "none" and found["paths"] == "two"
    assert found["cutout"] == 16 and found["warmup_epochs"] + found["search_epochs"] == 200


def test_a_table_that_is_not_built_yet_is_one_line_that_says_how():
    command = [sys.executable, "-m", "pnas_tf.search", "--flagfile=flags/mobile_int8.flags", "--run_dir=/no/such/folder"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and result.stderr.count("\n") == 1 and "latency.build_table" in result.stderr
