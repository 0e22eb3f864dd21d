"""Files of the user's that have the names of our packages are named, and Python's error about them is one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pnas_tf import siblings

ROOT = Path(__file__).parents[1]


def python(folder, *arguments):
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.fixture(params=["a file", "a package"])
def stranger(request, tmp_path):
    """A module `export` in the working folder, which Python finds before ours."""
    path = tmp_path / ("export.py" if request.param == "a file" else "export/__init__.py")
    path.parent.mkdir(exist_ok=True)
    path.write_text("convert = 1\n")
    return path


def test_ours_are_not_in_the_way():
    assert [siblings.in_the_way(name) for name in siblings.NAMES] == [None, None]
    assert siblings.in_the_way("no_such_package") is None


def test_a_command_names_the_file(stranger, tmp_path):
    done = python(tmp_path, "-m", "latency.build_table", "--help")
    assert done.returncode == 1 and "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1
    assert f"{stranger} is in the way of the package 'export'" in done.stderr


def test_a_console_script_names_the_file(stranger, tmp_path):
    done = python(tmp_path, "-c", "from pnas_tf.siblings import build_table; build_table()")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"Error: {stranger} is in the way of the package 'export'")


def test_the_list_of_commands_and_the_doctor_name_the_file(stranger, tmp_path):
    done = python(tmp_path, "-m", "pnas_tf")
    assert done.stdout.count(f"not found: {stranger} is in its way") == 8  # of export, and of latency, which imports it
    code = "from pnas_tf import doctor; print(*[each.text for each in doctor.packages() if each.name == 'export'])"
    assert python(tmp_path, "-c", code).stdout.startswith(f"{stranger} is in the way")
