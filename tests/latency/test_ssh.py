"""Boards over ssh: the ssh of the system logs in to a real sshd on loopback, whose connections are refused and cut.

The board is this machine, with the Python of these tests and its runtime. Programs that stand in the way of that Python
make its faults: a full disk, another processor, no runtime.
"""

import contextlib
import importlib.machinery
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from export import apart, convert, interpreter, machine_state, timing
from latency import board, board_link, measure
from latency.ssh import Ssh, SshSettings
from pnas_tf.cost import latency_table
from pnas_tf.errors import InputError
from pnas_tf.space.blocks import OpKey
from pnas_tf.space.spaces import from_json
from tests import ssh_server
from tests.waiting import wait_for

# The right to time models is one for the whole machine, where other tests of boards may run.
QUICK = {"host": "board", "remote_python": sys.executable, "rounds": 2, "runs": 3, "warmup_seconds": 0.0,
         "wait_seconds": 60.0}
SPACE = from_json({
    "name": "tiny", "input_size": 8, "input_channels": 3, "num_classes": 3,
    "stem": [{"name": "stem", "ops": ["conv_k3"], "filters": 8, "strides": 2}],
    "blocks": [{"name": "b01", "ops": ["mb_k3_e3", "mb_k5_e3"], "filters": 8}],
    "head": [{"name": "classifier", "ops": ["classifier"], "filters": 3}]})
ARM64 = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xb7\x00" + bytes(200)  # begin of a program for another processor

pytestmark = pytest.mark.skipif(sys.platform != "linux" or not ssh_server.SSHD or not shutil.which("ssh"),
                                reason="needs Linux, like boards, and: apt-get install openssh-server openssh-client")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = ssh_server.Server(tmp_path_factory.mktemp("sshd"))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def ssh(server, tmp_path):
    """Makes measurers whose board is `server`, with a folder for models in tmp_path."""
    (tmp_path / "there").mkdir()

    def make(**settings):
        return Ssh(SshSettings(**{**QUICK, "ssh_config": str(server.config), "remote_folder": f"{tmp_path}/there",
                                  **settings}))

    return make


@pytest.fixture(scope="module")
def models():
    """Contents of a `.tflite` by name: 37, 74 and 111 kB."""
    return {f"op {count}": convert.to_time(measure.op_build(OpKey("conv_k3", (8, 8, 16), 64 * count, 1, False))(),
                                           "float32") for count in (1, 2, 3)}


@pytest.fixture
def builds(models, monkeypatch):
    """Functions that make `models`, which are converted already."""
    monkeypatch.setattr(convert, "to_time", lambda content, dtype: content)
    return {name: (lambda content=content: content) for name, content in models.items()}


