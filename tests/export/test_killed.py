"""A training and a bundle, killed at chosen system calls by strace: the next start ends in the same files."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("strace"), reason="apt-get install strace")]


def run(*arguments, kill=None, how="-m"):
    """Runs a command. It is killed at a system call if it comes to that; returns whether it was.

    Args:
        arguments: Module and flags; with how="-c", a program and its arguments.
        kill: Names and number of the system call, as `strace --inject` reads them: "rename,renameat,renameat2:when=3".
            Each name has a count of its own.
        how: How Python starts the first argument.
    """
    strace = []
    if kill:
        calls, when = kill.split(":")
        strace = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={calls}", "-e",
                  f"inject={calls}:signal=KILL:{when}"]
    done = subprocess.run([*strace, sys.executable, how, *arguments], cwd=ROOT, capture_output=True, text=True,
                          check=False, timeout=600)
    assert done.returncode in ((0, -signal.SIGKILL, 128 + signal.SIGKILL) if kill else (0,)), done.stderr
    return done.returncode != 0


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


CALLS = ("rename,renameat,renameat2", "fsync,fdatasync")


def test_a_bundle(small_run, tmp_path):
    """Each file is renamed, then the new bundle exchanges places with the earlier one, of which the files are removed.

    Before the next start, too, there is one of the two, whole.
    """
    flags = ["export.bundle", f"--run_dir={small_run}"]
    run(*flags, f"--output={tmp_path}/whole/bundle")
    run(*flags, f"--output={tmp_path}/earlier/bundle", "--examples=2")
    killed = 0
    wholes = {"new": contents(tmp_path / "whole" / "bundle"), "old": contents(tmp_path / "earlier" / "bundle")}
    left = []
    for calls, number in ((CALLS[0], 3), ("renameat2", 1), (CALLS[1], 5), ("unlink,unlinkat", 2)):
        out = tmp_path / f"{calls}_{number}"
        shutil.copytree(tmp_path / "earlier", out)
        killed += run(*flags, f"--output={out}/bundle", kill=f"{calls}:when={number}")
        left += [name for name, whole in wholes.items() if contents(out / "bundle") == whole]
        run(*flags, f"--output={out}/bundle")
        assert contents(out) == contents(tmp_path / "whole"), (calls, number)
    print(f"\n{killed} kills.")
    assert killed == 4 and left == ["old", "old", "old", "new"]


def test_a_folder_in_place_of_another(tmp_path):
    """Killed at every renaming and removal in turn, there is the earlier folder or the new one, whole."""
    program = ("import sys\nfrom export import bundle\n"
               "bundle._write_folder({'bundle.json': sys.argv[2].encode(), 'a/b': b'1', 'c': b'2'}, sys.argv[1])")
    whole = {text: {"bundle.json": text.encode(), "a/b": b"1", "c": b"2"} for text in ("old", "new")}
    left = []
    for calls in (CALLS[0], "unlink,unlinkat,rmdir"):
        for number in range(1, 20):
            out = tmp_path / f"{calls}_{number}" / "bundle"
            run(program, str(out), "old", how="-c")
            killed = run(program, str(out), "new", kill=f"{calls}:when={number}", how="-c")
            left += [text for text, files in whole.items() if contents(out) == files]
            run(program, str(out), "new", how="-c")
            assert contents(out) == whole["new"] and [path.name for path in out.parent.iterdir()] == ["bundle"]
            if not killed:
                break
    assert len(left) >= 8 and set(left) == {"old", "new"}


def test_a_training(small_arch, small_npz, tmp_path):
    small_arch.save(str(tmp_path / "small.json"))
    flags = ["pnas_tf.train", f"--arch={tmp_path}/small.json", f"--dataset=npz:{small_npz}", "--init_weights=scratch",
             "--batch_size=64", "--epochs=2", "--max_steps=14"]

    def names(folder):  # bytes of model.keras hold a date
        return {name for name in contents(folder) if not name.startswith("logs/")}

    run(*flags, f"--run_dir={tmp_path}/whole")
    killed = 0
    for calls, number in ((CALLS[0], 2), (CALLS[0], 6), (CALLS[0], 7), (CALLS[1], 3), (CALLS[1], 6)):
        folder = tmp_path / f"{calls}_{number}"
        killed += run(*flags, f"--run_dir={folder}", kill=f"{calls}:when={number}")
        run(*flags, f"--run_dir={folder}")
        assert names(folder) == names(tmp_path / "whole"), (calls, number)
    print(f"\n{killed} kills.")
    assert killed == 5
