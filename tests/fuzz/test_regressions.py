"""Inputs that once broke a reader, each by name. Fuzzing and reviews with the same eyes uncovered them."""

import contextlib
import gzip
import io
import json
import os
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from export import bundle, metadata
from latency import measure, published, timed_networks
from latency.phones import benchmark_output
from pnas_tf import files, net_config
from pnas_tf.cost import goal as goals_lib
from pnas_tf.cost import latency_table, network_times
from pnas_tf.data import folders, readers
from pnas_tf.errors import InputError, printable, shown
from pnas_tf.report import facts as run_facts
from pnas_tf.report import page, summary
from pnas_tf.search import command as search_command
from pnas_tf.space import arch, ops, spaces

HEADER = {"format": latency_table.FORMAT, "target": "phone", "measurer": "host"}
ROW = {"op": "mb_k3_e3", "input": [14, 14, 16], "filters": 24, "strides": 1, "shortcut": False, "median_ms": 0.5}
QUICKSTART = spaces.SPACES["quickstart"]
TUNAS_COLUMNS = "position,in_hw,in_channels,out_hw,out_channels,stride,choice,weight_ms\n"
HUGE = 10**400


@contextlib.contextmanager
def little_memory():
    """Fails if the code within it allocates 20 MB or more at a time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def refused(read, *arguments, match="", **more):
    """Checks that a reader refuses its input with one printable line; returns that line."""
    with pytest.raises(InputError, match=match) as caught:
        read(*arguments, **more)
    assert str(caught.value).isprintable() and len(str(caught.value)) <= 2000
    return str(caught.value)


def table(header=(), row=()):
    lines = [{**HEADER, **dict(header)}, {**ROW, **dict(row)}]
    return latency_table.parse("".join(json.dumps(line) + "\n" for line in lines), "table.jsonl")


def npy(header, body=b"", version=1):
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(header) + 1) + header + b"\n" + body


def npz(**members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    content.seek(0)
    return content


# Names that become paths, commands and lines.

@pytest.mark.parametrize("target", ["../../x", "/etc/cron.d/x", "a/b", "..", ".", ".ssh", "", "a b", "$(touch pwned)",
                                    "a;b", "a\nb", "\x1b[2J", "é", "x" * 101, "-rf"])
def test_target_is_no_path(target):
    """The results of a goal go into a folder that is named after the target."""
    refused(table, {"target": target}, match="target must be a name")
    refused(latency_table.header, target, match="target must be a name")


def test_targets_of_earlier_tables_are_names():
    for name in latency_table.names():
        assert latency_table.read(name).target == name
    for target in ("pixel6_xnnpack1_int8", "host_tf_lite_builtin4_float16", "xla_gpu_b32_float32", "my.phone-2+gpu"):
        goal = goals_lib.Goal(table({"target": target}).target, None, 12.5)
        assert os.path.basename(os.path.normpath(os.path.join("run", goal.name))) == f"{target}_12.5ms"


def test_error_is_one_line_whatever_the_name_of_the_file(tmp_path):
    for name in ("a\nb", "\x1b]0;title\x07", "\u202egnp.exe", "\udc80"):
        assert "?" in refused(files.read_json, str(tmp_path / name), match="cannot be read")
    assert printable("a\tb\u2028c\x9b") == "a?b?c?" and printable("x" * 20, 10) == "xxxxxxx..."


def test_name_of_a_space_has_no_control_characters():
    refused(spaces.from_json, {**QUICKSTART.to_json(), "name": "x\x1b[2J"}, match="letters")
    refused(spaces.from_json, {**QUICKSTART.to_json(), "name": "x; touch pwned"}, match="letters")


# Numbers.

@pytest.mark.parametrize("value", [HUGE, -HUGE, float("nan"), float("inf"), -0.1, 1e7, True, "1", [1], {}],
                         ids=range(10))
@pytest.mark.parametrize("name", ["median_ms", "min_ms", "std_ms", "calibrated_ms", "paced_ms", "overhead_ms",
                                  "anchor_ms"])
def test_values_that_are_no_times_are_refused(name, value):
    refused(table, row={name: value}, match=f"line 2: {name} is not a time")


def test_accuracies_of_nonsense_count_as_unknown():
    for value in (HUGE, float("nan"), [], {}):
        parsed = table({"accuracy": {latency_table.accuracy_name(QUICKSTART): {
            "within_5_percent": value, "within_10_percent": 0.5, "rmse_of_mean": 0.1}}})
        assert "is unknown" in search_command._accuracy(parsed, QUICKSTART)


def test_dtype_is_a_text():
    refused(table, {"dtype": ["float32"]}, match="dtype must be a text")


@pytest.mark.parametrize("value", [HUGE, float("inf"), float("nan"), True, "6", [6]], ids=range(6))
def test_settings_of_a_header_are_numbers(value):
    refused(measure.from_header, {**HEADER, "rounds": value}, "table.jsonl", match="rounds in line 1 must be")


def test_times_of_networks_in_an_endless_pass(tmp_path):
    path = tmp_path / "t.networks.jsonl"
    path.write_text(json.dumps({"format": network_times.FORMAT})
                    + '\n{"network": "x", "pass": Infinity, "median_ms": 1}\n')
    refused(timed_networks._read, str(path), {}, match="does not hold times")


@pytest.mark.parametrize("numbers", ["1.2.3, 1.5, 1%, 1%, 0, 1", "1, 1e999, 1%, 1%, 0, 1", "1, -1.5, 1%, 1%, 0, 1",
                                     "1, 1.5, 1%, 1%, 0, 1e999", "1, 1.5, 1%, 1%, 0, -1"])
def test_profile_of_nonsense(numbers):
    """`1.2.3` in a column that is not used does no harm, but a time has to be a time."""
    head = "Run Order\n [node type], [first], [avg ms], [%], [cdf%], [mem KB], [times called], [Name]\n"
    text = f"{head} CONV_2D, {numbers}, [x]:0\n"
    if numbers.startswith("1.2.3"):
        assert benchmark_output.op_profile(text)[0].mean_ms == 1.5
    else:
        refused(benchmark_output.op_profile, text, match="no profile")


# Files of tables and networks.

@pytest.mark.parametrize("path", ["x" * 5000, "\x00", "", "\ud800", "/dev/zero"], ids=range(5))
def test_impossible_path(path):
    for read in (latency_table.read, arch.load, spaces.load):
        refused(read, path)


def test_nested_as_deeply_as_can_be_read(tmp_path):
    """Values that Python's JSON parser still accepts have to be refused without recursion into them."""
    document = arch.Arch(QUICKSTART, {name: block.ops[0] for name, block in QUICKSTART.choices.items()}).to_json()
    config, path = net_config.write(arch.load("proxyless_mobile")), tmp_path / "deep.json"
    for depth in (*range(780, 1000, 20), 100_000):
        deep = "[" * depth + "]" * depth
        for place in ('"name": "stem"', '"filters": 16', '"strides": 2', '"shortcut": false', '"mb_k3_e3"',
                      '"name": "quickstart"'):
            for read, whole in ((arch.load, document), (spaces.load, document["space"])):
                path.write_text(json.dumps(whole).replace(place, place.rpartition(" ")[0] + " " + deep, 1))
                refused(read, str(path))
        for place in ('"name": "ProxylessNASNets"', '"eps": 0.001', '"kernel_size": 3', '"in_channels": 3',
                      '"name": "ConvLayer"'):
            path.write_text(json.dumps(config).replace(place, place.rpartition(" ")[0] + " " + deep, 1))
            refused(lambda: net_config.read(files.read_json(str(path))))


