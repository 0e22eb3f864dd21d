"""Memory and cores that containers, jobs and the environment leave to a process."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from export import timing
from pnas_tf import machine

GB = 10**9
CGROUP = Path("/sys/fs/cgroup")


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)


@pytest.mark.parametrize(("own", "files", "cores", "memory"), [
    ("0::/\n", {"cpu.max": "100000 100000\n", "memory.max": f"{GB}\n"}, 1, GB),  # a container's own root
    ("0::/job/step\n", {"job/cpu.max": "50000 100000\n", "job/step/cpu.max": "max 100000\n", "job/memory.max": "max\n",
                        "job/step/memory.max": f"{GB}\n"}, 1, GB),  # a limit of the group above
    ("4:memory:/a\n3:cpu,cpuacct:/a\n", {"cpu/a/cpu.cfs_quota_us": "100000\n", "cpu/a/cpu.cfs_period_us": "100000\n",
                                         "memory/a/memory.limit_in_bytes": f"{GB}\n"}, 1, GB),  # version 1
    ("4:memory:/of/the/host\n", {"memory/memory.limit_in_bytes": f"{GB}\n"}, None, GB),  # seen from inside a container
    ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None, None),
    ("0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n"}, None, None),
    ("0::/\n", {"cpu.max": "0 0\n", "memory.max": "\n"}, None, None),
    ("0::/\n:\n\nx\n", {"cpu.max": "640000 100000\n"}, None, None)])  # more than there is
def test_limits_of_control_groups(monkeypatch, tmp_path, own, files, cores, memory):
    monkeypatch.delenv(machine.THREADS[0], raising=False)
    monkeypatch.setattr(machine, "_OWN_GROUPS", str(tmp_path / "missing"))
    all_cores, all_memory = machine.cores(), machine.memory_bytes()
    write(tmp_path, {"own": own})
    write(tmp_path / "groups", files)
    monkeypatch.setattr(machine, "_OWN_GROUPS", str(tmp_path / "own"))
    monkeypatch.setattr(machine, "_ALL_GROUPS", str(tmp_path / "groups"))
    assert machine.cores() == (cores or all_cores) and machine.memory_bytes() == (memory or all_memory)


def test_threads_are_left_to_tensorflow_without_a_quota(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_OWN_GROUPS", str(tmp_path / "missing"))
    monkeypatch.setenv(machine.THREADS[0], "1")
    assert machine.settings_under_quota() == {}


def test_a_real_quota_of_one_core_counts():
    group = next((root for root in (CGROUP / "cpu", CGROUP) if (root / "cgroup.procs").exists()), CGROUP) / "pnas_test"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    try:
        quota = group / "cpu.cfs_quota_us"
        try:
            (quota if quota.exists() else group / "cpu.max").write_text("100000")
        except OSError as error:
            pytest.skip(f"no quota can be set: {error}")
        code = (f"import os; open('{group}/cgroup.procs', 'w').write(str(os.getpid())); "
                "from pnas_tf import machine; from pnas_tf.cli import start; print(machine.cores()); "
                "start.set_environment(); print(*map(os.environ.get, machine.THREADS))")
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                             env={name: value for name, value in os.environ.items() if name not in machine.THREADS}
                             | {machine.THREADS[1]: "5"})
        assert ran.stdout == "1\n1 5 1\n"  # what the user has set stays
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()


@pytest.mark.parametrize(("cpuinfo", "expected"), [
    ("processor\t: 0\nmodel name\t: AMD EPYC\n", "AMD EPYC"),
    # Lines of an ARM server: the CPU has numbers alone.
    ("processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n\n"
     "processor\t: 1\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "aarch64 CPU 0x41:0xd0c"),
    ("processor\t: 0\nCPU implementer\t: 0x61\nCPU part\t: 0x022\n\nprocessor\t: 1\nCPU implementer\t: 0x61\n"
     "CPU part\t: 0x023\n", "aarch64 CPU 0x61:0x022 0x61:0x023")])
def test_cpus_have_names_that_tell_them_apart(monkeypatch, cpuinfo, expected):
    monkeypatch.setattr(timing, "_read", {"/proc/cpuinfo": cpuinfo}.get)
    monkeypatch.setattr(timing.platform, "machine", lambda: "aarch64")
    assert timing.cpu_name() == expected


def test_a_mac_says_its_chip(monkeypatch, tmp_path):
    (tmp_path / "sysctl").write_text("#!/bin/sh\n[ \"$*\" = '-n machdep.cpu.brand_string' ] && echo Apple M4\n")
    (tmp_path / "sysctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(timing, "_read", lambda path: None)
    monkeypatch.setattr(timing.sys, "platform", "darwin")
    assert timing.cpu_name() == "Apple M4"
