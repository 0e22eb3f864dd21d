"""The shape of the house: imports go one way, rooms are small, signatures narrow, and BUILD says the same."""

import ast
import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pnas_tf", "export", "latency")
EVERYTHING = (*PACKAGES, "benchmarks", "scripts")
# Wings and modules of pnas_tf: each imports only those to its left. Two that stand together do not know each other.
WINGS = (("errors", "shell", "terminal", "machine", "adb_path", "siblings", "packages"), ("extras", "workspaces"),
         ("files",), ("data",), ("space",), ("network",), ("cost", "supernet"), ("run_folder", "cli"),
         ("report", "train"), ("derive",), ("search",), ("net_config", "keras_mobilenet"),
         ("notebook", "doctor", "import_weights", "auto", "__main__"))
# Folders of package data have an __init__.py alone.
DATA_FOLDERS = ("archs", "flags", "tables", "datasets", "weights")
# Text and data: what may be imported before TensorFlow is. Expectation is the differentiable twin of a cost.
LIGHT = ("errors", "terminal", "shell", "machine", "adb_path", "siblings", "packages", "extras", "workspaces",
         "files", "space", "cost", "run_folder", "cli")
HEAVY_MODULES = ("pnas_tf.cost.expectation",)
HEAVY = {"tensorflow", "keras", "tf_keras"}
MAX_MODULE, MAX_FUNCTION, MAX_PARAMETERS = 350, 60, 8
# A comment that gives the reason for a module or function that is longer.
REASON = re.compile(r"# Long because \w")


@functools.cache
def sources(folders=PACKAGES):
    """Paths by dotted name; packages by the name of their folder."""
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
            for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))}


def imports_of(path, anywhere=True):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def own_imports(path):
    return imports_of(path) & set(sources())


def wing_of(module):
    """Number of the wing that a module of pnas_tf belongs to; None for the package itself and data folders."""
    parts = module.split(".")
    if len(parts) == 1 or parts[1] in DATA_FOLDERS:
        return None
    return next((number for number, wing in enumerate(WINGS) if parts[1] in wing), -1)


def test_packages_import_one_way():
    for name, path in sources().items():
        rank = PACKAGES.index(name.split(".")[0])
        for other in own_imports(path):
            assert PACKAGES.index(other.split(".")[0]) <= rank, f"{name} imports {other}"


def test_wings_import_one_way():
    for name, path in sources(("pnas_tf",)).items():
        own = wing_of(name)
        assert own != -1, f"{name} is in no wing: name it in WINGS"
        if own is None or name == "pnas_tf.__main__":  # the list of commands names all of them
            continue
        for other in own_imports(path):
            there = wing_of(other)
            if there is None or not other.startswith("pnas_tf."):
                continue
            same = name.split(".")[1] == other.split(".")[1]
            assert there < own or same, f"{name} imports {other}, which is not to its left"


