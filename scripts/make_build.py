"""Writes every BUILD file from the imports of the code: one a package, one target for each module, program and test.

    python scripts/make_build.py
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = Path("tests")
PACKAGES = ("pnas_tf", "export", "latency")
PROGRAMS = ("benchmarks", "scripts")
HEAVY = {"tensorflow", "keras", "tf_keras"}
# Data that belong to a package, by patterns relative to it.
DATA = {"pnas_tf.archs": {"*.json"}, "pnas_tf.tables": {"*.jsonl"}, "pnas_tf.datasets": {"fashion_mnist_small.*"},
        "pnas_tf.report.templates": {"*.html"}}
# Packages and modules that a module reads without importing them.
READS = {"pnas_tf.space.arch": "pnas_tf.archs", "pnas_tf.cost.latency_table": "pnas_tf.tables",
         "pnas_tf.report.page": "pnas_tf.report.templates", "export.bundle": "export.bundle_runner"}
NO_PART_OF_IT = {".git/**", ".venv/**", "bazel-*/**", "build/**", "dist/**", "runs/**", "**/__pycache__/**"}

HEAD = '''"""{what} made by scripts/make_build.py; PyPI packages come with Python."""

load("@rules_python//python:defs.bzl", {rules})

package(default_visibility = ["//visibility:public"])
'''


def modules(folders: tuple[str, ...] = PACKAGES + PROGRAMS) -> dict[str, Path]:
    """Paths of modules by dotted name; a package has the name of its folder."""
    paths = (path.relative_to(ROOT) for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imports(path: Path) -> set[str]:
    """Dotted names of what a file imports at any depth, and of modules that it names to run them (`python -m`)."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            found |= {node.value, f"{node.value}.__main__"}
    return found


