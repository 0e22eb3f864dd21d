"""Faults of phones: none of them leads to a wrong row or a lost row, and each is named by a message.

The devices are those of tests/adb_device with its recorded benchmark: a model takes as many microseconds as its file
has bytes, so the right value of every row is known. Faults of a phone are tested with every adb client that is
installed, Debian's and a newer one. What depends on our own code alone is tested with any of them.
"""
# Long because all faults are checked by the same few helpers.

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from latency.phones import adb
from latency.phones.android import Android
from latency.phones.settings import PhoneSettings
from pnas_tf.cost import latency_table
from pnas_tf.errors import InputError
from tests.latency.phones import recorded
from tests.latency.phones.recorded import BENCHMARK, TINY, build, right
from tests.waiting import wait_for

# Runs of the tool before the first batch of rows: the smallest model, the anchor twice, the overhead, the anchor, and
# then, for the rows, the anchor twice again.
BEFORE = 1 + 2 + 1 + 1 + 2
# For tests whose outcome does not depend on the adb client.
ANY_CLIENT = pytest.mark.parametrize("adb_server", ["any"], indirect=True)
# A hook of the recorded benchmark that does something at the run of this number.
AT = "[ $(wc -l < runs.log) = {} ] && "
# Waits until an unplugged device has cut its connections.
SEEN = "until [ -e was_unplugged ]; do sleep 0.05; done"


@pytest.fixture(scope="module")
def expected(converted_once):
    return recorded.times()


def fails(client, path, match, **settings):
    """The message of a build that has to fail."""
    with pytest.raises(InputError, match=match) as caught:
        build(client, path, **settings)
    assert "\n" not in str(caught.value) and str(caught.value).isprintable() and len(str(caught.value)) < 1500
    return str(caught.value)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "t.jsonl"


def test_unplugged_in_mid_run(client, device, path, expected):
    phone = device()
    phone.fault("benchmark", AT.format(BEFORE + 14) + "touch faults/unplugged && sleep 5")
    message = fails(client, path, "No phone is left: .*Run the same command again to continue")
    assert phone.serial in message and ("offline" in message or "not attached" in message)
    rows = right(path, expected)
    assert len(rows) == 8  # a batch that its anchor has confirmed
    phone.heal("benchmark")
    phone.heal("unplugged")
    wait_for(lambda: client("-s", phone.serial, "get-state").stdout == "device\n")
    build(client, path)
    assert len(right(path, expected)) == len(expected)


def test_unplugged_and_plugged_in_again(client, device, path, expected, capfd):
    phone = device()
    # In a session of its own, because what the phone runs for the host ends with the connection.
    phone.fault("benchmark", AT.format(BEFORE + 3) + f"(setsid sh -c 'touch faults/unplugged; {SEEN}; "
                                                     "rm faults/unplugged' &) && sleep 5")
    build(client, path, wait_seconds=120.0)  # Debian's adb looks for it again after 10 seconds
    assert len(right(path, expected)) == len(expected)
    printed = capfd.readouterr().err
    assert "its models go back to the queue" in printed and f"{phone.serial} is back" in printed


def test_unauthorised(client, device, path, expected, capfd):
    phone = device(faults=["unauthorized"])
    fails(client, path, f"{phone.serial} is unauthorized: accept the dialog 'Allow USB debugging")
    assert not path.exists()
    device()
    build(client, path)  # with the other phone
    assert len(right(path, expected)) == len(expected)
    assert "unauthorized" in capfd.readouterr().err
    fails(client, path, "unauthorized", serial=[phone.serial])


def test_offline(client, device, path):
    phone = device()
    phone.fault("unplugged")
    wait_for(lambda: client("devices").stdout.count("offline") or phone.serial not in client("devices").stdout)
    fails(client, path, "is (offline|not attached): (un)?plug", serial=[phone.serial])
    assert not path.exists()


def test_no_space(client, device, path, expected):
    phone = device()
    phone.fault("benchmark", AT.format(BEFORE + 2) + "touch faults/no_space")
    assert "No space left on device" in fails(client, path, "could not push")
    rows = right(path, expected)
    phone.heal("benchmark")
    phone.heal("no_space")
    build(client, path)
    assert len(right(path, expected)) == len(expected) > len(rows)


