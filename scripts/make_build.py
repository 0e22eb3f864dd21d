"""Writes BUILD from the imports of the code: one target for each module.

    python scripts/make_build.py
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("pnas_tf", "export", "latency")
ENTRY_POINTS = {"pnas_tf.search", "pnas_tf.train", "pnas_tf.import_weights", "pnas_tf.net_config", "pnas_tf.report",
                "export.tflite", "export.bundle", "latency.build_table", "latency.compare", "latency.import_table",
                "latency.profile"}
DATA = {"pnas_tf.arch": '["pnas_tf/archs/*.json"]', "pnas_tf.latency_table": '["pnas_tf/tables/*.jsonl"]',
        "pnas_tf.data": '["pnas_tf/datasets/fashion_mnist_small.*"]', "pnas_tf.report": '["pnas_tf/templates/*.html"]',
        "export.bundle": '["export/bundle_runner.py"]'}


def modules() -> dict[str, Path]:
    """Modules of the packages by dotted name, packages themselves left out."""
    return {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path
            for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")) if path.stem != "__init__"}


def imports(path: Path) -> set[str]:
    """Dotted names of everything that a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def target(name: str, path: Path, known: dict[str, Path]) -> str:
    """One rule."""
    kind = "py_binary" if name in ENTRY_POINTS else "py_library"
    lines = [f"{kind}(", f'    name = "{name.replace(".", "_")}",', f'    srcs = ["{path.relative_to(ROOT)}"],']
    if name in DATA:
        lines.append(f"    data = glob({DATA[name]}),")
    if name in ENTRY_POINTS:
        lines.append(f'    main = "{path.relative_to(ROOT)}",')
    deps = sorted(f":{dep.replace('.', '_')}" for dep in imports(path) & set(known) - {name})
    if len(deps) == 1:
        lines.append(f'    deps = ["{deps[0]}"],')
    elif deps:
        lines += ["    deps = [", *(f'        "{dep}",' for dep in deps), "    ],"]
    return "\n".join([*lines, ")"])


def main() -> None:
    """Writes the file."""
    known = modules()
    head = ('"""One target for each module, made by scripts/make_build.py; PyPI packages come with Python."""\n\n'
            'load("@rules_python//python:defs.bzl", "py_binary", "py_library")\n\n'
            'package(default_visibility = ["//visibility:public"])\n\nlicenses(["notice"])')
    rules = [target(name, path, known) for name, path in known.items()]
    (ROOT / "BUILD").write_text("\n\n".join([head, *rules]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