def test_only_commands_print():
    """Functions for programs and notebooks speak by `terminal.say` and `warn`, which a program can silence."""
    for name, path in sources().items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        is_command = name.startswith("pnas_tf.cli.") or {"main", "_main", "by_flags"} & {
            node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
                assert is_command or name == "pnas_tf.terminal", f"{name}, line {node.lineno} prints"


def test_text_and_data_import_no_tensorflow():
    """At the top of a module: a price that counts layers, for one, loads Keras when it is asked."""
    for name, path in sources(("pnas_tf",)).items():
        if len(name.split(".")) > 1 and name.split(".")[1] in LIGHT and name not in HEAVY_MODULES:
            heavy = {found.split(".")[0] for found in imports_of(path, anywhere=False)} & HEAVY
            assert not heavy, f"{name} imports {heavy}"


def test_light_wings_load_without_tensorflow():
    names = [name for name in sources(("pnas_tf",)) if len(name.split(".")) > 1 and name.split(".")[1] in LIGHT
             and name not in HEAVY_MODULES]
    code = f"import importlib, sys; [importlib.import_module(name) for name in {names}]; " \
           "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_package_import_is_light():
    code = "import sys, pnas_tf, pnas_tf.space, pnas_tf.cost; " \
           "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_text_and_data_and_the_doctor_do_without_what_unix_alone_has(tmp_path):
    """On Linux, with the names hidden. Windows itself has not been tried."""
    light = [name for name in sources(("pnas_tf",)) if name.count(".") and name.split(".")[1] in LIGHT
             and name not in HEAVY_MODULES]
    done = subprocess.run([sys.executable, ROOT / "tests" / "programs" / "without_unix.py", tmp_path, *light],
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=200,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert "+ tensorflow " in done.stdout and "GB free here" in done.stdout and "cannot be examined" not in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "lines.jsonl", "run", "t.jsonl"]


def test_what_windows_lacks_is_asked_for_in_one_place():
    places = {"fcntl": {"pnas_tf.workspaces"}, "termios": set(), "import resource\n": {"pnas_tf.machine"},
              "O_CLOEXEC": set(),
              "O_NONBLOCK": {"pnas_tf.workspaces"}, "O_NOFOLLOW": {"pnas_tf.workspaces"},
              **{f"os.{name}": set() for name in ("sysconf", "uname", "statvfs", "fork", "mkfifo")},
              "os.getuid": {"pnas_tf.workspaces"}}
    texts = {name: path.read_text(encoding="utf-8") for name, path in sources().items()}
    assert {part: {name for name, text in texts.items() if part in text} for part in places} == places


# Small rooms.

def functions_of(tree):
    """(function, class that it is a method of or None), nested functions left out."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node, None
        elif isinstance(node, ast.ClassDef):
            yield from ((each, node) for each in node.body if isinstance(each, ast.FunctionDef))


def has_reason(lines, first_line):
    """Whether the comment directly above a line, counted from 1, gives a reason for its length."""
    above = []
    for line in reversed(lines[:first_line - 1]):
        if not line.strip().startswith("#"):
            break
        above.append(line)
    return any(REASON.search(line) for line in above)


@pytest.mark.parametrize("name", sources(EVERYTHING))
def test_rooms_are_small(name):
    path = sources(EVERYTHING)[name]
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= MAX_MODULE or REASON.search(text), f"{name} has {len(lines)} lines"
    for function, _ in functions_of(ast.parse(text)):
        length = function.end_lineno - function.lineno + 1
        first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
        assert length <= MAX_FUNCTION or has_reason(lines, first), f"{name}.{function.name} has {length} lines"


@pytest.mark.parametrize("name", sources())
def test_signatures_are_narrow(name):
    for function, owner in functions_of(ast.parse(sources()[name].read_text(encoding="utf-8"))):
        if function.name.startswith("_") and function.name != "__init__":
            continue
        arguments = function.args
        count = len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs])
        static = any(getattr(decorator, "id", "") == "staticmethod" for decorator in function.decorator_list)
        count -= 1 if owner and not static else 0
        assert count <= MAX_PARAMETERS, f"{name}.{function.name} takes {count} parameters"


def argument_docs(path):
    """(name, text) of every documented argument and attribute of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and (doc := ast.get_docstring(node)):
            for section in re.findall(r"^(?:Args|Attributes):\n((?:^ .*\n?|^\n)+)", doc, flags=re.M):
                yield from re.findall(r"^ {4}(\*{0,2}\w+): (.*)", section, flags=re.M)


@pytest.mark.parametrize("name", sources(EVERYTHING))
def test_argument_docs_begin_with_their_noun(name):
    bad = [f"{argument}: {text}" for argument, text in argument_docs(sources(EVERYTHING)[name])
           if re.match(r"(of|from|by|in|at|on|for|to|with|where|that|what|as)\b", text) or text[0].islower()]
    assert not bad, f"{name}: {bad[:5]}"


# BUILD.

def build_targets(build_file):
    """Deps by name of target."""
    targets, text = {}, build_file.read_text(encoding="utf-8")
    package = build_file.parent.relative_to(ROOT).as_posix()
    for body in re.findall(r"py_(?:library|binary|test)\((.*?)\n\)", text, flags=re.S):
        deps = re.search(r"deps = \[(.*?)\]", body, flags=re.S)
        labels = re.findall(r'"([^"]+)"', deps[1] if deps else "")
        labels = [label if ":" in label else f"{label}:{label.rpartition('/')[2]}" for label in labels]
        targets[re.search(r'name = "([^"]+)"', body)[1]] = {
            f"//{package}{label}" if label.startswith(":") else label for label in labels}
    return targets


def label_of(name):
    path = sources(EVERYTHING)[name].relative_to(ROOT)
    return f"//{path.parent.as_posix()}:{path.stem}"


def in_build(path, name=""):
    """Labels that a file needs: what it imports or runs by name, and the packages that Python imports before that."""
    modules = set(sources(EVERYTHING))
    texts = {node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value}
    needed = {each for each in imports_of(path) | texts | {f"{text}.__main__" for text in texts} | {name}
              if each in modules}
    for each in list(needed):
        parts = each.split(".")
        needed |= {".".join(parts[:count]) for count in range(1, len(parts))} & modules
    return {label_of(each) for each in needed - {name}}


READS = {"pnas_tf.space.arch": {"//pnas_tf/archs:__init__"},
         "pnas_tf.cost.latency_table": {"//pnas_tf/tables:__init__"},
         "pnas_tf.network.pretrained": {"//pnas_tf/weights:__init__"},
         "pnas_tf.report.page": {"//pnas_tf/report/templates:__init__"}, "export.bundle": {"//export:bundle_runner"}}


def test_build_files_have_the_real_dependencies():
    """One BUILD for each package, one target for each module, whose deps are the modules of ours that it imports."""
    for folder in {path.parent for path in sources(EVERYTHING).values()}:
        expected = {path.stem: in_build(path, name) | READS.get(name, set())
                    for name, path in sources(EVERYTHING).items() if path.parent == folder}
        assert build_targets(folder / "BUILD") == expected


def test_build_file_of_the_tests_has_the_real_dependencies():
    targets, folder, expected = build_targets(ROOT / "tests" / "BUILD"), ROOT / "tests", {}
    helpers = {"forked.py", "spaces.py", "ssh_server.py", "waiting.py"}
    for path in [*folder.rglob("test_*.py"), *folder.rglob("conftest.py"), *(folder / name for name in helpers)]:
        name = "_".join(path.relative_to(folder).with_suffix("").parts)
        fixtures = "_".join([*(folder / "fuzz" / "x" if path.parent.name == "fuzz" else folder / "x")
                             .relative_to(folder).parts[:-1], "conftest"])
        own = {f"//tests:{fixtures}"} if name != fixtures else {"//tests:conftest"} - {f"//tests:{name}"}
        expected[name] = in_build(path) | (set() if path.name in helpers else own) | {
            f"//tests:{name.removesuffix('.py')}" for name in helpers
            if f"tests.{name.removesuffix('.py')}" in imports_of(path)}
    assert targets == expected
