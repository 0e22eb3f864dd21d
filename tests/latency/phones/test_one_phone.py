"""One phone is one phone, however often adb lists it, and one program at a time works on it with files of its own."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from latency import measure
from latency.phones import adb, session, worker
from latency.phones.android import Android
from latency.phones.settings import PhoneSettings
from pnas_tf import doctor
from pnas_tf.errors import InputError
from tests.latency.phones import recorded
from tests.latency.phones.recorded import build, right, settings
from tests.waiting import wait_for

pytestmark = pytest.mark.parametrize("adb_server", ["any"], indirect=True)
FOLDER = "data/local/tmp/pnas_tf"


def android(client, **more):
    return Android(PhoneSettings(**settings(client, **more)))


def open_session(client, serial):
    return session.Session(adb.Adb(client.path, serial, threading.Event()))


@pytest.fixture(scope="module")
def expected(converted_once):
    return recorded.times()


def listed_again(client, phone):
    """A second serial of the same phone, as USB and Wi-Fi give two."""
    other = phone.serial.replace("127.0.0.1", "localhost")
    assert "connected to" in client("connect", other).stdout
    return other


def test_a_phone_that_is_listed_twice_is_used_once(client, device, tmp_path, expected, capfd):
    phone = device()
    other = listed_again(client, phone)
    try:
        build(client, tmp_path / "t.jsonl")
        assert len(right(tmp_path / "t.jsonl", expected)) == len(expected)
        said = capfd.readouterr().err
        assert "are one phone" in said and phone.serial in said and other in said
        with pytest.raises(session.InUseError):  # nor do two programs, each with one of the two serials
            hold = open_session(client, phone.serial)
            open_session(client, other)
        hold.close()
    finally:
        client("disconnect", other)


def test_one_program_at_a_time(client, device, capfd, monkeypatch):
    phone = device()
    hold = open_session(client, phone.serial)
    folder = phone.root / hold.folder.lstrip("/")
    assert folder.is_dir()
    with pytest.raises(InputError, match=rf"{phone.serial} is in use by another program.* adb kill-server"):
        android(client).facts()
    assert folder.is_dir() and len(list(folder.parent.glob("session-*"))) == 1
    hold.close()
    assert not folder.exists()
    measurer = android(client, wait_seconds=300.0)
    measurer.facts()
    hold, say = open_session(client, phone.serial), worker.say

    def end_then(text):  # the other program ends once this one waits for it
        say(text)
        if "Waiting for the phone" in text:
            hold.close()

    monkeypatch.setattr(worker, "say", end_then)
    build_one = measure.op_build(measure.OVERHEAD_KEY)
    assert [name for name, _ in measurer.measure({"it": build_one})] == ["it"]
    assert "in use by another program" in (said := capfd.readouterr().err) and "Waiting for the phone" in said
    assert not list(folder.parent.glob("session-*"))


def test_a_killed_program_leaves_the_phone_free(client, device):
    """Its folder is removed by the next program, and its benchmark, if that still runs, is ended."""
    phone = device()
    code = ("import sys, threading; from latency.phones import adb, session; "
            f"held = session.Session(adb.Adb({client.path!r}, {phone.serial!r}, threading.Event())); "
            "print(held.folder, flush=True); sys.stdin.read()")
    program = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    folder = phone.root / program.stdout.readline().strip().lstrip("/")
    script = folder / "benchmark_model-old"
    script.write_text("sleep 600\n")
    left = [subprocess.Popen(["/bin/sh", str(script)], start_new_session=True), subprocess.Popen(["sleep", "600"])]
    try:
        (folder / "pid").write_text(f"{left[0].pid}\n")
        other = folder.parent / "session-0.1"  # process 1 is no session
        other.mkdir()
        (other / "pid").write_text(f"{left[1].pid}\n")
        program.kill()
        program.communicate()
        wait_for(lambda: not Path(f"/proc/{folder.suffix[1:]}").exists())
        folder.mkdir(exist_ok=True)  # the shell on the phone may have removed it
        (folder / "pid").write_text(f"{left[0].pid}\n")
        open_session(client, phone.serial).close()
        assert not list(folder.parent.iterdir())
        assert left[0].wait(60) == -9 and left[1].poll() is None
    finally:
        for process in left:
            process.kill()
            process.wait()


def test_a_model_that_is_not_the_one_that_was_pushed(client, device, tmp_path, expected, capfd):
    """Another program has put other models in its place: their times do not count."""
    device().fault("benchmark", f"[ $(wc -l < runs.log) = 9 ] && for f in {FOLDER}/session-*/m00[0-6]*; do "
                                f"cp {FOLDER}/session-*/m007.tflite $f; done")
    build(client, tmp_path / "t.jsonl")
    assert len(right(tmp_path / "t.jsonl", expected)) == len(expected)
    assert " on the phone is not the model that was pushed. Waiting for the phone; its models" in capfd.readouterr().err


def test_taskset_that_is_refused_or_absent(client, device):
    phone = device()
    taskset = phone.root / "system/bin/taskset"
    for script in ("echo 'taskset: Operation not permitted'; exit 1", "echo 'sh: taskset: not found' >&2; exit 127"):
        taskset.write_text(f"#!/bin/sh\n{script}\n")
        with pytest.raises(InputError, match=r"`taskset f0` does not work: .*taskset: .*--cpu_mask=all"):
            android(client).facts()
    assert android(client, cpu_mask="all").facts()["cpu_mask"] == "all"


@pytest.mark.parametrize(("text", "mask"), [("0xf0", "f0"), ("F0", "f0"), ("0XC", "c"), ("0c", "0c"), ("ALL", "all")])
def test_masks_as_people_write_them(adb_server, text, mask):
    assert PhoneSettings(cpu_mask=text).cpu_mask == mask


@pytest.mark.parametrize("text", ["0", "0x", "0x00", "g", "4-7", "", "f" * 17])
def test_masks_that_are_none(adb_server, text):
    with pytest.raises(InputError, match="hexadecimal like f0"):
        PhoneSettings(cpu_mask=text)


@pytest.mark.parametrize("said", [
    "ERROR: Didn't find op for builtin opcode 'CONV_2D' version '5'. An older version of this builtin might be "
    "supported. Are you using an old TFLite binary with a newer model?", "WARN: Unconsumed cmdline flags: --x=y",
    "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."])
def test_an_old_benchmark_model(client, device, said):
    device().fault("benchmark", f'said="{said}"' if said[0] != "E" else f'echo "{said}"; exit 1')
    with pytest.raises(InputError, match=r"take a newer one, published at https://\S+/android_aarch64_\w+ "):
        android(client).facts()


BLANKS = "adb-0A1B2C (2)._adb-tls-connect._tcp"


def test_serial_numbers_with_blanks(adb_server, tmp_path, monkeypatch):
    program = tmp_path / "adb"
    program.write_text(f"#!/bin/sh\nprintf 'List of devices attached\\n{BLANKS}\\tdevice\\n012\\tno permissions "
                       "(user in plugdev group; are your udev rules wrong?); see [http://x]\\n\\n'\n")
    program.chmod(0o755)
    assert adb.devices(str(program)) == {BLANKS: "device", "012": "no"}
    adb.Adb(str(program), BLANKS, threading.Event()).connect()


def test_the_adb_of_the_package_adbutils_is_used_if_there_is_no_other(adb_server, monkeypatch):
    adbutils = pytest.importorskip("adbutils")
    assert adb.find(None) == shutil.which("adb") or not shutil.which("adb")
    monkeypatch.setenv("PATH", "/nonexistent")
    copy = str(Path(adbutils.__file__).parent / "binaries" / "adb")
    assert adb.find(None) == copy and doctor.phones()[0] == doctor.Finding("Phones", "adb", True, copy)
    with pytest.raises(InputError, match="No adb at adb2"):
        adb.find("adb2")
