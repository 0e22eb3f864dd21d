"""The doctor lists what a machine has and lacks, whatever fails on it."""

import importlib.util
import os
import subprocess
import sys
from importlib import metadata

import pytest

from pnas_tf import doctor


def by_name(findings):
    return {finding.name: finding for finding in findings}


def start(**environment):
    return subprocess.run([sys.executable, "-m", "pnas_tf.doctor"], env={**os.environ, **environment},
                          capture_output=True, text=True, timeout=200)


def test_a_machine_without_adb(tmp_path):
    """An empty PATH: neither adb (but for a copy) nor benchmark_model nor nvidia-smi, and still an answer."""
    has_copy = importlib.util.find_spec("adbutils") is not None
    done = start(PATH=str(tmp_path), HOME=str(tmp_path))
    assert done.returncode == 0 and done.stderr == ""
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    heads = [words[:2] for words in lines]
    assert ["+" if has_copy else "-", "adb"] in heads and ["+", "tensorflow"] in heads
    assert "would enable --measurer=android" in done.stdout
    assert f"{metadata.version('tensorflow')}\n" in done.stdout and "Traceback" not in done.stdout


@pytest.mark.parametrize("adb_server", ["any"], indirect=True)
def test_phones_that_are_attached(device, client):
    phone = device(model="Pixel 2")
    findings = by_name(doctor.phones(client.path))
    assert findings["adb"].is_usable and findings[phone.serial].is_usable and "a phone" not in findings


@pytest.mark.parametrize(("output", "usable", "means"), [
    ("List of devices attached\nFA123\tunauthorized usb:1-1\n", False, "allow USB debugging"),
    ("* daemon started successfully\nList of devices attached\nFA123\toffline\n\n", False, "plug it in again"),
    ("List of devices attached\nFA123\tdevice product:walleye model:Pixel_2\n", True, "model:Pixel_2"),
    ("List of devices attached\nFA123\tdevice \x1b[2J\n", True, "?[2J")])
def test_what_adb_says_of_devices(tmp_path, output, usable, means):
    adb = tmp_path / "adb"
    adb.write_text(f"#!/bin/sh\ncat <<'END'\n{output}END\n")
    adb.chmod(0o755)
    finding = by_name(doctor.phones(str(adb)))["FA123"]
    assert finding.is_usable is usable and means in finding.text


def test_serial_numbers_with_blanks(tmp_path):
    """As mDNS gives them to a phone that is paired twice; `adb devices -l` separates columns by blanks."""
    serial, adb = "adb-0A1B2C (2)._adb-tls-connect._tcp", tmp_path / "adb"
    adb.write_text(f"#!/bin/sh\necho 'List of devices attached'\n[ \"$2\" ] && echo '{serial} device model:Pixel_2' "
                   f"|| printf '{serial}\\tdevice\\n'\n")
    adb.chmod(0o755)
    finding = by_name(doctor.phones(str(adb)))[serial]
    assert finding.is_usable and finding.text == "model:Pixel_2"


def test_an_adb_that_fails_or_cannot_run(tmp_path):
    adb = tmp_path / "adb"
    adb.write_text("#!/bin/sh\necho 'cannot bind' >&2\nexit 1\n")
    adb.chmod(0o755)
    findings = by_name(doctor.run(str(adb)))
    assert not findings["adb"].is_usable and "cannot bind" in findings["adb"].text
    adb.write_text("not a program")
    findings = by_name(doctor.run(str(adb)))
    assert not findings["Phones"].is_usable and "cannot be examined" in findings["Phones"].text
    assert findings["numpy"].is_usable


def test_interpreters_are_those_that_load():
    findings = by_name(doctor.interpreters())
    for package, module in doctor.INTERPRETERS.items():
        loads = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True).returncode == 0
        assert findings[package].is_usable is loads


def test_looks_where_data_sets_are_read_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not by_name(doctor.data_sets())["cifar10"].is_usable
    (tmp_path / "cifar10.npz").write_bytes(b"")
    assert by_name(doctor.data_sets())["cifar10"].is_usable
    assert by_name(doctor.data_sets())["fashion_mnist_small"].is_usable