def test_space_of_very_many_blocks(tmp_path):
    """A file of 10^9 blocks is too large to be read; a space of 100,000 blocks is refused at once."""
    path, block = tmp_path / "s.json", json.dumps(QUICKSTART.to_json()["blocks"][0])
    whole = json.dumps({**QUICKSTART.to_json(), "blocks": ["BLOCKS"]})
    path.write_text(whole.replace('"BLOCKS"', ",".join([block] * 100_000)))
    refused(spaces.load, str(path), match="at most 3000 blocks")
    with open(path, "r+b") as file:
        file.truncate(10**11)  # A sparse file.
    refused(spaces.load, str(path), match="larger than")


@pytest.mark.parametrize("text", [TUNAS_COLUMNS + '0,112,32,112,16,1,k3,"' + "1" * 200_000,
                                  TUNAS_COLUMNS.replace(",", ",\x00"), '"' + "x" * 200_000],
                         ids=["field", "zeros", "header"])
def test_text_that_is_not_csv(text):
    refused(published.from_tunas, text, lambda suffix: '{"bias_ms": 1}')


@pytest.mark.parametrize("value", ["0x" + "f" * 5000, "1:" * 100_000 + "1", ".inf", "-1", "2001-01-01", "!!binary aaaa",
                                   "9" * 5000, "[1]", "{}", "!!python/object/apply:os.system ['touch pwned']"],
                         ids=range(10))
