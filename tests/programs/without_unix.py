"""Uses the text-and-data parts and the doctor without the modules and functions of Unix, as on Windows.

    python tests/programs/without_unix.py FOLDER MODULE...

FOLDER receives files; MODULEs are imported. The libraries that stand for what is hidden (filelock, psutil) bring their
own code for Windows, so they are loaded first.
"""
# ruff: noqa: E402

import importlib
import os
import sys

import filelock  # noqa: F401
import psutil  # noqa: F401

# What Windows does not have, but for what libraries of Linux need themselves, such as os.statvfs.
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None
for name in ("sysconf", "fork", "mkfifo", "getuid", "geteuid", "sched_getaffinity", "O_NONBLOCK",
             "O_CLOEXEC", "O_DIRECTORY"):
    if hasattr(os, name):
        delattr(os, name)
for name in sys.argv[2:]:
    importlib.import_module(name)
from pnas_tf import doctor, files, machine
from pnas_tf.cost import latency_table
from pnas_tf.run_folder import claim
from pnas_tf.space import arch, spaces

TABLE = os.path.join(os.path.dirname(os.path.abspath(latency_table.__file__)), "..", "tables",
                     "x86_xnnpack1_float32.jsonl")
os.chdir(sys.argv[1])
assert machine.memory_bytes() > 1e8
files.write_text("a.json", "[1]\n")
files.append_line("lines.jsonl", files.read_json("a.json"))
assert files.read_lines("lines.jsonl") == [[1]]
head, first, second = files.read_lines(TABLE)[:3]
files.append_line("t.jsonl", head)
with latency_table.open_to_add("t.jsonl") as add:
    add(first)
    add(second)
assert len(latency_table.read("t.jsonl").rows) == 2
with claim.locked("run"):
    pass
assert spaces.load("quickstart").choices and arch.load("proxyless_mobile").ops
print(doctor.text(doctor.run()))
