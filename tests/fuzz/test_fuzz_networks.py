"""Readers of spaces, networks and run folders, on damaged inputs."""

import json
import os

import pytest
from hypothesis import strategies as st

from pnas_tf import net_config
from pnas_tf.errors import InputError
from pnas_tf.report import early_warnings, op_profile, page, summary
from pnas_tf.report import facts as run_facts
from pnas_tf.run_folder import RunFolder
from pnas_tf.run_folder import folder as run_folder
from pnas_tf.space import arch, ops, spaces

LETTERS = "abcekmnovz_0123456789- \n\x1b\u0665"
SPACE = spaces.SPACES["quickstart"].to_json()
ARCH = arch.Arch(spaces.SPACES["quickstart"], {name: block.ops[0] for name, block in
                                              spaces.SPACES["quickstart"].choices.items()},
                 {"target": "host_xnnpack1_float32", "target_ms": 0.2, "table_ms": 0.19, "params": 70000}).to_json()
NET_CONFIG = net_config.write(arch.load("proxyless_mobile"))
PROFILE = {"format": op_profile.FORMAT, "network_ms": 1.0, "target": "t", "method": "m",
           "operators": [{"operator": "CONV_2D", "block": "b00", "op": "mb_k3_e3", "ms": 0.5},
                         {"operator": "ADD", "block": "", "op": "", "ms": 0.25}]}
EPOCHS = [{"kind": "search", "epoch": epoch, "phase": phase, "seconds": 1.5, "step_ms": 20.0, "expected_ms": 0.2,
           "table_ms": 0.2, "entropy": 1.2, "train_loss": 2.0, "held_out_loss": 2.1, "train_accuracy": 0.5,
           "held_out_accuracy": 0.4, "multiplier_ms": 0.1,
           "probs": {"b01": {"mb_k3_e3": 0.25, "mb_k5_e6": 0.5, "zero": 0.25}}}
          for epoch, phase in enumerate(("warmup", "search", "search"))]
FINALISTS = {"format": "pnas_tf.finalists/1", "target": "t", "limits": {"ms": 0.2}, "held_out_images": 100,
             "largest_class_share": 0.25, "finalists": [
    {"how": how, "log_prob": -1.0, "costs": {"ms": 0.2}, "eligible": True, "loss": 2.0, "accuracy": 0.4, "ops": {}}
    for how in ("most probable within the limits", "sample")]}
TRAIN = {"params": 70000, "macs": 10**6, "epochs": 2, "dataset": "npz:x", "seed": 0, "init": "scratch", "seconds": 3.0,
         "test_images": 100, "test_accuracy": 0.5, "history": {"loss": [2.0, 1.0], "val_loss": [2.0, 1.5]}}
EXPORT = {"mode": "int8", "measured_ms": 0.3, "target": "host_xnnpack1_int8", "size_bytes": 1000, "top1": 0.4}
FLAGS = "--dataset=fashion_mnist_small\n--target_ms=0.2\n--seed=1\n--nolimit\n"


@pytest.fixture
def write(tmp_path):
    """Function that writes a file, text or bytes, into the folder of the test, and returns its path."""
    def to(name, content):
        content = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)
    return to


def test_ops(fuzz):
    words = st.one_of(st.text(LETTERS, max_size=12), st.text(max_size=200), fuzz.damaged_text("mb_k5_e6"),
                      st.sampled_from(["zero", "conv_k3", "classifier", None, 7, [[]]]))

    def check(parsed):
        assert ops.parse(ops.format_op(*parsed)) == parsed

    fuzz(words, ops.parse, check, share=4)


def test_spaces(fuzz):
    def check(space):
        assert spaces.from_json(json.loads(json.dumps(space.to_json()))) == space

    fuzz(fuzz.changed(SPACE), spaces.from_json, check, share=2)


def test_archs(fuzz):
    def check(network):
        assert arch.from_json(network.to_json()).to_json() == network.to_json() or network.costs != network.costs
        assert network.draw().replace("\n", "").isprintable() and network.op_keys()

    fuzz(fuzz.changed(ARCH), arch.from_json, check, share=2)


