"""A training and a bundle, killed at chosen system calls by strace: the next start ends in the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("strace"), reason="apt-get install strace")]


def run(*arguments, kill=None):
    """Runs a command. It is killed at a system call if it comes to that; returns whether it was.

    Args:
        arguments: Module and flags.
        kill: Names and number of the system call, as `strace --inject` reads them: "rename,renameat,renameat2:when=3".
    """
    strace = []
    if kill:
        calls, when = kill.split(":")
        strace = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={calls}", "-e",
                  f"inject={calls}:signal=KILL:{when}"]
    done = subprocess.run([*strace, sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True,
                          check=False, timeout=600)
    assert done.returncode in ((0, -signal.SIGKILL, 128 + signal.SIGKILL) if kill else (0,)), done.stderr
    return done.returncode != 0


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


CALLS = ("rename,renameat,renameat2", "fsync,fdatasync")


def test_a_bundle(small_run, tmp_path):
    run("export.bundle", f"--run_dir={small_run}", f"--output={tmp_path}/whole/bundle")
    killed = 0
    for calls in CALLS:
        for number in (1, 9, 18, 19, 20, 21, 22, 23):
            out, folder = tmp_path / f"{calls}_{number}", tmp_path / f"{calls}_{number}" / "bundle"
            run("export.bundle", f"--run_dir={small_run}", f"--output={folder}", "--examples=2")  # an earlier bundle
            killed += run("export.bundle", f"--run_dir={small_run}", f"--output={folder}",
                          kill=f"{calls}:when={number}")
            run("export.bundle", f"--run_dir={small_run}", f"--output={folder}")
            assert contents(out) == contents(tmp_path / "whole"), (calls, number)
            assert not list(out.rglob(".writing-*"))
    print(f"\n{killed} kills.")
    assert killed >= 8


def test_a_training(small_arch, small_npz, tmp_path):
    small_arch.save(str(tmp_path / "small.json"))
    flags = ["pnas_tf.train", f"--arch={tmp_path}/small.json", f"--dataset=npz:{small_npz}", "--init_weights=scratch",
             "--batch_size=64", "--epochs=2", "--max_steps=14"]
    run(*flags, f"--run_dir={tmp_path}/whole")
    expected, killed = set(contents(tmp_path / "whole")), 0
    for calls in CALLS:
        for number in range(1, 8):
            folder = tmp_path / f"{calls}_{number}"
            killed += run(*flags, f"--run_dir={folder}", kill=f"{calls}:when={number}")
            run(*flags, f"--run_dir={folder}")
            found = {name for name in contents(folder) if not name.startswith("logs/")}
            assert found == {name for name in expected if not name.startswith("logs/")}, (calls, number)
            assert not list(folder.rglob(".writing-*")) and not (folder / "training").exists()
    print(f"\n{killed} kills.")
    assert killed >= 8
