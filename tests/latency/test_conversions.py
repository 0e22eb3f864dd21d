"""Models that are timed several times are converted once."""

import dataclasses

from latency import measure
from latency.conversions import Conversions
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import OpKey
from tests.spaces import two_choices

SPACE = two_choices(("mb_k3_e3", "mb_k5_e3", "zero"))
ONE, OTHER = (dict.fromkeys(SPACE.choices, op) for op in ("mb_k3_e3", "mb_k5_e3"))


def test_builds_are_equal_if_their_networks_take_the_same_time():
    build = measure.network_build(Arch(SPACE, ONE))
    again = measure.network_build(Arch(SPACE, ONE, {"target": "phone", "params": 7}))
    assert build == again and hash(build) == hash(again)
    assert build != measure.network_build(Arch(SPACE, OTHER))


def test_a_model_is_made_once():
    made = []

    @dataclasses.dataclass(frozen=True)
    class Build:
        key: OpKey

        def __call__(self):
            made.append(self.key)
            return measure.op_build(self.key)()

    keys = [measure.OVERHEAD_KEY, dataclasses.replace(measure.OVERHEAD_KEY, filters=16)]
    converted = Conversions("float32")
    first = [converted(Build(key)) for key in keys]
    assert [converted(Build(key)) for key in keys] == first and made == keys
    assert first[0] != first[1] == Conversions("float32")(measure.op_build(keys[1]))
