"""docs/api.md lists what the packages offer, in the words of the docstrings."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pnas_tf

ROOT = Path(__file__).parent.parent


def listed():
    """{module: {name: text}} of docs/api.md."""
    sections = re.split(r"^## `([\w.]+)`$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), flags=re.M)[1:]
    return {module: {name: " ".join(text.split()) for name, text in re.findall(
        r"^- `(\w+)`: (.*?)(?=^- |\Z)", section, flags=re.S | re.M)}
            for module, section in zip(sections[::2], sections[1::2], strict=True)}


def test_each_name_has_the_first_line_of_its_docstring():
    for module, names in listed().items():
        assert names, module
        for name, text in names.items():
            value = getattr(importlib.import_module(module), name)
            if inspect.isclass(value) or inspect.isfunction(value):
                assert text.startswith(inspect.getdoc(value).splitlines()[0]), f"{module}.{name}: {text}"


def test_every_name_that_a_package_offers_is_listed():
    names = listed()
    assert names["pnas_tf"].keys() == pnas_tf._LAZY.keys()
    for module in ("pnas_tf.data", "pnas_tf.network"):
        assert names[module].keys() == set(importlib.import_module(module).__all__)


@pytest.mark.slow
def test_pages_of_the_interface_are_made_without_a_warning(tmp_path):
    """With pdoc of requirements-dev.txt."""
    done = subprocess.run([sys.executable, ROOT / "scripts" / "make_api_pages.py", tmp_path], cwd=ROOT, timeout=600,
                          capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    assert "Warn" not in done.stderr
    pages = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.html")}
    for module, names in listed().items():
        page = module.replace(".", "/") + ".html"
        assert page in pages
        text = (tmp_path / page).read_text(encoding="utf-8")
        assert not [name for name in names if f'id="{name}"' not in text], page