def test_no_space_for_the_benchmark(client, device, path):
    device(faults=["no_space"])
    assert "No space left on device" in fails(client, path, "No phone can be used: .*could not push 1 of 1")
    assert not path.exists()


def test_binary_for_another_processor(client, device, path, tmp_path):
    device()
    binary = tmp_path / "android_aarch64_benchmark_model"
    arm64_header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00"
    binary.write_bytes(arm64_header + bytes(200))
    fails(client, path, r"ended with 126 \(is it for another processor\?\)", benchmark_binary=str(binary))
    assert not path.exists()


@pytest.mark.parametrize("output", [
    "head -c 5000 /dev/urandom", "echo 'Inference timings in us: Init: 5, Inference (avg): 7.5'", "true",
    "kill -SEGV $$",
    "yes INFO: count=50 first=1 curr=1 min=1 max=1 avg=1 std=0",  # without an end
    "printf 'ERROR: \\033]0;title\\007\\033[2J \\r no\\n'; exit 1", "head -c 900000 /dev/zero",
    "yes '' | head -c 900000"],
    ids=["random", "half", "nothing", "crash", "endless", "escapes", "long line", "many lines"])
def test_garbage(client, device, path, expected, output):
    """Garbage for one model: that model alone has no row."""
    phone = device()
    phone.fault("benchmark", f"case $graph in *m001*) {output}; exit;; esac")
    message = fails(client, path, r"2 of 14 models could not be timed and have no row; all others are done\.")
    assert re.search(r"done\. (mb_k|conv_k|classifier)", message)
    assert len(right(path, expected)) == len(expected) - 2


@ANY_CLIENT
def test_garbage_once(client, device, path, expected):
    phone = device()
    phone.fault("benchmark", AT.format(BEFORE + 4) + "echo hello && exit")
    build(client, path)
    assert len(right(path, expected)) == len(expected)


@pytest.mark.parametrize("more", [1000, 4_000_000_000, -1])
def test_packets_that_lie_about_their_length(client, device, path, expected, more):
    phone = device()
    phone.fault("benchmark", AT.format(BEFORE + 4) + f"echo {more} > faults/wrong_length")
    fails(client, path, "No phone is left", timeout_seconds=1.0)
    assert right(path, expected) == {}
    phone.heal("wrong_length")
    phone.heal("benchmark")
    build(client, path)
    assert len(right(path, expected)) == len(expected)


@ANY_CLIENT
@pytest.mark.parametrize("command", ["yes", "head -c 3000000 /dev/zero", "printf '\\033]0;x\\007\\033[2J\\r'; exit 3"],
                         ids=["endless", "overlong", "escapes"])
def test_a_phone_that_turns_malicious(client, device, path, expected, capfd, command):
    """From then on it answers every command with something else; the other phone does its work."""
    bad, _ = device(), device()
    bad.fault("benchmark", AT.format(BEFORE) + f"echo \"{command}\" > faults/shell")
    build(client, path)
    assert len(right(path, expected)) == len(expected)
    printed = capfd.readouterr().err
    assert bad.serial in printed and "The measurement continues without this phone" in printed
    assert not set(printed) & {"\x1b", "\x07", "\0"}


def test_hanging(client, device, path, expected):
    phone = device()
    phone.fault("benchmark", AT.format(BEFORE + 4) + "sleep 600")
    build(client, path, timeout_seconds=5.0)
    assert len(right(path, expected)) == len(expected)


def test_throttling(client, device, path, expected, capfd):
    """A phone that is slower by a fifth for a while: that batch is measured again."""
    phone = device()
    n = "$(wc -l < runs.log)"
    phone.fault("benchmark", f"[ {n} -ge {BEFORE + 5} ] && [ {n} -le {BEFORE + 13} ] && us=$((us * 6 / 5))")
    build(client, path, wait_seconds=120.0)
    assert len(right(path, expected)) == len(expected)
    assert "its anchor network takes 20% longer than at the start. Waiting for the phone; its models go back to the " \
        "queue" in capfd.readouterr().err


