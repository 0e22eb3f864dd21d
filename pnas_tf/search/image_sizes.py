"""Several image sizes in one search (`--image_sizes=224,192,160`): smaller images leave milliseconds to larger ops.

One supernet is warmed up on the largest images. From its weights each size is then searched in turn, the largest first,
each with the same number of steps. The front over all sizes is joined from theirs:

    run folder             the warm-up and the teacher; in the end the delivered network and the front over all sizes
    image_sizes/192px      the search at one size, a run folder of its own
"""

import dataclasses
import glob
import os
from collections.abc import Sequence

import tensorflow as tf

from pnas_tf import files, terminal
from pnas_tf.data import Data
from pnas_tf.derive import deliver, front_of_sizes
from pnas_tf.derive.device_check import Timer
from pnas_tf.errors import InputError
from pnas_tf.run_folder import RunFolder, front_file
from pnas_tf.run_folder.folder import FRONT
from pnas_tf.run_folder.front_file import FrontNetwork
from pnas_tf.search import run as run_lib
from pnas_tf.search.config import SearchConfig
from pnas_tf.search.problem import Problem, Request
from pnas_tf.search.stopping import Stop
from pnas_tf.space import arch as arch_lib
from pnas_tf.space.arch import Arch


def problems(request: Request, data: Data) -> list[Problem]:
    """The problem of each image size, largest first. All have the same split of the images, and the same ops.

    Args:
        request: Request with several sizes.
        data: Images of the largest size.

    Raises:
        InputError: If a table lacks rows, no network of a size keeps all limits, or the sizes have other ops.
    """
    made: list[Problem] = []
    for side in request.sides:
        at_side = request.at_size(side)
        images = data if not made else data.at_size(side) if data.rendering else at_side.load_data()
        try:
            made.append(dataclasses.replace(Problem.of(at_side, images), compared_at=request.sides[0]))
        except InputError as error:
            raise InputError(f"Images of {side} x {side} pixels: {error}") from None
        if _ops(made[-1]) != _ops(made[0]):
            raise InputError(f"The networks of {side} x {side} pixels have other ops than those of {request.sides[0]}: "
                             "a limit on memory removes some, or only parts of pretrained blocks reach the target. "
                             "Change the limit, name nearer --image_sizes, or give --pretrained_parts=ops.")
    return made


def run(problems: Sequence[Problem], config: SearchConfig, folder: RunFolder, *,
        devices: tf.distribute.Strategy | None = None, timers: Sequence[Sequence[Timer]] = (), stop: Stop | None = None
        ) -> list[Arch]:
    """Searches at each image size, or at those that are left, and delivers the best network of all.

    Args:
        problems: Result of `problems`.
        config: Settings of the search.
        folder: Run folder, claimed by this process.
        devices: As for `run.run`.
        timers: For each problem, the timers of its devices; empty if the tables decide.
        stop: As for `run.run`.

    Returns:
        The delivered arch with its costs, as a list like that of `run.run`.

    Raises:
        InputError: As `run.run`.
        KeyboardInterrupt: As `run.run`.
    """
    parts = {problem.space.input_size: folder.size_part(problem.space.input_size) for problem in problems}
    if not any(map(_has_begun, parts.values())):
        side = problems[0].space.input_size
        terminal.say(f"Warm-up for all image sizes, on images of {side} x {side} pixels.")
        run_lib.warm_up(problems[0], config, folder, devices=devices, stop=stop)
    config = _from_warm_up(config, problems[0], folder)
    for number, problem in enumerate(problems):
        side, own_timers = problem.space.input_size, timers[number] if timers else ()
        if not _has_ended(parts[side], timed=bool(own_timers)):
            terminal.say(f"Images of {side} x {side} pixels, size {number + 1} of {len(problems)}.")
            problem = dataclasses.replace(problem, plan=dataclasses.replace(problem.plan, warmup_epochs=0))
            run_lib.run(problem, config, parts[side], devices=devices, timers=own_timers, stop=stop)
    return [_joined(parts, problems[0], folder)]


def _ops(problem: Problem) -> dict[str, tuple[str, ...]]:
    return {block.name: block.ops for block in problem.space.all_blocks}


def _from_warm_up(config: SearchConfig, problem: Problem, folder: RunFolder) -> SearchConfig:
    """Settings of the search at a size: it starts from the weights of the warm-up and has the same teacher."""
    has_teacher = config.teacher_of(problem.space) != "none"
    return dataclasses.replace(config, init_weights=folder.path,
                               teacher=RunFolder(folder.teacher).model if has_teacher else "none")


def _joined(parts: dict[int, RunFolder], largest: Problem, folder: RunFolder) -> Arch:
    """Writes the delivered network and the front over all sizes into the run folder."""
    goal, data = largest.goals[0], largest.data
    held_out, size = data.held_out.size, largest.batch_size
    images = min(held_out, size * deliver.batches(data.image_shape, size, held_out))
    fronts = {side: _front(part) for side, part in parts.items()}
    front = front_of_sizes.joined(fronts, images)
    for each in front:
        there = RunFolder(parts[each.image_size or 0].file(FRONT, each.folder))
        _copy_network(there, folder.part(os.path.join(FRONT, each.folder)))
    best = parts[front_of_sizes.delivered_size(fronts)]
    for own, to in ((best.finalists, folder.finalists), (best.finalist_times, folder.finalist_times)):
        if os.path.exists(own):
            files.copy(own, to)
    warmed = [line for line in folder.read_metrics() if line.get("phase") == "warmup"]
    others = [line.get("seconds", 0.0) for part in parts.values() if part != best for line in part.read_metrics()]
    *lines, last = warmed + [{**line, "epoch": line["epoch"] + len(warmed)} for line in best.read_metrics()]
    folder.write_metrics([*lines, {**last, "seconds_of_other_sizes": sum(others)}])
    front_file.save(folder.front, goal.target, goal.limit_ms, front)
    _copy_network(best, folder)
    for side, networks in fronts.items():
        each = next(network for network in networks if network.delivered)
        terminal.say(f"Images of {side} x {side} pixels: held-out accuracy {each.accuracy or 0:.2%} with inherited "
                     f"weights at {each.ms:.3g} ms.")
    terminal.say(front_of_sizes.table(front, goal.limit_ms))
    return arch_lib.load(folder.arch)


def _front(part: RunFolder) -> list[FrontNetwork]:
    """The front of a size.

    Raises:
        InputError: If it names no delivered network.
    """
    front = front_file.read(part.front)
    if not any(each.delivered for each in front):
        raise InputError(f"{part.front}: names no delivered network. Remove {part.path} and run the same command "
                         "again.")
    return front


def _copy_network(there: RunFolder, here: RunFolder) -> None:
    """Copies a network and its inherited weights; arch.json, which tells that a search has ended, comes last."""
    files.copy(there.inherited_weights, here.inherited_weights)
    files.copy(there.arch, here.arch)


def _has_begun(part: RunFolder) -> bool:
    return bool(glob.glob(os.path.join(glob.escape(part.checkpoints), "*.npz")))


def _has_ended(part: RunFolder, *, timed: bool) -> bool:
    """Whether a search has delivered its network, timed if finalists are to be timed; its counts are written last."""
    costs = arch_lib.load(part.arch).costs if os.path.exists(part.arch) else {}
    return "params" in costs and (not timed or "measured_ms" in costs)
