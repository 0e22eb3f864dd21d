"""Writes the BUILD files from the imports of the code: one per package, with a target per module, program and test.

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
# Patterns of the data files of packages, relative to the package.
DATA = {"pnas_tf.archs": {"*.json"}, "pnas_tf.flags": {"*.flags"}, "pnas_tf.tables": {"*.jsonl"},
        "pnas_tf.datasets": {"fashion_mnist_small.*"},
        "pnas_tf.weights": {"efficientnet_lite0.*"},
        "pnas_tf.report.templates": {"*.html"}, "export.templates": {"Classifier.*"}}
# Packages and modules whose files a module reads without importing them.
READS = {"pnas_tf.space.arch": "pnas_tf.archs", "pnas_tf.cost.latency_table": "pnas_tf.tables",
         "pnas_tf.network.pretrained": "pnas_tf.weights",
         "pnas_tf.report.page": "pnas_tf.report.templates", "export.bundle": "export.bundle_runner"}
HELPERS = ("forked.py", "spaces.py", "ssh_server.py", "waiting.py")  # modules of the folder of tests that tests import
EXCLUDED = {".git/**", ".venv/**", "bazel-*/**", "build/**", "dist/**", "runs/**", "**/__pycache__/**"}

HEAD = '''"""{what} made by scripts/make_build.py; PyPI packages come with Python."""

load("@rules_python//python:defs.bzl", {rules})

package(default_visibility = ["//visibility:public"])
'''


def modules(folders: tuple[str, ...] = PACKAGES + PROGRAMS) -> dict[str, Path]:
    """Paths of all modules by dotted name; a package goes by the name of its folder."""
    paths = (path.relative_to(ROOT) for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere, and of modules that it names to run them (`python -m`)."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            names |= {node.value, f"{node.value}.__main__"}
    return names


def top_level(names: set[str]) -> set[str]:
    """First parts of dotted names."""
    return {name.split(".")[0] for name in names}


def dependencies(name: str, path: Path, paths: dict[str, Path]) -> set[str]:
    """Modules of this project that a file needs, with their packages, which are imported first."""
    needed = {name, *(imports(path) & set(paths)), READS.get(name, name)}
    packages = {module.rsplit(".", count)[0] for module in needed for count in range(1, module.count(".") + 1)}
    return ((needed | packages) & set(paths)) - {name}


def heavy(paths: dict[str, Path]) -> set[str]:
    """Modules that load TensorFlow, directly or through their imports."""
    names = {name for name, path in paths.items() if top_level(imports(path)) & HEAVY}
    while more := {name for name, path in paths.items() if dependencies(name, path, paths) & names} - names:
        names |= more
    return names


def target(path: Path) -> str:
    """Name of the target of a module."""
    return path.stem


def label(path: Path, where: Path) -> str:
    """Label of a module's target, as written in the BUILD file of the folder `where`."""
    if path.parent == where:
        return f":{target(path)}"
    folder = f"//{path.parent.as_posix()}"
    return folder if target(path) == path.parent.name else f"{folder}:{target(path)}"  # buildifier's short form


def written(value: str | bool | set[str], indent: str = "    ") -> str:
    """A value as buildifier writes it. Sets become lists in its order: labels of the same package come first."""
    if not isinstance(value, set):
        return f'"{value}"' if isinstance(value, str) else str(value)
    quoted = [f'"{text}"' for text in sorted(value, key=lambda text: (text.startswith("//"), text.split(":")))]
    if len(quoted) < 2:
        return f"[{', '.join(quoted)}]"
    return "[\n" + "".join(f"{indent}    {text},\n" for text in quoted) + f"{indent}]"


def rule(kind: str, name: str, **attributes: str | bool | set[str]) -> str:
    """One rule. Empty attributes are left out, and sets with a pattern become a glob."""
    lines = [f"\n{kind}(", f'    name = "{name}",']
    for attribute, value in attributes.items():
        if isinstance(value, set) and any("*" in text for text in value):
            lines.append(f"    {attribute} = glob({written(value)}),")
        elif value:
            lines.append(f"    {attribute} = {written(value)},")
    return "\n".join([*lines, ")", ""])


def module_rule(name: str, path: Path, paths: dict[str, Path]) -> str:
    """The rule of a module."""
    is_program = 'if __name__ == "__main__":' in (ROOT / path).read_text(encoding="utf-8")
    return rule("py_binary" if is_program else "py_library", target(path), srcs={path.name},
                data=DATA.get(name, set()), main=path.name if is_program else "",
                deps={label(paths[module], path.parent) for module in dependencies(name, path, paths)})


