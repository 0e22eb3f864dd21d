"""Settings of measurers are checked, and become flags that several measurers share."""

import dataclasses

import pytest
from absl import flags

from latency import build_table, measure, measurer_flags
from pnas_tf.errors import InputError


@pytest.fixture
def defined(monkeypatch):
    """Flags of a fresh registry, defined from the settings of build_table."""
    values = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", values)
    for kind in ("enum", "integer", "float", "list", "string"):
        define = getattr(flags, f"DEFINE_{kind}")
        monkeypatch.setattr(flags, f"DEFINE_{kind}", lambda *arguments, define=define: define(
            *arguments, flag_values=values))
    measurer_flags.define(build_table.kinds())
    return values


def test_every_setting_is_a_flag_without_a_default_of_its_own(defined):
    names = {field.name for measurer in measure.MEASURERS.values() for field in dataclasses.fields(measurer.Settings)}
    assert set(defined) == names - {"together"} and all(defined[name].default is None for name in defined)
    assert defined["delegate"].parser.enum_values == ["xnnpack", "none", "gpu", "nnapi", "npu"]
    assert (defined["batch_size"].parser.lower_bound, defined["batch_size"].parser.upper_bound) == (1, 65536)


def test_help_names_the_measurers_where_they_differ(defined):
    assert defined["threads"].help == "host, xla, android, ssh: CPU threads; default: 1."
    assert defined["pause_seconds"].help == "android: Pause between two models; default: 0."
    assert defined["rounds"].help == ("host, xla, ssh: Visits of each model, spread over time; default: 6. android: "
                                      "Passes over a batch of models; the best time of a model counts; default: 1.")


def test_flags_that_were_given_are_settings(defined):
    defined(["program", "--serial=a,b", "--runs=7", "--max_celsius=35.5"])
    given = measurer_flags.given("android", build_table.kinds())
    assert given == {"serial": ["a", "b"], "runs": 7, "max_celsius": 35.5}
    with pytest.raises(InputError, match="serial is not a setting of --measurer=host, which has --runtime, --threads"):
        measurer_flags.given("host", build_table.kinds())


@pytest.mark.parametrize("settings", [measurer.Settings for measurer in measure.MEASURERS.values()])
def test_settings_out_of_bounds_are_one_line(settings):
    for field in dataclasses.fields(settings):
        about = field.metadata
        bad = ["no_such"] if about["choices"] else [about["low"] - 1, about["high"] + 1] if about["high"] else []
        for value in bad:
            with pytest.raises(InputError, match=field.name) as caught:
                settings(**{field.name: value})
            assert "\n" not in str(caught.value)