def dependencies(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of ours that a file needs: a module's packages are imported before it."""
    found = {name, *(imports(path) & set(known)), READS.get(name, name)}
    packages = {one.rsplit(".", count)[0] for one in found for count in range(1, one.count(".") + 1)}
    return ((found | packages) & set(known)) - {name}


def heavy(known: dict[str, Path]) -> set[str]:
    """Modules that load TensorFlow, themselves or by what they import."""
    found = {name for name, path in known.items() if {one.split(".")[0] for one in imports(path)} & HEAVY}
    while more := {name for name, path in known.items() if dependencies(name, path, known) & found} - found:
        found |= more
    return found


def target(path: Path) -> str:
    """Name of a module's target."""
    return path.stem


def label(path: Path, where: Path) -> str:
    """Label of a module's target, as a BUILD file in the folder `where` writes it."""
    return f":{target(path)}" if path.parent == where else f"//{path.parent.as_posix()}:{target(path)}"


def written(value: str | bool | set[str], indent: str = "    ") -> str:
    """A value as buildifier writes it; sets are lists in its order, labels of the same package first."""
    if not isinstance(value, set):
        return f'"{value}"' if isinstance(value, str) else str(value)
    quoted = [f'"{one}"' for one in sorted(value, key=lambda one: (one.startswith("//"), one.split(":")))]
    if len(quoted) < 2:
        return f"[{', '.join(quoted)}]"
    return "[\n" + "".join(f"{indent}    {one},\n" for one in quoted) + f"{indent}]"


def rule(kind: str, name: str, **attributes: str | bool | set[str]) -> str:
    """One rule; attributes that are empty are left out, and what `data` matches is looked up by a pattern."""
    lines = [f"\n{kind}(", f'    name = "{name}",']
    for attribute, value in attributes.items():
        if isinstance(value, set) and any("*" in one for one in value):
            lines.append(f"    {attribute} = glob({written(value)}),")
        elif value:
            lines.append(f"    {attribute} = {written(value)},")
    return "\n".join([*lines, ")", ""])


def module_rule(name: str, path: Path, known: dict[str, Path]) -> str:
    """The rule of a module."""
    is_program = 'if __name__ == "__main__":' in (ROOT / path).read_text(encoding="utf-8")
    return rule("py_binary" if is_program else "py_library", target(path), srcs={path.name},
                data=DATA.get(name, set()), main=path.name if is_program else "",
                deps={label(known[one], path.parent) for one in dependencies(name, path, known)})


def test_name(path: Path) -> str:
    """Of a target in tests/BUILD: folders and file."""
    return "_".join(path.relative_to("tests").with_suffix("").parts)


def helper_rule(path: Path, known: dict[str, Path]) -> str:
    """The rule of a module that tests import."""
    return rule("py_library", test_name(path), testonly=True, srcs={path.name},
                deps={label(known[one], TESTS) for one in dependencies("", path, known)})


def helpers(path: Path) -> set[str]:
    """Labels of what a file imports from tests."""
    return {f":{name.split('.')[1]}" for name in imports(path) if name.count(".") == 1 and name.startswith("tests.")
            and (ROOT / TESTS / f"{name.split('.')[1]}.py").exists()}


def fixtures_rule(path: Path, known: dict[str, Path]) -> str:
    """The rule of a folder's conftest.py."""
    inner = path.parent.name != "tests"
    return rule("py_library", test_name(path), testonly=True, srcs={path.relative_to("tests").as_posix()},
                data=set() if inner else {"adb_device/**", "programs/**", "samples/**"},
                deps={label(known[one], TESTS) for one in dependencies("", path, known)}
                | ({":conftest"} if inner else set()) | helpers(path))


def test_rule(path: Path, known: dict[str, Path], slow_to_load: set[str]) -> str:
    """The rule of a file of tests. Those that load no TensorFlow are small."""
    needed = dependencies("", path, known)
    loads = needed & slow_to_load or {one.split(".")[0] for one in imports(path)} & HEAVY
    reads = re.search(r"\.parent\b|\.parents\[", (ROOT / path).read_text(encoding="utf-8"))
    fixtures = next(folder / "conftest.py" for folder in path.parents if (ROOT / folder / "conftest.py").exists())
    return rule("py_test", test_name(path), size="large" if loads else "small",
                srcs={"run_pytest.py", path.relative_to("tests").as_posix()}, args={path.as_posix()},
                data={":sources", "//:repository"} if reads else set(), main="run_pytest.py",
                deps={label(known[one], TESTS) for one in needed} | {f":{test_name(fixtures)}"} | helpers(path))


def files_rule(name: str, others: set[str]) -> str:
    """The rule of all files of a Bazel package, for tests that read them or run programs as a user would."""
    more = f" + {written(others)}" if others else ""
    return (f'\nfilegroup(\n    name = "{name}",\n    srcs = glob(\n        ["**"],\n'
            f'        exclude = {written(NO_PART_OF_IT, indent=" " * 8)},\n    ){more},\n)\n')


def package_text(folder: Path, known: dict[str, Path]) -> str:
    """The BUILD file of a Python package."""
    rules = [module_rule(name, path, known) for name, path in known.items() if path.parent == folder]
    loads = ", ".join(f'"{kind}"' for kind in ("py_binary", "py_library") if any(f"\n{kind}(" in one for one in rules))
    return "".join([HEAD.format(what="One target for each module,", rules=loads), files_rule("sources", set()), *rules])


def texts() -> dict[str, str]:
    """Text of every BUILD file, by path."""
    known = modules()
    slow_to_load = heavy(known)
    folders = sorted({path.parent for path in known.values()})
    tests, fixtures = (sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob(pattern))
                       for pattern in ("test_*.py", "conftest.py"))
    helpers = [path.relative_to(ROOT) for path in sorted((ROOT / "tests").glob("*.py"))
               if path.name == "spaces.py"]
    of_tests = [HEAD.format(what="One target for each file of tests,", rules='"py_library", "py_test"'),
                files_rule("sources", set()), *(helper_rule(path, known) for path in helpers),
                *(fixtures_rule(path, known) for path in fixtures),
                *(test_rule(path, known, slow_to_load) for path in tests)]
    root = ('"""The files of the project, for tests that read them; made by scripts/make_build.py."""\n\n'
            'package(default_visibility = ["//visibility:public"])\n\nlicenses(["notice"])\n'
            + files_rule("repository", {f"//{folder.as_posix()}:sources" for folder in folders}))
    return {"BUILD": root, "tests/BUILD": "".join(of_tests),
            **{f"{folder.as_posix()}/BUILD": package_text(folder, known) for folder in folders}}


def main() -> None:
    """Writes the files."""
    for path, text in texts().items():
        (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
