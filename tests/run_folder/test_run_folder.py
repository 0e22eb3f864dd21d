"""Who may write a run folder, and what happens if the disk is full, the folder is deleted, or two processes want it."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pnas_tf import packages
from pnas_tf.errors import InputError
from pnas_tf.network import build
from pnas_tf.report import facts
from pnas_tf.report import page as page_lib
from pnas_tf.run_folder import RunFolder, claim, versions
from pnas_tf.run_folder import folder as run_folder
from pnas_tf.space import arch
from tests import forked
from tests.spaces import TINY

ROOT = Path(__file__).parents[2]


def claimed(folder, text, inputs=None, **more):
    with claim.claimed(str(folder), text, inputs or {}, **more):
        pass


def test_other_flags_are_refused_with_all_differences(tmp_path):
    claimed(tmp_path / "run", "--lr=0.1\n--noswitch\n--seed=1\n")
    with pytest.raises(InputError) as error:
        claimed(tmp_path / "run", "--lr=0.2\n--switch\n--new=1\n--seed=1\n")
    message = str(error.value)
    for difference in ("--lr=0.1 then, 0.2 now", "--switch=false then, true now", "--new=(default) then, 1 now"):
        assert difference in message
    assert "seed" not in message and "--overwrite" in message and "\n" not in message


def test_a_run_of_a_version_without_a_flag_had_its_default(tmp_path):
    claimed(tmp_path / "run", "--lr=0.1\n")
    defaults = "--lr=0.5\n--nonew\n--size=3\n"
    claimed(tmp_path / "run", "--lr=0.1\n--nonew\n--size=3\n", default_text=defaults)
    for text, difference in (("--lr=0.1\n--new\n--size=3\n", "--new=(default) then, true now"),
                             ("--lr=0.5\n--nonew\n--size=3\n", "--lr=0.1 then, 0.5 now")):
        with pytest.raises(InputError, match=re.escape(difference)):
            claimed(tmp_path / "run", text, default_text=defaults)


def test_a_file_that_changed_under_its_name_is_refused(tmp_path):
    claimed(tmp_path / "run", "--table=t.jsonl\n", {"milliseconds on t": "01", "space": "7"})
    claimed(tmp_path / "run", "--table=t.jsonl\n", {"milliseconds on t": "01", "space": "7"})
    with pytest.raises(InputError, match="milliseconds on t '01' then, '02' now") as error:
        claimed(tmp_path / "run", "--table=t.jsonl\n", {"milliseconds on t": "02", "space": "7"})
    assert "space" not in str(error.value)
    claimed(tmp_path / "run", "--table=t.jsonl\n", {"milliseconds on t": "02", "space": "7"}, overwrite=True)
    claimed(tmp_path / "run", "--table=t.jsonl\n", {"milliseconds on t": "02", "space": "7"})
    (tmp_path / "run" / "inputs.json").write_text("[1]")
    with pytest.raises(InputError, match="not the inputs of a run"):
        claimed(tmp_path / "run", "--table=t.jsonl\n", {})


def test_a_run_whose_inputs_were_not_all_recorded_resumes(tmp_path):
    """Earlier versions recorded less. What they lack is added, and counts from then on."""
    claimed(tmp_path, "--lr=0.1\n", {"training images": "480"})
    claimed(tmp_path, "--lr=0.1\n", {"training images": "480", "contents of the training images": "01"})
    with pytest.raises(InputError, match="other flags or files: contents of the training images '01' then, '02' now"):
        claimed(tmp_path, "--lr=0.1\n", {"training images": "480", "contents of the training images": "02"})
    with pytest.raises(InputError, match="contents of the training images '01' then, None now"):
        claimed(tmp_path, "--lr=0.1\n", {"training images": "480"})


def test_flags_without_influence_on_results_may_change(tmp_path):
    claimed(tmp_path, "--lr=0.1\n--checkpoint_minutes=10\n--nooverwrite\n--run_dir=a\n")
    claimed(tmp_path, "--lr=0.1\n--checkpoint_minutes=1\n--overwrite\n--run_dir=b\n", overwrite=True)
    assert (tmp_path / "run.flags").read_text() == "--lr=0.1\n--checkpoint_minutes=10\n--run_dir=a\n"


@pytest.fixture
def used(tmp_path):
    """A folder with every file that commands write, a part for a goal, and files of the user."""
    claimed(tmp_path, "--lr=0.1\n")
    part = Path(RunFolder(str(tmp_path)).part("phone_5ms"))
    for folder in (tmp_path, part):
        for name in (*map(os.path.basename, RunFolder(folder).written_files), "int8.tflite", "dynamic.json",
                     "int8.md", "float32.profile.json", "float32.profile.svg", "compare.json"):
            if name != "run.flags":
                (folder / name).write_text("{}")
        for name in map(os.path.basename, RunFolder(folder).written_folders):
            (folder / name).mkdir()
            (folder / name / "file").write_text("old")
    for name in ("host.jsonl", "notes.txt"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "photos").mkdir()
    claimed(tmp_path / "other run", "--lr=0.7\n")
    return tmp_path


def test_overwrite_removes_the_run_and_nothing_else(used):
    claimed(used, "--lr=0.2\n", overwrite=True)
    assert sorted(os.listdir(used)) == [".lock", "host.jsonl", "inputs.json", "notes.txt", "other run", "photos",
                                        "run.flags"]
    assert (used / "run.flags").read_text() == "--lr=0.2\n"
    assert os.listdir(used / "other run") and (used / "notes.txt").read_text() == "mine"


def test_overwrite_with_the_same_flags_goes_on(used):
    before = sorted(os.listdir(used))
    claimed(used, "--lr=0.1\n", overwrite=True)
    assert sorted(os.listdir(used)) == before


def test_overwrite_that_was_interrupted_goes_on(used, monkeypatch):
    def no_more(folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", no_more)
    with pytest.raises(KeyboardInterrupt):
        claimed(used, "--lr=0.2\n", overwrite=True)
    monkeypatch.undo()
    with pytest.raises(InputError, match="other flags"):
        claimed(used, "--lr=0.2\n")
    claimed(used, "--lr=0.2\n", overwrite=True)
    assert not (used / "checkpoints").exists() and (used / "run.flags").read_text() == "--lr=0.2\n"


def test_no_folder_named(tmp_path):
    with pytest.raises(InputError, match="--run_dir=DIR"):
        claimed("", "--lr=0.1\n")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        claimed(tmp_path / "file", "--lr=0.1\n")


def test_versions_of_every_start_that_differs(tmp_path, monkeypatch, capsys):
    versions.note(str(tmp_path))
    versions.note(str(tmp_path))
    (first,) = versions.read(str(tmp_path))
    import keras
    import numpy
    import tensorflow

    for name, module in (("keras", keras), ("numpy", numpy), ("tensorflow", tensorflow)):
        assert first["packages"][name] == module.__version__
        assert f"{name} {module.__version__}" in versions.summary(first)
    assert first["python"] == sys.version.split()[0] and len(first["date"]) == 25
    capsys.readouterr()
    monkeypatch.setattr(versions, "__version__", "99.0")
    versions.note(str(tmp_path))
    assert len(versions.read(str(tmp_path))) == 2
    output = capsys.readouterr().out
    assert output.startswith("Warning: ") and "pnas_tf" in output and "now 99.0" in output
    (tmp_path / "versions.json").write_text('{"starts": [3]}')
    with pytest.raises(InputError, match="Remove it"):
        versions.note(str(tmp_path))


def test_versions_of_packages_that_are_installed():
    import keras
    import numpy

    expected = {"numpy": numpy.__version__, "keras": keras.__version__}
    assert packages.versions(("numpy", "no-such-package", "keras")) == expected


def test_the_report_names_versions(tmp_path, monkeypatch):
    arch.load("proxyless_mobile").save(str(tmp_path / "arch.json"))
    assert "Versions of the search" not in page_lib.render(facts.collect(str(tmp_path)))
    versions.note(str(tmp_path))
    page = page_lib.render(facts.collect(str(tmp_path)))
    assert versions.summary(versions.current()) in page and "Versions changed" not in page
    monkeypatch.setattr(versions, "__version__", "<b>99</b>")
    versions.note(str(tmp_path))
    page = page_lib.render(facts.collect(str(tmp_path)))
    assert "Versions changed while it ran" in page and "&lt;b&gt;99" in page and "<b>99" not in page


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_space):
    folder = tmp_path_factory.mktemp("inputs")
    write_space(TINY, folder / "space.json", folder / "table.jsonl")
    return folder


def command(files, run_dir, steps=24):
    return ["pnas_tf.search", f"--space={files}/space.json", f"--table={files}/table.jsonl",
            "--batch_size=32", "--warmup_epochs=1", "--search_epochs=3", "--arch_every=1", "--front=2",
            f"--max_steps={steps}",
            f"--run_dir={run_dir}"]


def run(arguments):
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300,
                          check=False)


@contextlib.contextmanager
def started(arguments):
    with subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_second_process_is_refused(files, tmp_path):
    with started(command(files, tmp_path / "run", 400_000)) as first:
        end = time.monotonic() + 300
        while not (tmp_path / "run" / "versions.json").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        second = forked.run(command(files, tmp_path / "run", 400_000), cwd=ROOT, timeout=300)
        assert second.returncode == 1 and second.stderr.count("\n") == 1
        assert f"in use by another process (process {first.pid} on" in second.stderr
        assert first.poll() is None


@pytest.mark.slow
def test_a_folder_that_is_deleted_ends_the_search(files, tmp_path):
    with started(command(files, tmp_path / "run", 400)) as process:
        next(line for line in process.stdout if line.startswith("epoch 1/4"))
        shutil.rmtree((tmp_path / "run").rename(tmp_path / "gone"))  # the search may add a file meanwhile
        _, error = process.communicate()
    assert process.returncode == 1 and "is gone" in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_full_disk_stops_the_search_and_loses_nothing(files, tmp_path, small_disk):
    whole = forked.run(command(files, tmp_path / "whole"), cwd=ROOT, timeout=300)
    assert whole.returncode == 0, whole.stderr
    sizes = {file: -(-file.stat().st_size // 4096) * 4096 for file in (tmp_path / "whole").rglob("*") if file.is_file()}
    checkpoint_bytes = max(size for file, size in sizes.items() if file.parent.name == "checkpoints")
    others = sum(size for file, size in sizes.items() if file.parent.name != "checkpoints" and file.suffix != ".h5")
    # Two checkpoints are kept, and there is no room for the next one beside them.
    disk = small_disk(f"size={others + int(2.5 * checkpoint_bytes)}")
    full = run(command(files, disk / "run"))
    errors = [line for line in full.stderr.splitlines() if line.startswith("Error: ")]
    assert full.returncode == 1 and "Traceback" not in full.stderr, full.stderr
    assert len(errors) == 1 and "cannot be written" in errors[0] and "Free some space" in errors[0]
    assert len(list((disk / "run" / "checkpoints").iterdir())) == 2
    small_disk("remount,size=64m")
    again = forked.run(command(files, disk / "run"), cwd=ROOT, timeout=300)
    assert again.returncode == 0 and "Continuing after epoch" in again.stdout, again.stderr
    assert (disk / "run" / "arch.json").read_bytes() == (tmp_path / "whole" / "arch.json").read_bytes()
    assert not [name for name in os.listdir(disk / "run") if name.startswith(".writing")]


def test_a_folder_that_cannot_be_written_is_one_line(files, small_disk):
    result = run(command(files, small_disk("ro") / "run"))
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "cannot be written (Read-only file system)" in result.stderr


def test_weights_that_find_no_room_leave_the_old_ones(small_disk):
    from pnas_tf import network

    model = network.build_network(arch.from_path(TINY, [0, 0]))
    folder = small_disk("size=64m")
    build.save_weights(model, str(folder / "inherited.weights.h5"))
    before = (folder / "inherited.weights.h5").read_bytes()
    (folder / "ballast").write_bytes(bytes(64 * 2**20 - len(before) - 40_000))
    with pytest.raises(InputError, match="bytes are needed"):
        build.save_weights(model, str(folder / "inherited.weights.h5"))
    assert (folder / "inherited.weights.h5").read_bytes() == before
    assert sorted(os.listdir(folder)) == ["ballast", "inherited.weights.h5"]


@pytest.mark.parametrize("seed", ["Infinity", "1e999", '"x"'])
def test_a_seed_that_is_no_number_is_one_line(tmp_path, seed):
    (tmp_path / "train.json").write_text('{"data": {"dataset": "cifar10", "seed": ' + seed + "}}")
    with pytest.raises(InputError, match="seed must be a whole number"):
        run_folder.data_arguments(str(tmp_path), trained=True)


def test_the_run_s_own_data_set_keeps_its_split(tmp_path):
    """With another seed, most test images would be images that the search has trained on."""
    (tmp_path / "run.flags").write_text("--dataset=folder:photos\n--seed=7\n--held_out_size=30\n--data_dir=d\n")
    same = run_folder.data_arguments(str(tmp_path), dataset="folder:photos", seed=0)
    assert same == run_folder.data_arguments(str(tmp_path)) and (same["seed"], same["held_out_size"]) == (7, 30)
    other = run_folder.data_arguments(str(tmp_path), dataset="folder:others", seed=3)
    assert (other["spec"], other["seed"], other["held_out_size"]) == ("folder:others", 3, None)


def test_an_impossible_path_of_flags_is_one_line():
    with pytest.raises(InputError, match="cannot be read"):
        run_folder.read_flags("\x00")


def test_the_size_of_any_space_is_printed():
    from pnas_tf.search import run as search_run

    assert search_run._about(42_336) == "4.23e+04" and search_run._about(7 ** 648) == "10^547"


def test_a_teacher_belongs_to_its_run_and_to_the_parts_of_it(tmp_path):
    """A neighbour, which may be called teacher, and the folder of all runs are no part of a run."""
    def teacher_of(run):
        path = RunFolder(RunFolder(str(run)).teacher).model
        os.makedirs(os.path.dirname(path))
        Path(path).write_bytes(b"a network")
        return path

    run = RunFolder(str(tmp_path / "run"))
    Path(tmp_path / "run").mkdir()
    Path(run.flags).write_text("--lr=0.1\n")
    parts = [run.part("phone_2ms"), run.front_part(1.0), run.size_part(64), run.size_part(64).front_part(2.0),
             run.part("phone_2ms").trial(0), run.size_part(64).trial(1)]
    own = teacher_of(tmp_path / "run")
    assert [part.teacher_model for part in (run, *parts)] == [own] * 7
    elsewhere = RunFolder(str(tmp_path / "other"))
    teacher_of(tmp_path)  # a training with --run_dir=runs/teacher
    assert elsewhere.teacher_model == RunFolder(str(tmp_path / "teacher")).teacher_model == ""
    Path(tmp_path / "other").mkdir()
    Path(elsewhere.flags).write_text("--lr=0.1\n")
    assert elsewhere.teacher_model == ""  # the folder of all runs has no flags
    # A search from Python has no flags, nor do its parts.
    teacher_of(tmp_path / "python")
    python = RunFolder(str(tmp_path / "python"))
    assert python.front_part(1.0).teacher_model == ""
    Path(python.checkpoints).mkdir()
    assert python.front_part(1.0).teacher_model == RunFolder(python.teacher).model
    assert run.teacher_model == own and parts[3].teacher_model == own