def test_name(path: Path) -> str:
    """Name of the target of a file in tests/BUILD: its folders and its name."""
    return "_".join(path.relative_to("tests").with_suffix("").parts)


def helper_rule(path: Path, paths: dict[str, Path]) -> str:
    """The rule of a module that tests import."""
    return rule("py_library", test_name(path), testonly=True, srcs={path.name},
                deps={label(paths[module], TESTS) for module in dependencies("", path, paths)})


def helpers(path: Path) -> set[str]:
    """Labels of the modules in tests that a file imports."""
    return {f":{name.split('.')[1]}" for name in imports(path) if name.count(".") == 1 and name.startswith("tests.")
            and (ROOT / TESTS / f"{name.split('.')[1]}.py").exists()}


def fixtures_rule(path: Path, paths: dict[str, Path]) -> str:
    """The rule of a folder's conftest.py."""
    inner = path.parent.name != "tests"
    return rule("py_library", test_name(path), testonly=True, srcs={path.relative_to("tests").as_posix()},
                data=set() if inner else {"adb_device/**", "programs/**", "samples/**"},
                deps={label(paths[module], TESTS) for module in dependencies("", path, paths)}
                | ({":conftest"} if inner else set()) | helpers(path))


def test_rule(path: Path, paths: dict[str, Path], slow_to_load: set[str]) -> str:
    """The rule of a file of tests. Its size is small if it does not load TensorFlow."""
    needed = dependencies("", path, paths)
    loads = needed & slow_to_load or top_level(imports(path)) & HEAVY
    reads = re.search(r"\.parent\b|\.parents\[", (ROOT / path).read_text(encoding="utf-8"))
    fixtures = next(folder / "conftest.py" for folder in path.parents if (ROOT / folder / "conftest.py").exists())
    return rule("py_test", test_name(path), size="large" if loads else "small",
                srcs={"run_pytest.py", path.relative_to("tests").as_posix()}, args={path.as_posix()},
                data={":package_files", "//:repository"} if reads else set(), main="run_pytest.py",
                deps={label(paths[module], TESTS) for module in needed} | {f":{test_name(fixtures)}"} | helpers(path))


def files_rule(name: str, others: set[str]) -> str:
    """The rule of all files of a Bazel package, for tests that read them or run programs as users do."""
    more = f" + {written(others)}" if others else ""
    return (f'\nfilegroup(\n    name = "{name}",\n    srcs = glob(\n        ["**"],\n'
            f'        exclude = {written(EXCLUDED, indent=" " * 8)},\n    ){more},\n)\n')


def package_text(folder: Path, paths: dict[str, Path]) -> str:
    """The BUILD file of a Python package."""
    rules = [module_rule(name, path, paths) for name, path in paths.items() if path.parent == folder]
    kinds = [kind for kind in ("py_binary", "py_library") if any(f"\n{kind}(" in text for text in rules)]
    loads = ", ".join(f'"{kind}"' for kind in kinds)
    head = HEAD.format(what="One target for each module,", rules=loads)
    return "".join([head, files_rule("package_files", set()), *rules])


def texts() -> dict[str, str]:
    """Texts of all BUILD files by path."""
    paths = modules()
    slow_to_load = heavy(paths)
    folders = sorted({path.parent for path in paths.values()})
    tests, fixtures = (sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob(pattern))
                       for pattern in ("test_*.py", "conftest.py"))
    helpers = [path.relative_to(ROOT) for path in sorted((ROOT / "tests").glob("*.py"))
               if path.name in HELPERS]
    test_rules = [HEAD.format(what="One target for each file of tests,", rules='"py_library", "py_test"'),
                  files_rule("package_files", set()), *(helper_rule(path, paths) for path in helpers),
                  *(fixtures_rule(path, paths) for path in fixtures),
                  *(test_rule(path, paths, slow_to_load) for path in tests)]
    root = ('"""The files of the project, for tests that read them; made by scripts/make_build.py."""\n\n'
            'package(default_visibility = ["//visibility:public"])\n\nlicenses(["notice"])\n'
            + files_rule("repository", {f"//{folder.as_posix()}:package_files" for folder in folders}))
    return {"BUILD": root, "tests/BUILD": "".join(test_rules),
            **{f"{folder.as_posix()}/BUILD": package_text(folder, paths) for folder in folders}}


def main() -> None:
    """Writes the BUILD files."""
    for path, text in texts().items():
        (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
