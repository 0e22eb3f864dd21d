"""The measurers of docs/your_measurer.md, run as they stand there."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from export import convert, interpreter
from latency import measure
from pnas_tf.cost import latency_table
from pnas_tf.errors import InputError

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "your_measurer.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", DOCUMENT, re.DOTALL))


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Writes an example of the document to a file, and loads it."""
    def load(name):
        path = tmp_path / f"{name}.py"
        path.write_text(EXAMPLES[name])
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def time_model(tmp_path):
    """A program by which a model takes as many milliseconds as its file has bytes."""
    path = tmp_path / "time_model"
    path.write_text("#!/bin/sh\nfor run in $(seq $2); do wc -c < $1; done\n")
    path.chmod(0o755)
    return path


def test_examples_are_short():
    assert set(EXAMPLES) == {"my_measurer", "my_container"}
    assert all(text.count("\n") < 60 for text in EXAMPLES.values())


def test_a_measurer_with_a_program(example, time_model, monkeypatch):
    monkeypatch.setitem(measure.MEASURERS, "program", example("my_measurer").Program)
    monkeypatch.setattr(convert, "to_time", lambda content, dtype: content)  # converted already
    monkeypatch.setenv("PNAS_TF_PROGRAM", str(time_model))
    device = measure.measurer_of("program", rounds=2, runs=3)
    rows = dict(device.measure({"small": lambda: bytes(7), "large": lambda: bytes(900)}))
    assert rows["small"] == {"median_ms": 7, "min_ms": 7, "mean_ms": 7, "std_ms": 0, "runs": 6}
    assert rows["large"]["median_ms"] == 900
    header = latency_table.header(**device.facts())
    assert measure.from_header(header, "t.jsonl").facts() == device.facts()
    for answer in ("no device", "1 2", "nan 1 1", ""):
        time_model.write_text(f"#!/bin/sh\necho {answer}\n")
        with pytest.raises(InputError, match="printed no 3 times"):
            dict(device.measure({"small": lambda: bytes(7)}))


def test_a_measurer_with_a_command(example, tmp_path):
    """A program that does what `docker exec` does, with this machine in place of a container."""
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\n[ "$1 $2 $3" = "exec -i mine" ] || exit 1\nshift 3\nexec "$@"\n')
    docker.chmod(0o755)
    module = example("my_container")
    facts = module.Container(module.ContainerSettings(docker=str(docker), container="mine",
                                                      remote_python=sys.executable)).facts()
    assert facts["measurer"] == "container" and facts["runtime"] == interpreter.runtime_name("litert")
    with pytest.raises(InputError, match="mine: no_docker cannot be run on this machine"):
        module.Container(module.ContainerSettings(docker="no_docker", container="mine")).facts()
    with pytest.raises(InputError, match="other: exit code 1"):
        module.Container(module.ContainerSettings(docker=str(docker), container="other")).facts()


@pytest.mark.slow
def test_commands_of_the_document(time_model, tmp_path):
    (tmp_path / "my_measurer.py").write_text(EXAMPLES["my_measurer"])
    commands = re.findall(r"^python my_measurer\.py .*$", DOCUMENT, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        done = subprocess.run([sys.executable, *shlex.split(command)[1:], "--rounds=1", "--runs=2"], cwd=tmp_path,
                              env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path),
                                   "PNAS_TF_PROGRAM": str(time_model)},
                              capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "20 networks" in done.stdout
