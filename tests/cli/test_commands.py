"""What every command prints: help in groups, one line for a mistake, the list of commands, and no other lines."""

import ast
import dataclasses
import importlib
import operator
import os
import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pnas_tf
from pnas_tf import __main__ as listing
from pnas_tf import siblings
from pnas_tf.cli import help as command_help

ROOT = Path(__file__).parents[2]
# Commands with flags that another module defines.
SHARED = {"latency.build_table": "latency.space_flags", "latency.compare": "latency.space_flags",
          "latency.transfer": "latency.space_flags",
          "latency.import_table": "latency.space_flags",
          "latency.search": "pnas_tf.search.command"}


def start(module, *arguments, **environment):
    return subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=120,
                          cwd=ROOT, env={**os.environ, "COLUMNS": "100", **environment})


def path_of(command):
    """Path of a command without its ending: a module, or a package whose docstring is the manual."""
    return ROOT / command.replace(".", "/")


def docstring(command):
    path = path_of(command)
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))


def defined_flags(command):
    """Names of the flags in the source of a command and of the modules that it shares with others."""
    names = set()
    own = f"{command}.command" if path_of(command).is_dir() else command
    for module in [own, *([SHARED[command]] if command in SHARED else [])]:
        source = path_of(module).with_suffix(".py").read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if "DEFINE" in called and isinstance(node.args[0], ast.Constant):
                names.add(node.args[0].value)
            elif called == "settings.define":
                settings = operator.attrgetter(ast.unparse(node.args[0]))(importlib.import_module(module))
                without = [ast.literal_eval(word.value) for word in node.keywords if word.arg == "without"]
                names |= {field.name for field in dataclasses.fields(settings)}.difference(*without)
    assert names
    return names


@pytest.mark.parametrize("module", listing.COMMANDS.values())
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
    assert "Update of alpha: by gradients or by REINFORCE." in full and "Rarely needed" not in full


def test_every_flag_stands_in_one_group():
    names = [name for group in command_help.GROUPS.values() for name in group]
    assert len(names) == len(set(names)) and not set(names) & command_help.RARE


@pytest.mark.parametrize(("argument", "message"), [
    ("--nope=1", "Unknown command line flag 'nope'"), ("x", "argument 'x'"), ("--lr=-1", "non-negative"),
    ("--paths=three", "two|all")])
def test_a_mistake_is_one_line(argument, message):
    done = start("pnas_tf.search", argument)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: ") and message in done.stderr and "--help" in done.stderr


@pytest.mark.parametrize("module", ["pnas_tf.train", "export.tflite", "export.bundle", "pnas_tf.report"])
def test_a_missing_folder_is_called_missing(module, tmp_path):
    done = start(module, f"--run_dir={tmp_path}/phtos")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and not (tmp_path / "phtos").exists()
    assert f"{tmp_path}/phtos" in done.stderr and "no such" in done.stderr.lower(), done.stderr


@pytest.mark.parametrize("module", ["pnas_tf.report", "latency.build_table"])
def test_text_that_is_not_utf_8_is_one_line(module, tmp_path):
    """Files of flags and runs, and TensorFlow's paths, are UTF-8."""
    flag = "--run_dir=" if module == "pnas_tf.report" else "--output="
    (tmp_path / "latin.flags").write_bytes(b"# caf\xe9\n--seed=1\n")
    for arguments, shown in (([f"{flag}{tmp_path}/caf\udce9"], "caf?"),
                             ([f"--flagfile={tmp_path}/latin.flags"], "latin.flags")):
        done = start(module, *arguments)
        assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
        assert done.stderr.startswith("Error: ") and "not UTF-8" in done.stderr and shown in done.stderr


def test_the_list_has_every_command():
    programs = {f"{folder}.{path.stem}" for folder in ("pnas_tf", "export", "latency")
                for path in (ROOT / folder).glob("*.py")
                if "start.start(" in path.read_text(encoding="utf-8")}
    programs |= {f"pnas_tf.{path.parent.name}" for path in (ROOT / "pnas_tf").glob("*/__main__.py")}
    assert sorted(listing.COMMANDS.values()) == sorted(programs)
    done = start("pnas_tf")
    assert done.returncode == 0
    for command in programs:
        first_line = docstring(command).splitlines()[0]
        assert re.search(rf"python -m {re.escape(command)} +{re.escape(first_line)}", done.stdout)


