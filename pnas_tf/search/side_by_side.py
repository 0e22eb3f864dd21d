"""Trials in processes of their own: trainings on a core each see more images than one after the other on all cores."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import psutil
import tensorflow as tf

from pnas_tf import machine
from pnas_tf.run_folder import RunFolder
from pnas_tf.search.config import SearchConfig
from pnas_tf.supernet import extensions
from pnas_tf.train.recipe import Recipe

# Seconds between two looks at the processes.
PAUSE = 0.1


def recipe(config: SearchConfig) -> Recipe:
    """The recipe of a search's trials: that of pnas_tf.train, whose default seed is another."""
    return Recipe(epochs=config.trial_epochs, seed=config.seed + 1, class_weights=config.class_weights,
                  precision=config.precision)


def train(trials: Sequence[RunFolder], config: SearchConfig) -> Iterator[RunFolder]:
    """Trains the networks of trials, as many at a time as cores and memory allow; the processes share the cores.

    Nothing is trained where there is a GPU, or room for a single process. A process that fails leaves no train.json.

    Args:
        trials: Run folders with arch.json and inherited weights.
        config: Settings of the search, which name the images.

    Yields:
        Each folder when its process has ended.
    """
    places = 1 if tf.config.list_physical_devices("GPU") else min(len(trials), machine.cores(), _rooms())
    waiting, running = list(trials), dict[RunFolder, subprocess.Popen]()
    try:
        while places > 1 and (waiting or running):
            while waiting and len(running) < places:
                trial = waiting.pop(0)
                running[trial] = start(trial, config, machine.cores() // min(places, len(running) + 1 + len(waiting)))
            ended = [trial for trial, process in running.items() if process.poll() is not None]
            for trial in ended:
                running.pop(trial)
                yield trial
            time.sleep(0 if ended else PAUSE)
    finally:
        for process in running.values():
            process.kill()  # the last epoch is kept
            process.wait()


def _rooms() -> int:
    """Number of processes that fit into the free memory if each needs as much as this one, which has the images."""
    own = psutil.Process().memory_info().rss
    return int(min(psutil.virtual_memory().available, machine.memory_bytes() - own) // own)


def start(trial: RunFolder, config: SearchConfig, threads: int, stderr: int = subprocess.DEVNULL) -> subprocess.Popen:
    """Starts the process of a trial. It ends with this one, even if that is killed: it reads a pipe from here.

    Args:
        trial: Run folder with arch.json and inherited weights.
        config: Settings of the search, which name the images.
        threads: Number of its threads.
        stderr: Where its errors go, as for `subprocess.Popen`.
    """
    arguments = [*(f"--import={path}" for path in extensions.loaded()), f"--run_dir={trial}",
                 f"--config={json.dumps(dataclasses.asdict(config))}"]
    return subprocess.Popen([sys.executable, "-m", "pnas_tf.search.trial", *arguments], stdin=subprocess.PIPE,
                            stdout=subprocess.DEVNULL, stderr=stderr,
                            env={**os.environ, **machine.thread_settings(threads)})
