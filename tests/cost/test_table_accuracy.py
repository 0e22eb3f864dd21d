"""Comparisons of tables end in words, and no search passes over a table that is off."""

import json
import shlex
from pathlib import Path

import pytest

from latency import verdict
from pnas_tf.cost import goal as goals_lib
from pnas_tf.cost import latency_table, table_accuracy, table_commands
from pnas_tf.errors import InputError
from pnas_tf.report import facts as run_facts
from pnas_tf.search import command as search_command
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import spaces
from pnas_tf.space.spaces import SPACES
from tests.spaces import TINY

GOOD = {"bias": 0.01, "rmse_of_mean": 0.03, "within_5_percent": 0.9, "within_10_percent": 1.0}
CALM = {"noise_bias": -0.01, "noise_rmse_of_mean": 0.02}
OFF = {**GOOD, "bias": -0.23, "rmse_of_mean": 0.24, "within_5_percent": 0.0, "within_10_percent": 0.1}


@pytest.mark.parametrize(("figures", "state", "words"), [
    ({**GOOD, **CALM}, "good", "This table is right: its predictions are off by about 3 %, the same networks timed "
                               "twice by 2 %."),
    ({**OFF, **CALM}, "off", "As the machine was then, this table is 23 % low."),
    ({**OFF, **CALM, "bias": 0.4}, "off", "As the machine was then, this table is 40 % high."),
    # The pace changed by 18 % between the passes, so 23 % say nothing; a half does.
    ({**OFF, "noise_bias": -0.18, "noise_rmse_of_mean": 0.19}, "unjudged",
     "The machine was busy: the same networks timed twice differed by 19 %, so this comparison does not judge the "
     "table."),
    ({**OFF, "bias": -0.5, "noise_bias": -0.18, "noise_rmse_of_mean": 0.19}, "off",
     "As the machine was then, this table is 50 % low."),
    ({**GOOD, **CALM, "rmse_of_mean": 0.14}, "scattered",
     "On average this table is right, but single networks are off by about 14 %."),
    (GOOD, "good", "This table is right: its predictions are off by about 3 %.")])
def test_verdict(figures, state, words):
    assert table_accuracy.verdict(figures) == table_accuracy.Verdict(state, words)


@pytest.mark.parametrize("accuracy", [{}, {"bias": "low", "rmse_of_mean": 0.1}, {"bias": True, "rmse_of_mean": 0.1}])
def test_no_figures_no_verdict(accuracy):
    assert table_accuracy.verdict(accuracy) is None
    assert table_accuracy.doubt(accuracy, "host") == table_accuracy.doubt(None, "host") == ""


def test_phones_are_called_phones():
    assert table_accuracy.doubt(OFF, "android") == "As the phone was then, this table is 23 % low."


def table_of(tmp_path, accuracy=None, **header):
    """A table of every row of TINY, with what a comparison wrote into its header."""
    path = tmp_path / "my table.jsonl"
    entries = {"accuracy": {latency_table.accuracy_name(TINY): accuracy}} if accuracy else {}
    rows = [latency_table.row(key, median_ms=0.1) for key in dict.fromkeys(key for _, key in TINY.op_keys())]
    path.write_text("".join(json.dumps(line) + "\n" for line in [
        latency_table.header("t", **{"measurer": "host", **header}, **entries), *rows]))
    return latency_table.read(str(path))


def result(figures):
    noise = {"bias": figures["noise_bias"], "rmse_of_mean": figures["noise_rmse_of_mean"]}
    return {"figures": {name: value for name, value in figures.items() if "noise" not in name}, "noise": noise}


def test_comparison_ends_with_what_to_do(tmp_path):
    table, times = table_of(tmp_path, dtype="int8", threads=2), str(tmp_path / "n.jsonl")
    flags = table_commands.space_flags(TINY, ["--space=my tiny.json"])

    def words(figures):
        return verdict.words(table, result(figures), flags, times)

    text = words({**OFF, **CALM})
    assert text.startswith("As the machine was then, this table is 23 % low. "
                           "Build another one: ")
    (tmp_path / "n.jsonl").touch()
    # Into another file: rows that were measured now do not mix with those of the table.
    other = table.path.removesuffix(".jsonl") + "_2.jsonl"
    assert shlex.split(text.partition("one: ")[2]) == [
        "python", "-m", "latency.build_table", "--space=my tiny.json", "--image_size=28", "--image_channels=1",
        "--num_classes=10", "--dtype=int8", "--threads=2", f"--output={other}"]
    Path(other).touch()
    assert words({**OFF, **CALM}).endswith("_3.jsonl'")
    assert words({**OFF, "noise_bias": -0.18, "noise_rmse_of_mean": 0.19}).endswith(
        f"When it is idle, remove {times} and run the same command again.")
    assert "--calibrate=100" in words({**GOOD, **CALM, "rmse_of_mean": 0.14})
    assert words({**GOOD, **CALM}) == table_accuracy.verdict({**GOOD, **CALM}).words


