"""No module runs code from data or reads from the network, as far as syntax trees can tell."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for folder in ("pnas_tf", "export", "latency", "benchmarks", "scripts")
                 for path in (ROOT / folder).rglob("*.py"))
# Calls that run code from their arguments, or that read files which can contain code.
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput",
         "subprocess.getstatusoutput", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "torch.load",
         "keras.config.enable_unsafe_deserialization", "keras.utils.get_file", "tf.keras.utils.get_file",
         "tf.saved_model.load"}
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "pty",
           "urllib", "urllib3", "requests", "http", "ftplib", "httpx", "aiohttp", "telnetlib", "xmlrpc"}
# Keywords that a call of this name has to give, with their values.
REQUIRED = {"load_model": ("safe_mode", True), "np.load": ("allow_pickle", False),
            "numpy.load": ("allow_pickle", False), "read_array": ("allow_pickle", False),
            "Environment": ("autoescape", True)}
NEVER = {"shell": True, "allow_pickle": True, "safe_mode": False, "autoescape": False}
# Base classes allowed for loaders: they only make texts and plain values.
YAML_LOADERS = {"yaml.BaseLoader", "yaml.SafeLoader"}


def name_of(node):
    """Dotted name of an expression, such as `np.load`."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def problems(source):
    """Descriptions of everything in a module that is not allowed."""
    tree = ast.parse(source)
    loaders = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
               and {name_of(base) for base in node.bases} & YAML_LOADERS} | YAML_LOADERS
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
            [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if name.split(".")[0] in MODULES:
                yield f"{node.lineno}: imports {name}"
        if isinstance(node, ast.Call):
            called, given = name_of(node.func), {keyword.arg: keyword.value for keyword in node.keywords}
            if called in CALLS:
                yield f"{node.lineno}: calls {called}"
            for name, value in NEVER.items():
                if name in given and not (isinstance(given[name], ast.Constant) and given[name].value is not value):
                    yield f"{node.lineno}: {name}={ast.unparse(given[name])}"
            for name, (keyword, value) in REQUIRED.items():
                if (called == name or called.endswith(f".{name}")) and not (
                        isinstance(given.get(keyword), ast.Constant) and given[keyword].value is value):
                    yield f"{node.lineno}: {called} without {keyword}={value}"
            if called == "yaml.load" and name_of(given.get("Loader", node.args[1] if len(node.args) > 1 else None)) \
                    not in loaders:
                yield f"{node.lineno}: yaml.load without a safe loader"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_module(path):
    assert not list(problems(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("source", [
    "eval(x)", "exec(x)", "import pickle", "from pickle import loads", "import urllib.request",
    "import os; os.system(x)", "subprocess.run(x, shell=True)", "subprocess.run(x, shell=flag)", "np.load(x)",
    "np.load(x, allow_pickle=True)", "keras.models.load_model(x)", "load_model(x, safe_mode=False)",
    "yaml.load(x)", "yaml.load(x, yaml.Loader)", "yaml.load(x, Loader=yaml.UnsafeLoader)",
    "class L(yaml.Loader): pass\nyaml.load(x, L)", "torch.load(x)", "jinja2.Environment()",
    "jinja2.Environment(autoescape=False)", "__import__(x)"])
def test_the_test_notices(source):
    assert list(problems(source))


def test_templates_mark_only_drawings_as_safe():
    """Pages escape everything but literals of the template and charts, in which matplotlib escapes every text."""
    templates = (ROOT / "pnas_tf" / "report" / "templates").glob("*.html")
    text = "".join(path.read_text(encoding="utf-8") for path in templates)
    marked = re.findall(r"([^\s({|]+)\s*\|\s*safe\b", text)
    assert "chart.svg" in marked and all(name == "chart.svg" or name.startswith('"') for name in marked)
    assert len(marked) == len(re.findall(r"\|\s*safe\b", text)) and "autoescape" not in text
