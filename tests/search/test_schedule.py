"""The schedule of a search, against counts and formulas."""

import math

import pytest

from pnas_tf.search import schedule

PLAN = schedule.Schedule(steps_per_epoch=7, warmup_epochs=2, search_epochs=3, arch_every=2, warmup_lr=0.2, lr=0.08)


def test_steps_add_up():
    due = [PLAN.arch_due(step) for step in range(PLAN.steps)]
    assert PLAN.steps == 35
    assert not any(due[:14])
    assert sum(due) == PLAN.arch_steps == 10
    for step in range(PLAN.steps):
        assert PLAN.arch_steps_before(step) == sum(due[:step])


def test_learning_rate_falls_in_two_cosines():
    long = schedule.Schedule(100, 10, 10, 5, 0.2, 0.08)
    rates = [long.weight_lr(step) for step in range(long.steps)]
    assert rates[0] < 0.01  # the ramp
    assert rates[100] == pytest.approx(0.08 + 0.12 * 0.5 * (1 + math.cos(math.pi * 0.1)))
    assert rates[1000] == pytest.approx(0.08)
    assert rates[1500] == pytest.approx(0.04)
    assert rates[-1] < 1e-5
    assert rates[100:] == sorted(rates[100:], reverse=True)


@pytest.mark.parametrize("max_steps", [1, 2, 5, 20, 33])
def test_squeezed_keeps_both_phases(max_steps):
    plan = PLAN.squeezed(max_steps)
    assert plan.steps <= max(2, max_steps)
    assert plan.warmup_steps >= 1 and plan.arch_steps >= 1
    assert PLAN.squeezed(35) is PLAN


def test_squeezed_imagenet_recipe_reaches_the_architecture_steps():
    plan = schedule.Schedule(5000, 40, 120, 5, 0.05, 0.025).squeezed(20)
    assert (plan.steps, plan.arch_steps > 0) == (20, True)


def test_alpha_lr_follows_the_papers_travel():
    assert schedule.alpha_lr(23_000, 7, 2) == pytest.approx(1.14e-3, rel=0.01)
    assert schedule.alpha_lr(10, 7, 2) == 0.1
    assert schedule.alpha_travel(schedule.alpha_lr(5000, 7, 2), 5000, 7, 2) == pytest.approx(7.0)
