"""The time that is left, against sums by hand."""

from pnas_tf.search.schedule import Pace, Schedule

PLAN = Schedule(steps_per_epoch=10, warmup_epochs=2, search_epochs=3, arch_every=2, warmup_lr=0.1, lr=0.1)


def noted(pace, steps, alone, both):
    for step in steps:
        pace.note(step, both if PLAN.arch_due(step) else alone)
    return pace


def test_steps_that_compile_do_not_count():
    pace = Pace(PLAN)
    assert pace.left(0) is None
    pace.note(0, 60.0)
    assert pace.left(1) is None
    pace.note(1, 0.5)
    assert pace.left(2) == 33 * 0.5 + 15 * 1.0  # 48 steps are left, 15 of them with an architecture step
    pace = noted(pace, range(2, 20), 0.5, None)
    pace.note(20, 0.5)
    pace.note(21, 90.0)  # the first architecture step
    assert pace.left(22) == 14 * 0.5 + 14 * 1.0


def test_each_kind_of_step_has_its_own_pace():
    pace = noted(Pace(PLAN), range(26), 0.5, 2.0)
    assert pace.left(26) == 12 * 0.5 + 12 * 2.0
    assert pace.left(50) == 0


def test_a_resumed_search_may_have_seen_steps_of_one_kind_only():
    every = Schedule(10, 1, 3, 1, 0.1, 0.1)
    pace = Pace(every)
    for step in range(12, 15):
        pace.note(step, 3.0)
    assert pace.left(15) == 25 * 3.0


def test_only_the_last_steps_count():
    long = Schedule(1000, 1, 0, 1, 0.1, 0.1)
    pace = Pace(long)
    for step in range(400):
        pace.note(step, 1.0 if step < 200 else 2.0)
    assert pace.left(400) == 600 * 2.0