def test_yaml_values_that_are_no_numbers(value):
    text = "Conv-input:224x224x3-output:112x112x32: {mean: " + value + "}\n"
    refused(published.from_yaml, text, None)
    refused(published.from_yaml, f"? {value}\n: 1\n", None)


def test_published_tables_have_named_targets(tmp_path):
    from latency import import_table

    (tmp_path / "my phone.json").write_text(json.dumps({str(b): {str(c): 1.0 for c in range(4)} for b in range(22)}))
    settings = {"source": str(tmp_path / "my phone.json"), "source_format": "singlepath_json"}
    refused(import_table.run, **settings, output=str(tmp_path / "t.jsonl"), match="--target_name")
    assert not (tmp_path / "t.jsonl").exists()
    assert import_table.run(**settings, output=str(tmp_path / "t.jsonl"), target_name="my_phone").target == "my_phone"


# Arrays.

@pytest.mark.parametrize("member", [
    npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (100000, 100000)}", b"\0" * 50),
    npy(b"{'descr': '<U2000000000', 'fortran_order': False, 'shape': (2,)}", b"\0" * 50)], ids=["shape", "text"])
def test_array_that_claims_gigabytes(member):
    with little_memory():
        refused(readers.read_npz, npz(x=member), ["x"], name="x.npz", match="cannot be read")


def test_array_that_is_no_archive(tmp_path):
    """NumPy's `load` accepts a lone .npy file, and allocates the memory that its header claims."""
    (tmp_path / "x.npz").write_bytes(npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (100000, 100000)}"))
    refused(readers.read_npz, str(tmp_path / "x.npz"), ["x"], match="cannot be read as .npz")


def test_archive_that_unfolds_to_more_than_memory(monkeypatch):
    monkeypatch.setattr(readers, "MAX_NPZ_BYTES", 1_000_000)
    zeros = npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (2000000,)}", b"\0" * 2_000_000)
    refused(readers.read_npz, npz(x=zeros), ["x"], name="x.npz", match="does not fit in memory")


def test_arrays_of_bytes_are_no_paths_of_images():
    """Images that are bytes would be taken for paths, and the files at these paths would be read."""
    paths = io.BytesIO()
    np.save(paths, np.array([b"/etc/passwd"] * 4))
    refused(readers.read_npz, npz(x=paths.getvalue()), ["x"], name="x.npz", match="numbers or text")


def test_idx_that_claims_gigabytes(tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 1000, 1000, 900) + bytes(100)))
    with little_memory():
        refused(readers.read_idx, str(tmp_path / "x.gz"), match="expected 900000000 bytes")


def test_cifar_of_any_length(tmp_path):
    for number in range(1, 6):
        with open(tmp_path / f"data_batch_{number}.bin", "wb") as file:
            file.truncate(3073 * 10_000_000)  # A sparse file.
    refused(readers.read_cifar10_binary, str(tmp_path), match="expected records")


