"""BUILD files are up to date; Debian's Bazel builds everything, starts all programs, and runs or collects all tests.

Debian's Bazel is version 4. It takes the repositories of modules from a WORKSPACE, and the rules of rules_python from a
stub that passes on the rules built into Bazel.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Folders with Python packages and programs.
FOLDERS = ("pnas_tf", "export", "latency", "benchmarks", "scripts")
RULES_PYTHON = ("py_binary", "py_library", "py_test")
# Debian's rules_cc need a newer Bazel than Debian's.
RULES_CC = ("cc_binary", "cc_import", "cc_library", "cc_proto_library", "cc_test", "cc_toolchain", "cc_toolchain_suite",
            "fdo_prefetch_hints", "fdo_profile", "objc_import", "objc_library")


def _as_native(rules):
    return "".join(f"{rule} = native.{rule}\n" for rule in rules)


COVERAGE = "".join(f'filegroup(name = "{name}", visibility = ["//visibility:public"])\n'
                   for name in ("coverage_report_generator", "lcov_merger"))
STUBS = {"rules_python": {"python/BUILD": "", "python/defs.bzl": _as_native(RULES_PYTHON)},
         "rules_cc": {"cc/BUILD": "", "cc/defs.bzl": _as_native(RULES_CC)},
         "remote_coverage_tools": {"BUILD": COVERAGE}}
DEBIAN_RULES = {name: f"/usr/share/bazel/rules/{name.removeprefix('rules_')}"
                for name in ("rules_java", "rules_proto")}
PACKAGES = "apt-get install bazel-bootstrap bazel-rules-java bazel-rules-proto"


def test_build_files_are_up_to_date():
    spec = importlib.util.spec_from_file_location("make_build", ROOT / "scripts" / "make_build.py")
    make_build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_build)
    for path, text in make_build.texts().items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path}: run python scripts/make_build.py"


@pytest.fixture(scope="module")
def bazel(tmp_path_factory):
    """Runs Bazel in a copy of the repository."""
    if not shutil.which("bazel") or not all(Path(place).is_dir() for place in DEBIAN_RULES.values()):
        pytest.skip(f"Debian's Bazel is missing: {PACKAGES}")
    base = tmp_path_factory.mktemp("bazel")
    workspace = base / "workspace"
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                            capture_output=True, text=True).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (workspace / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, workspace / name)
    places = dict(DEBIAN_RULES)
    for repository, files in STUBS.items():
        places[repository] = str(base / repository)
        for name, text in {"WORKSPACE": "", **files}.items():
            (base / repository / name).parent.mkdir(parents=True, exist_ok=True)
            (base / repository / name).write_text(text)
    (workspace / "WORKSPACE").write_text("".join(f'local_repository(name = "{name}", path = "{path}")\n'
                                                 for name, path in places.items()))
    # Bazel's programs start `python3` from the PATH, which has to be the interpreter of this environment.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), environment["PATH"]])
    start = ["bazel", f"--output_user_root={base / 'root'}", "--batch"]

    def run(*arguments):
        command, *rest = arguments
        return subprocess.run([*start, command, "--spawn_strategy=local", "--local_cpu_resources=2", *rest],
                              cwd=workspace, env=environment, capture_output=True, text=True, timeout=3600, check=False)

    run.workspace, run.environment = workspace, environment
    yield run
    subprocess.run(["chmod", "-R", "u+w", base / "root"], check=False)


@pytest.mark.slow
def test_everything_is_built_and_every_program_starts(bazel):
    built = bazel("build", "//...")
    assert built.returncode == 0, built.stderr[-3000:]
    programs = {f"{path.parent.relative_to(ROOT).as_posix()}/{name}" for folder in FOLDERS
                for path in (ROOT / folder).rglob("BUILD")
                for name in re.findall(r'py_binary\(\n    name = "([^"]+)"', path.read_text(encoding="utf-8"))}
    assert {"pnas_tf/search/__main__", "export/tflite", "latency/build_table"} <= programs
    for program in sorted(programs):
        source = (ROOT / f"{program}.py").read_text(encoding="utf-8")
        if "define_flags" not in source and ".command import main" not in source:
            continue  # no flags, so no --help
        result = subprocess.run([bazel.workspace / "bazel-bin" / program, "--help"], env=bazel.environment, text=True,
                                capture_output=True, timeout=120, check=False)
        assert re.search("flags:|--flagfile", result.stdout), (
            f"{program}: {result.stdout[-1000:]} {result.stderr[-1000:]}")


@pytest.mark.slow
def test_small_tests_run_with_what_they_depend_on(bazel):
    result = bazel("test", "//tests/...", "--test_size_filters=small", "--build_tests_only",
                   "--test_env=PATH", "--test_output=errors")
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-3000:]


@pytest.mark.slow
def test_large_tests_import_what_they_depend_on(bazel):
    """pytest collects the tests, which runs their imports. Those of TensorFlow take minutes in all."""
    result = bazel("test", "//tests/...", "--test_size_filters=-small", "--build_tests_only",
                   "--test_env=PATH", "--test_env=TF_CPP_MIN_LOG_LEVEL=3", "--test_output=errors",
                   "--test_arg=--collect-only")
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-3000:]
