"""The ranges of pyproject.toml: locked versions within them, resolved for each system, and tests at both ends."""

import importlib.util
import itertools
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pnas_tf import extras
from pnas_tf.errors import InputError

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL = PROJECT["optional-dependencies"]
PYTHONS = ("3.11", "3.12", "3.13")
# Linux of a Raspberry Pi OS or Ubuntu 22.04 for aarch64: tflite-runtime's wheel there needs glibc 2.34.
SYSTEMS = {"x86_64-manylinux_2_28": ("linux", "x86_64"), "aarch64-manylinux_2_34": ("linux", "aarch64"),
           "macos": ("darwin", "arm64"), "windows": ("win32", "AMD64")}
# TensorFlow Datasets and Vela need packages of which the index has only the source.
SOURCES = ("promise", "ethos-u-vela")
# Tests that use TensorFlow, Keras, LiteRT, NumPy and absl in most of the ways in which the commands do.
QUICK_TESTS = ("tests/space", "tests/cost", "tests/cli/test_settings.py", "tests/cli/test_flag_files.py",
               "tests/network/test_network.py", "tests/network/test_layers.py", "tests/supernet/test_supernet.py",
               "tests/export/test_convert.py")
# Those of all modes, for which the extra [qat] is needed.
QAT_TESTS = ("tests/export/test_metadata.py", "tests/export/test_qat.py")
needs_uv = pytest.mark.skipif(importlib.util.find_spec("uv") is None, reason="no uv: pip install uv")