@ANY_CLIENT
def test_throttling_for_good(client, device, path, expected):
    phone = device()
    phone.fault("benchmark", f"[ $(wc -l < runs.log) -ge {BEFORE + 14} ] && us=$((us * 6 / 5))")
    fails(client, path, "has changed its pace: its anchor network takes 20% longer")
    assert len(right(path, expected)) == 8
    phone.heal("benchmark")
    build(client, path)
    assert len(right(path, expected)) == len(expected)


@ANY_CLIENT
def test_too_hot(client, device, path, expected, capfd):
    hot, other = device(), device()
    cool = "\n".join(hot.read("dumpsys_battery"))
    hot.write("dumpsys_battery", cool.replace("312", "451"))
    build(client, path)  # with the other phone
    assert len(right(path, expected)) == len(expected)
    assert "too hot: 45.1 degrees Celsius, limit 40" in capfd.readouterr().err
    path.unlink()
    other.write("dumpsys_thermalservice", "Thermal Status: 3\n")
    assert "thermal status 3" in fails(client, path, "too hot: 45.1")
    hot.write("dumpsys_battery", cool)
    build(client, path)
    assert len(right(path, expected)) == len(expected)


def test_different_devices(client, device, path, expected, monkeypatch):
    phones = device(), device(model="Pixel 3")
    message = fails(client, path, "Different phones are attached.*choose by --serial")
    assert all(phone.serial in message for phone in phones) and "Google Pixel 3" in message
    assert not path.exists()
    table = build(client, path, serial=[phones[1].serial])
    assert table.header["device"] == "Google Pixel 3" and len(right(path, expected)) == len(expected)
    monkeypatch.setenv("ANDROID_SERIAL", phones[0].serial)
    assert Android(PhoneSettings(adb=client.path, benchmark_binary=BENCHMARK)).facts()["device"] == "Google Pixel 2"


@ANY_CLIENT
def test_two_of_a_kind_that_are_not_alike(client, device, path, expected, capfd):
    device()
    device().fault("benchmark", "us=$((us * 11 / 10))")
    build(client, path)
    assert len(right(path, expected)) == len(expected)
    assert "takes 10% longer for the anchor network than the fastest phone" in capfd.readouterr().err


def test_each_phone_is_held_to_its_own_pace(client, device, path, expected, capfd):
    """The second one takes 4 % longer at the start, and 5.5 % longer than the first one from then on."""
    device()
    device().fault("benchmark", "us=$((us * ($(wc -l < runs.log) > 2 ? 1055 : 1040) / 1000))")
    build(client, path)
    assert len(latency_table.read(str(path)).rows) == len(expected)
    assert "changed its pace" not in capfd.readouterr().err


def test_one_of_two_drops_out(client, device, path, expected, capfd):
    phones = device(), device()
    phones[0].fault("benchmark", AT.format(BEFORE + 1) + "touch faults/unplugged && sleep 5")
    build(client, path)
    assert len(right(path, expected)) == len(expected)
    printed = capfd.readouterr().err
    assert f"{phones[0].serial} was lost" in printed and "The measurement continues without this phone" in printed


def test_one_of_two_is_full(client, device, path, expected, capfd):
    phones = device(), device()
    phones[0].fault("benchmark", "[ $(wc -l < runs.log) -ge 5 ] && touch faults/no_space")
    build(client, path)
    assert len(right(path, expected)) == len(expected)
    printed = capfd.readouterr().err
    assert f"{phones[0].serial}: could not push" in printed and "No space left on device" in printed
    assert "The measurement continues without this phone" in printed


def test_server_restarted(client, device, path, expected, capfd):
    phone = device()
    restart = " ".join(f"{name}='{client.environment[name]}'" for name in ("ANDROID_ADB_SERVER_PORT", "HOME"))
    phone.fault("benchmark", AT.format(BEFORE + 4) + f"{restart} {client.path} kill-server && sleep 5")
    build(client, path, wait_seconds=120.0)
    assert len(right(path, expected)) == len(expected)
    assert "is back" in capfd.readouterr().err


