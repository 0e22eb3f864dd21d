"""The benchmark of a step's cost: each kind of step runs and is traced once."""

import dataclasses
import math

import pytest

from benchmarks.speed import supernet_cost
from pnas_tf.space import spaces

SMALL = {"name": "small", "input_size": 32, "input_channels": 3, "num_classes": 3,
         "stem": [{"name": "stem", "ops": ["conv_k3"], "filters": 8, "strides": 2}],
         "blocks": [{"name": "b00", "ops": ["mb_k3_e3", "mb_k5_e3", "zero"], "filters": 8, "shortcut": True}],
         "head": [{"name": "classifier", "ops": ["classifier"], "filters": 3}]}


def test_shared_weights_take_less_at_rest():
    own, shared = (supernet_cost.measure(spaces.from_json(SMALL), "weight", batch_size=16, paths=1, repeats=3, seed=0,
                                         share=share) for share in ("none", "kernels"))
    assert shared.rest_mb < own.rest_mb and shared.retraces == 0


@pytest.mark.parametrize("kind", ["weighted_sum", "two", *(
    pytest.param(kind, marks=pytest.mark.slow) for kind in supernet_cost.KINDS if kind not in ("weighted_sum", "two"))])
def test_each_kind_of_step_runs(kind):
    cost = supernet_cost.measure(spaces.from_json(SMALL), kind, batch_size=16, paths=1, repeats=3, seed=0)
    assert cost.pairs == 2 and cost.retraces == 0
    assert min(cost.cpu_ratio, cost.wall_ratio, cost.memory_ratio, cost.plain_wall_ms, cost.first_step_s) > 0
    uncounted = dataclasses.replace(cost, memory_ratio=math.nan, step_peak_mb=math.nan, plain_peak_mb=math.nan)
    assert "nan" not in supernet_cost.show([uncounted]) and "memory not counted" in supernet_cost.show([uncounted])
