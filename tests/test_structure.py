"""Imports go one way, and BUILD says the same."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("pnas_tf", "export", "latency")
# Each level of pnas_tf imports only its own and lower ones.
LEVELS = (
    {"errors", "ops", "places", "tree_cells", "space", "arch", "latency_table", "run_folder", "schedule", "pace",
     "plots", "op_profile", "quiet", "early_warnings", "stopping", "versions", "claim", "formats", "strip", "heat_maps",
     "run_facts", "headline", "comparison", "command_help"},
    {"fast_layers", "network", "gates", "candidate", "mixed_op", "loss_scale", "replicas", "supernet", "cost", "limits",
     "torch_padding"},
    {"augment", "datasets", "data", "arch_updaters", "searcher", "evaluate", "derive", "finalists", "callbacks",
     "checkpoints", "methods", "non_finite", "initial_weights", "training_state", "extensions", "assembly"},
    {"run_flags", "shared_flags", "search", "device_check", "finish", "train", "trials", "net_config", "import_weights",
     "report", "doctor", "__main__", "notebook"},
)


def sources():
    return {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path
            for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def imports_of(path, anywhere=True):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def own_imports(path):
    known = sources()
    return {name for name in imports_of(path) if name in known}


def test_packages_import_one_way():
    for name, path in sources().items():
        rank = PACKAGES.index(name.split(".")[0])
        for other in own_imports(path):
            assert PACKAGES.index(other.split(".")[0]) <= rank, f"{name} imports {other}"


def level_of(module):
    return next((number for number, level in enumerate(LEVELS) if module.split(".")[1] in level), None)


def test_levels_of_the_search_package():
    for name, path in sources().items():
        if not name.startswith("pnas_tf.") or name.endswith("__init__"):
            continue
        assert level_of(name) is not None, f"{name} has no level: add it to LEVELS"
        for other in own_imports(path):
            if not other.endswith("__init__"):
                assert level_of(other) <= level_of(name), f"{name} imports {other} of a higher level"


def test_text_and_data_import_no_tensorflow():
    for name, path in sources().items():
        if name.startswith("pnas_tf.") and name.split(".")[1] in LEVELS[0]:
            heavy = {found.split(".")[0] for found in imports_of(path)} & {"tensorflow", "keras", "tf_keras"}
            assert not heavy, f"{name} imports {heavy}"


def test_package_import_is_light():
    code = "import sys, pnas_tf; assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def targets_of(build_file):
    """Deps by name of target; those of conftest.py stand beside those of ours."""
    found, text = {}, build_file.read_text(encoding="utf-8")
    for body in re.findall(r"py_(?:library|binary|test)\((.*?)\n\)", text, flags=re.S):
        deps = re.search(r"deps = \[(.*?)\]", body, flags=re.S)
        found[re.search(r'name = "([^"]+)"', body)[1]] = set(re.findall(r'"(?://)?:([^"]+)"', deps[1] if deps else ""))
    return found


def in_build(path, name=""):
    """Targets that a file needs: what it imports or runs by name, and the packages that Python imports before that."""
    known = {**sources(), **{f"{folder}.{file.stem}": file for folder in ("benchmarks", "scripts")
                             for file in (ROOT / folder).glob("*.py")}}
    known = {one.removesuffix(".__init__"): file for one, file in known.items()}
    named = {node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value}
    found = {one for one in imports_of(path) | named | {name} if one in known}
    for one in list(found):
        parts = one.split(".")
        found |= {".".join(parts[:count]) for count in range(1, len(parts))} & set(known)
    return {one.replace(".", "_") for one in found - {name}}


def test_build_file_has_the_real_dependencies():
    """One target for each module and program, whose deps are the modules of ours that it imports."""
    targets = targets_of(ROOT / "BUILD")
    files = {name.removesuffix(".__init__"): path for name, path in sources().items()}
    files |= {f"{folder}.{path.stem}": path for folder in ("benchmarks", "scripts")
              for path in (ROOT / folder).glob("*.py")}
    read = {"pnas_tf_arch": {"pnas_tf_archs"}, "pnas_tf_latency_table": {"pnas_tf_tables"},
            "pnas_tf_report": {"pnas_tf.report.templates"}, "export_bundle": {"export_bundle_runner"}}
    expected = {name.replace(".", "_"): in_build(path, name) | read.get(name.replace(".", "_"), set())
                for name, path in files.items()}
    assert targets == expected


def test_build_file_of_the_tests_has_the_real_dependencies():
    targets = targets_of(ROOT / "tests" / "BUILD")
    folder, expected = ROOT / "tests", {}
    for path in [*folder.rglob("test_*.py"), *folder.rglob("conftest.py")]:
        name = "_".join(path.relative_to(folder).with_suffix("").parts)
        fixtures = "_".join([*path.relative_to(folder).parts[:-1], "conftest"])
        expected[name] = in_build(path) | ({fixtures} if name != fixtures else {"conftest"} - {name})
    assert targets == expected
