"""The network that is timed beside exported files: one of the table's comparison if there was any."""

import json

import pytest

from export import anchor, interpreter, timed_files, timing
from pnas_tf.cost import latency_table, network_times
from pnas_tf.run_folder import measured
from pnas_tf.space.arch import Arch
from pnas_tf.space.spaces import SPACES
from tests.spaces import TINY

HERE = {"measurer": "host", "threads": 1, "delegate": "xnnpack", "dtype": "float32"}


@pytest.fixture
def run(tmp_path):
    """A run folder whose table was compared with three networks, of 1, 2 and 8 ms; and these networks."""
    def written(**changes):
        header = {**HERE, "device": timing.cpu_name(), "runtime": interpreter.runtime_name(), **changes}
        (tmp_path / "t.jsonl").write_text(json.dumps(latency_table.header("host", **header)) + "\n")
        names = list(TINY.choices)
        archs = [Arch(TINY, {name: TINY.choices[name].ops[place if name == names[0] else 0] for name in names})
                 for place in range(3)]
        (tmp_path / "t.networks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [
            {"format": network_times.FORMAT, **header},
            *({"network": network_times.digest(arch), "pass": 1, "ops": arch.ops, "median_ms": ms}
              for arch, ms in zip(archs, (1.0, 2.0, 8.0), strict=True))]))
        (tmp_path / "run.flags").write_text(f"--table={tmp_path}/t.jsonl\n")
        return str(tmp_path), archs
    return written


def anchor_of(folder, predicted_ms):
    arch = anchor.small(TINY).with_costs(table_ms=predicted_ms)
    return anchor.of_run(folder, arch, threads=1, delegate="xnnpack")


def test_network_nearest_in_time_is_the_anchor(run):
    folder, archs = run()
    for predicted_ms, place, then_ms in ((0.1, 0, 1.0), (1.9, 1, 2.0), (3.9, 1, 2.0), (4.1, 2, 8.0), (90, 2, 8.0)):
        assert anchor_of(folder, predicted_ms) == anchor.Anchor(archs[place], "float32", then_ms)


@pytest.mark.parametrize("changes", [{"device": "Pixel 1"}, {"threads": 2}, {"delegate": "none"}, {"dtype": "int4"},
                                     {"runtime": "litert 0.1"}, {"measurer": "xla"}])
def test_table_of_another_target_gives_no_time_of_then(run, changes):
    folder, _ = run(**changes)
    assert anchor_of(folder, 1.9) == anchor.Anchor(anchor.small(TINY))


def test_without_a_comparison_a_small_network_is_the_anchor(run, tmp_path):
    folder, _ = run()
    small = anchor.Anchor(anchor.small(TINY))
    (tmp_path / "t.networks.jsonl").write_text("my thesis")
    assert anchor_of(folder, 1.9) == small
    (tmp_path / "t.networks.jsonl").unlink()
    assert anchor_of(folder, 1.9) == small
    (tmp_path / "run.flags").unlink()
    assert anchor_of(folder, 1.9) == anchor_of(None, 1.9) == small
    assert anchor.of_run(folder, None, threads=1, delegate="xnnpack").arch.space == SPACES["quickstart"]


@pytest.mark.parametrize("name", SPACES)
def test_every_space_has_a_small_network(name):
    small = anchor.small(SPACES[name])
    assert all(op == "zero" for choice, op in small.ops.items() if "zero" in SPACES[name].choices[choice].ops)


def test_files_and_anchor_are_timed_for_real():
    small = anchor.Anchor(anchor.small(TINY), then_ms=1e-6)
    content = timed_files._converted(small)
    times = timed_files.measured({"float32": content, "float16": content}, threads=1, delegate="xnnpack",
                                 patience_seconds=0, anchor=small)
    assert list(times) == ["float32", "float16"]
    facts = times["float16"]
    assert facts["target"] == "host_xnnpack1_float16" and facts["repeats"] == 2 and facts["runs"] == 60
    assert facts["min_ms"] <= facts["spread_ms"][0] <= facts["spread_ms"][1]
    assert "times as slow as when the table was compared" in measured.of_export(facts).doubt
