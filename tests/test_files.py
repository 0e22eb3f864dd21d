"""Files: whole or not there, half a last line, locks between processes."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import filelock
import pytest

from pnas_tf import files, workspaces
from pnas_tf.errors import InputError
from pnas_tf.run_folder import claim

ROOT = Path(__file__).parent.parent


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    files.write_text(str(path), "old")

    def half(temporary):
        Path(temporary).write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"a\.json: cannot be written \(No space left on device\)"):
        files.write_whole(str(path), half)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


def test_a_temporary_file_keeps_the_ending(tmp_path):
    """Keras decides by it how to write."""
    seen = []
    files.write_whole(str(tmp_path / "new" / "x.weights.h5"), lambda path: (seen.append(path), Path(path).touch()))
    assert seen[0].endswith(".weights.h5") and os.listdir(tmp_path / "new") == ["x.weights.h5"]


def test_half_a_last_line_is_left_out_and_replaced(tmp_path):
    path = str(tmp_path / "lines.jsonl")
    assert files.read_lines(path) == []
    files.append_line(path, {"a": 1})
    with open(path, "a") as file:
        file.write('{"b": 2')
    assert files.read_lines(path) == [{"a": 1}]
    files.append_line(path, {"c": 3})
    assert [json.loads(line) for line in Path(path).read_text().splitlines()] == [{"a": 1}, {"c": 3}]


@pytest.mark.parametrize("room", [0, 5])
def test_a_line_that_does_not_fit_on_the_disk_leaves_those_before_it(tmp_path, room):
    """A limit on the size of files acts as a disk that has room for so many bytes."""
    path, limits = tmp_path / "lines.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    files.append_line(str(path), {"a": 1})
    before = path.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, limits[1]))
    try:
        with pytest.raises(InputError, match=r"lines\.jsonl: a line cannot be written .*same command again"):
            files.append_line(str(path), {"b": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    with pytest.raises(InputError, match="a line cannot be written"):
        files.append_line(str(tmp_path), {"b": 2})


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_never_takes_the_place_of_another(tmp_path, links, monkeypatch):
    if not links:  # as on FAT
        monkeypatch.delattr(os, "link")
    path = tmp_path / "new" / "a.jsonl"
    files.create(str(path), b"first")
    files.create(str(path), b"second")
    assert path.read_bytes() == b"first" and os.listdir(path.parent) == ["a.jsonl"]


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n{broken\n{"c": 3}\n')
    with pytest.raises(InputError, match=r"x\.jsonl, line 2: not valid JSON"):
        files.read_lines(str(tmp_path / "x.jsonl"))


def test_too_large_a_file_is_refused(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n' * 100)
    with pytest.raises(InputError, match="larger than 50 bytes"):
        files.read_lines(str(tmp_path / "x.jsonl"), max_bytes=50)


def test_a_lock_holds_between_processes(tmp_path):
    path = str(tmp_path / "lock")
    code = f"from pnas_tf import workspaces; print(workspaces.lock(open({path!r}, 'a+')))"

    def other():
        return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                              check=True).stdout.strip()

    with open(path, "a+") as file:
        assert workspaces.lock(file) and other() == "False"
    assert other() == "True"


def test_a_file_has_one_writer_at_a_time_and_no_lock_stays_beside_it(tmp_path):
    """Also where a killed writer has left its lock, and where the writer before ends between opening and locking."""
    path, is_alone = str(tmp_path / "t.jsonl"), "with workspaces.only_writer({!r}) as alone: print(alone)"

    def other():
        code = f"from pnas_tf import workspaces\n{is_alone.format(path)}"
        return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                              check=True).stdout.strip()

    with workspaces.only_writer(path) as alone:
        beside, = tmp_path.iterdir()
        with workspaces.only_writer(path) as second:
            assert alone and not second and other() == "False"
    assert list(tmp_path.iterdir()) == []
    beside.touch()
    assert other() == "True" and list(tmp_path.iterdir()) == []
    (tmp_path / "precious").write_text("precious")
    beside.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError), workspaces.only_writer(path):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_file_system_without_locks_is_only_a_warning(tmp_path, monkeypatch, capsys):
    """Lustre without `-o flock` answers so; no such file system can be mounted here."""
    def answer(*_, **__):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(filelock, "lock_descriptor", answer)
    with files.only_writer(str(tmp_path / "t.jsonl")):
        files.append_line(str(tmp_path / "t.jsonl"), [1])
    assert [file.name for file in tmp_path.iterdir()] == ["t.jsonl"]
    assert "t.jsonl cannot be locked (Function not implemented)" in capsys.readouterr().out


@pytest.mark.parametrize("value, number", [(3, 3), (0.5, 0.5), (True, None), ("3", None), (None, None),
                                           (float("nan"), None), (float("inf"), None), (10**400, None), (2e18, None)])
def test_only_finite_numbers_are_numbers(value, number):
    assert files.number(value) == number


def test_a_long_name_of_wide_letters_is_written(tmp_path):
    path = tmp_path / ("\N{GRINNING FACE}" * 58 + ".txt")
    files.write_text(str(path), "x")
    assert path.read_text() == "x" and len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize("read", [files.read_text, files.read_json, files.read_lines])
def test_pipes_and_devices_are_refused_and_not_waited_for(tmp_path, read):
    pipe, device = tmp_path / "pipe", tmp_path / "device"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    for path in (pipe, device):
        with pytest.raises(InputError, match="not a regular file"):
            read(str(path))


def test_half_a_surrogate_pair_is_not_json(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(r'{"a": "\ud83d\ude00"}')
    assert files.read_json(str(path)) == {"a": "\N{GRINNING FACE}"}
    for content in (rb'{"a": "\ud83d"}', rb'{"\uDE00": 1}', b'{"a": "\xed\xa0\xbd"}'):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not valid JSON"):
            files.read_json(str(path))
        path.write_bytes(content + b"\n{}\n")
        with pytest.raises(InputError, match="line 1: not valid JSON"):
            files.read_lines(str(path))


def test_json_of_very_many_values_is_refused(tmp_path):
    """490 MB of empty lists would take 8 GB."""
    path = tmp_path / "x.json"
    for text in ("[" + "[]," * 2_100_000 + "0]", '{"":{}},' * 1_400_000):
        path.write_text(text)
        with pytest.raises(InputError, match=r"more than 4,000,000 values|larger than"):
            files.read_json(str(path), max_bytes=20_000_000)
    path.write_text("[]\n" * 2_100_000)
    with pytest.raises(InputError, match="more than 4,000,000 values"):
        files.read_lines(str(path))


def test_a_pipe_and_a_device_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/zero", str(tmp_path)):
        for read in (files.read_bytes, files.read_json, files.read_lines, files.sha256, files.opened):
            with pytest.raises(InputError, match=r"not a regular file|directory"):
                read(path)


def test_links_are_not_written_through(tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("precious")
    for name in ("lines.jsonl", ".writing-whole.txt"):
        (tmp_path / name).symlink_to(precious)
    with pytest.raises(InputError, match="symbolic links"):
        files.append_line(str(tmp_path / "lines.jsonl"), {})
    files.write_whole(str(tmp_path / "whole.txt"), lambda path: Path(path).write_text("new"))
    assert precious.read_text() == "precious" and (tmp_path / "whole.txt").read_text() == "new"


def killed_while_it_writes(path):
    """Writes half a file in a process that is killed then, as by a power failure."""
    def half(temporary):
        Path(temporary).write_text("ha")
        os.kill(os.getpid(), signal.SIGKILL)

    if not (process := os.fork()):
        files.write_whole(str(path), half)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


def test_what_killed_processes_left_is_removed_by_the_next_write(tmp_path):
    killed_while_it_writes(tmp_path / "a.json")
    killed_while_it_writes(tmp_path / "b.json")
    (tmp_path / ".writing-model.keras").write_text("left by an earlier version")
    assert len(os.listdir(tmp_path)) == 2  # the second process has removed what the first left
    files.write_text(str(tmp_path / "c.json"), "whole")
    assert os.listdir(tmp_path) == ["c.json"]


def test_the_next_start_in_a_run_folder_removes_what_killed_processes_left(tmp_path):
    for part in ("", "training", "front/0.1ms", "trials/0/training", "bundle"):
        (tmp_path / part).mkdir(parents=True, exist_ok=True)
        killed_while_it_writes(tmp_path / part / "a.json")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / ".writing-by-hand").write_text("the user's")
    with claim.locked(str(tmp_path)):
        left = [path.name for path in tmp_path.rglob("*") if path.name.startswith(".writing")]
        assert left == [".writing-by-hand"]


def test_what_a_living_process_writes_stays(tmp_path):
    def slow(temporary):
        Path(temporary).write_text("slow")
        files.write_text(str(tmp_path / "quick.json"), "quick")
        if not (process := os.fork()):
            files.write_text(str(tmp_path / "other.json"), "other")
            os._exit(0)
        os.waitpid(process, 0)

    files.write_whole(str(tmp_path / "slow.json"), slow)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "slow.json": "slow", "quick.json": "quick", "other.json": "other"}


def test_links_and_pipes_that_look_like_remains_are_safe(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("mine")
    (tmp_path / ".writing-link").symlink_to(tmp_path / "precious")
    os.mkfifo(tmp_path / ".writing-pipe")
    files.write_text(str(tmp_path / "a.json"), "whole")
    assert (tmp_path / "precious" / "file").read_text() == "mine" and (tmp_path / "a.json").exists()


def test_temporary_folders_of_killed_processes_are_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if not (process := os.fork()):
        with workspaces.temporary_folder() as folder:
            Path(folder, "model.tflite").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    (left,) = tmp_path.iterdir()
    others = [tmp_path / name for name in ("pnas_tf-main", "precious", ".pnas_tf-link", ".pnas_tf-strange1")]
    for path in (others[0], others[1], others[3]):
        path.mkdir()
        (path / "file").write_text("mine")
    others[2].symlink_to(others[1])
    if os.getuid() == 0:
        os.chown(others[3], 1, 1)  # another user's
    else:
        shutil.rmtree(others.pop())
    with workspaces.temporary_folder() as folder, workspaces.temporary_folder() as other:
        assert not left.exists() and os.path.isdir(folder) and os.path.isdir(other)
    assert sorted(tmp_path.iterdir()) == sorted(others) and (others[1] / "file").read_text() == "mine"


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_folder_takes_the_place_of_another(tmp_path, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(workspaces, "_exchanged", lambda one, other: False)
    for name in ("new", "newer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    place = tmp_path / "place"
    workspaces.put_folder(str(tmp_path / "new"), str(place))
    assert (place / "file").read_text() == "new" and not (tmp_path / "new").exists()
    workspaces.put_folder(str(tmp_path / "newer"), str(place))
    assert (place / "file").read_text() == "newer" and (tmp_path / "newer" / "file").read_text() == "new"
    with pytest.raises(OSError):
        workspaces.put_folder(str(tmp_path / "missing"), str(place))
    assert (place / "file").read_text() == "newer"
