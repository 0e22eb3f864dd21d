"""Coarse to fine (`--stages=widths,ops`): filters and depth first, with one op in every block, then the ops.

A search of everything at once favours small filters, since they learn most in few epochs; MobileNetV4 was therefore
found in two stages (Qin et al. 2024, section 5). The first stage has few choices, so its supernet learns quickly:

    widths   every block has the standard op, or is skipped; filters are chosen. Results in the folder `first_stage`.
    ops      filters are those found; every block has all its ops, and may be skipped. Results in the run folder.

Both stages have the same target, and the standard op takes about as long as the ops of a block do on average.
"""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pnas_tf import terminal
from pnas_tf.cost.goal import Goal
from pnas_tf.derive.device_check import Timer
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder
from pnas_tf.run_folder.folder import FIRST_STAGE
from pnas_tf.search import run as run_lib
from pnas_tf.search.config import SearchConfig
from pnas_tf.search.problem import Problem
from pnas_tf.search.stopping import Stop
from pnas_tf.space import arch as arch_lib
from pnas_tf.space import ops, widths
from pnas_tf.space.arch import Arch
from pnas_tf.space.blocks import Block, Space


def run(problem: Problem, config: SearchConfig, folder: RunFolder, *, devices: tf.distribute.Strategy | None = None,
        timers: Sequence[Timer] = (), stop: Stop | None = None) -> list[Arch]:
    """Runs both stages, or what is left of them; arguments and result as for `run.run`.

    Raises:
        InputError: As `run.run`; or if no network with the standard op reaches the target.
    """
    op, stage = standard_op(problem.space, problem.goals[0]), folder.part(FIRST_STAGE)
    coarse = _finished(stage)
    if coarse is None:
        terminal.say(f"Stage 1 of 2: filters and depth, with {op} in every block.")
        part = _in_stage(problem, config, with_one_op(problem.space, op), f"Stage widths, with {op} in every block")
        found = run_lib.run(part, _first(config), stage, devices=devices, stop=stop)
        if not found:
            return []
        coarse = found[0]
    space = problem.space
    sizes = {block.name: block.filters for block in coarse.space.all_blocks}
    filters = {name: sizes[name.removesuffix(widths.FILTERS)] for name, choice in space.choices.items()
               if choice.filters}
    terminal.say(f"Stage 2 of 2: ops, within {', '.join(f'{name} {count}' for name, count in filters.items())}.")
    part = _in_stage(problem, config, widths.fixed(space, tuple(filters.values())),
                     "Stage ops, within the filters found")
    return run_lib.run(part, config, folder, devices=devices, timers=timers, stop=stop)


def _first(config: SearchConfig) -> SearchConfig:
    """Settings of the first stage: filters that leave milliseconds unused would leave them to slower ops."""
    return dataclasses.replace(config, trials=0, use_all_ms=True)


def standard_op(space: Space, goal: Goal) -> str:
    """The op of the first stage: of those that all choices offer, the one that takes about as long as the others.

        argmin over ops of sum over choices of |ms of the op - mean ms of the choice's ops, zero left out|

    Args:
        space: Space in which filters are searched.
        goal: Goal with the milliseconds of all ops, which count at evenly drawn filters.

    Raises:
        InputError: If no op is offered by all choices.
    """
    choices = [(row, choice) for row, choice in enumerate(space.choices.values()) if not choice.filters]
    offered = [op for op in dict.fromkeys(op for _, choice in choices for op in choice.ops)
               if op != ops.ZERO and all(op in choice.ops for _, choice in choices)]
    if not offered:
        raise InputError(f"--stages=widths,ops needs an op that every block offers, and {space.name} has none. Search "
                         "in one stage: leave out --stages.")
    mask = goal.ms.mask
    ms = goal.ms.around(mask / mask.sum(1, keepdims=True)).matrix

    def distance(op: str) -> float:
        total = 0.0
        for row, choice in choices:
            own = [float(ms[row, number]) for number, each in enumerate(choice.ops) if each != ops.ZERO]
            total += abs(float(ms[row, choice.ops.index(op)]) - float(np.mean(own)))
        return total

    return min(offered, key=distance)


def with_one_op(space: Space, op: str) -> Space:
    """The space with one op in every block that has a choice, which may still be skipped where it may be now."""
    def single(block: Block) -> Block:
        kept = tuple(each for each in block.ops if each in (op, ops.ZERO))
        return dataclasses.replace(block, ops=kept) if len(block.ops) > 1 else block

    return dataclasses.replace(space, stem=tuple(map(single, space.stem)), blocks=tuple(map(single, space.blocks)),
                               head=tuple(map(single, space.head)))


def _in_stage(problem: Problem, config: SearchConfig, space: Space, stage: str) -> Problem:
    """The problem of a stage; its errors begin with the name of the stage."""
    try:
        return problem.within(space, config)
    except InputError as error:
        raise InputError(f"{stage}: {error}") from None


def _finished(stage: RunFolder) -> Arch | None:
    """The network of a stage that has ended, or None: counts are written last."""
    if not os.path.exists(stage.arch):
        return None
    arch = arch_lib.load(stage.arch)
    return arch if "params" in arch.costs else None
