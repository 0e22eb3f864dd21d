"""Tables are built, resumed and refused."""

import functools
import importlib.metadata
import importlib.util
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile

import numpy as np
import pytest

from export import apart, convert, interpreter, timed_files, timing
from latency import build_table, host, measure, profile, space_flags
from latency.phones import worker
from pnas_tf import workspaces
from pnas_tf.cost import latency_table, table_commands
from pnas_tf.errors import InputError
from pnas_tf.space.blocks import OpKey
from pnas_tf.space.spaces import from_json
from tests import forked

TINY = {"name": "tiny", "input_size": 8, "input_channels": 3, "num_classes": 3,
        "stem": [{"name": "stem", "ops": ["conv_k3"], "filters": 8, "strides": 2}],
        "blocks": [{"name": "b00", "ops": ["mb_k3_e3", "zero"], "filters": 8, "shortcut": True},
                   {"name": "b01", "ops": ["mb_k3_e3", "zero"], "filters": 8, "shortcut": True}],
        "head": [{"name": "classifier", "ops": ["classifier"], "filters": 3}]}
SPACE = from_json(TINY)
QUICK = {"rounds": 2, "runs": 3}
KEY = OpKey("mb_k3_e3", (4, 4, 8), 8, 1, True)


def build(path, **more):
    return build_table.run(**{"space": SPACE, "output": str(path), "settings": QUICK, **more})


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Bytes of a whole table."""
    path = tmp_path_factory.mktemp("tables") / "tiny.jsonl"
    build(path)
    return path.read_bytes()


def test_table_has_each_unique_op_once(built):
    head, *rows = [json.loads(line) for line in built.splitlines()]
    assert head["format"] == "pnas_tf.latency/1" and head["target"] == "host_xnnpack1_float32"
    assert {"device", "os", "runtime", "delegate", "threads", "dtype", "governor", "date", "statistic"} <= set(head)
    assert [row["overhead_ms"] > 0 for row in rows] == [True, True, False]  # a network has it once
    assert [row["op"] for row in rows] == ["conv_k3", "mb_k3_e3", "classifier"]  # b00 and b01 are one key
    assert all(row["runs"] == 6 and 0 < row["min_ms"] <= row["median_ms"] for row in rows)


@pytest.mark.parametrize("cut", ["after the header", "in the first row", "in the last row", "the last newline"])
def test_resumed_table_is_whole_and_keeps_its_rows(built, tmp_path, cut):
    lines = built.splitlines(keepends=True)
    left = {"after the header": lines[0], "in the first row": lines[0] + lines[1][:30],
            "in the last row": b"".join(lines[:3]) + lines[3][:-5], "the last newline": built[:-1]}[cut]
    path = tmp_path / "t.jsonl"
    path.write_bytes(left)
    build(path)
    whole = left[:left.rindex(b"\n") + 1]
    assert path.read_bytes().startswith(whole) and len(whole) < len(path.read_bytes())
    table = latency_table.read(str(path))
    assert not table.missing(SPACE) and len(table.rows) == 3


@pytest.mark.parametrize("room", [0, 1, 50])
def test_full_disk_keeps_the_rows_and_no_part_of_another(built, tmp_path, room):
    """A limit on the size of files acts as a disk that has room for so many bytes."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"".join(built.splitlines(keepends=True)[:2]))
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, limits[1]))
    try:
        with (pytest.raises(InputError, match=r"a row cannot be written .*same command again to continue"),
              latency_table.open_to_add(str(path)) as add):
            add(json.loads(built.splitlines()[2]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    with latency_table.open_to_add(str(path)) as add:
        add(json.loads(built.splitlines()[2]))
    assert path.read_bytes() == b"".join(built.splitlines(keepends=True)[:3])


def test_a_second_start_leaves_the_row_that_the_first_is_writing(built, tmp_path):
    path = tmp_path / "t.jsonl"
    lines = built.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:30])
    before = path.read_bytes()
    with workspaces.only_writer(str(path)), \
            pytest.raises(InputError, match="another program is adding to this file"):
        build(path)
    assert path.read_bytes() == before
    build(path)
    assert path.read_bytes().startswith(b"".join(lines[:2]))


def test_two_starts_at_once_make_one_table(built, tmp_path, monkeypatch):
    """The first start makes the file when the second has already seen that there is none."""
    path = tmp_path / "t.jsonl"

    class First(build_table.measure.MEASURERS["host"]):
        def facts(self):
            if not path.exists():
                path.write_bytes(built)
            return super().facts()

    seen = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda name: False if name == str(path) else seen(name))
    monkeypatch.setitem(measure.MEASURERS, "host", First)
    build(path)
    assert path.read_bytes() == built