@ANY_CLIENT
def test_server_does_not_list_devices_while_it_restarts(client, device, path, expected, tmp_path, capfd):
    phone, restarting, wrapper = device(), tmp_path / "restarting", tmp_path / "adb"
    wrapper.write_text(f"""#!/bin/sh
        [ "$1" = devices ] && rm {restarting} 2> /dev/null && {{
            echo "error: protocol fault (couldn't read status): Connection reset by peer"; exit 1; }}
        exec {client.path} "$@"
        """)
    wrapper.chmod(0o755)
    phone.fault("benchmark", AT.format(BEFORE + 3) + f"(setsid sh -c 'touch {restarting} faults/unplugged; {SEEN}; "
                                                     "rm faults/unplugged' &) && sleep 5")
    build(dataclasses.replace(client, path=str(wrapper)), path, wait_seconds=120.0)
    assert len(right(path, expected)) == len(expected) and not restarting.exists()
    printed = capfd.readouterr().err
    assert "protocol fault" in printed and "is back" in printed


@pytest.mark.slow
def test_killed_and_resumed(client, device, path, expected, tmp_path):
    check_ended(client, device(), path, expected, tmp_path, signal.SIGKILL, -signal.SIGKILL)


@pytest.mark.slow
@ANY_CLIENT
def test_stopped_by_ctrl_c_and_resumed(client, device, path, expected, tmp_path):
    check_ended(client, device(), path, expected, tmp_path, signal.SIGINT, 130)


