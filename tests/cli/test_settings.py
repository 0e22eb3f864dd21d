"""Settings as values: flags say what the dataclass says, and a value made in Python is checked as flags are."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from export.settings import ExportConfig
from pnas_tf.cli import settings
from pnas_tf.errors import InputError
from pnas_tf.search.config import SearchConfig
from pnas_tf.train.recipe import Recipe

ROOT = Path(__file__).parents[2]
CONFIGS = {"pnas_tf.search.command": ("pnas_tf.search.config", SearchConfig),
           "pnas_tf.train.command": ("pnas_tf.train.recipe", Recipe),
           "export.tflite": ("export.settings", ExportConfig)}


@pytest.mark.parametrize("config", [SearchConfig, Recipe, ExportConfig])
def test_defaults_keep_their_bounds(config):
    made = config()
    for field in dataclasses.fields(config):
        assert field.metadata["help"].endswith((".", ")")), field.name
        assert getattr(made, field.name) == field.default


@pytest.mark.parametrize("change, message", [
    ({"batch_size": -1}, "batch_size must be at least 0, got -1"), ({"label_smoothing": 1.5}, "from 0 to 1, got 1.5"),
    ({"paths": "three"}, "paths must be one of two, all, got 'three'"), ({"width_mult": 0.01}, "from 0.05 to 20"),
    ({"batch_size": "64"}, "batch_size must be of type int, got '64'"),
    ({"target_ms": float("nan")}, "target_ms must be a finite number, got nan"),
    ({"target_ms": float("inf")}, "target_ms must be a finite number, got inf"),
    ({"limit": "params<=3e6"}, "limit must be of type tuple"),
    ({"search_epochs": 2.5}, "search_epochs must be of type int")])
def test_a_value_out_of_bounds_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        SearchConfig(**change)


@pytest.mark.parametrize("module", CONFIGS)
def test_flags_are_the_fields(module):
    """In a process of its own: flags are defined once in a process."""
    where, config = CONFIGS[module]
    code = (f"import json, sys; from absl import flags; import {module} as command; from {where} import "
            f"{config.__name__} as config; from pnas_tf.cli import settings; "
            "getattr(command, 'define_flags', getattr(command, '_define_flags', None))(); "
            "flags.FLAGS(['x', '--seed=3']); "
            "made = settings.read(config); print(json.dumps([made == config(seed=3), "
            "sorted(flags.FLAGS.flag_values_dict())]))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    equal, names = json.loads(done.stdout.splitlines()[-1])
    assert equal and {field.name for field in dataclasses.fields(config)} <= set(names)


def test_optional_and_repeated_fields():
    @dataclasses.dataclass(frozen=True)
    class Odd:
        rate: float | None = settings.setting(None, "A rate.", low=0, high=1)
        names: tuple[str, ...] = settings.setting((), "Names.", repeated=True)

        def __post_init__(self):
            settings.check(self)

    assert Odd().rate is None and Odd(rate=0.5, names=("a",)).names == ("a",)
    with pytest.raises(InputError, match="rate must be from 0 to 1, got 2"):
        Odd(rate=2)


@pytest.mark.parametrize("flag, message", [
    ("--target_ms=0.001", "No network of quickstart takes 0.001 ms"), ("--limit=params<=100", "keeps params<=100"),
    ("--limit=macs<=100", "keeps macs<=100"), ("--limit=weight<5", "NAME<=NUMBER"), ("--space=none", "Unknown space"),
    ("--table=none", "No latency table"), ("--targets=x86_xnnpack1_float32:0.001", "takes 0.001 ms"),
    ("--width_mult=0.001", "width_mult")])
def test_what_is_wrong_is_told_before_tensorflow_loads(flag, message):
    """TensorFlow cannot be imported in this process at all."""
    code = ("import runpy, sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; "
            f"sys.argv = ['search', '--flagfile=quickstart.flags', {flag!r}, '--run_dir=/no/such/folder']; "
            "runpy.run_module('pnas_tf.search', run_name='__main__', alter_sys=False)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_choices_are_those_of_the_code_that_knows_them():
    from pnas_tf.data import inspection, loading
    from pnas_tf.search import objective, replicas
    from pnas_tf.supernet import gates, supernet

    choices = {field.name: field.metadata["choices"] for field in dataclasses.fields(SearchConfig)}
    assert choices["latency_loss"] == objective.LATENCY_LOSSES
    assert {*choices["reward"], "accuracy"} == set(objective.REWARDS)
    assert choices["active_draw"] == gates.ACTIVE_DRAWS and choices["strategy"] == replicas.STRATEGIES
    assert choices["precision"] == settings.PRECISIONS == tuple(supernet.PRECISIONS)
    assert choices["broken_images"] == inspection.POLICIES and choices["class_weights"] == loading.CLASS_WEIGHTS
