"""What every command says: help in groups, one line for a mistake, the list of commands, and no chatter."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pnas_tf import __main__ as listing
from pnas_tf.cli import help as command_help

ROOT = Path(__file__).parents[2]
# Commands that define flags of other files, too.
SHARED = {"latency.build_table": "latency/space_flags.py", "latency.compare": "latency/space_flags.py",
          "latency.search": "pnas_tf/search.py"}


def start(module, *arguments, **environment):
    return subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=120,
                          cwd=ROOT, env={**os.environ, "COLUMNS": "100", **environment})


def defined_flags(module):
    """Names of flags in the source of a command, and of what it shares with others."""
    names = set()
    for path in [ROOT / f"{module.replace('.', '/')}.py", *([ROOT / SHARED[module]] if module in SHARED else [])]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and "DEFINE" in ast.unparse(node.func) and isinstance(
                    node.args[0], ast.Constant):
                names.add(node.args[0].value)
    return names


@pytest.mark.parametrize("module", listing.COMMANDS)
def test_help_is_short_and_names_every_flag_once(module):
    done = start(module, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert f"python -m {module}" in done.stdout.partition("Every command:")[0], "a command to paste"
    assert len(done.stdout.splitlines()) < 90
    assert all(len(line) <= 100 for line in done.stdout.splitlines() if line.startswith("  --"))
    explained = re.findall(r"^  --(?:no)?([a-z_0-9]+)[= \n]", done.stdout, flags=re.M)
    flags_named = set(re.findall(r"--(?:no)?([a-z_0-9]+)", done.stdout))
    assert defined_flags(module) <= flags_named
    assert f"\n{command_help.OTHER}:" not in done.stdout or module == "pnas_tf.doctor", "flags without a group"
    assert explained and len(explained) == len(set(explained))


def test_full_help_explains_what_help_names():
    short, full = start("pnas_tf.search", "--help").stdout, start("pnas_tf.search", "--helpfull").stdout
    for name in ("paths", "alpha_lr", "arch_update"):
        assert f"  --{name}=" in full and f"  --{name}=" not in short and f"--{name}" in short
    assert "How alpha learns." in full and "Rarely needed" not in full


def test_every_flag_stands_in_one_group():
    names = [name for group in command_help.GROUPS.values() for name in group]
    assert len(names) == len(set(names)) and not set(names) & command_help.RARE


@pytest.mark.parametrize(("argument", "says"), [("--nope=1", "Unknown command line flag 'nope'"), ("x", "argument 'x'"),
                                                ("--lr=-1", "non-negative"), ("--paths=three", "two|all")])
def test_a_mistake_is_one_line(argument, says):
    done = start("pnas_tf.search", argument)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: ") and says in done.stderr and "--help" in done.stderr


def test_the_list_has_every_command():
    programs = {f"{folder}.{path.stem}" for folder in ("pnas_tf", "export", "latency")
                for path in (ROOT / folder).glob("*.py")
                if "run_flags.start(" in path.read_text(encoding="utf-8") and path.stem != "run_flags"}
    assert set(listing.COMMANDS) == programs and len(listing.COMMANDS) == len(programs)
    done = start("pnas_tf")
    assert done.returncode == 0
    for module in programs:
        doc = ast.get_docstring(ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")))
        assert re.search(rf"python -m {re.escape(module)} +{re.escape(doc.splitlines()[0])}", done.stdout)


def test_import_loads_nothing_heavy():
    heavy = "{'tensorflow', 'keras', 'numpy', 'matplotlib', 'jinja2', 'absl', 'scipy'}"
    subprocess.run([sys.executable, "-c", f"import sys, pnas_tf; assert not {heavy} & set(sys.modules)"], cwd=ROOT,
                   check=True)
    for module in listing.COMMANDS:
        code = (f"import sys, {module}; "
                "assert not {'tensorflow', 'keras', 'tf_keras', 'matplotlib.pyplot'} & set(sys.modules), sys.modules")
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_tensorflow_is_quiet_unless_asked_to_talk():
    """Its C++ lines, by a command that does nothing but load it."""
    def chatter(*arguments):
        code = ('"""Loads."""\nfrom pnas_tf.cli import start\ndef show():\n    start.load_tensorflow()\n'
                "    import tensorflow as tf\n    tf.constant(1.0)\n    print('done')\nrun_flags.start(show)\n")
        environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT,
                              env=environment, timeout=120, check=True)
        assert done.stdout == "done\n"
        return done.stderr

    assert chatter() == "" and "cpu_feature_guard" in chatter("--verbosity=1")
