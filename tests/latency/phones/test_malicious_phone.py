"""A malicious phone can make its own work fail, but it costs no time or memory and cannot steer the terminal."""

import threading
import tracemalloc
from pathlib import Path

import pytest

from latency.phones import adb
from latency.phones import worker as phone_worker
from latency.phones.android import Android
from latency.phones.settings import PhoneSettings
from pnas_tf.errors import InputError

RECORDED = str(Path(__file__).parents[2] / "adb_device" / "recorded_benchmark.sh")
ANY_CLIENT = pytest.mark.parametrize("adb_server", ["any"], indirect=True)


def facts(client, *serials):
    return Android(PhoneSettings(adb=client.path, benchmark_binary=RECORDED, min_seconds=0.0, warmup_seconds=0.0,
                                 serial=list(serials))).facts()


@ANY_CLIENT
@pytest.mark.parametrize("command", [
    "yes", "yes ''", "head -c 3000000 /dev/zero", "printf '\\033]0;title\\007\\033[2J\\r'; exit 3", "exit 0",
    "kill -9 $$", "head -c 100000 /dev/urandom; exit 1", "printf '\\377\\376'; exit"],
    ids=["endless", "endless lines", "overlong", "escapes", "silent", "killed", "random", "no text"])
def test_a_phone_that_does_something_else(client, device, capfd, command):
    """Instead of every command."""
    bad, good = device(), device()
    bad.fault("shell", command)
    with pytest.raises(InputError, match=bad.serial) as caught:
        facts(client, bad.serial)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1500
    capfd.readouterr()
    assert facts(client)["device"] == "Google Pixel 2" and good.read("runs.log")
    printed = capfd.readouterr().err
    assert bad.serial in printed and printed.replace("\n", "").isprintable()


@ANY_CLIENT
@pytest.mark.parametrize("model", [
    "x" * 900_000, "\x1b[2J\x1b]0;x\x07", "../../x", "$(touch pwned)", "\u202e", "\\n\\n"],
    ids=["long", "escapes", "path", "shell", "direction", "lines"])
def test_a_phone_that_calls_itself_anything(client, device, model):
    header = facts(client, device(model=model).serial)
    assert header["device"].isprintable() and len(header["device"]) < 200
    assert header["target"].isascii() and header["target"].replace("_", "").isalnum() and len(header["target"]) <= 100


def test_an_endless_client_takes_little_memory():
    """A client that prints forever is ended, and its output is never kept whole."""
    tracemalloc.start()
    try:
        with pytest.raises(adb.CommandError, match="printed more than 1000000 bytes"):
            adb._run(["yes"], timeout_s=30, stopped=threading.Event())
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("listed", [
    "List of devices attached\n-rf\tdevice\n$(touch pwned)\tdevice\na;b\tdevice\n../x\tdevice\n\x1b[2J\tdevice\n",
    "List of devices attached\n" + "x" * 300 + "\tdevice\n"])
def test_serial_numbers_that_are_none(tmp_path, listed):
    client = tmp_path / "adb"
    (tmp_path / "listed").write_text(listed)
    client.write_text(f"#!/bin/sh\ncat '{tmp_path}/listed'\n")
    client.chmod(0o755)
    assert adb.devices(str(client)) == {}


def test_what_is_said_is_one_line(capfd):
    phone_worker.say("a\x1b[2Jb\nc")
    assert capfd.readouterr().err == "a?[2Jb?c\n"