@pytest.fixture
def no_room(tmp_path, monkeypatch):
    """Temporary files have room for 100 bytes each."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_no_room_for_temporary_files_is_one_line(tmp_path, no_room):
    content = convert.convert(measure.op_build(KEY)(), "float32")
    device = measure.measurer_of("host", **QUICK)
    for work in (lambda: list(device.measure({"it": measure.op_build(KEY)})),
                 lambda: profile.of_host(content, host.HostSettings(**QUICK)),
                 lambda: timed_files.measured({"float32": content}, threads=1, delegate="none", patience_seconds=0),
                 lambda: worker.temporary_files({"model": content}).__enter__()):
        with pytest.raises(InputError, match=r"pnas_tf-.*: cannot be written \(File too large\).*TMPDIR") as caught:
            work()
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_no_folder_for_temporary_files_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"No such file or directory.*TMPDIR"):
        list(measure.measurer_of("host", **QUICK).measure({"it": measure.op_build(KEY)}))


def test_finished_table_stays_as_it_is(built, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_bytes(built)
    build(path)
    assert path.read_bytes() == built


@pytest.mark.parametrize(("more", "shown"), [
    ({"settings": {**QUICK, "dtype": "int8"}}, "dtype 'float32' there, 'int8' here"),
    ({"settings": {**QUICK, "delegate": "none"}}, "delegate 'xnnpack' there, 'none' here"),
    ({"target_name": "another"}, "not 'another'"), ({"only": ["mb_k5_e6"]}, "has no op mb_k5_e6"),
    ({"only": ["mb_k4"]}, "mb_k4")])
def test_other_settings_do_not_enter_a_table(built, tmp_path, more, shown):
    path = tmp_path / "t.jsonl"
    path.write_bytes(built)
    with pytest.raises(InputError, match=shown) as caught:
        build(path, **more)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == built


@pytest.mark.parametrize("content", [b"my thesis, first draft", b"a,b\n1,2\n3", b"",
                                     b'{"format": "pnas_tf.arch/1"}\n{'])
def test_files_that_are_no_table_are_left_alone(tmp_path, content):
    path = tmp_path / "precious"
    path.write_bytes(content)
    with pytest.raises(InputError):
        build(path)
    assert path.read_bytes() == content


def test_only_and_target_name(tmp_path):
    table = build(tmp_path / "t.jsonl", only=["mb_k3_e3"], target_name="my_phone")
    assert table.target == "my_phone" and list(table.rows) == [KEY]


@pytest.mark.skipif(importlib.util.find_spec("tflite_runtime") is None, reason="tflite-runtime is not installed")
def test_tflite_runtime_in_a_process_of_its_own(tmp_path):
    """TensorFlow is loaded in this process, where tflite_runtime fails."""
    settings = {**QUICK, "runtime": "tflite_runtime"}
    table = build(tmp_path / "t.jsonl", settings=settings)
    assert "tensorflow" in sys.modules and "tflite_runtime" not in sys.modules
    assert table.target == "host_tflite_runtime_xnnpack1_float32"
    assert table.header["runtime"] == f"tflite_runtime {importlib.metadata.version('tflite-runtime')}"
    assert not table.missing(SPACE) and table.rows[KEY]["runs"] == 6
    assert measure.from_header(table.header, "t.jsonl").facts()["runtime"] == table.header["runtime"]
    with pytest.raises(InputError, match="runtime"):  # rows of two runtimes do not mix
        build(tmp_path / "t.jsonl")


def test_runtime_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"runtime must be one of auto, litert, .*, got 'no_such'"):
        build(tmp_path / "t.jsonl", settings={**QUICK, "runtime": "no_such"})
    with pytest.raises(InputError, match="not installed"):
        interpreter.installed_runtime("no_such")
    (tmp_path / "m.tflite").write_bytes(b"no model")
    with apart.visits(runtime="litert", threads=1, delegate="none", runs=1) as visit, \
            pytest.raises(InputError, match=r"process of its own.*cannot run it") as caught:
        visit(str(tmp_path / "m.tflite"))
    assert "\n" not in str(caught.value)


def test_litert_benchmark_agrees(tmp_path):
    """Compared with the runtime's own benchmark tool, which uses another API (CompiledModel) and process.

    The least of many runs of 116 million MACs depends neither on the overhead of a call nor on a busy moment. Wrong
    units or a wrong count of runs would differ by much more than a factor of 4.
    """
    model = measure.op_build(OpKey("conv_k3", (56, 56, 64), 64, 1, False))()
    (tmp_path / "m.tflite").write_bytes(convert.convert(model, "float32"))
    command = ["-m", "ai_edge_litert.tools.benchmark_litert_model", f"--model={tmp_path}/m.tflite", "--num_threads=1",
               "--num_runs=30", "--warmup_runs=5", f"--result_json={tmp_path}/r.json"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    theirs_ms = json.loads((tmp_path / "r.json").read_text())["latency"]["min_ms"]
    ours_ms = dict(measure.measurer_of("host", rounds=4, runs=5).measure({"it": lambda: model}))["it"]["min_ms"]
    assert theirs_ms / 4 < ours_ms < theirs_ms * 4


@pytest.mark.parametrize(("settings", "target"), [
    ({"dtype": "int8", "delegate": "none"}, "host_builtin1_int8"), ({"dtype": "int8"}, "host_xnnpack1_int8"),
    ({"dtype": "float16", "threads": 2}, "host_xnnpack2_float16"), ({"dtype": "dynamic"}, "host_xnnpack1_dynamic")])
def test_number_formats_kernels_and_threads(tmp_path, settings, target):
    table = build(tmp_path / "t.jsonl", only=["mb_k3_e3"], settings={**QUICK, **settings})
    assert table.target == target and settings.items() <= table.header.items() and table.rows[KEY]["median_ms"] > 0


@pytest.mark.parametrize(("damage", "message"), [
    (lambda text: text[:-20], "cut off"),
    (lambda text: text.replace('"median_ms": ', '"median_ms": -', 1), "not a time"),
    (lambda text: text.replace('"median_ms": ', '"median_ms": NaN, "x": ', 1), "not a time"),
    (lambda text: text.replace('"median_ms"', '"ms"', 1), "not a time"),
    (lambda text: text + "{not json}\n", "not a JSON object"), (lambda text: "[]\n" + text, "line 1"),
    (lambda text: text.replace('"filters": 8', '"filters": "8"', 1), "a row needs")])
def test_damaged_tables_are_refused_in_one_line(built, tmp_path, damage, message):
    path = tmp_path / "t.jsonl"
    path.write_text(damage(built.decode()))
    with pytest.raises(InputError, match=message) as caught:
        latency_table.read(str(path))
    assert "\n" not in str(caught.value)


def test_missing_row_names_itself_and_the_command(built, tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"".join(line for line in built.splitlines(keepends=True) if b"mb_k3_e3" not in line))
    table = latency_table.read(str(path))
    for look in (lambda: table.ms("b00", KEY), lambda: table.check_covers(SPACE)):
        with pytest.raises(InputError, match=r"mb_k3_e3 on 4x4x8 -> 8.*latency\.build_table"):
            look()


def test_header_of_nonsense_is_refused(built, tmp_path):
    path = tmp_path / "t.jsonl"
    head, *rows = built.decode().splitlines(keepends=True)
    path.write_text(head.replace('"threads": 1', '"threads": "x"') + rows[0])
    with pytest.raises(InputError, match="threads 'x' there, 1 here"):
        build(path)
    for name, value in (("threads", "two"), ("rounds", 0), ("runs", True), ("dtype", ["int8"]), ("delegate", "gpu")):
        with pytest.raises(InputError):
            measure.from_header({**json.loads(head), name: value}, "t.jsonl")


def test_visits_are_spread_out():
    """Ten models in groups of three, four rounds."""
    log = []
    names = list("abcdefghij")

    def visit(name):
        log.append(name)
        return [len(log)]

    done = []
    for name, samples in timing.spread_out(names, 4, visit, group=3):
        assert samples == [[at + 1] for at, visited in enumerate(log) if visited == name]  # all of its own, in order
        assert len(samples) == 4
        done.append((name, len(log)))
    assert [name for name, _ in done] == names and len(log) == 40
    assert done[0][1] < 40  # results come all along
    for name in "defg":  # with other groups before and after
        at = [position for position, visited in enumerate(log) if visited == name]
        assert min(b - a for a, b in itertools.pairwise(at)) > 1 and at[-1] - at[0] >= 15
    assert log != sorted(log, key=log.index)


def test_a_visit_by_hand():
    log = []
    times = timing.timed_ms(lambda: log.append("run"), 3, before=lambda: log.append("before"))
    assert log == ["run"] * timing.WARMUP_RUNS + ["before", "run"] * 3 and len(times) == 3 and min(times) >= 0


def test_overhead_is_taken_off_and_something_left():
    times = {"median_ms": 0.5, "min_ms": 0.1, "mean_ms": 0.6, "std_ms": 0.05, "runs": 6}
    assert build_table.less_overhead(times, 0.2) == {
        "median_ms": pytest.approx(0.3), "min_ms": build_table.LEAST_MS, "mean_ms": pytest.approx(0.4), "std_ms": 0.05,
        "runs": 6}


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_timed_ops_have_nothing_folded_away(dtype):
    """A fresh block with a shortcut multiplies by gamma = 0."""
    model = measure.op_build(KEY)()
    contents = convert.describe(convert.convert(model, dtype, [np.ones((1, *KEY.input), np.float32)]))
    assert contents.ops == ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "ADD")
    assert all(np.abs(variable.numpy()).max() > 0 for variable in model.variables)
    assert all(variable.numpy().min() >= 0.5 for variable in model.variables
               if variable.path.endswith(("gamma", "moving_variance")))


def test_random_networks_are_uniform_and_repeatable():
    archs = measure.random_archs(SPACE, 400, seed=3)
    assert archs == measure.random_archs(SPACE, 400, seed=3)
    skipped = np.mean([[op == "zero" for op in arch.ops.values()] for arch in archs], axis=0)
    np.testing.assert_allclose(skipped, 0.5, atol=0.1)  # 4 standard deviations


def test_space_is_fitted_to_the_data(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(TINY))
    space = space_flags.load_space(str(tmp_path / "s.json"), width_mult=2, image_size=20, num_classes=5)
    assert (space.input_size, space.input_channels, space.num_classes) == (20, 3, 5)
    assert [block.filters for block in space.all_blocks] == [16, 16, 16, 5]


def test_smaller_images_are_sizes_of_a_pretrained_network():
    space = space_flags.load_space("lite0", image_size=96)
    assert build_table._sizes(["80", "64"], space) == [80, 64] and build_table._sizes([], space) == []


@pytest.mark.parametrize(("name", "settings", "dataset"), [
    ("quickstart", {}, ([], [])), ("cifar_tree", {}, (["--dataset=cifar10"], [])),
    ("quickstart", {"num_classes": 3},
     (["--dataset=npz:IMAGES.npz"], ["IMAGES.npz is the file of your images, with 3 classes."])),
    ("lite0", {}, (["--dataset=folder:IMAGES"], ["IMAGES is the folder of your images, with 1000 classes."]))])
def test_next_command_names_images_that_the_space_fits(name, settings, dataset):
    assert table_commands.images(space_flags.load_space(name, **settings)) == dataset


def test_xla_and_the_entry_points(tmp_path):
    """In a process of its own: the number of threads is set before TensorFlow starts."""
    (tmp_path / "s.json").write_text(json.dumps(TINY))
    path = tmp_path / "t.jsonl"
    done = subprocess.run(
        [sys.executable, "-m", "latency.build_table", f"--space={tmp_path}/s.json", "--measurer=xla", "--batch_size=2",
         "--rounds=1", "--runs=2", "--only=mb_k3_e3", "--image_size=8", "--num_classes=10", f"--output={path}"],
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Rows:   1" in done.stdout
    assert done.stdout.endswith(f"Next:   python -m pnas_tf.search --space={tmp_path}/s.json --image_size=8 "
                                f"--dataset=folder:IMAGES --table={path} --run_dir={tmp_path}/t_search\n"
                                "        IMAGES is the folder of your images, with 10 classes.\n")
    table = latency_table.read(str(path))
    assert table.target in ("xla_cpu_b2_float32", "xla_gpu_b2_float32") and table.rows[KEY]["median_ms"] > 0
    assert table.header["batch_size"] == 2 and table.rows[KEY]["overhead_ms"] > 0


@pytest.mark.parametrize("arguments", [
    ("build_table",), ("build_table", "--output=t.jsonl", "--space=nowhere"),
    ("build_table", "--output=t.jsonl", "--batch_size=2"),
    ("build_table", "--output=t.jsonl", "--smaller_images=64"),
    ("build_table", "--output=t.jsonl", "--space=lite0", "--image_size=96", "--smaller_images=64,small"),
    ("build_table", "--output=t.jsonl", "--space=lite0", "--image_size=96", "--smaller_images=96"),
    ("build_table", "--output=t.jsonl", "--measurer=xla", "--delegate=xnnpack"), ("compare",),
    ("compare", "--table=/nonexistent")])
def test_bad_flags_are_one_line(arguments):
    name, *rest = arguments
    done = forked.run([f"latency.{name}", *rest])
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("together, built_first", [(1, 2), (3, 3)])
def test_models_are_visited_in_turns(together, built_first):
    """Three models in two rounds: in groups of one, the second starts before the first is done; or all go together."""
    begun = []

    def build(name):
        begun.append(name)
        return measure.op_build(KEY)()

    device = measure.measurer_of("host", rounds=2, runs=1, together=together)
    visits = []
    results = device.measure({name: functools.partial(build, name) for name in "abc"},
                             visited=lambda: visits.append(len(begun)))
    assert next(results)[0] == "a" and len(begun) == built_first
    assert [name for name, _ in results] == ["b", "c"] and sorted(begun) == ["a", "b", "c"]
    assert len(visits) == 3 * device.facts()["rounds"]  # so a bar of visits ends at its end
    assert device.facts()["together"] == together
