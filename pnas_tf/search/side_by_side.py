"""Trials in processes of their own: trainings on a core each see more images than one after the other on all cores."""

import dataclasses
import functools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import psutil
import tensorflow as tf

from pnas_tf import files, machine, terminal
from pnas_tf.run_folder import RunFolder
from pnas_tf.search.config import SearchConfig
from pnas_tf.supernet import extensions
from pnas_tf.train.recipe import Recipe

# Seconds between two looks at the processes, and the file of a trial's folder that has what its process printed.
PAUSE, OUTPUT = 0.1, "output.txt"


def recipe(config: SearchConfig) -> Recipe:
    """The recipe of a search's trials: that of pnas_tf.train, whose default seed is another."""
    return Recipe(epochs=config.trial_epochs, seed=config.seed + 1, class_weights=config.class_weights,
                  precision=config.precision)


def train(trials: Sequence[RunFolder], config: SearchConfig, largest_size: int = 0) -> Iterator[RunFolder]:
    """Trains the networks of trials, as many at a time as cores and memory allow.

    The number of threads of each depends on cores and trials alone, so that a result does not depend on free memory.
    Nothing is trained where there is a GPU, whose memory this process holds. A process that fails leaves no train.json,
    and a warning says why.

    Args:
        trials: Run folders with arch.json and inherited weights.
        config: Settings of the search, which name the images.
        largest_size: Size for which the search has image files prepared.

    Yields:
        Each folder when its process has ended.
    """
    cores = machine.cores()
    places = 0 if tf.config.list_physical_devices("GPU") else max(1, min(len(trials), cores, _rooms()))
    begin = functools.partial(start, config=config, largest_size=largest_size,
                              threads=math.ceil(cores / max(1, min(len(trials), cores))))
    waiting, running, since = list(trials), dict[RunFolder, subprocess.Popen](), time.monotonic()
    try:
        while places and (waiting or running):
            while waiting and len(running) < places:
                trial = waiting.pop(0)
                running[trial] = begin(trial)
            ended = [trial for trial, process in running.items() if process.poll() is not None]
            for trial in ended:
                if running.pop(trial).returncode:
                    terminal.warn(f"The process of {trial} failed: {_last_line(trial)}")
                yield trial
            if ended and running:
                left = len(waiting) + len(running)
                seconds = (time.monotonic() - since) / (len(trials) - left) * left
                terminal.status(f"Trials: {left} of {len(trials)} left, {terminal.seconds(round(seconds))}")
            time.sleep(0 if ended else PAUSE)
    finally:
        terminal.status("")
        for process in running.values():
            process.kill()  # the last epoch is kept
            process.wait()


def start(trial: RunFolder, config: SearchConfig, threads: int, largest_size: int = 0) -> subprocess.Popen:
    """Starts the process of a trial, whose output goes into its folder.

    It ends with this process, even if that is killed: it reads a pipe from here.

    Args:
        trial: Run folder with arch.json and inherited weights.
        config: Settings of the search, which name the images.
        threads: Number of its threads.
        largest_size: Size for which the search has image files prepared.
    """
    arguments = [*(f"--import={path}" for path in extensions.loaded()), f"--run_dir={trial}",
                 f"--largest_size={largest_size}", f"--config={json.dumps(dataclasses.asdict(config))}"]
    with open(trial.file(OUTPUT), "wb") as output:
        return subprocess.Popen([sys.executable, "-m", "pnas_tf.search.trial", *arguments], stdin=subprocess.PIPE,
                                stdout=output, stderr=subprocess.STDOUT,
                                env={**os.environ, **machine.thread_settings(threads)})


def _rooms() -> int:
    """Number of processes that fit into the free memory if each needs as much as this one, which has the images."""
    own = psutil.Process().memory_info().rss
    return int(min(psutil.virtual_memory().available, machine.memory_bytes() - own) // own)


def _last_line(trial: RunFolder) -> str:
    lines = files.read_text(trial.file(OUTPUT)).split("\n")
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "it said nothing")