def locked():
    """Requirements of the lock, each of which names one version."""
    lines = (line.split("#")[0].strip() for line in
             (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def name_of(requirement):
    return re.sub(r"[-_.]+", "-", requirement.name).lower()


@pytest.mark.parametrize("system, python", itertools.product(SYSTEMS, PYTHONS))
def test_the_lock_has_one_version_of_each_package_within_its_range(system, python):
    platform, machine = SYSTEMS[system]
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": platform,
                   "platform_machine": machine}

    def holds(requirement):
        return requirement.marker is None or requirement.marker.evaluate(environment)

    pins = [requirement for requirement in locked() if holds(requirement)]
    assert len({name_of(pin) for pin in pins}) == len(pins)
    versions = {name_of(pin): next(iter(pin.specifier)).version for pin in pins}
    for text in (*PROJECT["dependencies"], *OPTIONAL["qat"], *OPTIONAL["tflite-runtime"]):
        requirement = Requirement(text)
        assert not holds(requirement) or versions[name_of(requirement)] in requirement.specifier, text
    assert ("tflite-runtime" in versions) == (platform == "linux" and python == "3.11")


def test_extras_are_those_of_the_project():
    assert set(extras.EXTRAS) == set(OPTIONAL) - {"all", "dev"}
    for extra, modules in extras.EXTRAS.items():
        packages = {re.match(r"[\w-]+(\[.*?\])?", text)[0] for text in OPTIONAL[extra]}
        named = {name if name not in OPTIONAL[extra] else name_of(Requirement(name)) for name in modules.values()}
        assert named <= packages <= {*named, "numpy"}
    assert Requirement(*OPTIONAL["all"]).extras == set(extras.EXTRAS) - {"cuda"}


def test_a_missing_extra_is_one_line_that_says_how_to_install_it(monkeypatch):
    extras.check("cuda", "--strategy=mirrored")  # TensorFlow is here
    for name in ("tf_keras", "tensorflow_model_optimization", "tflite_runtime"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"--mode=int8_qat needs the extra \[qat\], and tf-keras and tensorflow-model-"
                                         r"optimization are not installed: pip install tf-keras tensorflow-model-o"):
        extras.check("qat", "--mode=int8_qat")
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(InputError, match=r"exists for Linux and Python up to 3\.11 alone.*Use ai-edge-litert"):
        extras.check("tflite-runtime", "--runtime=tflite_runtime")


# Resolved by the package index: minutes.

def resolve(folder, requirements, system, python):
    """Versions by package, as they would be installed; the text of the error if there is no such set."""
    (folder / "requirements.in").write_text("\n".join(requirements))
    sources = [f"--no-binary={name}" for name in SOURCES]
    done = subprocess.run([sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate",
                           "--only-binary=:all:", *sources, f"--python-platform={system}",
                           f"--python-version={python}", "requirements.in"],
                          cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        return done.stderr
    return dict(line.split("==") for line in done.stdout.split())


def requirements_of(*names):
    return [*PROJECT["dependencies"], *itertools.chain(*(OPTIONAL[name] for name in names))]


@needs_uv
@pytest.mark.slow
@pytest.mark.parametrize("system, python", itertools.product(SYSTEMS, PYTHONS))
def test_every_system_can_install(tmp_path, system, python):
    core = resolve(tmp_path, requirements_of(), system, python)
    assert isinstance(core, dict), core
    assert {"tensorflow", "keras", "ai-edge-litert", "numpy"} <= set(core)
    everything = resolve(tmp_path, requirements_of("qat", "tflite-runtime", "cuda", "tfds", "tensorboard", "vela"),
                         system, python)
    assert isinstance(everything, dict), everything
    linux = SYSTEMS[system][0] == "linux"
    assert ("tflite-runtime" in everything) == (linux and python == "3.11")
    assert any(name.startswith("nvidia-") for name in everything) == (SYSTEMS[system] == ("linux", "x86_64"))
    beside = resolve(tmp_path, [*requirements_of("tfds", "tensorboard", "vela"), "mediapipe", "litert-quantizer"],
                     system, python)
    assert isinstance(beside, dict) and beside["mediapipe"].startswith("1."), beside
    # If this one resolves one day, README.md and pyproject.toml need not warn of it any longer.
    error = resolve(tmp_path, [*requirements_of("qat"), "mediapipe>=1", "litert-quantizer"], system, python)
    assert isinstance(error, str) and "absl-py" in error


@pytest.mark.slow
def test_pip_finds_the_project_beside_mediapipe_and_litert_quantizer(tmp_path):
    """In an environment without packages; nothing is installed."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "environment"], check=True)
    done = subprocess.run([tmp_path / "environment" / "bin" / "python", "-m", "pip", "install", "--quiet", "--dry-run",
                           f"--report={tmp_path}/report.json", f"{ROOT}[tfds,tensorboard,vela]", "mediapipe",
                           "litert-quantizer"], cwd=tmp_path, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "report.json").read_text())
    versions = {each["metadata"]["name"].lower(): each["metadata"]["version"] for each in report["install"]}
    assert versions["absl-py"].startswith("2.") and versions["mediapipe"].startswith("1.")
    assert {"pnas-tf", "tensorflow", "keras", "ai-edge-litert", "litert-quantizer"} <= set(versions)


@needs_uv
@pytest.mark.slow
@pytest.mark.parametrize("python, resolution, extra", [("3.11", "lowest-direct", "qat"), ("3.13", "highest", "tfds")])
def test_both_ends_of_the_ranges_run_quick_tests(tmp_path, interpreters, python, resolution, extra):
    """Installs TensorFlow into a fresh environment: minutes, and 3 GB."""
    uv, environment = [sys.executable, "-m", "uv"], tmp_path / "environment"
    program = environment / "bin" / "python"
    if python not in interpreters:
        pytest.skip(f"no Python {python} here")
    subprocess.run([*uv, "venv", "--quiet", f"--python={interpreters[python]}", environment], check=True)
    for arguments in ((f"--resolution={resolution}", "-r", "pyproject.toml", f"--extra={extra}"),
                      ("-r", "requirements-dev.txt")):
        subprocess.run([*uv, "pip", "install", "--quiet", f"--python={program}", *arguments], cwd=ROOT, check=True)
    done = subprocess.run([program, "-m", "pytest", "-q", "-p", "no:cacheprovider", *QUICK_TESTS,
                           *(QAT_TESTS if extra == "qat" else ())], cwd=ROOT,
                          capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
