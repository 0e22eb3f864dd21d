"""Several trainings at a time, each on a share of the cores, against one training on all of them.

    python -m benchmarks.speed.side_by_side --processes=2

Steps on small images leave cores idle, so trainings that do not depend on each other get done sooner side by side: the
trainings of a study (`--workers`), of several seeds, or of several networks of a front. The two ways take turns.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile

from absl import flags

from benchmarks.speed import training_step
from pnas_tf import machine
from pnas_tf.cli import start
from pnas_tf.errors import InputError


def images_per_second(processes: int, threads: int, arguments: list[str], batch_size: int) -> float:
    """Images that some processes train on in a second, all at the same time.

    Args:
        processes: Number of processes.
        threads: Threads of each.
        arguments: Network, image size and batch size, as flags of `training_step`.
        batch_size: Images per step.

    Raises:
        InputError: If a training fails.
    """
    environment = {**os.environ, **machine.thread_settings(threads)}
    command = [sys.executable, "-m", "benchmarks.speed.training_step", "--only=ours", *arguments]
    total = 0.0
    with contextlib.ExitStack() as stack, tempfile.TemporaryFile("w+") as errors:
        running = [stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True,
                                                        env=environment)) for _ in range(processes)]
        for process in running:
            output, _ = process.communicate()
            if process.returncode:
                for other in running:
                    other.kill()
                errors.seek(0)
                raise InputError(f"A training failed: {errors.read()[-500:]}")
            # The first epoch traces.
            wall = statistics.median(seconds for _, seconds in json.loads(output.splitlines()[-1])["epochs"][1:])
            total += batch_size * training_step.STEPS / wall
    return total


def _main() -> None:
    f = flags.FLAGS
    cores = machine.cores()
    arguments = [f"--arch={f.arch}", f"--image_size={f.image_size}", f"--batch_size={f.batch_size}"]
    ways: dict[tuple[int, int], list[float]] = {(1, cores): [], (f.processes, max(1, cores // f.processes)): []}
    for number in range(f.rounds):
        for (processes, threads), rates in ways.items():
            rates.append(images_per_second(processes, threads, arguments, f.batch_size))
            print(f"round {number + 1} of {f.rounds}, {processes} at a time on {threads} threads each: "
                  f"{rates[-1]:.0f} images/s", flush=True)
    one, several = ways.values()
    print(f"{f.processes} at a time: {statistics.median(b / a for a, b in zip(one, several, strict=True)):.2f}x the "
          "images of one, in the same time")


def main() -> None:
    """Entry point."""
    flags.DEFINE_string("arch", "proxyless_mobile", "Name of a shipped network, or path of an arch.json.")
    flags.DEFINE_integer("image_size", 112, "Height and width of the images.", 32)
    flags.DEFINE_integer("batch_size", 16, "Images per step.", 1)
    flags.DEFINE_integer("processes", 2, "Trainings at a time.", 2)
    flags.DEFINE_integer("rounds", 3, "Number of rounds, in each of which both ways run once.", 1)
    start.start(_main)


if __name__ == "__main__":
    main()