def check_ended(client, phone, path, expected, tmp_path, number, code):
    """Ends the whole program by a signal while the second batch runs."""
    phone.fault("benchmark", AT.format(BEFORE + 14) + "echo $$ > hanging && sleep 600")
    (tmp_path / "space.json").write_text(json.dumps(TINY))
    program = subprocess.Popen([
        sys.executable, "-m", "latency.build_table", "--measurer=android", f"--space={tmp_path}/space.json",
        f"--output={path}", f"--adb={client.path}", f"--benchmark_binary={BENCHMARK}", f"--serial={phone.serial}",
        "--min_seconds=0", "--warmup_seconds=0"], stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a shell's background job ignores it
    wait_for(lambda: phone.read("hanging") or program.poll() is not None, 120)
    program.send_signal(number)
    _, printed = program.communicate(timeout=60)
    assert program.returncode == code, printed
    assert len(right(path, expected)) == 8
    build(client, path)
    assert len(right(path, expected)) == len(expected)
    wait_for(lambda: not runs(phone.read("hanging")[0]))


@ANY_CLIENT
@pytest.mark.parametrize(("line", "reason"), [
    ("INFO: Explicitly applied XNNPACK delegate, and the model graph will be partially executed by the delegate w/ 2 "
     "delegate kernels.", "part"),
    ("INFO: Though XNNPACK delegate is explicitly applied, the model graph will not be executed by the delegate.",
     "nothing"),
    ("INFO: Created TensorFlow Lite XNNPACK delegate for CPU.", "unknown"), ("", "unknown")])
def test_not_in_full_on_the_delegate(client, device, path, expected, line, reason):
    device().fault("benchmark", f'case $graph in *m001*) said="{line}";; esac')
    fails(client, path, f"the delegate xnnpack must run the whole model, but its share is {reason}")
    assert len(right(path, expected)) == len(expected) - 2


@ANY_CLIENT
def test_a_delegate_that_was_not_asked_for_and_unknown_flags(client, device, path):
    phone = device()
    fails(client, path, "asked for no delegate, got xnnpack", delegate="none")
    phone.fault("benchmark", 'said="WARN: Unconsumed cmdline flags: --require_full_delegation=true"')
    fails(client, path, "does not know --require_full_delegation=true: take a newer one")
    assert not path.exists()


@ANY_CLIENT
@pytest.mark.parametrize(("delegate", "dtype", "flags"), [
    ("gpu", "float32", ["--use_gpu=true", "--require_full_delegation=true", "--gpu_precision_loss_allowed=false"]),
    ("gpu", "float16", ["--gpu_precision_loss_allowed=true"]),
    ("nnapi", "int8", ["--use_nnapi=true", "--require_full_delegation=true"]),
    ("none", "float32", ["--use_xnnpack=false"])])
def test_flags_of_delegates(client, device, path, delegate, dtype, flags):
    phone = device()
    phone.fault("benchmark", "said=" if delegate == "none" else
                f'said="INFO: Explicitly applied {delegate.upper()} delegate, and the model graph will be completely '
                'executed by the delegate."')
    measurer = Android(PhoneSettings(adb=client.path, benchmark_binary=BENCHMARK, delegate=delegate, dtype=dtype,
                                     cpu_mask="0c", threads=2, run_delay_seconds=0.01))
    builtin = "builtin" if delegate == "none" else delegate
    assert measurer.facts()["target"] == f"pixel2_{builtin}2_{dtype}"
    assert {*flags, "--num_threads=2", "--run_delay=0.01"} <= set(phone.read("runs.log")[0].split())
    assert set(phone.read("taskset.log")) == {"0c"}


@ANY_CLIENT
def test_names_reach_no_shell(client, device, path, tmp_path):
    """Neither on this machine nor on the phone: names of files, serial numbers, and what a phone calls itself."""
    phone = device(model="$(touch pwned) `touch pwned`; 'touch' \x1b[2J pwned")
    binary = tmp_path / "it's; $(touch pwned) `touch pwned`\n.sh"
    binary.write_bytes(Path(BENCHMARK).read_bytes())
    binary.chmod(0o755)
    head = Android(PhoneSettings(adb=client.path, benchmark_binary=str(binary))).facts()
    assert head["device"] == "Google $(touch pwned) `touch pwned`; 'touch' ?[2J pwned"
    for serial in ("-x; touch pwned", "$(touch pwned)", "a\tb", " a", "", "x" * 300):
        with pytest.raises(InputError, match="is no serial number"):
            Android(PhoneSettings(adb=client.path, benchmark_binary=str(binary), serial=[serial, phone.serial])).facts()
    assert not list(tmp_path.rglob("*pwned")) and not Path("pwned").exists()


def test_client_and_device_understand_each_other(client, device, tmp_path):
    """The test device answers adb as a phone does."""
    phone = device()
    assert "connected to" in phone.said
    assert client("-s", phone.serial, "shell", "echo out; echo err >&2; exit 7").__dict__.items() >= {
        "returncode": 7, "stdout": "out\n", "stderr": "err\n"}.items()
    content = os.urandom(700_000)
    (tmp_path / "a").write_bytes(content)
    client("-s", phone.serial, "push", str(tmp_path / "a"), "/data/local/tmp/b c")
    assert (phone.root / "data/local/tmp/b c").read_bytes() == content
    client("-s", phone.serial, "pull", "/data/local/tmp/b c", str(tmp_path / "d"))
    assert (tmp_path / "d").read_bytes() == content
    assert client("-s", phone.serial, "exec-out", "cat '/data/local/tmp/b c' | wc -c").stdout.strip() == "700000"
    assert "b c" in client("-s", phone.serial, "shell", "ls /data/local/tmp").stdout


@ANY_CLIENT
def test_adb_that_is_none(client, path, tmp_path):
    fails(client, path, "No phone is attached: plug it in")
    for program, message in (("/nonexistent", "No adb at"), ("/bin/true", "expected a list of devices")):
        with pytest.raises(InputError, match=message):
            Android(PhoneSettings(adb=program, benchmark_binary=BENCHMARK)).facts()
    assert adb.find(None) and not path.exists()


def test_a_missing_benchmark_is_published_there():
    for settings in ({}, {"benchmark_binary": "/nonexistent"}, {"benchmark_binary": os.devnull}):
        with pytest.raises(InputError, match=r"published at https://storage\.googleapis\.com/tensorflow-nightly-public/"
                                             r"\S*/android_aarch64_benchmark_model ") as caught:
            Android(PhoneSettings(**settings))
        assert "\n" not in str(caught.value)


def runs(pid):
    """Whether a process still runs; an ended orphan exists until init reaps it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