def test_one_door_to_all_commands():
    """The words are those of the console scripts: `pnas search` and `pnas-search`."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    ends = {name.removeprefix("pnas-"): entry.split(":") for name, entry in scripts.items() if name != "pnas"}
    modules = {name: getattr(siblings, function).args[0] if module == "pnas_tf.siblings" else
               module.removesuffix(".command") for name, (module, function) in ends.items()}
    assert modules == dict(listing.COMMANDS) and scripts["pnas"] == "pnas_tf.__main__:main"
    assert start("pnas_tf", "net-config", "--help").stdout == start("pnas_tf.net_config", "--help").stdout
    done = start("pnas_tf", "search", "--flagfile=quickstart.flags")
    assert done.returncode == 1 and done.stderr == "Error: Name a folder for the results: --run_dir=DIR.\n"


@pytest.mark.parametrize(("word", "meant"), [
    ("serach", "Did you mean search?"), ("build_table", "Did you mean latency?"), ("export.tflite", "mean export?"),
    ("pnas-train", "Did you mean train?"), ("--run_dir=x", "Name a command before its flags"),
    ("qqq\x1b[2J", "no command 'qqq?[2J'. All commands")])
def test_an_unknown_word_is_one_line_with_the_nearest_command(word, meant, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pnas", word])
    monkeypatch.setattr(listing.output, "guard", lambda: None)
    with pytest.raises(SystemExit) as stop:
        listing.main()
    assert meant in stop.value.code and stop.value.code.startswith("Error: ") and "\n" not in stop.value.code


@pytest.mark.parametrize("arguments", [("pnas_tf", "--version"), ("pnas_tf", "report", "--version"),
                                       ("pnas_tf.report", "--version")])
def test_version(arguments):
    done = start(*arguments)
    assert done.returncode == 0 and done.stdout == f"pnas_tf {pnas_tf.__version__}\n" and done.stderr == ""


def test_import_loads_nothing_heavy():
    heavy = "{'tensorflow', 'keras', 'numpy', 'matplotlib', 'jinja2', 'absl', 'scipy'}"
    subprocess.run([sys.executable, "-c", f"import sys, pnas_tf; assert not {heavy} & set(sys.modules)"], cwd=ROOT,
                   check=True)
    for module in listing.COMMANDS.values():
        code = (f"import sys, {module}; "
                "assert not {'tensorflow', 'keras', 'tf_keras', 'matplotlib.pyplot'} & set(sys.modules), sys.modules")
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_tensorflow_is_quiet_unless_asked_to_talk():
    """A command that only loads TensorFlow prints none of the lines of its C++ part."""
    def chatter(*arguments):
        code = ('"""Loads."""\nfrom pnas_tf.cli import start\ndef show():\n    start.load_tensorflow()\n'
                "    import tensorflow as tf\n    tf.transpose(tf.zeros([2, 8, 8, 4], tf.uint8), [0, 3, 1, 2])\n"
                "    print('done')\nstart.start(show)\n")
        environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT,
                              env=environment, timeout=120, check=True)
        assert done.stdout == "done\n"
        return done.stderr

    assert chatter() == "" and "cpu_feature_guard" in chatter("--verbosity=1")


@pytest.mark.skipif(platform.machine() != "x86_64" or platform.system() == "Darwin", reason="oneDNN is for x86")
def test_commands_compute_with_onednn_unless_that_is_forbidden():
    """TensorFlow counts the memory of a CPU with oneDNN alone."""
    code = ('"""Counts."""\nfrom pnas_tf.cli import start\ndef count():\n    start.load_tensorflow()\n'
            "    import tensorflow as tf\n    tf.config.experimental.get_memory_info('CPU:0')\nstart.start(count)\n")
    environment = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, timeout=120, check=True)
    forbidden = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment | {"TF_ENABLE_ONEDNN_OPTS": "0"},
                               timeout=120, check=False, capture_output=True, text=True)
    assert "Allocator stats not available" in forbidden.stderr
