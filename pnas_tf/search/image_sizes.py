"""Several image sizes in one search (`--image_sizes=224,192,160`): smaller images leave milliseconds to larger ops.

One supernet is warmed up on the largest images. From its weights each size is then searched in turn, the largest first,
with as many steps as any other, and the front over all sizes is joined from theirs:

    run folder             the warm-up and the teacher; in the end the delivered network and the front over all sizes
    image_sizes/192px      the search at one size, a run folder of its own
"""

import dataclasses
import glob
import os
import shutil
from collections.abc import Callable, Sequence

import tensorflow as tf

from pnas_tf import files, terminal
from pnas_tf.derive import deliver, front_of_sizes
from pnas_tf.derive.device_check import Timer
from pnas_tf.run_folder import RunFolder, front_file
from pnas_tf.run_folder.folder import FRONT
from pnas_tf.search import run as run_lib
from pnas_tf.search.config import SearchConfig
from pnas_tf.search.problem import Problem
from pnas_tf.search.stopping import Stop
from pnas_tf.space import arch as arch_lib
from pnas_tf.space.arch import Arch

# Function that makes the timers of a problem's devices.
TimersOf = Callable[[Problem], Sequence[Timer]]


def run(sides: Sequence[int], problem_at: Callable[[int], Problem], config: SearchConfig, folder: RunFolder, *,
        devices: tf.distribute.Strategy | None = None, timers_of: TimersOf = lambda problem: (),
        stop: Stop | None = None) -> list[Arch]:
    """Searches at each image size, or at those that are left, and delivers the best network of all.

    Args:
        sides: Heights and widths of the images, largest first.
        problem_at: Function that makes the problem of a size.
        config: Settings of the search.
        folder: Run folder, claimed by this process.
        devices: As for `run.run`.
        timers_of: Function that makes the timers of a problem's devices; none if the tables decide.
        stop: As for `run.run`.

    Returns:
        The delivered arch with its costs, as a list like that of `run.run`.

    Raises:
        InputError: As `run.run`.
        KeyboardInterrupt: As `run.run`.
    """
    largest = problem_at(sides[0])
    parts = {side: folder.size_part(side) for side in sides}
    if not any(map(_has_begun, parts.values())):
        terminal.say(f"Warm-up for all image sizes, on images of {sides[0]} x {sides[0]} pixels.")
        run_lib.warm_up(largest, config, folder, devices=devices, stop=stop)
    config = _from_warm_up(config, largest, folder)
    for number, (side, part) in enumerate(parts.items(), start=1):
        if not _has_ended(part):
            terminal.say(f"Images of {side} x {side} pixels, size {number} of {len(sides)}.")
            problem = largest if side == sides[0] else problem_at(side)
            problem = dataclasses.replace(problem, plan=dataclasses.replace(problem.plan, warmup_epochs=0))
            run_lib.run(problem, config, part, devices=devices, timers=timers_of(problem), stop=stop)
    return [_joined(parts, largest, folder)]


def _from_warm_up(config: SearchConfig, problem: Problem, folder: RunFolder) -> SearchConfig:
    """Settings of the search at a size: it starts from the weights of the warm-up and has the same teacher."""
    has_teacher = config.teacher_of(problem.space) != "none"
    return dataclasses.replace(config, init_weights=folder.path,
                               teacher=RunFolder(folder.teacher).model if has_teacher else "none")


def _joined(parts: dict[int, RunFolder], largest: Problem, folder: RunFolder) -> Arch:
    """Writes the delivered network and the front over all sizes into the run folder."""
    goal, data = largest.goals[0], largest.data
    images = min(data.held_out.size, deliver.batches(data.image_shape, largest.batch_size) * largest.batch_size)
    fronts = {side: front_file.read(part.front) for side, part in parts.items()}
    front = front_of_sizes.joined(fronts, goal.limit_ms, images)
    for each in front:
        there = RunFolder(parts[each.image_size or 0].file(FRONT, each.folder))
        _copy_network(there, folder.front_part(each.ms))
    best = parts[front_of_sizes.delivered_size(fronts)]
    for own, to in ((best.finalists, folder.finalists), (best.finalist_times, folder.finalist_times)):
        if os.path.exists(own):
            _copy(own, to)
    warmed = [line for line in folder.read_metrics() if line.get("phase") == "warmup"]
    folder.write_metrics(warmed + [{**line, "epoch": line["epoch"] + len(warmed)} for line in best.read_metrics()])
    front_file.save(folder.front, goal.target, goal.limit_ms, front)
    _copy_network(best, folder)
    for side, networks in fronts.items():
        each = next(network for network in networks if network.delivered)
        terminal.say(f"Images of {side} x {side} pixels: held-out accuracy {each.accuracy or 0:.2%} with inherited "
                     f"weights at {each.ms:.3g} ms.")
    terminal.say(front_of_sizes.table(front, goal.limit_ms))
    return arch_lib.load(folder.arch)


def _copy_network(there: RunFolder, here: RunFolder) -> None:
    """Copies a network and its inherited weights; arch.json, which tells that a search has ended, comes last."""
    _copy(there.inherited_weights, here.inherited_weights)
    _copy(there.arch, here.arch)


def _copy(there: str, here: str) -> None:
    files.write_whole(here, lambda path: shutil.copyfile(there, path))


def _has_begun(part: RunFolder) -> bool:
    return bool(glob.glob(os.path.join(glob.escape(part.checkpoints), "*.npz")))


def _has_ended(part: RunFolder) -> bool:
    """Whether a search has delivered its network: its counts are written last."""
    return os.path.exists(part.arch) and "params" in arch_lib.load(part.arch).costs