def test_pipes_are_no_images(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        os.mkfifo(tmp_path / name / "x.jpg")
    refused(folders.listed, str(tmp_path), match="a: no images")
    for name in "ab":
        (tmp_path / name / "IMG_0001.HEIC").write_bytes(b"")
    refused(folders.listed, str(tmp_path), match="To read HEIC: pip install pillow-heif")


# Files that are packed into exports, reports, and text of phones.

def test_labels_that_unfold(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.tflite", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(metadata.LABEL_FILE, b"\n" * 100_000_000)
    with little_memory():
        refused(metadata.read_labels, str(tmp_path / "x.tflite"), match="no labels.txt in it")


def test_labels_that_claim_gigabytes(tmp_path):
    whole = metadata.pack(b"TFL3" * 20, {metadata.LABEL_FILE: b"cat\ndog\n"})
    at = whole.index(b"PK\x01\x02") + 20
    (tmp_path / "x.tflite").write_bytes(whole[:at] + struct.pack("<I", 2**31 - 1) + whole[at + 4:])
    with little_memory():
        refused(metadata.read_labels, str(tmp_path / "x.tflite"), match="no labels.txt in it")


@pytest.mark.parametrize("change", [{"image_shape": None}, {"labels": [1]}, {"normalisation": {"mean": [0]}},
                                    {"normalisation": {"mean": [0], "std": [0]}},
                                    {"normalisation": {"mean": [float("nan")], "std": [1]}},
                                    {"class_mistaken_for": [2, None]}, {"class_images": [1]}, {"central_part": 2},
                                    {"mode": "float32"}, {"checked_images": 0}, {"output_kind": "x"},
                                    {"background": [0, 0]}, {"input": {"dtype": "uint8"}}])
def test_facts_of_an_export_that_lack_something(tmp_path, change):
    (tmp_path / "int8.tflite").write_bytes(b"TFL3")
    whole = json.loads((Path(__file__).parents[1] / "samples" / "export_facts.json").read_text())
    for document, good in ((whole, True), ({**whole, **change}, False)):
        (tmp_path / "int8.json").write_text(json.dumps(document))
        if good:
            assert bundle.read_export(str(tmp_path), "int8")[1] == whole
        else:
            refused(bundle.read_export, str(tmp_path), "int8", match="does not describe this file")


def test_values_are_shown_short():
    assert [shown(value) for value in (None, True, 1.5, "a" * 100, [[]], {}, HUGE)] == [
        "None", "True", "1.5", repr("a" * 60), "a list", "a dict", "a huge number"]
    refused(ops.parse, [[]], match="got a list")


def test_reports_name_a_damaged_file(tmp_path):
    (tmp_path / "arch.json").write_text("[" * 100_000)
    assert str(tmp_path / "arch.json") in refused(run_facts.collect, str(tmp_path))


def test_epochs_beyond_any_chart(tmp_path):
    lines = [{"kind": "search", "epoch": epoch, "phase": "search", "train_loss": 1.0} for epoch in (0, HUGE, -HUGE, 1)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    facts_of_run = run_facts.collect(str(tmp_path))
    assert [epoch["epoch"] for epoch in facts_of_run.epochs] == [0, 1] and "<svg" in page.render(facts_of_run)


def test_summary_has_no_control_characters(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"kind": "search", "epoch": 0}\n')
    (tmp_path / "int8.json").write_text(json.dumps({"measured_ms": 1.0, "target": "\x1b[2J"}))
    assert summary.summary(run_facts.collect(str(tmp_path))).splitlines()[0] == "Measured:      1.00 ms on ?[2J"


def test_name_of_a_phone_has_no_control_characters():
    assert benchmark_output.clean("a\x1b[2J\tb\r\n" + "x" * 500, 20) == "a?[2J b  xxxxxxxx..."
