"""Code and documents name each other rightly: docstrings what is there, documents the errors as they are printed."""

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("pnas_tf", "export", "latency", "benchmarks", "scripts")
QUOTED = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[\w./-]*\w\.(?:py|md|flags|ipynb|toml|txt|LICENSE)|(?:pnas_tf|export|latency|docs|tests)/[\w./]+")
# `load`, `data.load`, `Part.labels()`: what stands before the last point is a module, a class or an object.
NAME = re.compile(r"((?:[A-Za-z_]\w*\.)*)([A-Za-z_]\w*)(?:\(.*\))?")
# Packages of others, commands of the system, arguments of a benchmark with its size, names of layers and ops.
FOREIGN = re.compile(r"(keras|tf|np|tf_keras)\..*|state_dict\(\)|ulimit|unzip|\w+_S|.*_[a-z]+\d\w*|b\d\d\w*|c0")


@functools.cache
def trees():
    """Syntax trees by dotted name of the module."""
    paths = {path: path.relative_to(ROOT).with_suffix("") for folder in FOLDERS
             for path in sorted((ROOT / folder).rglob("*.py"))}
    return {".".join(name.parts).removesuffix(".__init__"): ast.parse(path.read_text(encoding="utf-8"))
            for path, name in paths.items()}


def docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
                text := ast.get_docstring(node)):
            yield getattr(node, "name", "the module"), text


@functools.cache
def words(name):
    """Every identifier in the code of a module, and every word in its texts that are not docstrings."""
    found = set()
    tree = trees()[name]
    documented = {id(node.body[0].value) for node in ast.walk(tree)
                  if hasattr(node, "body") and isinstance(node.body, list) and node.body
                  and isinstance(node.body[0], ast.Expr)}
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "asname"):
            if isinstance(value := getattr(node, field, None), str):
                found.update(value.split("."))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
            found |= set(re.findall(r"\w+", node.value))
    return found


@functools.cache
def words_of(name):
    """Words of the modules that a name may mean, such as `data` or `pictures`, and of those in it; of all for ""."""
    return {word for module in trees() if not name or f".{name}." in f".{module}." for word in words(module)}


@functools.cache
def all_files():
    """Paths of the project's files, and the ends of these paths."""
    paths = [path.relative_to(ROOT).parts for folder in (*FOLDERS, "docs", "tests")
             for path in [ROOT / folder, *(ROOT / folder).rglob("*")]]
    return {"/".join(parts[begin:]) for parts in paths for begin in range(len(parts))}


def exists(quoted):
    """Whether text in backticks names something of the project, or does not look as if it did."""
    if FILE.fullmatch(quoted):
        return quoted.rstrip("/") in all_files() or (ROOT / quoted).exists()
    match = NAME.fullmatch(quoted)
    if not match or FOREIGN.fullmatch(quoted):
        return True
    before, name = match[1].rstrip("."), match[2]
    if any(f".{module}".endswith(f".{before}.{name}".replace("..", ".")) for module in trees()):
        return True
    return name in (words_of(before) or words_of(""))


def test_what_docstrings_name_exists():
    assert not [f"{module}, {owner}: `{quoted}`" for module, tree in trees().items()
                for owner, text in docstrings(tree) for quoted in QUOTED.findall(text) if not exists(quoted)]


def test_documents_that_the_code_names_exist():
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            for name in re.findall(r"\bdocs/\w+\.\w+", path.read_text(encoding="utf-8")):
                assert (ROOT / name).is_file(), f"{path}: {name}"


def test_troubleshooting_quotes_what_is_printed():
    """Texts in bold are parts of messages; ... stands for what differs."""
    printed = [node.value for tree in trees().values() for node in ast.walk(tree)
               if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\*\*`([^`]+)`", page, flags=re.M)
    assert len(quoted) > 15
    for text in quoted:
        for part in text.replace("\n", " ").split("..."):
            assert any(part.strip() in each for each in printed), text
