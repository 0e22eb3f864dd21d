"""One command from a folder of pictures to a report: its plan, what it refuses, its record, and the whole way."""

import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from pnas_tf.auto import child, durations, photos, plan
from pnas_tf.auto.plan import AutoConfig, Goal
from pnas_tf.auto.record import Record
from pnas_tf.cost import latency_table
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.space import spaces
from pnas_tf.space.arch import Arch
from tests import forked

ROOT = Path(__file__).parents[2]
LITE0 = spaces.SPACES["lite0"]


def start(*arguments, **more):
    return subprocess.Popen([sys.executable, "-m", "pnas_tf.auto", *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, **more)


def run(*arguments, **more):
    process = start(*arguments, stderr=subprocess.PIPE, **more)
    stdout, stderr = process.communicate(timeout=1800)
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def folder_of(path, counts):
    """A folder of files that are named as pictures."""
    for name, count in counts.items():
        (path / name).mkdir(parents=True)
        for number in range(count):
            (path / name / f"{number}.jpg").write_text(f"{name} {number}")
    return path


@pytest.fixture
def two_classes(tmp_path):
    return folder_of(tmp_path / "photos", {"cat": 12, "dog": 8})


def table_file(path, sides, classes, ms=lambda key: 0.01):
    """A table of lite0 with made-up milliseconds."""
    keys = dict.fromkeys(key for side in sides for _, key in LITE0.for_data(side, 3, classes).op_keys())
    rows = [latency_table.row(key, median_ms=ms(key)) for key in keys]
    path.write_text("".join(json.dumps(line) + "\n" for line in [latency_table.header("made"), *rows]))
    return path


def test_pictures_are_counted_and_their_contents_count(two_classes):
    seen = photos.read(str(two_classes) + "/")
    assert (seen.path, seen.counts, seen.trained, seen.tested) == (str(two_classes), (12, 8), 13, 4)
    assert str(seen) == (f"20 pictures of 2 classes in {two_classes}, 8 to 12 of a class; a fifth of them is for the "
                         "test.")
    shutil.copytree(two_classes, two_classes.parent / "copy")
    assert photos.read(str(two_classes.parent / "copy")).digest == seen.digest
    assert ", 12 of each class; " in str(dataclasses.replace(seen, counts=(12, 12)))
    (two_classes / "cat" / "0.jpg").write_text("a tiger")
    assert photos.read(str(two_classes)).digest != seen.digest


@pytest.mark.parametrize(("counts", "words"), [
    ({}, "cannot be read as a folder"), ({"cat": 9}, "at least two folders .* got cat"),
    ({"cat": 9, "dog": 0}, "dog: no images"), ({"cat": 9, "dog": 4}, "'dog' has 4 pictures, and 5 of each class")])
def test_a_folder_that_is_no_data_set_is_refused(tmp_path, counts, words):
    with pytest.raises(InputError, match=words):
        photos.read(str(folder_of(tmp_path / "photos", counts)))


def test_a_refusal_is_one_line_and_starts_nothing(two_classes, tmp_path):
    table = table_file(tmp_path / "table.jsonl", [96, 80, 64], 2)
    for arguments, words in [((), "Name the folder of your pictures"), (("nowhere",), "nowhere: cannot be read"),
                             ((two_classes, "more"), "Unexpected argument 'more'"),
                             ((two_classes, "--ms=1e-6", f"--table={table}"), "is less than any network takes"),
                             ((two_classes, "--dtype=int8", f"--table={table}"), "has a number format of its own"),
                             ((two_classes, f"--run_dir={table}"), "table.jsonl: not a folder"),
                             ((two_classes, f"--run_dir={two_classes}/runs"), "inside the folder of pictures")]:
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and words in done.stderr, done.stderr
        assert not done.stdout or str(arguments[0]) in done.stdout
    assert not (tmp_path / "runs").exists()


def test_the_steps_are_commands_to_paste(two_classes):
    config, folder = AutoConfig(photos=str(two_classes), class_weights="balanced"), RunFolder("runs/my photos")
    seen = dataclasses.replace(photos.read(str(two_classes)), path="photos")
    steps = [plan.table_step(config, seen, folder), *plan.later_steps(config, seen, folder, Goal(1.2, 0.5, 96, 96))]
    commands = """
        latency.build_table --space=lite0 --image_size=96 --smaller_images=80,64,48 --num_classes=2 '--output=RUN/table96.jsonl'
        pnas_tf.search --space=lite0 --dataset=folder:photos '--table=RUN/table96.jsonl' --target_ms=1.2 --class_weights=balanced '--run_dir=RUN'
        pnas_tf.train '--run_dir=RUN' --class_weights=balanced
        export.tflite '--run_dir=RUN' --mode=float32,float16,int8 --allow_drop
        export.bundle '--run_dir=RUN' --mode=float32,float16,int8
        pnas_tf.report '--run_dir=RUN'
        """  # noqa: E501
    expected = textwrap.dedent(commands).strip().replace("RUN", "runs/my photos").split("\n")
    assert [step.command for step in steps] == [f"python -m {command}" for command in expected]
    int8 = plan.table_step(dataclasses.replace(config, dtype="int8"), seen, folder)
    assert int8.command.endswith("--num_classes=2 --dtype=int8 '--output=runs/my photos/table96_int8.jsonl'")
    assert plan.table_of(dataclasses.replace(config, dtype="int8"), folder) == int8.writes[0]
    # What a step reads is there when the steps before it are complete.
    for number, step in enumerate(steps):
        assert set(step.reads) <= {"photos", *(path for before in steps[:number] for path in before.writes)}
    trial = plan.later_steps(AutoConfig(max_steps=8, table="t.jsonl", image_size=32, seed=3), seen, folder,
                             plan.not_known_yet(AutoConfig(image_size=32)))
    assert {"--table=t.jsonl", "--image_size=32", "--max_steps=8", "--seed=3"} <= set(trial[0].arguments)
    assert "--max_steps=8" in trial[1].arguments and plan.total(trial) < plan.total(steps[1:])
    assert [plan.smaller_sides(side) for side in (96, 224, 64, 32, 16)] == [
        [80, 64, 48], [192, 160, 128], [48, 32], [], []]
    assert plan.smaller_sides(100) == [96, 80, 64]


def test_milliseconds_are_checked_against_the_table(two_classes, tmp_path):
    def ms(key):
        return key.input[0] * int(key.op[-1] if key.op.startswith("mb") else 1) * 1e-3

    seen, config = photos.read(str(two_classes)), AutoConfig(photos=str(two_classes))
    table = latency_table.read(str(table_file(tmp_path / "t.jsonl", [96, 80, 64], 2, ms)))
    whole, least = (sum(ms(key) for _, key in arch.op_keys()) for arch in (
        Arch(LITE0.for_data(side, 3, 2), {name: ops(block.ops) for name, block in LITE0.choices.items()})
        for side, ops in ((96, lambda ops: max(op for op in ops if op != "zero")),
                          (64, lambda ops: "zero" if "zero" in ops else "mb_k3_e3"))))
    goal = plan.goal_of(config, seen, table)
    assert (goal.ms, goal.side, goal.largest) == (float(f"{whole / 2:.3g}"), 80, 96)
    assert f"half of {whole:.3g} ms, since no --ms is given" in goal.words
    least_text = re.search(rf"networks for 64 to 96 pixels take (\S+) to {whole:.3g} ms", goal.words)[1]
    assert least <= float(least_text) < 1.01 * least  # what is printed can be asked for
    assert goal.words.endswith("fit a larger network into these milliseconds: --dtype=int8.")
    for other in ({"dtype": "int8"}, {"table": "phone.jsonl"}):
        assert "int8" not in plan.goal_of(dataclasses.replace(config, **other), seen, table).words
    assert plan.goal_of(dataclasses.replace(config, ms=whole / 3.5), seen, table).side == 64
    with pytest.raises(InputError, match=rf"--ms=.* is less than any .* take {least_text} to {whole:.3g} ms\."):
        plan.goal_of(dataclasses.replace(config, ms=0.99 * least), seen, table)
    # 0.9 * whole * (160 / 96)^2 is 2.5 times as much, 0.9 * whole * (128 / 96)^2 only 1.6 times.
    beyond = plan.goal_of(dataclasses.replace(config, ms=2.4 * whole), seen, table)
    assert (beyond.ms, beyond.side, beyond.share) == (2.4 * whole, 96, 1.0)
    assert "No network takes that many" in beyond.words and \
        "make use of them: --image_size=160, with which training takes 2.8 times as long. The whole" in beyond.words
    assert "is looked for. The whole" in plan.goal_of(dataclasses.replace(config, ms=1e6), seen, table).words
    with pytest.raises(InputError, match=r"has no row for .*latency\.build_table"):
        plan.goal_of(config, dataclasses.replace(seen, counts=(9,) * 5000), table)


def test_a_step_is_complete_until_its_command_or_its_files_change(two_classes, tmp_path):
    seen, folder = photos.read(str(two_classes)), RunFolder(str(tmp_path))
    step = plan.later_steps(AutoConfig(), seen, folder, Goal(1.0, 0.5, 96, 96))[1]
    for path in (*step.writes, folder.arch):
        Path(path).write_text("1")
    assert not Record(folder, seen).is_complete(step)
    Record(folder, seen).add(step, child.Ended(130, 2, 10.0, 15.0))
    assert not Record(folder, seen).is_complete(step)
    Record(folder, seen).add(step, child.Ended(0, None, 5.0, 6.0))
    record = Record(folder, seen)
    assert record.is_complete(step) and record.seconds(step) == 15.0  # of both starts
    record.begin(step)
    assert Record(folder, seen).is_complete(step) and not record.is_begun(step)
    Record(folder, dataclasses.replace(seen, digest="of other pictures")).add(step, child.Ended(1, None, 5.0, 6.0))
    assert Record(folder, seen).is_complete(step)  # a refusal changes nothing
    other = dataclasses.replace(step, arguments=(*step.arguments, "--seed=1"))
    assert not record.is_complete(other) and record.seconds(other) == 0.0
    refused = Record(folder, seen)
    refused.begin(other)
    refused.add(other, child.Ended(1, None, 5.0, 6.0))
    assert Record(folder, seen).is_complete(step)  # nor does a refusal of other flags
    assert not Record(folder, dataclasses.replace(seen, digest="of other pictures")).is_complete(step)
    Path(folder.arch).write_text("2")
    assert not record.is_complete(step)
    Path(folder.arch).write_text("1")
    os.remove(folder.model)
    assert not record.is_complete(step)


def test_a_step_whose_process_was_killed_is_known_to_have_begun(two_classes, tmp_path):
    seen, folder = photos.read(str(two_classes)), RunFolder(str(tmp_path))
    step = plan.later_steps(AutoConfig(), seen, folder, Goal(1.0, 0.5, 96, 96))[0]
    assert not Record(folder, seen).is_begun(step)
    Record(folder, seen).begin(step)
    killed = Record(folder, seen)
    assert killed.is_begun(step) and not killed.is_complete(step) and killed.seconds(step) == 0.0
    other = dataclasses.replace(step, arguments=(*step.arguments, "--seed=1"))
    assert not killed.is_begun(other)
    killed.add(step, child.Ended(0, None, 5.0, 6.0))
    assert not Record(folder, seen).is_begun(step) and killed.seconds(step) == 5.0
    # The first step makes the folder of the run; a search may refuse its flags, and leaves none.
    new = RunFolder(str(tmp_path / "new"))
    Record(new, seen).begin(step)
    assert not os.path.exists(new.path)
    table = plan.table_step(AutoConfig(), seen, new)
    Record(new, seen).begin(table)
    assert Record(new, seen).is_begun(table)


def test_the_rule_fits_recorded_times(monkeypatch):
    """514 pictures, on 2 cores of a virtual AMD EPYC, 2026-11-28, and as shares on a quicker one: docs/results.md."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    space = LITE0.for_data(96, 3, 9)
    rule = (durations.of_table(space, [96, 80, 64, 48]), durations.of_search(space, 329, (96, 80)),
            durations.of_training(space, 329, 80, 0.5), durations.of_export(103, 80))
    np.testing.assert_allclose((rule[0], rule[1], rule[3]), (105, 196, 20), rtol=0.2)
    quick = np.array([37, 90, 44, 14])
    np.testing.assert_allclose(rule / np.sum(rule), quick / quick.sum(), rtol=0.35)


WAITING = """
import signal, sys, time
caught = []
signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
print("ready", flush=True)
while not caught:
    time.sleep(0.01)
time.sleep(0.3)
print(f"caught {len(caught)}", flush=True)
sys.exit(130)
"""


@pytest.mark.parametrize("whole_group", [False, True], ids=["by kill", "by the terminal"])
def test_a_command_gets_a_signal_once_and_is_waited_for(tmp_path, whole_group):
    (tmp_path / "waiting.py").write_text(WAITING)
    code = ("import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "  # a job in the background
            f"sys.path.append({str(ROOT)!r}); from pnas_tf.auto import child; print(child.run('waiting', []))")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
                               start_new_session=True)
    assert process.stdout.readline() == "ready\n"
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert said.startswith("caught 1\nEnded(code=130, signal=2, seconds=") and process.returncode == 0


def test_windows_sends_ctrl_c_to_both(monkeypatch):
    """There, a process gets no signal but its own end, and Ctrl-C reaches the command without our help."""
    command = child._Child()
    command.process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    monkeypatch.setattr(child, "os", SimpleNamespace(name="nt"))
    command.stop(signal.SIGINT)
    command.process.communicate(b"\n", timeout=30)
    assert command.process.returncode == 0 and command.caught == [signal.SIGINT]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three classes of pictures that differ in their brightest channel, 20 of each."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("pictures") / "photos"
    for channel, name in enumerate("abc"):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(0, 120, (40, 40, 3), dtype=np.uint8)
            pixels[..., channel] += 100
            PIL.Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.slow
def test_the_whole_way_and_a_stop_in_the_middle(pictures):
    """A run that is stopped in its search, and continued, ends with the network of a run that is not."""
    flags = ("--image_size=64", "--max_steps=8", "--class_weights=balanced")
    process = start("photos", *flags, cwd=pictures.parent, start_new_session=True, stderr=subprocess.STDOUT)
    said = ""
    while "First the teacher" not in said:  # in the search
        said += (line := process.stdout.readline())
        assert line, said
    time.sleep(3)
    os.killpg(process.pid, signal.SIGTERM)
    more, _ = process.communicate(timeout=600)
    assert process.returncode == 128 + signal.SIGTERM, more
    assert "Stopped. To continue: python -m pnas_tf.auto photos" in more
    assert "1/6 table: took" in said and "2/6 search:" in said
    again = run("photos", *flags, cwd=pictures.parent)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 table    complete" in again.stdout
    for words in ("Goal: ", "of its milliseconds", "6/6 report: took", "Durations: table ", "Result:   ", "Take ",
                  "python runs/photos/bundle/run.py", "Trial:    search and training ended after 8 steps"):
        assert words in again.stdout
    for module in ("pnas_tf.search", "pnas_tf.train"):  # by hand, without a stop
        command = re.search(rf"^python -m ({module} .*)$", again.stdout, flags=re.M)[1]
        done = forked.run(shlex.split(command.replace("--run_dir=runs/photos", "--run_dir=whole")), cwd=pictures.parent)
        assert done.returncode == 0, done.stderr
    one, other = pictures.parent / "runs" / "photos", pictures.parent / "whole"
    assert (one / "arch.json").read_bytes() == (other / "arch.json").read_bytes()
    histories = [json.loads((folder / "train.json").read_text())["history"] for folder in (one, other)]
    assert len(histories[0]["loss"]) == len(histories[1]["loss"])
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-3)
    for name in ("float32.tflite", "float16.tflite", "int8.tflite", "bundle/run.py", "report.html"):
        assert (one / name).exists()
    made = (one / "model.keras").stat().st_mtime_ns
    third = run("photos", *flags, cwd=pictures.parent)
    assert third.returncode == 0 and len(re.findall(r"\d/6 \w+: complete\.", third.stdout)) == 5
    assert "in all     nothing to do" in third.stdout and (one / "model.keras").stat().st_mtime_ns == made
    # Another picture: the search's own check refuses its folder, and nothing is lost.
    (pictures / "a" / "0.png").write_bytes((pictures / "b" / "0.png").read_bytes())
    refused = run("photos", *flags, cwd=pictures.parent)
    assert refused.returncode == 1 and "contents of the training images" in refused.stderr
    assert "2/6 search: ended with exit code 1" in refused.stderr and (one / "model.keras").exists()
