"""The user's own ops and spaces: the file of docs/extending.md, and files with errors."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from export import agreement, convert, interpreter, qat
from pnas_tf import network
from pnas_tf.errors import InputError
from pnas_tf.space import arch, op_language, ops, spaces
from pnas_tf.space import blocks as blocks_lib
from pnas_tf.supernet import extensions

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def forgets(monkeypatch):
    """Undoes what a file registers, after each test."""
    for name in ("_BUILDERS", "_ALLOWED", "_NEEDS"):
        monkeypatch.setattr(op_language, name, dict(getattr(op_language, name)))
    monkeypatch.setattr(spaces, "SPACES", dict(spaces.SPACES))


@pytest.fixture
def my_ops(tmp_path):
    (tmp_path / "my_ops.py").write_text(re.search(r"```python\n(# my_ops.py\n.*?)```", DOCUMENT, re.DOTALL)[1])
    return tmp_path / "my_ops.py"


def test_file_of_the_document_registers_op_and_space(my_ops):
    assert extensions.load([str(my_ops)]) == ["bottle"]
    assert ops.parse("bottle_k5_r2") == ("bottle", {"k": 5, "r": 2})
    model = network.build_network(arch.from_path(spaces.load("mixed"), [3, 4, 3]))
    reduce = model.get_layer("b02_bottle_k5_r4_reduce")
    assert reduce.kernel.shape == (1, 1, 24, 10) and model.output_shape == (None, 10)
    agreement.check_ops_ship(["bottle"])


def run(module, *more, cwd):
    result = subprocess.run([sys.executable, "-m", module, *more], cwd=cwd, capture_output=True, text=True, timeout=600,
                            check=False, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(cwd)})
    assert "Traceback" not in result.stderr
    return result


@pytest.mark.slow
def test_commands_of_the_document(my_ops, tmp_path):
    (tmp_path / "quickstart.flags").write_text((ROOT / "pnas_tf" / "flags" / "quickstart.flags").read_text())
    shorter = {"build_table": ["--runs=2", "--rounds=1"], "search": ["--max_steps=12"], "train": ["--max_steps=8"],
               "tflite": ["--allow_drop"]}
    block = re.search(r"## Every command\n\n```\n(.*?)```", DOCUMENT, re.DOTALL)[1]
    commands = re.sub(r"\s*\\\n\s*", " ", block).splitlines()
    assert len(commands) == 6
    for command in commands:
        module, *flags = command.split()[2:]
        result = run(module, *flags, *shorter.get(module.split(".")[1], []), cwd=tmp_path)
        assert result.returncode == 0, f"{command}: {result.stderr}"
        following = re.search(r"^Next: +(python -m .*)$", result.stdout, re.MULTILINE)
        assert not following or " --import=my_ops.py " in following[1]
    made = {path.name for path in (tmp_path / "runs" / "mixed").iterdir()}
    assert {"arch.json", "model.keras", "float32.tflite", "int8.tflite", "report.html"} <= made
    assert "--import=my_ops.py" in (tmp_path / "runs" / "mixed" / "run.flags").read_text()


def test_an_op_that_is_not_imported_says_how(my_ops, tmp_path):
    extensions.load([str(my_ops)])
    (tmp_path / "mixed.json").write_text(json.dumps(spaces.load("mixed").to_json()))
    result = run("latency.build_table", "--space=mixed.json", "--measurer=host", "--output=t.jsonl", cwd=tmp_path)
    assert result.returncode == 1 and "--import=FILE.py" in result.stderr and result.stderr.count("\n") == 1


OP = "(x, layers, name, filters, strides, shortcut):"
HEAD = "from pnas_tf.space import ops\nimport tensorflow as tf\n"


def registers(name, *lines):
    """A file that registers one op with this body."""
    return "\n    ".join([f"{HEAD}@ops.register({name!r})\ndef f{OP}", *lines]) + "\n"


BAD = {
    "no such Python file": None,
    "SyntaxError in line": "def (",
    "ZeroDivisionError in line 2: division by zero": "x = 1\nx / 0\n",
    "The op type 'mb' is already registered": registers("mb", "return x"),
    "but its block needs": registers("wide", "return layers.Conv2D(3, 1, strides=strides, name=f'{name}_c')(x)"),
    "its layers must begin with": registers("nameless", "return layers.Conv2D(filters, 1, strides=strides)(x)"),
    "cannot be built": registers("crash", "raise KeyError('a\\nb')"),
}


@pytest.mark.parametrize("expected", BAD)
def test_bad_files_are_one_line(expected, tmp_path):
    path = tmp_path / "bad.py"
    if BAD[expected] is not None:
        path.write_text(BAD[expected])
    with pytest.raises(InputError, match=re.escape(expected)) as error:
        extensions.load([str(path)])
    assert "\n" not in str(error.value)


def test_an_op_without_an_int8_kernel_does_not_ship(tmp_path):
    (tmp_path / "odd.py").write_text(registers(
        "odd", "x = layers.Conv2D(filters, 1, strides=strides, name=f'{name}_c')(x)",
        "return layers.Activation(tf.math.lgamma, name=f'{name}_a')(x)"))
    new = extensions.load([str(tmp_path / "odd.py")])
    with pytest.raises(InputError, match=r"Op odd on .* cannot ship: The int8 model still holds tensors of FLOAT32"):
        agreement.check_ops_ship(new)


# Ops other than MBConv that are part of the package.

def test_shipped_ops_ship_and_run_alike_in_the_supernet():
    for op in (op for name in ("conv", "mb", "mbse", "fused", "uib") for op in ops.examples(name)):
        for key in extensions.keys(op):
            extensions._check(key)
    agreement.check_ops_ship(["mbse", "fused"])


@pytest.mark.parametrize("op, params, macs", [
    # 16 -> 48 expanded, depthwise 5x5, gate of 8, projected to 24; batch norm twice the channels each.
    ("mbse_k5_e3", 16 * 48 + 25 * 48 + (48 * 8 + 8) + (8 * 48 + 48) + 48 * 24 + 2 * (48 + 48 + 24),
     8 * 8 * (16 * 48 + 25 * 48 + 48 * 24) + 2 * 48 * 8),
    ("fused_k3_e3", 9 * 16 * 48 + 48 * 24 + 2 * (48 + 24), 8 * 8 * (9 * 16 * 48 + 48 * 24)),
    # Depthwise 5x5 on 16 channels, 16 -> 48 expanded, depthwise 3x3, projected to 24.
    ("uib_s5_m3_e3", 25 * 16 + 16 * 48 + 9 * 48 + 48 * 24 + 2 * (16 + 48 + 48 + 24),
     8 * 8 * (25 * 16 + 16 * 48 + 9 * 48 + 48 * 24))])
def test_sizes_of_ops(op, params, macs):
    model = network.build_op(blocks_lib.OpKey(op, (8, 8, 16), 24, 1, False))
    assert (network.count_params(model), network.count_macs(model)) == (params, macs)


def of_other_ops():
    small = spaces.mb_space("small", input_size=16, num_classes=4, stem=blocks_lib.Block("stem", ("conv_k3",), 8),
                            first=blocks_lib.Block("b00", ("mb_k3_e1",), 8),
                            stages=(spaces.Stage(16, 1, 2), spaces.Stage(16, 1, 1)), mix=16)
    blocks = tuple(dataclasses.replace(block, ops=(op,))
                   for block, op in zip(small.blocks, ("mb_k3_e1", "mbse_k3_e3", "fused_k3_e3"), strict=True))
    return arch.Arch(dataclasses.replace(small, blocks=blocks), {})


def of_bottlenecks():
    """The ops of MobileNetV4: each kind of bottleneck, with and without stride."""
    stages = [spaces.Stage(filters, 1, strides, (op,)) for op, filters, strides in (
        ("uib_s3_m5_e4", 16, 2), ("uib_s0_m3_e2", 16, 1), ("uib_s3_m0_e4", 16, 1), ("uib_s0_m0_e2", 16, 1),
        ("uib_s5_m0_e3", 24, 2))]
    return arch.Arch(blocks_lib.Space(
        "bottlenecks", 16, 3, 4, (blocks_lib.Block("stem", ("convrelu_k3",), 8),),
        spaces.chain([blocks_lib.Block("b00", ("fusedrelu_k3_e4",), 8), blocks_lib.Block("b01", ("dsrelu_k3",), 8)],
                     stages),
        (blocks_lib.Block("mix", ("convrelu_k1",), 32), blocks_lib.Block("classifier", ("mlpclassifier_h32",), 4))), {})


@pytest.mark.slow
def test_bottlenecks_ship():
    agreement.check_ops_ship(["uib", "convrelu", "fusedrelu", "dsrelu"])


@pytest.mark.slow
@pytest.mark.parametrize("network_of", [of_other_ops, of_bottlenecks])
def test_other_ops_can_be_trained_for_int8(network_of):
    network_arch = network_of()
    keras.utils.set_random_seed(0)
    model = network.assemble(network_arch, layers=keras.layers)
    for layer in model.layers:  # an op that starts as zero has nothing to quantise
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(np.ones(layer.gamma.shape))
    twin = qat.twin(model, network_arch)
    images = np.random.default_rng(0).standard_normal((16, 16, 16, 3)).astype(np.float32)
    np.testing.assert_allclose(twin(images), model(images), rtol=1e-3)
    quantised = qat.quantise(twin)
    for _ in range(3):  # ranges
        quantised(images, training=True)
    content = convert.convert_function(lambda x: quantised(x, training=False), (1, 16, 16, 3), "int8",
                                       int8_io="float32")
    logits = interpreter.run(interpreter.make_interpreter(content), images)
    expected = np.asarray(quantised(images, training=False))
    # Ranges start at -6 to 6, and three batches hardly move them: a step of int8 is 12 / 255, a third of the deviation.
    assert np.sqrt(np.mean((logits - expected) ** 2)) < 12 / 255
    assert expected.std() > 2.5 * 12 / 255