@pytest.fixture
def program(tmp_path):
    """Makes a program for --remote_python from lines of shell; $PYTHON is the Python of these tests."""
    def make(text):
        path = tmp_path / f"python{len(list(tmp_path.iterdir()))}"
        path.write_text(f"#!/bin/sh\nPYTHON={sys.executable}\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return make


def fails(act, match):
    """The message of an error, which is one line."""
    with pytest.raises(InputError, match=match) as caught:
        act()
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()
    return str(caught.value)


def processes(folder):
    """Process numbers of Pythons that time models for a folder there."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if str(folder).encode() in words and b"timed_runs" in words[2]:
                found.append(int(entry.name))
    return found


def test_rows_come_from_the_board(ssh, builds, tmp_path, server):
    core = min(os.sched_getaffinity(0))
    device, cores = ssh(cpu_mask=hex(1 << core)), []
    facts = device.facts()
    assert facts["runtime"] == interpreter.runtime_name("litert") and facts["cores"] == os.cpu_count()
    assert {name: facts[name] for name in ("device", "os", "governor")}.items() <= timing.machine_facts().items()
    assert facts["target"].endswith("_xnnpack1_float32") and facts["cpu_mask"] == f"{1 << core:x}"
    assert str(server.config) not in json.dumps(facts)  # the way to a board is nobody else's business
    wait_for(lambda: not processes(tmp_path / "there"))
    rows = dict(device.measure(builds, builds["op 3"],
                               lambda: cores.extend(map(os.sched_getaffinity, processes(tmp_path / "there")))))
    assert set(rows) == set(builds) and len(cores) == 6 and all(each == {core} for each in cores)
    assert all(row["runs"] == 6 and 0 < row["min_ms"] <= row["median_ms"] and "celsius" in row for row in rows.values())
    wait_for(lambda: not processes(tmp_path / "there"))
    assert not list((tmp_path / "there").iterdir())


def test_a_connection_that_is_cut_gives_its_work_back(ssh, builds, server, capfd, tmp_path):
    device, visits = ssh(), []

    def cut_once():
        visits.append(1)
        if len(visits) == 2:
            server.cut()

    rows = dict(device.measure(builds, visited=cut_once))
    assert set(rows) == set(builds) and len(visits) == 6 and all(row["runs"] == 6 for row in rows.values())
    assert "Connecting again" in capfd.readouterr().err
    wait_for(lambda: not processes(tmp_path / "there"))
    assert not list((tmp_path / "there").iterdir())


@pytest.mark.slow
def test_a_board_that_does_not_come_back(builds, ssh, tmp_path):
    """Rows of models that were finished have come before."""
    other = ssh_server.Server(tmp_path)
    other.start()
    device, rows, visits = ssh(ssh_config=str(other.config), wait_seconds=1.0, together=1, rounds=1), [], []

    def stop():
        visits.append(1)
        if len(visits) == 2:
            other.stop()

    message = fails(lambda: rows.extend(device.measure(builds, visited=stop)), "Connection refused")
    assert "for 1 s" in message and "run the same command again" in message and "ssh BOARD true" in message
    assert 1 <= len(rows) <= 2


@pytest.mark.slow
def test_one_program_at_a_time(ssh, builds):
    running = ssh().measure(builds)
    next(running)
    second = ssh(wait_seconds=0.0)
    fails(lambda: list(second.measure(builds)), "board: it is in use by another program")
    assert len(list(running)) == 2
    wait_for(lambda: len(dict(ssh(wait_seconds=5.0).measure({"op 1": builds["op 1"]}))) == 1)


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "pi@-oProxyCommand=x", "pi board", "pi@board;reboot", "",
                                  "$(x)", "ssh://-x", "pi@", "böard"])
def test_hosts_that_are_none(host):
    fails(lambda: Ssh(SshSettings(host=host)), "^(host must be like pi@board|Name the board: --host=USER@BOARD)")


@pytest.mark.parametrize("host", ["board", "pi@board", "pi@192.168.0.7", "pi@fe80::1%eth0", "ssh://pi@[::1]:2222",
                                  "a.b-c"])
def test_hosts(host):
    assert Ssh(SshSettings(host=host)).command("python3", ["-c", "x y"])[-2] == host


def test_the_environment_names_the_board(monkeypatch):
    monkeypatch.setenv("PNAS_TF_HOST", "pi@there")
    assert measure.measurer_of("ssh").command("p", [])[-2] == "pi@there"
    assert measure.measurer_of("ssh", host="pi@other").command("p", [])[-2] == "pi@other"


def test_no_way_to_the_board(ssh, server, tmp_path):
    def changed(**lines):
        text = server.config.read_text()
        for name, value in lines.items():
            text = "".join(f"  {name} {value}\n" if line.split()[0] == name else line
                           for line in text.splitlines(keepends=True))
        (tmp_path / "config").write_text(text)
        return ssh(ssh_config=str(tmp_path / "config")).facts

    (tmp_path / "empty").touch()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    fails(changed(Port=1), "Connection refused.*Is it on")
    fails(changed(IdentityFile=tmp_path / "key"), r"board: .*Permission denied \(publickey\).*ssh-copy-id BOARD")
    fails(changed(UserKnownHostsFile=tmp_path / "empty"), "Host key verification failed.*Log in by hand once")
    fails(ssh(ssh_config=str(tmp_path / "missing")).facts, "missing: No such file")


def test_no_python_there(ssh, tmp_path, program):
    (tmp_path / "python").write_bytes(ARM64)
    (tmp_path / "python").chmod(0o755)
    fails(ssh(remote_python=str(tmp_path / "python")).facts, "(Exec format error|cannot execute).*--remote_python=PATH")
    fails(ssh(remote_python="no/such/python").facts, "board: .*no/such/python: not found.*--remote_python=PATH")
    fails(ssh(remote_python="x'; touch /tmp/y; '").facts, "not found")  # one word, for the shell there, too
    fails(ssh(remote_python=program("exit 0")).facts, "board: exit code 0")


@pytest.mark.slow
def test_a_python_that_is_too_old(ssh):
    """Those that pyenv has installed here, of every version that this machine happens to have."""
    old = [path for path in Path.home().glob(".pyenv/versions/*/bin/python")
           if re.match(r"2\.|3\.[0-9]\.", path.parents[1].name)]
    if not old:
        pytest.skip("no Python before 3.10 in ~/.pyenv")
    for path in old:
        fails(ssh(remote_python=str(path)).facts, "Python [0-9.]+ is too old. Name a Python that it has, 3.10 or newer")


@pytest.mark.slow
def test_no_runtime_there(ssh, program, tmp_path):
    """A Python without NumPy, one with NumPy alone, and one whose runtime is for another processor."""
    fails(ssh(remote_python=program('exec $PYTHON -S "$@"')).facts, "No module named 'numpy'.*pip install numpy")
    alone, other = tmp_path / "alone", tmp_path / "other" / "ai_edge_litert"
    alone.mkdir()
    for folder in Path(np.__file__).parent.parent.glob("numpy*"):
        (alone / folder.name).symlink_to(folder)
    fails(ssh(remote_python=program(f'PYTHONPATH={alone} exec $PYTHON -S "$@"')).facts,
          "runtime auto is not installed.*--remote_python=PATH")
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    (other / f"interpreter{importlib.machinery.EXTENSION_SUFFIXES[0]}").write_bytes(ARM64)
    fails(ssh(remote_python=program(f'PYTHONPATH={other.parent} exec $PYTHON "$@"')).facts,
          "(ELF|cannot open shared object).*pip install numpy ai-edge-litert")


@pytest.mark.slow
def test_no_room_there(ssh, program, builds, tmp_path):
    """Files may have 30 kB, too little for a model, or 3 kB, too little for the timing code."""
    limited = 'exec prlimit --fsize={} $PYTHON "$@"'
    if not shutil.which("prlimit"):
        pytest.skip("no prlimit: apt-get install util-linux")
    device = ssh(remote_python=program(limited.format(30_000)))
    fails(lambda: list(device.measure(builds)), "File too large.*--remote_folder=PATH")
    fails(ssh(remote_python=program(limited.format(3_000))).facts, "File too large.*--remote_folder=PATH")
    fails(ssh(remote_folder=f"{tmp_path}/missing").facts, "board: .*No such file or directory: .*/missing/")
    wait_for(lambda: not processes(tmp_path / "there"))
    assert not list((tmp_path / "there").iterdir())


@pytest.mark.slow
def test_cores_that_are_not_there(ssh):
    fails(ssh(cpu_mask="8000000000000000").facts, "Invalid argument.*--cpu_mask=MASK")
    fails(lambda: ssh(cpu_mask="0x0"), "cpu_mask must be auto, all, or hexadecimal")


@pytest.mark.slow
def test_an_op_that_the_runtime_cannot_run(ssh, builds):
    device, rows = ssh(together=1, rounds=1), []
    broken = {"op 1": builds["op 1"], "broken op": lambda: b"no model"}
    fails(lambda: rows.extend(device.measure(broken)), "litert cannot run it.*It came when broken op was timed")
    assert [name for name, _ in rows] in ([], ["op 1"])


@pytest.fixture
def liar(tmp_path, program):
    """Makes a program that answers the first request with one text, and all others with another."""
    def make(first, others=""):
        script = tmp_path / "liar.py"
        script.write_text(
            "import sys\nmark, size = sys.argv[3], int(sys.argv[4])\nprint('motd of the board')\n"
            f"sys.stdin.buffer.read(size)\nanswers = [{first!r}]\n"
            "while True:\n    print(end='\\n' + mark + (answers.pop() if answers else "
            f"{others!r}) + '\\n', flush=True)\n    if not sys.stdin.readline():\n        break\n")
        return program(f'exec $PYTHON {script} "$@"')

    return make


@pytest.mark.parametrize(("lines", "match"), [
    pytest.param("yes", "more than 1000000 bytes before an answer", marks=pytest.mark.slow),
    ("head -c 5000 /dev/urandom", "board: "),
    ("printf '\\033]0;title\\007\\033[2J no\\n'; exit 3", r"board: \?\]0;title\?\?\[2J no"),
    ("kill -SEGV $$", "board: (Segmentation fault|exit code 139)")], ids=["endless", "random", "escapes", "crash"])
def test_boards_that_print_anything(ssh, program, lines, match):
    fails(ssh(remote_python=program(lines)).facts, match)


@pytest.mark.parametrize(("answer", "match"), [("[1", "not JSON"), ("[" * 100_000, "not JSON"), ("3", "no facts")],
                         ids=["half", "deep", "number"])
def test_boards_that_give_no_facts(ssh, liar, answer, match):
    fails(ssh(remote_python=liar(answer)).facts, match)


def test_windows_is_told_of_wsl(monkeypatch):
    monkeypatch.setattr(board, "os", SimpleNamespace(name="nt"))
    fails(lambda: Ssh(SshSettings(**QUICK)), r"Boards are timed from Linux and macOS; .* in WSL")


@pytest.mark.parametrize("state", ["{}", '{"throttled": 5}'])
def test_boards_that_say_little(ssh, liar, state):
    facts = ssh(remote_python=liar("{}", '"litert 9"')).facts()
    assert facts["target"] == "board_xnnpack1_float32" and facts["device"] == "unknown"
    device = ssh()
    device.visiting = lambda builds, between: contextlib.nullcontext((lambda name: [1.0], lambda name: None))
    device._link = SimpleNamespace(state=lambda: json.loads(state))
    assert [row["median_ms"] for _, row in device.measure({"a": None})] == [1.0]


def test_boards_that_lie(ssh, liar, builds):
    """Facts are numbers and printable texts, and times are as many numbers as there were runs."""
    lies = {"device": "x\x1b[2J\n" * 100, "cores": {"a": []}, "core_khz": {"0": "fast", "z": 3, "1": 5},
            "throttled": ["\x07" * 500] * 90, "target": "mine", "measurer": "host"}
    fails(ssh(remote_python=liar(json.dumps(lies), "[1.0, NaN, 2.0]")).facts, "names no runtime")
    device = ssh(remote_python=liar(json.dumps(lies), '"litert 9"'))
    facts = device.facts()
    assert facts["measurer"] == "ssh" and facts["target"].startswith("x_2j_x_2j") and facts["cores"] is None
    assert len(facts["device"]) == 120 and facts["device"].isprintable() and facts["cpu_mask"] == "2"
    assert len(facts["throttled"]) == 20 and set("".join(facts["throttled"])) == {"?", "."}
    json.dumps(latency_table.header(**facts))
    liar(json.dumps(lies), "[1.0, NaN, 2.0]")
    fails(lambda: list(device.measure(builds)), f"no list of times. It came {board_link.TRIES} times in a row when op")


def test_heat_and_throttling(tmp_path, monkeypatch):
    """By the tree of a Raspberry Pi's /sys, and by its firmware: 0x50005 sets bits 0, 2, 16 and 18."""
    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert machine_state.read(str(tmp_path)) == {"celsius": None, "throttled": None}
    for zone, text in enumerate(("48312\n", "61800\n", "no number")):
        write(f"sys/class/thermal/thermal_zone{zone}/temp", text)
    policy = "sys/devices/system/cpu/cpufreq/policy{}/{}_max_freq".format
    for number, (possible, allowed) in enumerate(((1_800_000, 1_800_000), (2_400_000, 1_500_000))):
        write(policy(number, "cpuinfo"), f"{possible}\n")
        write(policy(number, "scaling"), f"{allowed}\n")
        write(f"sys/devices/system/cpu/cpu{number}/cpufreq/cpuinfo_max_freq", f"{possible}\n")
    assert machine_state.core_khz(str(tmp_path)) == {0: 1_800_000, 1: 2_400_000}
    limited = "limited to 1500 of 2400 MHz now"
    assert machine_state.read(str(tmp_path)) == {"celsius": 61.8, "throttled": [limited]}
    write("bin/vcgencmd", "#!/bin/sh\n[ $1 = get_throttled ] && echo throttled=0x50005\n")
    (tmp_path / "bin" / "vcgencmd").chmod(0o755)
    assert machine_state.read(str(tmp_path))["throttled"] == [
        limited, "under-voltage now", "throttled now", "under-voltage since the start", "throttled since the start"]


def test_what_is_sent_is_what_the_timing_code_imports():
    code = ("import sys, export.timed_runs\nprint(*(name for name in sys.modules if name.split('.')[0] in "
            "('export', 'pnas_tf', 'tensorflow', 'keras', 'absl')))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == sorted(apart.MODULES)


def test_a_board_needs_numpy_and_a_runtime_alone(models, tmp_path):
    """What else this project installs is hidden there; a folder that a killed process left is removed, too."""
    hidden = "import sys; sys.modules.update(dict.fromkeys(('absl', 'filelock', 'psutil', 'scipy', 'tqdm'))); "
    left = tmp_path / "there" / ".writing-left"
    left.mkdir(parents=True)
    (tmp_path / "0.tflite").write_bytes(models["op 1"])
    process = apart.Apart(lambda arguments: [sys.executable, "-I", "-c", hidden + arguments[1], *arguments[2:]],
                          folder=str(left.parent))
    with contextlib.closing(process):
        assert not left.exists()
        assert process.ask("begin", {"runtime": "litert", "threads": 1, "delegate": "xnnpack", "runs": 2},
                           "all") == interpreter.runtime_name("litert")
        process.put(str(tmp_path / "0.tflite"))
        assert len(process.visit("0.tflite", 2)) == 2


@pytest.mark.slow
def test_commands(server, tmp_path):
    """A table is continued after the connection was cut for good, compared and searched on, as a user would."""
    (tmp_path / "tiny.json").write_text(json.dumps(SPACE.to_json()))
    environment = {**os.environ, "PNAS_TF_HOST": "board", "PNAS_TF_SSH_CONFIG": str(server.config),
                   "PNAS_TF_REMOTE_PYTHON": sys.executable, "PYTHONPATH": str(Path(__file__).parents[2])}

    def run(module, *flags):
        return subprocess.run([sys.executable, "-m", module, *flags], cwd=tmp_path, env=environment, check=False,
                              capture_output=True, text=True, timeout=600)

    build = ["latency.build_table", "--space=tiny.json", "--measurer=ssh", "--rounds=1", "--runs=2", "--output=t.jsonl"]
    stopped = run(*build, "--host=no_such_board", "--wait_seconds=0")
    assert stopped.returncode == 1 and stopped.stderr.count("\n") == 1 and "no_such_board: " in stopped.stderr
    assert not (tmp_path / "t.jsonl").exists()
    assert run(*build, "--only=mb_k3_e3").returncode == 0
    done = run(*build)
    assert done.returncode == 0, done.stderr
    assert "Target: " in done.stdout and len(latency_table.read(str(tmp_path / "t.jsonl")).rows) == 4
    compared = run("latency.compare", "--table=t.jsonl", "--space=tiny.json", "--networks=2")
    assert compared.returncode == 0 and "within 5 %" in compared.stdout, compared.stderr
