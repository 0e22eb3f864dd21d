"""The wheel: its files, and its commands in a fresh environment, run from another folder."""

import importlib
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pnas_tf
from pnas_tf import __main__ as listing

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SCRIPTS = PROJECT["project"]["scripts"]
SMALL = ["--flagfile=quickstart.flags", "--max_steps=12", "--run_dir=run"]


def requirements(name):
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def shipped_files():
    """Files of the packages, without those that Python writes when it runs them."""
    return {path.relative_to(ROOT).as_posix() for package in ("pnas_tf", "export", "latency")
            for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def run(*command, **kwargs):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run([str(argument) for argument in command], capture_output=True, text=True, env=environment,
                            stdin=subprocess.DEVNULL, timeout=1800, check=False, **kwargs)
    assert result.returncode == 0, f"{command}: {result.stdout[-2000:]} {result.stderr[-3000:]}"
    return result.stdout


def test_every_console_script_is_an_entry_point():
    for name, entry in SCRIPTS.items():
        module, function = entry.split(":")
        assert callable(getattr(importlib.import_module(module), function)), name


def test_the_dev_extra_is_requirements_dev():
    assert PROJECT["project"]["optional-dependencies"]["dev"] == requirements("requirements-dev.txt")


def test_python_versions_agree():
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["project"]["classifiers"]))
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["project"]["requires-python"]).groups()
    assert versions == [f"3.{minor}" for minor in range(int(low), int(high))]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the source distribution as pip builds it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    source, = folder.glob("*.tar.gz")
    built, = folder.glob("*.whl")
    assert source.name.startswith("pnas_tf-")
    return built


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == shipped_files()


@pytest.mark.slow
def test_the_metadata_of_the_wheel(wheel):
    """What a package index shows: version, URLs, and a page whose links need no files of the repository."""
    with zipfile.ZipFile(wheel) as archive:
        name, = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        fields, _, page = archive.read(name).decode().partition("\n\n")
    fields = fields.splitlines()
    assert f"Version: {pnas_tf.__version__}" in fields
    assert "Description-Content-Type: text/markdown" in fields
    assert {f"Project-URL: {name}, {url}" for name, url in PROJECT["project"]["urls"].items()} <= set(fields)
    assert page.startswith("# pnas_tf") and "## Quickstart" in page
    assert not re.findall(r"\]\((?!https?:|#)[^)]+\)", page)


def fresh(folder, wheel, python=sys.executable):
    """The folder of scripts of a fresh environment with the wheel."""
    run(python, "-m", "venv", folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=folder)
    return folder / "bin"


@pytest.fixture(scope="module")
def scripts(wheel, tmp_path_factory):
    """Scripts of an environment that uses the other packages of this environment, which is quick."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", wheel)
    site, = folder.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


@pytest.mark.slow
def test_console_scripts_from_another_folder(scripts, tmp_path):
    def printed(*command):
        return subprocess.run([scripts / command[0], *command[1:]], cwd=tmp_path, capture_output=True, text=True,
                              check=False, timeout=120).stdout

    assert SCRIPTS.keys() == {"pnas", *(f"pnas-{word}" for word in listing.COMMANDS)}
    for word, module in listing.COMMANDS.items():
        manual = importlib.import_module(module).__doc__
        assert manual.splitlines()[0] in printed(f"pnas-{word}", "--help"), word
    assert printed("pnas", "report", "--help") == printed("pnas-report", "--help")


def walk(scripts, folder):
    """All commands from search to report, with the installed packages only."""
    path = run(scripts / "python", "-c", "import pnas_tf; print(pnas_tf.__file__)", cwd=folder)
    assert Path(path).is_relative_to(scripts.parent)
    run(scripts / "pnas-search", *SMALL, cwd=folder)
    run(scripts / "pnas-train", "--run_dir=run", "--epochs=1", "--max_steps=20", cwd=folder)
    run(scripts / "pnas-export", "--run_dir=run", "--mode=float32", "--allow_drop", cwd=folder)
    run(scripts / "pnas-report", "--run_dir=run", cwd=folder)
    run(scripts / "pnas-bundle", "--run_dir=run", "--mode=float32", "--output=bundle", cwd=folder)
    assert {"arch.json", "model.keras", "float32.tflite", "report.html"} <= {path.name for path in
                                                                             (folder / "run").iterdir()}
    archs = run(scripts / "python", "-c", "from pnas_tf.space import arch; [arch.load(n) for n in arch.names()]; "
                                          "print(arch.names())", cwd=folder)
    assert "proxyless_mobile" in archs
    run(scripts / "pnas-doctor", cwd=folder)
    random = np.random.default_rng(0)
    for number, name in enumerate(("a", "b", "c") * 12):
        (folder / "photos" / name).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 120, (40, 40, 3), dtype=np.uint8)
        pixels[..., number % 3] += 100
        Image.fromarray(pixels).save(folder / "photos" / name / f"{number}.png")
    run(scripts / "pnas", "auto", "photos", "--image_size=64", "--max_steps=8", "--run_dir=auto", cwd=folder)
    assert {"arch.json", "int8.tflite", "report.html", "bundle"} <= {path.name for path in (folder / "auto").iterdir()}


@pytest.mark.slow
def test_all_commands_from_another_folder(scripts, tmp_path):
    walk(scripts, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_install_with_all_requirements(wheel, interpreters, tmp_path, version):
    """Downloads gigabytes from the package index, which takes minutes."""
    python = interpreters.get(version)
    if not python:
        pytest.skip(f"no Python {version} here")
    scripts = fresh(tmp_path / "environment", wheel, python)
    installed = run(scripts / "python", "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check")
    assert "tensorflow==" in installed and "tensorflow-model-optimization==" not in installed
    run(scripts / "python", "-m", "pip", "check")
    (tmp_path / "work").mkdir()
    walk(scripts, tmp_path / "work")