def test_search_does_not_pass_over_a_table_that_is_off(tmp_path):
    """At its start with the command that mends it, at its end, and in the report."""
    table = table_of(tmp_path, {**OFF, **CALM}, delegate="none")
    text = search_command._accuracy(table, TINY, ["--space=quickstart", "--width_mult=0.5"])
    assert "Warning: As the machine was then, this table is 23 % low." in text
    assert "latency.build_table --space=quickstart --width_mult=0.5 " in text and "--delegate=none" in text
    goal = goals_lib.goal_for(TINY, table, 0.5)
    assert goal.table_doubt == "As the machine was then, this table is 23 % low."
    arch = arch_lib.from_path(TINY, [0] * len(TINY.choices)).with_costs(table_doubt=goal.table_doubt)
    facts = run_facts.Facts("run", arch, [], {}, [], {})
    assert run_facts.warnings(facts) == [f"{goal.table_doubt} The milliseconds of this search are those of the table."]
    fine = table_of(tmp_path, {**GOOD, **CALM})
    assert "Warning" not in search_command._accuracy(fine, TINY, ())
    assert not goals_lib.goal_for(TINY, fine, 0.5).table_doubt


def test_a_target_above_every_network_is_called_that(tmp_path):
    table = table_of(tmp_path, {**GOOD, **CALM})
    low, high = goals_lib.goal_for(TINY, table, 0.5).range_ms
    assert low < 0.5
    text = goals_lib.goal_for(TINY, table, 1.5 * high).summary()
    assert (f"\nWarning: every network is quicker than the target of {1.5 * high:.3g} ms. The slowest takes "
            f"{high:.3g} ms") in text
    assert "every network" not in goals_lib.goal_for(TINY, table, high).summary()
    assert "every network" not in goals_lib.goal_for(TINY, table, 1.5 * high, keeps_ms=False).summary()


@pytest.mark.parametrize(("header", "flags"), [
    ({"measurer": "host", "runtime": "litert 2.3.0", "delegate": "xnnpack", "dtype": "float32", "threads": 1}, []),
    ({"measurer": "host", "runtime": "tf.lite 2.21.0", "dtype": "dynamic"}, ["--runtime=tf.lite", "--dtype=dynamic"]),
    ({"measurer": "xla", "runtime": "tensorflow 2.21", "delegate": "jit", "dtype": "float32", "batch_size": 8},
     ["--measurer=xla", "--batch_size=8"]),
    ({"measurer": "android", "runtime": "benchmark_model, version not printed", "delegate": "gpu", "cpu_mask": "f0",
      "batch_size": 1, "needs": "--benchmark_binary=PATH"},
     ["--measurer=android", "--delegate=gpu", "--cpu_mask=f0", "--benchmark_binary=PATH"]),
    ({"measurer": "android", "runtime": "benchmark_model, version not printed"},  # as earlier versions wrote it
     ["--measurer=android", "--benchmark_binary=PATH"]),
    ({"measurer": "ssh", "runtime": "litert 2.3.0", "cpu_mask": "f0", "threads": 4, "needs": "--host=USER@BOARD"},
     ["--measurer=ssh", "--threads=4", "--cpu_mask=f0", "--host=USER@BOARD"]),
    ({"measurer": "ssh", "needs": "--host=x --import=evil.py"}, ["--measurer=ssh"]),
    ({"measurer": "import", "runtime": "not named by the file", "batch_size": 1}, []), ({}, [])])
def test_commands_have_the_settings_of_the_table(header, flags):
    assert table_commands.build(header, ["--space=x"], "t.jsonl") == shlex.join(
        ["python", "-m", "latency.build_table", "--space=x", *flags, "--output=t.jsonl"])


def test_rows_that_an_imported_table_lacks(tmp_path):
    """It takes no rows of ours, so no command is to add any to it."""
    table = table_of(tmp_path, measurer="import", runtime="not named by the file")
    with pytest.raises(InputError, match="It was imported and takes no new rows") as caught:
        table.check_covers(SPACES["quickstart"], ["--space=quickstart"])
    assert str(caught.value).endswith(
        "python -m latency.build_table --space=quickstart --image_size=28 --image_channels=1 --num_classes=10 "
        "--output=OWN.jsonl")
    assert "\n" not in str(caught.value) and "it covers no known space as a whole. " in str(caught.value)
    with pytest.raises(InputError, match="it covers proxyless_mobile; 100 of the 130 ops of proxyless_imagenet"):
        latency_table.read("pixel1_tunas").check_covers(SPACES["proxyless_imagenet"])


def test_space_of_a_published_network_can_be_named(tmp_path):
    """Errors about networks name their space in a command, so --space takes it."""
    for name in arch_lib.names():
        assert spaces.load(name) == arch_lib.load(name).space
    arch_lib.load("proxyless_cpu").save(str(tmp_path / "a.json"))
    assert spaces.load(str(tmp_path / "a.json")) == arch_lib.load("proxyless_cpu").space
    with pytest.raises(InputError, match="Unknown space"):
        spaces.load("../archs/proxyless_cpu")


def test_an_accuracy_holds_for_the_rows_that_it_was_measured_with(tmp_path, write_space):
    """Calibrating another space changes the rows that both share; the classifier depends on the data set alone."""
    path = str(tmp_path / "table.jsonl")
    write_space(TINY, tmp_path / "space.json", tmp_path / "table.jsonl")
    name = latency_table.accuracy_name(TINY)
    for entry in ({"networks": 5}, {"networks": 5, "rows": latency_table.read(path).rows_of(TINY)}):
        latency_table.annotate(path, rows={}, header={"accuracy": {name: entry}})
        assert latency_table.read(path).accuracy(TINY)["networks"] == 5
    keys = {block.name: key for block, key in TINY.op_keys()}
    latency_table.annotate(path, rows={keys["classifier"]: {"calibrated_ms": 9.0}}, header={})
    assert latency_table.read(path).accuracy(TINY)["networks"] == 5
    latency_table.annotate(path, rows={keys["b01"]: {"calibrated_ms": 9.0}}, header={})
    assert latency_table.read(path).accuracy(TINY) is None