def test_files_of_archs_and_spaces(fuzz, write):
    for reader, document in ((arch.load, ARCH), (spaces.load, SPACE)):
        fuzz(fuzz.damaged(json.dumps(document).encode()),
             lambda content, reader=reader: reader(write("file.json", content)), share=0.5)


def test_net_config(fuzz):
    def check(network):
        assert net_config.read(net_config.write(network), name=network.space.name).op_keys() == network.op_keys()

    fuzz(fuzz.changed(NET_CONFIG), net_config.read, check, share=2)


def test_profiles(fuzz, write):
    def read(profile):
        return op_profile.read(write("int8.profile.json", json.dumps(profile)))

    def check(profile):
        assert all(line.isprintable() for line in op_profile.table(profile).split("\n"))
        assert all(0 <= part.ms < 1e18 for part in op_profile.by_block(profile))

    fuzz(fuzz.changed(PROFILE), read, check, share=2)


def test_flags(fuzz, write):
    lines = st.lists(st.one_of(st.sampled_from(FLAGS.splitlines()), st.text(max_size=30)), max_size=6).map("\n".join)
    texts = st.one_of(lines.map(lambda text: text.encode("utf-8", "replace")), fuzz.damaged(FLAGS.encode()))

    def check(flags):
        written = "".join(f"--{name}={value}\n" for name, value in flags.items())
        if written.count("\n") == len(flags) and all(name and "=" not in name and name == name.strip() and
                                                     value == value.strip() for name, value in flags.items()):
            assert len(written.splitlines()) > len(flags) or run_folder.parse_flags(written) == flags

    fuzz(texts, lambda content: run_folder.read_flags(write("run.flags", content)), check, share=2)


def test_metrics(fuzz, write):
    lines = fuzz.changed(EPOCHS).map(lambda epochs: "".join(json.dumps(line) + "\n" for line in epochs).encode())

    def read(content):
        return RunFolder(os.path.dirname(write("metrics.jsonl", content))).read_metrics()

    def check(epochs):
        assert read("".join(json.dumps(line) + "\n" for line in epochs)) == epochs or "NaN" in json.dumps(epochs)
        assert all(text.isprintable() for text in early_warnings.find(epochs, 0.2))

    fuzz(st.one_of(lines, fuzz.damaged(b"".join(json.dumps(line).encode() + b"\n" for line in EPOCHS))), read, check,
         share=2)


@pytest.mark.parametrize("name", ["arch.json", "metrics.jsonl", "train.json", "int8.json", "finalists.json",
                                  "int8.profile.json", "run.flags"])
def test_reports(fuzz, write, name):
    """From a run folder with one damaged file comes a page, or an error of one line."""
    whole = {"arch.json": ARCH, "metrics.jsonl": EPOCHS, "train.json": TRAIN, "int8.json": EXPORT,
             "finalists.json": FINALISTS, "int8.profile.json": PROFILE, "run.flags": FLAGS}

    def text(name, document):
        if isinstance(document, str):
            return document
        lines = document if name.endswith(".jsonl") and isinstance(document, list) else [document]
        return "".join(json.dumps(line) + "\n" for line in lines)

    for other, document in whole.items():
        folder = os.path.dirname(write(other, text(other, document)))
    inputs = fuzz.damaged(FLAGS.encode()) if name == "run.flags" else fuzz.changed(whole[name]).map(
        lambda document: text(name, document))

    def read(content):
        write(name, content)
        return run_facts.collect(folder)

    def check(facts):
        assert "<script>x" not in page.render(facts) and summary.summary(facts)

    fuzz(inputs, read, check, share=0.12)


def test_impossible_paths(tmp_path):
    for read in (arch.load, spaces.load, op_profile.read):
        for path in ("", "\x00", "x" * 5000, str(tmp_path), "/dev/null", "\ud800", "a\nb"):
            with pytest.raises(InputError) as caught:
                read(path)
            assert str(caught.value).isprintable()
